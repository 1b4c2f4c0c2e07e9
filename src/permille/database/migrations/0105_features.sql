-- Features, and what plans and subscriptions grant of them.
create table feature (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text,
    description text,
    privileges jsonb not null, -- code, name, value_type and select_options of each
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index feature_code on feature (organization_id, code);
create index feature_newest on feature (organization_id, created_at desc, id);

create table entitlement (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    feature_id uuid not null references feature (id),
    plan_id uuid references plan (id),
    subscription_id uuid references subscription (id), -- its own values over those of its plan
    values jsonb not null, -- by codes of privileges, as texts
    is_removed boolean not null, -- a subscription doesn't have what its plan grants
    removed_privileges text[] not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint entitlement_of_one check ((plan_id is null) <> (subscription_id is null))
);

create unique index entitlement_of_plan on entitlement (plan_id, feature_id) where plan_id is not null;
create unique index entitlement_of_subscription on entitlement (subscription_id, feature_id) where subscription_id is not null;
create index entitlement_of_feature on entitlement (feature_id);

-- For figures by month.
create index invoice_issued on invoice (organization_id, issuing_date) where status = 'finalized';
create index invoice_overdue_since on invoice (organization_id, payment_due_date) where payment_overdue;

create trigger audited_insert after insert on feature referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');
create trigger audited_update after update on feature referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');
create trigger audited_delete after delete on feature referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');
create trigger audited_insert after insert on entitlement referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'feature_id', 'created_at updated_at organization_id digest position');
create trigger audited_update after update on entitlement referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'feature_id', 'created_at updated_at organization_id digest position');
create trigger audited_delete after delete on entitlement referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'feature_id', 'created_at updated_at organization_id digest position');
