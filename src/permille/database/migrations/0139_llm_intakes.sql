-- Codes of events that are usage of language models: other programs send them to /events as they are.
create table llm_intake (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    format text not null, -- what sends them
    codes text[] not null,
    payer_kind text, -- which kind of name an event's subscription is; null: the subscription itself
    created_at timestamptz not null
);

create unique index llm_intake_format on llm_intake (organization_id, format);

create trigger audited_insert after insert on llm_intake referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'format', 'created_at updated_at organization_id digest position');
create trigger audited_update after update on llm_intake referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'format', 'created_at updated_at organization_id digest position');
create trigger audited_delete after delete on llm_intake referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'format', 'created_at updated_at organization_id digest position');
