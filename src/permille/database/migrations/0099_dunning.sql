-- Dunning: campaigns that request what is overdue, and how far each customer's has come.
create table dunning_campaign (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    description text,
    thresholds jsonb not null, -- [{"currency": "EUR", "amount_cents": 15000}], one for each currency
    days_between_attempts bigint not null,
    max_attempts bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (organization_id, code)
);

alter table billing_entity add column dunning_campaign_id uuid references dunning_campaign (id);
alter table customer add column dunning_campaign_id uuid references dunning_campaign (id);
alter table customer add column exclude_from_dunning_campaign boolean not null default false;

create table dunning (
    customer_id uuid primary key references customer (id),
    organization_id uuid not null,
    due_at timestamptz, -- when to look again whether anything is to be requested; null: when an invoice becomes overdue
    last_attempt_at timestamptz,
    attempts jsonb not null default '{}', -- by currency
    is_finished boolean not null default false -- the webhook of it is sent
);

create index dunning_due on dunning (organization_id, due_at) where due_at is not null;

alter table payment_request add column dunning_campaign_id uuid;

-- The numbers of an entity go on from the number of its invoices since the switch, not since the first number.
update billing_entity b set last_invoice_sequential_id = greatest(
    last_invoice_sequential_id, (select count(*) from invoice i where i.billing_entity_id = b.id and i.sequential_id is not null)
) where document_numbering = 'per_billing_entity';

do $$
declare
    way text;
begin
    foreach way in array array['insert', 'update', 'delete'] loop
        execute format(
            'create trigger audited_%s after %s on dunning_campaign %s for each statement'
            ' when (current_setting(''permille.change'', true) <> '''') execute function audit_rows(%L, %L, %L)',
            way, way,
            case
                when way = 'insert' then 'referencing new table as new_rows'
                when way = 'delete' then 'referencing old table as old_rows'
                else 'referencing old table as old_rows new table as new_rows'
            end,
            'id', 'code', 'created_at updated_at organization_id digest position'
        );
    end loop;
end
$$;
