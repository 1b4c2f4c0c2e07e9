-- An organization's own names of models: `provider/name as sent` -> `provider/model`.
create table model_alias (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text not null,
    model text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index model_alias_name on model_alias (organization_id, name);

create trigger audited_insert after insert on model_alias
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'name', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on model_alias
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'name', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on model_alias
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'name', 'created_at updated_at organization_id digest position');
