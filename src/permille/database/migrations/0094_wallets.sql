-- Prepaid credits: wallets, the transactions that fill and empty them, and which of them paid for which.
create table wallet (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    billing_entity_id uuid, -- whose invoices top-ups are on; null: the customer's
    status text not null, -- active, terminated
    currency text not null,
    code text not null,
    name text,
    purchase_order_number text,
    priority bigint not null, -- from 1, which is spent first, to 50
    rate_amount numeric not null check (rate_amount > 0), -- what a credit is worth
    invoice_requires_successful_payment boolean not null,
    paid_top_up_min_amount_cents bigint,
    paid_top_up_max_amount_cents bigint,
    fee_types text[] not null, -- what it pays for; with no metrics either, for everything
    billable_metric_ids uuid[] not null,
    balance_cents bigint not null check (balance_cents >= 0), -- the sum of what its settled transactions moved
    credits_balance numeric not null check (credits_balance >= 0),
    consumed_amount_cents bigint not null, -- by invoices, less what was given back
    consumed_credits numeric not null,
    ongoing_usage_balance_cents bigint not null, -- usage and drafts that it will have to pay
    is_depleted boolean not null, -- whether they come to more than its balance
    refresh_at timestamptz, -- since when that is out of date; null where it is not
    last_balance_sync_at timestamptz,
    last_consumed_credit_at timestamptz,
    expiration_at timestamptz,
    terminated_at timestamptz,
    metadata jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index wallet_code on wallet (customer_id, code) where status = 'active';
create index wallet_newest on wallet (organization_id, created_at desc, id);
create index wallet_of_customer on wallet (customer_id, created_at desc, id);
create index wallet_to_refresh on wallet (organization_id, refresh_at)
    where status = 'active' and refresh_at is not null;
create index wallet_to_expire on wallet (organization_id, expiration_at)
    where status = 'active' and expiration_at is not null;

create table wallet_rule (
    id uuid primary key,
    organization_id uuid not null,
    wallet_id uuid not null references wallet (id),
    status text not null, -- active, terminated
    trigger text not null, -- interval, threshold
    method text not null, -- fixed, target
    "interval" text,
    threshold_credits numeric not null,
    paid_credits numeric not null,
    granted_credits numeric not null,
    target_ongoing_balance numeric,
    grants_target_top_up boolean not null,
    started_at timestamptz,
    expiration_at timestamptz,
    invoice_requires_successful_payment boolean not null,
    ignore_paid_top_up_limits boolean not null,
    transaction_name text,
    transaction_metadata jsonb not null,
    purchase_order_number text,
    next_top_up_at timestamptz, -- when an interval is over
    terminated_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index wallet_rule_of_wallet on wallet_rule (wallet_id) where status = 'active';
create index wallet_rule_to_top_up on wallet_rule (organization_id, next_top_up_at)
    where status = 'active' and next_top_up_at is not null;
create index wallet_rule_to_expire on wallet_rule (organization_id, expiration_at)
    where status = 'active' and expiration_at is not null;

-- What fills a wallet (inbound) and what empties it (outbound).
create table wallet_transaction (
    id uuid primary key,
    organization_id uuid not null,
    wallet_id uuid not null references wallet (id),
    transaction_type text not null, -- inbound, outbound
    transaction_status text not null, -- purchased, granted, voided, invoiced
    status text not null, -- pending, settled, failed
    source text not null, -- manual, interval, threshold
    amount_cents bigint not null check (amount_cents >= 0),
    credit_amount numeric not null check (credit_amount >= 0),
    remaining_amount_cents bigint, -- of one that fills: what nothing has taken yet; null until it is settled
    priority bigint not null, -- of one that fills: from 1, which is taken first, to 50
    name text,
    purchase_order_number text,
    invoice_requires_successful_payment boolean not null,
    invoice_id uuid, -- that it bought or paid
    voided_invoice_id uuid, -- that gave it back
    credit_note_id uuid, -- that it was voided for
    metadata jsonb not null,
    settled_at timestamptz,
    failed_at timestamptz,
    created_at timestamptz not null,
    constraint wallet_transaction_remains check (remaining_amount_cents between 0 and amount_cents)
);

create index wallet_transaction_of_wallet on wallet_transaction (wallet_id, created_at desc, id);
create index wallet_transaction_with_rest on wallet_transaction (wallet_id) where remaining_amount_cents > 0;
create index wallet_transaction_of_invoice on wallet_transaction (invoice_id) where invoice_id is not null;
create index wallet_transaction_of_voided on wallet_transaction (voided_invoice_id) where voided_invoice_id is not null;

-- How much of one that fills went into one that empties.
create table wallet_consumption (
    id uuid primary key,
    inbound_id uuid not null references wallet_transaction (id),
    outbound_id uuid not null references wallet_transaction (id),
    amount_cents bigint not null check (amount_cents > 0),
    credit_amount numeric not null,
    created_at timestamptz not null
);

create index wallet_consumption_of_inbound on wallet_consumption (inbound_id, created_at, id);
create index wallet_consumption_of_outbound on wallet_consumption (outbound_id, created_at, id);

-- What moved money is never edited: a balance is the sum of it.
create function refuse_edit_of_wallet_entry() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and tg_table_name = 'wallet_transaction' and (old.status <> 'settled' or new.status = 'settled')
        and (old.wallet_id, old.transaction_type, old.transaction_status, old.amount_cents, old.credit_amount)
            = (new.wallet_id, new.transaction_type, new.transaction_status, new.amount_cents, new.credit_amount)
    then
        return new;
    end if;
    raise exception 'what moved prepaid credits is not edited: add an entry that moves them back';
end
$$;

create trigger wallet_transaction_stays before update or delete on wallet_transaction
for each row execute function refuse_edit_of_wallet_entry();
create trigger wallet_consumption_stays before update or delete on wallet_consumption
for each row execute function refuse_edit_of_wallet_entry();

alter table invoice add column prepaid_granted_credit_amount_cents bigint;
alter table invoice add column prepaid_purchased_credit_amount_cents bigint;

do $$
declare
    one record;
    way text;
begin
    for one in select * from (values
        (
            'wallet', 'id', 'code',
            'ongoing_usage_balance_cents is_depleted refresh_at last_balance_sync_at', 'insert update delete'
        ),
        ('wallet_rule', 'id', 'trigger', 'next_top_up_at', 'insert update delete'),
        ('wallet_transaction', 'id', 'transaction_status', '', 'insert update')
    ) as audited (name, keys, label, ignored, ways) loop
        foreach way in array string_to_array(one.ways, ' ') loop
            execute format(
                'create trigger audited_%s after %s on %I %s'
                ' when (current_setting(''permille.change'', true) <> '''') execute function %I(%L, %L, %L)',
                way, way, one.name,
                case
                    when way = 'insert' then 'referencing new table as new_rows for each statement'
                    when way = 'delete' then 'referencing old table as old_rows for each statement'
                    when one.name in ('wallet', 'wallet_transaction') then 'for each row'
                    else 'referencing old table as old_rows new table as new_rows for each statement'
                end,
                case when way = 'update' and one.name in ('wallet', 'wallet_transaction') then 'audit_row' else 'audit_rows' end,
                one.keys, one.label, concat_ws(' ', 'created_at updated_at organization_id digest position', nullif(one.ignored, ''))
            );
        end loop;
    end loop;
end
$$;
