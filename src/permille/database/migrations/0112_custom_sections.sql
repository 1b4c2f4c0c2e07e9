-- Texts that invoices print.
create table invoice_custom_section (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    description text,
    display_name text,
    details text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index invoice_custom_section_code on invoice_custom_section (organization_id, code) where deleted_at is null;
create index invoice_custom_section_newest on invoice_custom_section (organization_id, created_at desc, id) where deleted_at is null;

alter table billing_entity add column custom_section_ids uuid[] not null default '{}';
alter table customer add column custom_section_ids uuid[] not null default '{}';
alter table invoice add column custom_sections jsonb not null default '[]'; -- as they were when it was made

create trigger audited_insert after insert on invoice_custom_section
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on invoice_custom_section
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on invoice_custom_section
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');
