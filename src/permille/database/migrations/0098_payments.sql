-- Payments, what they pay of each invoice, their receipts, and requests to pay several invoices together.
create table payment_request (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    billing_entity_id uuid not null,
    email text,
    amount_cents bigint not null,
    currency text not null,
    payment_status text not null default 'pending', -- pending, succeeded, failed
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create index payment_request_newest on payment_request (organization_id, created_at desc, id);
create index payment_request_of_customer on payment_request (customer_id, created_at desc, id);

create table payment_request_invoice (
    payment_request_id uuid not null references payment_request (id),
    invoice_id uuid not null,
    amount_cents bigint not null, -- what was due of it when it was requested
    primary key (payment_request_id, invoice_id)
);

create index payment_request_of_invoice on payment_request_invoice (invoice_id);

create table payment (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    payable_type text not null, -- Invoice or PaymentRequest
    payable_id uuid not null,
    amount_cents bigint not null check (amount_cents > 0),
    currency text not null,
    payment_type text not null, -- manual or provider
    status text not null, -- in the provider's words
    payment_status text not null, -- pending, processing, succeeded, failed
    reference text,
    created_at timestamptz not null, -- when it was paid
    updated_at timestamptz not null
);

create index payment_newest on payment (organization_id, created_at desc, id);
create index payment_of_customer on payment (customer_id, created_at desc, id);

-- What succeeded payments pay of each invoice: rows are only added, and what is paid of an invoice is their sum.
create table invoice_payment (
    payment_id uuid not null references payment (id),
    invoice_id uuid not null,
    amount_cents bigint not null check (amount_cents > 0),
    primary key (payment_id, invoice_id)
);

create index invoice_payment_of_invoice on invoice_payment (invoice_id);

create table payment_receipt (
    id uuid primary key,
    organization_id uuid not null,
    payment_id uuid not null unique references payment (id),
    customer_id uuid not null,
    sequential_id bigint not null, -- among the customer's receipts
    number text not null,
    created_at timestamptz not null,
    unique (customer_id, sequential_id)
);

create index payment_receipt_newest on payment_receipt (organization_id, created_at desc, id);

-- Final invoices that are not paid, by the end of their due date in the customer's timezone.
create index invoice_to_be_overdue on invoice (
    organization_id, ((payment_due_date + 1)::timestamp at time zone timezone)
) where status = 'finalized' and payment_status <> 'succeeded' and payment_dispute_lost_at is null and not payment_overdue;
create index invoice_overdue on invoice (customer_id) where payment_overdue;

do $$
declare
    one record;
    way text;
begin
    for one in select * from (values
        ('payment', 'reference'),
        ('payment_request', 'email')
    ) as audited (name, label) loop
        foreach way in array array['insert', 'update', 'delete'] loop
            execute format(
                'create trigger audited_%s after %s on %I %s for each statement'
                ' when (current_setting(''permille.change'', true) <> '''') execute function audit_rows(%L, %L, %L)',
                way, way, one.name,
                case
                    when way = 'insert' then 'referencing new table as new_rows'
                    when way = 'delete' then 'referencing old table as old_rows'
                    else 'referencing old table as old_rows new table as new_rows'
                end,
                'id', one.label, 'created_at updated_at organization_id digest position'
            );
        end loop;
    end loop;
end
$$;
