-- What subscriptions and wallets print on their invoices instead of what their customers have chosen.
create table custom_section_choice (
    owner_id uuid primary key, -- a subscription, a wallet, its rule, or a transaction that fills it
    organization_id uuid not null references organization (id),
    skips boolean not null, -- its invoices print none
    custom_section_ids uuid[] not null,
    created_at timestamptz not null
);

create trigger audited_insert after insert on custom_section_choice
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('owner_id', 'owner_id', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on custom_section_choice
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('owner_id', 'owner_id', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on custom_section_choice
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('owner_id', 'owner_id', 'created_at updated_at organization_id digest position');
