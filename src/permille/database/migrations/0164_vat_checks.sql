-- VAT numbers of customers that are looked up in VIES, where their billing entity manages the European Union's VAT.
create table vat_check (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    customer_id uuid not null references customer (id),
    number text not null, -- as the customer had it
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock; null: it was decided, or another one came in its place
    is_valid boolean, -- null: not decided
    name text, -- what the register says
    address text,
    problem text, -- why the last attempt decided nothing
    created_at timestamptz not null,
    decided_at timestamptz
);

create unique index vat_check_waiting on vat_check (customer_id) where next_attempt_at is not null;
create index vat_check_due on vat_check (organization_id, next_attempt_at) where next_attempt_at is not null;
create index vat_check_of_customer on vat_check (customer_id, decided_at desc);
