create table credit_note (
    id uuid primary key,
    organization_id uuid not null,
    billing_entity_id uuid not null,
    customer_id uuid not null,
    invoice_id uuid not null,
    sequential_id bigint not null, -- within the invoice
    number text not null,
    issuing_date date not null,
    credit_status text not null, -- available, consumed, voided
    refund_status text,
    reason text not null,
    description text,
    currency text not null,
    total_amount_cents bigint not null, -- credit + refund + offset
    precise_total_amount_cents numeric not null,
    credit_amount_cents bigint not null,
    refund_amount_cents bigint not null,
    offset_amount_cents bigint not null,
    balance_amount_cents bigint not null check (balance_amount_cents between 0 and credit_amount_cents),
    sub_total_excluding_taxes_amount_cents bigint not null,
    taxes_amount_cents bigint not null,
    precise_taxes_amount_cents numeric not null,
    taxes_rate numeric not null,
    coupons_adjustment_amount_cents numeric not null,
    applied_taxes jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index credit_note_of_invoice on credit_note (invoice_id, sequential_id);
create index credit_note_newest on credit_note (organization_id, created_at desc, id);
create index credit_note_with_balance on credit_note (customer_id, created_at, id) where balance_amount_cents > 0;

create table credit_note_item (
    id uuid primary key,
    credit_note_id uuid not null references credit_note (id),
    fee_id uuid not null,
    amount_cents bigint not null,
    precise_amount_cents numeric not null,
    created_at timestamptz not null
);

create index credit_note_item_of_note on credit_note_item (credit_note_id);
create index credit_note_item_of_fee on credit_note_item (fee_id);

-- What of a note's balance has paid an invoice.
create table invoice_credit (
    id uuid primary key,
    invoice_id uuid not null,
    credit_note_id uuid not null references credit_note (id),
    amount_cents bigint not null check (amount_cents > 0),
    created_at timestamptz not null
);

create index invoice_credit_of_invoice on invoice_credit (invoice_id);
create index invoice_credit_of_note on invoice_credit (credit_note_id);
