-- Thresholds of plans and subscriptions, and what invoices at thresholds have billed before.
alter table plan add column usage_thresholds jsonb not null default '[]';
alter table subscription add column usage_thresholds jsonb not null default '[]';
create index plan_with_thresholds on plan (organization_id) where usage_thresholds <> '[]';
create index subscription_with_thresholds on subscription (organization_id) where usage_thresholds <> '[]';
create index invoice_progressive on invoice (organization_id) where invoice_type = 'progressive_billing';

-- What an invoice has taken off, as an invoice at a threshold has billed it before.
create table progressive_credit (
    id uuid primary key,
    invoice_id uuid not null,
    subscription_id uuid not null,
    progressive_invoice_id uuid not null references invoice (id),
    amount_cents bigint not null,
    created_at timestamptz not null
);

create index progressive_credit_of_invoice on progressive_credit (invoice_id);
create index progressive_credit_from on progressive_credit (progressive_invoice_id);

-- Thresholds that were reached, as they were then. None is reached twice.
create table applied_usage_threshold (
    id uuid primary key,
    organization_id uuid not null,
    invoice_id uuid not null references invoice (id),
    subscription_id uuid not null,
    threshold jsonb not null,
    lifetime_usage_amount_cents bigint not null,
    created_at timestamptz not null
);

create index applied_usage_threshold_of_invoice on applied_usage_threshold (invoice_id);
create index applied_usage_threshold_of_subscription on applied_usage_threshold (subscription_id);

-- Subscriptions with thresholds whose usage may have changed. Marks are added and taken, never changed.
create table threshold_mark (
    organization_id uuid not null,
    external_subscription_id text not null
);

create index threshold_mark_of_organization on threshold_mark (organization_id);

-- How far arrived events were looked through for subscriptions with thresholds.
create table threshold_check (
    singleton boolean primary key default true check (singleton),
    seen_to bigint not null
);

insert into threshold_check (seen_to) select rolled_up_to from metering_state;
