-- Coupons, the coupons of customers, and what these took off invoices.
create table coupon (
    id uuid primary key,
    organization_id uuid not null,
    name text not null,
    code text not null,
    description text,
    coupon_type text not null,
    amount_cents bigint,
    amount_currency text,
    percentage_rate numeric,
    frequency text not null,
    frequency_duration bigint,
    reusable boolean not null,
    expiration_at timestamptz, -- null: it doesn't expire
    plan_ids uuid[] not null default '{}', -- the plans whose fees it is for; neither these nor metrics: all fees
    billable_metric_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    constraint coupon_discount check (
        coupon_type = 'fixed_amount' and amount_cents > 0 and amount_currency is not null and percentage_rate is null
        or coupon_type = 'percentage' and percentage_rate > 0 and amount_cents is null and amount_currency is null
    ),
    constraint coupon_frequency check ((frequency = 'recurring') = (frequency_duration is not null))
);

create unique index coupon_code on coupon (organization_id, code) where deleted_at is null;
create index coupon_newest on coupon (organization_id, created_at desc, id);

create table applied_coupon (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    coupon_id uuid not null references coupon (id),
    status text not null, -- active, terminated
    coupon_type text not null,
    amount_cents bigint,
    amount_currency text,
    percentage_rate numeric,
    frequency text not null,
    frequency_duration bigint,
    amount_left_cents bigint check (amount_left_cents between 0 and amount_cents), -- of an amount that is used once
    uses_left bigint check (uses_left >= 0), -- further invoices; null where that is not counted
    created_at timestamptz not null,
    updated_at timestamptz not null,
    terminated_at timestamptz,
    position bigint generated always as identity, -- of coupons applied at one instant, which was first
    constraint applied_coupon_discount check (
        coupon_type = 'fixed_amount' and amount_cents > 0 and amount_currency is not null and percentage_rate is null
        or coupon_type = 'percentage' and percentage_rate > 0 and amount_cents is null and amount_currency is null
    ),
    constraint applied_coupon_status check ((status = 'active') = (terminated_at is null))
);

create index applied_coupon_active on applied_coupon (customer_id, created_at, position) where status = 'active';
create index applied_coupon_of_customer on applied_coupon (customer_id, created_at desc, position desc);
create index applied_coupon_of_coupon on applied_coupon (coupon_id, created_at desc, position desc);
create index applied_coupon_newest on applied_coupon (organization_id, created_at desc, position desc);

-- Entries that are only added: what a coupon took off an invoice, or with a negative amount what came back of it.
create table coupon_credit (
    id uuid primary key,
    invoice_id uuid not null,
    applied_coupon_id uuid not null references applied_coupon (id),
    amount_cents bigint not null check (amount_cents <> 0),
    created_at timestamptz not null,
    position bigint generated always as identity
);

create unique index coupon_credit_of_invoice on coupon_credit (invoice_id, applied_coupon_id, (amount_cents > 0));
create index coupon_credit_of_applied on coupon_credit (applied_coupon_id, created_at);

do $$
declare
    one record;
    way text;
begin
    for one in select * from (values ('coupon', 'code'), ('applied_coupon', 'id')) as audited (name, label) loop
        foreach way in array array['insert', 'update', 'delete'] loop
            execute format(
                'create trigger audited_%s after %s on %I %s'
                ' when (current_setting(''permille.change'', true) <> '''') execute function %I(%L, %L, %L)',
                way, way, one.name,
                case
                    when way = 'insert' then 'referencing new table as new_rows for each statement'
                    when way = 'delete' then 'referencing old table as old_rows for each statement'
                    when one.name = 'applied_coupon' then 'for each row'
                    else 'referencing old table as old_rows new table as new_rows for each statement'
                end,
                case when way = 'update' and one.name = 'applied_coupon' then 'audit_row' else 'audit_rows' end,
                'id', one.label, 'created_at updated_at organization_id digest position'
            );
        end loop;
    end loop;
end
$$;
