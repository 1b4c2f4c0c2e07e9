-- How far what is paid in advance has come in a period, so that a fee need not be reckoned from all of its events.
create table advance_level (
    subscription_id uuid not null,
    charge_id uuid not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    stamp uuid not null,
    until_seq bigint not null,
    events_count bigint not null,
    levels jsonb not null,
    primary key (subscription_id, charge_id, from_at, to_at)
);
