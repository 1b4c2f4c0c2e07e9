alter table invoice_subscription
    add column counted_to bigint, -- events up to this seq are surely in its usage fees
    add column seen_to bigint; -- the last seq when its usage was read: what came later is in none of them

alter table fee add column late_usage_id uuid;

-- Usage of a billed period that came in after it was billed, by charge: what the period comes to more than was billed.
create table late_usage (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null,
    subscription_id uuid not null,
    charge_id uuid not null,
    code text not null, -- the metric's
    invoice_id uuid not null, -- the one that had billed the period
    from_at timestamptz not null,
    to_at timestamptz not null,
    currency text not null,
    status text not null,
    events_count bigint not null,
    units numeric not null,
    amount_cents bigint not null,
    lines jsonb not null, -- the difference by price and group
    seen_to bigint not null, -- the last seq when it was priced
    adjusting_invoice_id uuid, -- the one that bills it
    reason text, -- why it is not billed
    decided_by uuid, -- the API key
    decided_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint late_usage_status check (status in ('open', 'scheduled', 'billed', 'accepted'))
);

create unique index late_usage_open on late_usage (subscription_id, charge_id, from_at, to_at) where status = 'open';
create index late_usage_of_period on late_usage (subscription_id, charge_id, from_at);
create index late_usage_undecided on late_usage (organization_id, created_at desc, id) where status = 'open';
create index late_usage_newest on late_usage (organization_id, created_at desc, id);
create index late_usage_to_bill on late_usage (customer_id) where status = 'scheduled';
create index late_usage_on_invoice on late_usage (adjusting_invoice_id) where adjusting_invoice_id is not null;

-- Billed periods with events that came in later and are not priced yet.
create table late_mark (
    organization_id uuid not null,
    subscription_id uuid not null,
    invoice_id uuid not null,
    code text not null,
    primary key (organization_id, subscription_id, invoice_id, code)
);

-- One row: how far the events are looked through for late ones. Those up to next_to are looked at once every
-- transaction is over that began before next_xid: a bill that was under way without them is visible by then.
create table late_check (
    singleton boolean primary key default true check (singleton),
    checked_to bigint not null,
    next_to bigint,
    next_xid xid8
);

insert into late_check (checked_to) select rolled_up_to from metering_state;
