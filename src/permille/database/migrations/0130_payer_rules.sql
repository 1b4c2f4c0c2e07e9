-- Rules about who pays for calls of language models, and what they look at in usage that waits.
alter table held_usage
    add column payer_names jsonb not null default '{}', -- key, team, user and the like, for rules about who pays
    add column is_payer_requested boolean not null default false; -- the request of an end user named who pays

create index held_usage_of_payer on held_usage using gin (payer_names jsonb_path_ops) where counted_at is null;

create table payer_rule (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    field text not null, -- which kind of name
    value text not null,
    external_subscription_id text,
    external_customer_id text,
    overrides_request boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint payer_rule_payer check (num_nonnulls(external_subscription_id, external_customer_id) = 1)
);

create unique index payer_rule_name on payer_rule (organization_id, field, value);
create index payer_rule_newest on payer_rule (organization_id, created_at desc, id desc);

create trigger audited_insert after insert on payer_rule referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'value', 'created_at updated_at organization_id digest position');
create trigger audited_update after update on payer_rule referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'value', 'created_at updated_at organization_id digest position');
create trigger audited_delete after delete on payer_rule referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'value', 'created_at updated_at organization_id digest position');
