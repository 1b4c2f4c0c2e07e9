-- Subscriptions that run once their first invoice is paid.
alter table subscription add column cancellation_reason text; -- payment_failed, timeout: of one that waited for its payment
create unique index subscription_incomplete on subscription (organization_id, external_id) where status = 'incomplete';

create table activation_rule (
    id uuid primary key,
    organization_id uuid not null,
    subscription_id uuid not null references subscription (id),
    type text not null, -- payment
    timeout_hours bigint not null, -- 0: for as long as it takes
    status text not null,
    expires_at timestamptz,
    invoice_id uuid, -- that has to be paid
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index activation_rule_of_subscription on activation_rule (subscription_id);
create index activation_rule_of_invoice on activation_rule (invoice_id) where status = 'pending';
create index activation_rule_to_expire on activation_rule (organization_id, expires_at)
    where status = 'pending' and expires_at is not null;

alter table invoice_credit add column given_back_at timestamptz; -- the invoice was never paid

create trigger audited_insert after insert on activation_rule
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'type', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on activation_rule
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'type', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on activation_rule
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'type', 'created_at updated_at organization_id digest position');
