-- What is sold beside usage: once, or in every period as a fixed charge of a plan.
create table add_on (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    invoice_display_name text,
    description text,
    amount_cents bigint not null,
    amount_currency text not null,
    tax_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index add_on_code on add_on (organization_id, code) where deleted_at is null;
create index add_on_newest on add_on (organization_id, created_at desc, id) where deleted_at is null;

create trigger audited_insert after insert on add_on
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on add_on
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on add_on
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');
