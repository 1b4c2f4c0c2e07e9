-- Alerts on usage and balances, and what they have fired.
create table alert (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    external_subscription_id text, -- of a subscription, whatever its plan
    wallet_id uuid, -- or of a wallet
    alert_type text not null,
    code text not null,
    name text,
    billable_metric_id uuid references billable_metric (id),
    thresholds jsonb not null,
    previous_value numeric not null, -- at the last look
    period_from timestamptz, -- the start of the period that previous_value is of
    last_processed_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint alert_of_one check ((external_subscription_id is null) <> (wallet_id is null))
);

create unique index alert_code_of_subscription on alert (organization_id, external_subscription_id, code)
    where external_subscription_id is not null;
create unique index alert_code_of_wallet on alert (wallet_id, code) where wallet_id is not null;
create unique index alert_type_of_subscription
    on alert (organization_id, external_subscription_id, alert_type, billable_metric_id) nulls not distinct
    where external_subscription_id is not null;
create unique index alert_type_of_wallet on alert (wallet_id, alert_type) where wallet_id is not null;
create index alert_of_metric on alert (billable_metric_id) where billable_metric_id is not null;

-- What alerts look at may have changed. Marks are added and taken, never changed: nobody waits for a look.
create table alert_mark (
    organization_id uuid not null,
    external_subscription_id text,
    wallet_id uuid
);

create index alert_mark_of_organization on alert_mark (organization_id);

-- How far arrived events were looked through for alerts.
create table alert_check (
    singleton boolean primary key default true check (singleton),
    seen_to bigint not null
);

insert into alert_check (seen_to) select rolled_up_to from metering_state;

-- Added, never changed: it has whatever is shown of it.
create table triggered_alert (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    alert_id uuid not null, -- which may be deleted since
    alert_type text not null,
    alert_code text not null,
    alert_name text,
    subscription_id uuid,
    external_subscription_id text,
    wallet_id uuid,
    external_customer_id text not null,
    billable_metric_code text,
    current_value numeric not null,
    previous_value numeric not null,
    crossed_thresholds jsonb not null,
    triggered_at timestamptz not null
);

create index triggered_alert_of_subscription
    on triggered_alert (organization_id, external_subscription_id, triggered_at desc, id desc)
    where external_subscription_id is not null;
create index triggered_alert_of_wallet on triggered_alert (wallet_id, triggered_at desc, id desc)
    where wallet_id is not null;

create trigger audited_insert after insert on alert referencing new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position previous_value period_from last_processed_at');
create trigger audited_update after update on alert referencing old table as old_rows new table as new_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position previous_value period_from last_processed_at');
create trigger audited_delete after delete on alert referencing old table as old_rows for each statement
    when (current_setting('permille.change', true) <> '')
    execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position previous_value period_from last_processed_at');
