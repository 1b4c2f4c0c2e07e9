-- Hours in which events of an organization came in and that have not been looked through for errors yet.
create table event_hour (
    organization_id uuid not null,
    starts_at timestamptz not null,
    primary key (organization_id, starts_at)
);

create index event_created_at on event using brin (created_at) with (pages_per_range = 64, autosummarize = on);
