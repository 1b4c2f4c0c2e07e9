-- Customers with something due that cannot be billed as it is, e.g. an amount beyond all bounds.
-- Nothing that is due of them is done before retry_at, by the organization's clock, so that it stays in order.
create table billing_hold (
    customer_id uuid primary key,
    organization_id uuid not null,
    due_at timestamptz not null, -- of what cannot be billed
    since timestamptz not null,
    retry_at timestamptz, -- null: released, holds up nothing
    reason text not null
);

create index billing_hold_of_organization on billing_hold (organization_id);

-- Their events that wait for a fee: out of the way of all others, and moved back at each try.
create table held_advance_event (
    customer_id uuid not null,
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    due_at timestamptz not null, -- when the fee would have been made
    primary key (customer_id, seq)
);

alter table advance_event add column due_at timestamptz;
