-- The whole schema of Permille, in the order of the data: who, what is measured, what it costs, who pays,
-- what happened (events), how much that is (usage), what is owed (invoices), who is told (webhooks).
-- This file is the truth; tests/store/test_migrate.py proves that the migrations reach it.
-- No column defaults to the clock or to chance: time and ids are parameters. Periods are half-open [from, to).

-- Who ----------------------------------------------------------------------------------------------------

create table organization (
    id uuid primary key,
    name text not null,
    test_mode boolean not null default false,
    test_now timestamptz, -- the test clock; null for a live organization
    hmac_key text not null,
    last_customer_sequential_id bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint organization_clock check (test_mode = (test_now is not null))
);

create table billing_entity (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    is_default boolean not null default false,
    default_currency text not null default 'USD',
    timezone text not null default 'UTC',
    net_payment_term bigint not null default 0,
    invoice_grace_period bigint not null default 0,
    invoice_footer text,
    document_locale text not null default 'en',
    document_numbering text not null default 'per_customer',
    document_number_prefix text not null,
    finalize_zero_amount_invoice boolean not null default true,
    subscription_invoice_issuing_date_anchor text not null default 'next_period_start',
    subscription_invoice_issuing_date_adjustment text not null default 'align_with_finalization_date',
    email text,
    legal_name text,
    legal_number text,
    tax_identification_number text,
    address_line1 text,
    address_line2 text,
    city text,
    zipcode text,
    state text,
    country text,
    logo_url text,
    last_invoice_sequential_id bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (organization_id, code)
);

create table api_key (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text,
    digest bytea not null unique, -- SHA-256 of the key; the key itself is shown once and never stored
    prefix text not null,
    last_four text not null,
    created_at timestamptz not null,
    revoked_at timestamptz
);

create index api_key_of_organization on api_key (organization_id, created_at);

-- What is measured -----------------------------------------------------------------------------------------

create table billable_metric (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text not null,
    code text not null,
    description text,
    aggregation_type text not null,
    field_name text,
    recurring boolean not null default false,
    rounding_function text,
    rounding_precision bigint,
    weighted_interval text,
    expression text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index billable_metric_code on billable_metric (organization_id, code) where deleted_at is null;
create index billable_metric_newest on billable_metric (organization_id, created_at desc, id) where deleted_at is null;

-- The dimensions of a metric (Lago: filters), e.g. model and type.
create table billable_metric_filter (
    billable_metric_id uuid not null references billable_metric (id),
    key text not null,
    values text[] not null,
    primary key (billable_metric_id, key)
);

-- How the events of a code are stored in narrow rows: the property that is the value, and the properties
-- whose values make a series. One row per (organization, code) that has ever had a metric.
create table metering (
    organization_id uuid not null references organization (id),
    code text not null,
    field_name text, -- null: no numeric value is taken (count, unique_count)
    keys text[] not null, -- sorted; dimensions and grouping keys
    expression text,
    version bigint not null,
    primary key (organization_id, code)
);

-- One row. It grows with every change of metering; ingestion inserts only under the version it has read.
create table metering_state (
    singleton boolean primary key default true check (singleton),
    version bigint not null,
    rolled_up_to bigint not null -- events up to this seq are in usage_cell
);

insert into metering_state (version, rolled_up_to) values (0, 0);

-- What it costs --------------------------------------------------------------------------------------------

create table plan (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    parent_id uuid references plan (id),
    code text not null,
    name text not null,
    invoice_display_name text,
    description text,
    interval text not null,
    amount_cents bigint not null,
    amount_currency text not null,
    pay_in_advance boolean not null default false,
    trial_period numeric,
    bill_charges_monthly boolean,
    bill_fixed_charges_monthly boolean,
    metadata jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index plan_code on plan (organization_id, code) where parent_id is null and deleted_at is null;
create index plan_newest on plan (organization_id, created_at desc, id) where parent_id is null and deleted_at is null;

create table charge (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    plan_id uuid not null references plan (id),
    parent_id uuid references charge (id),
    billable_metric_id uuid not null references billable_metric (id),
    code text not null,
    position bigint not null, -- order within the plan
    invoice_display_name text,
    charge_model text not null,
    pay_in_advance boolean not null default false,
    prorated boolean not null default false,
    invoiceable boolean not null default true,
    regroup_paid_fees text,
    min_amount_cents bigint not null default 0,
    accepts_target_wallet boolean not null default false,
    properties jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create index charge_of_plan on charge (plan_id, position) where deleted_at is null;
create index charge_of_metric on charge (billable_metric_id) where deleted_at is null;

-- The price of a combination of dimension values. "values" keeps __ALL_FILTER_VALUES__ as it was sent.
create table charge_filter (
    id uuid primary key,
    charge_id uuid not null references charge (id),
    position bigint not null,
    invoice_display_name text,
    values json not null, -- json, not jsonb: the order of the keys is the order of the display name
    properties jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create index charge_filter_of_charge on charge_filter (charge_id, position) where deleted_at is null;

-- Who pays ---------------------------------------------------------------------------------------------------

create table customer (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    billing_entity_id uuid not null references billing_entity (id),
    external_id text not null,
    sequential_id bigint not null,
    slug text not null,
    account_type text not null default 'customer',
    customer_type text,
    name text,
    firstname text,
    lastname text,
    legal_name text,
    legal_number text,
    tax_identification_number text,
    email text,
    phone text,
    url text,
    logo_url text,
    country text,
    address_line1 text,
    address_line2 text,
    city text,
    zipcode text,
    state text,
    shipping_address jsonb not null default '{}',
    currency text,
    timezone text,
    net_payment_term bigint,
    finalize_zero_amount_invoice text not null default 'inherit',
    external_salesforce_id text,
    billing_configuration jsonb not null default '{}',
    skip_invoice_custom_sections boolean not null default false,
    metadata jsonb not null default '[]',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index customer_external_id on customer (organization_id, external_id) where deleted_at is null;
create unique index customer_sequential_id on customer (organization_id, sequential_id);
create index customer_newest on customer (organization_id, created_at desc, id) where deleted_at is null;

create table subscription (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    customer_id uuid not null references customer (id),
    plan_id uuid not null references plan (id),
    previous_subscription_id uuid references subscription (id),
    external_id text not null,
    name text,
    status text not null,
    billing_time text not null,
    subscription_at timestamptz not null,
    started_at timestamptz,
    activated_at timestamptz,
    trial_ended_at timestamptz,
    ending_at timestamptz,
    terminated_at timestamptz,
    canceled_at timestamptz,
    on_termination_credit_note text,
    on_termination_invoice text not null default 'generate',
    consolidate_invoice boolean not null default true,
    purchase_order_number text,
    progressive_billing_disabled boolean not null default false,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- What is due is data. Each is null when nothing is due.
    next_billing_at timestamptz, -- active: the period's end, local midnight of the customer
    activates_at timestamptz, -- pending: local midnight of subscription_at's date
    ends_at timestamptz, -- active: local midnight of ending_at's date
    -- What is billed already (exclusive ends); the billing run is a diff against these.
    fee_billed_until timestamptz,
    charges_billed_until timestamptz
);

create unique index subscription_active on subscription (organization_id, external_id) where status = 'active';
create index subscription_external_id on subscription (organization_id, external_id, created_at desc);
create index subscription_newest on subscription (organization_id, subscription_at desc, created_at desc, id);
create index subscription_of_customer on subscription (customer_id);
create index subscription_of_plan on subscription (plan_id);
create index subscription_to_bill on subscription (organization_id, next_billing_at) where next_billing_at is not null;
create index subscription_to_activate on subscription (organization_id, activates_at) where activates_at is not null;
create index subscription_to_end on subscription (organization_id, ends_at) where ends_at is not null;

-- What happened ----------------------------------------------------------------------------------------------

-- (organization, external subscription, code, dimension values), interned to a small id.
create table series (
    id int generated always as identity primary key,
    organization_id uuid not null references organization (id),
    external_subscription_id text, -- as sent; events without one are kept but never counted
    code text not null,
    metering_version bigint not null, -- 0: the code had no metric
    value_key text, -- the property that event.value holds, null when the value stays in extra
    value_is_text boolean not null default false, -- the property was sent as a JSON string
    dimensions jsonb not null, -- the properties that are taken out of the event rows, as sent
    identity uuid not null unique -- digest of all the above
);

create index series_of_subscription on series (organization_id, external_subscription_id, code);
create index series_of_code on series (organization_id, code, metering_version);

create table event (
    seq bigint generated always as identity, -- order of arrival
    series_id int not null,
    at timestamptz not null,
    created_at timestamptz not null,
    -- 8 bytes of digest(organization, transaction) and 8 of digest(subscription): unique for ever,
    -- found by transaction id alone through its first half, and the event's lago_id.
    identity uuid not null,
    value numeric,
    transaction_id text not null,
    precise_total_amount_cents numeric,
    extra jsonb -- properties that are neither the series' dimensions nor the value
);

create unique index event_identity on event (identity);
create index event_of_series on event (series_id, at);
create index event_seq on event using brin (seq) with (pages_per_range = 32, autosummarize = on);
create index event_at on event using brin (at) with (pages_per_range = 64, autosummarize = on);

-- How much that is -------------------------------------------------------------------------------------------

-- Sums of events by series and by UTC hour, day and month, of the events with seq <= metering_state.rolled_up_to.
create table usage_cell (
    series_id int not null,
    grain "char" not null, -- 'h' hour, 'd' day, 'm' month
    starts_at timestamptz not null,
    events_count bigint not null,
    values_count bigint not null, -- events with a numeric value
    sum numeric not null,
    max numeric,
    precise_amount_cents numeric not null,
    primary key (series_id, grain, starts_at)
) with (fillfactor = 70);

-- The one way into the event table: all rows or none, in order, and only under the metering they were encoded for.
-- 5045524D is the lock that says so: shared by those who insert, exclusive for those who change the metering
-- or want to know that no insert is under way. Raises PM001 when the metering has changed meanwhile,
-- 23505 when an identity is taken.
create function store_events(
    known_version bigint, series_ids int[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[]
) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
    if (select version from metering_state) <> known_version then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    insert into event (
        series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
    )
    select * from unnest(
        series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
    );
end
$$;

-- What is owed -----------------------------------------------------------------------------------------------

create table invoice_sequence (
    customer_id uuid not null references customer (id),
    billing_entity_id uuid not null references billing_entity (id),
    last_value bigint not null,
    primary key (customer_id, billing_entity_id)
);

create table invoice (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    billing_entity_id uuid not null references billing_entity (id),
    customer_id uuid not null references customer (id),
    sequential_id bigint,
    billing_entity_sequential_id bigint,
    number text not null,
    purchase_order_number text,
    invoice_type text not null,
    status text not null,
    payment_status text not null,
    payment_overdue boolean not null default false,
    payment_dispute_lost_at timestamptz,
    currency text not null,
    timezone text not null,
    issuing_date date not null,
    payment_due_date date not null,
    expected_finalization_date date not null,
    net_payment_term bigint not null,
    fees_amount_cents bigint not null,
    taxes_amount_cents bigint not null default 0,
    taxes_rate numeric not null default 0,
    progressive_billing_credit_amount_cents bigint not null default 0,
    coupons_amount_cents bigint not null default 0,
    credit_notes_amount_cents bigint not null default 0,
    sub_total_excluding_taxes_amount_cents bigint not null,
    sub_total_including_taxes_amount_cents bigint not null,
    prepaid_credit_amount_cents bigint not null default 0,
    total_amount_cents bigint not null,
    total_paid_amount_cents bigint not null default 0,
    metadata jsonb not null default '[]',
    skip_charges boolean not null default false,
    finalized_at timestamptz,
    voided_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create index invoice_newest on invoice (organization_id, created_at desc, id);
create index invoice_of_customer on invoice (customer_id, created_at desc, id);
create unique index invoice_number on invoice (billing_entity_id, number) where sequential_id is not null;

create table invoice_subscription (
    invoice_id uuid not null references invoice (id),
    subscription_id uuid not null references subscription (id),
    invoicing_reason text not null,
    recurring boolean not null,
    billed_at timestamptz not null, -- the instant that was due
    from_at timestamptz,
    to_at timestamptz,
    charges_from_at timestamptz,
    charges_to_at timestamptz,
    fixed_charges_from_at timestamptz,
    fixed_charges_to_at timestamptz,
    primary key (invoice_id, subscription_id)
);

-- No subscription is billed twice for the same due instant, whoever runs the billing and however often.
create unique index invoice_subscription_once on invoice_subscription (subscription_id, billed_at) where recurring;
create index invoice_subscription_of_subscription on invoice_subscription (subscription_id, charges_to_at desc);

-- Only the invoice is a foreign key: the other rows are never deleted, and five more checks for each fee
-- would take half the time of an invoice run.
create table fee (
    id uuid primary key,
    organization_id uuid not null,
    invoice_id uuid references invoice (id),
    customer_id uuid not null,
    subscription_id uuid,
    fee_type text not null,
    charge_id uuid,
    charge_filter_id uuid,
    position bigint not null, -- order within the invoice
    pay_in_advance boolean not null,
    invoice_display_name text,
    description text,
    units numeric not null,
    total_aggregated_units numeric,
    events_count bigint,
    amount_cents bigint not null,
    amount_currency text not null,
    precise_amount_cents numeric not null,
    unit_amount_cents bigint not null,
    precise_unit_amount numeric not null,
    taxes_amount_cents bigint not null default 0,
    taxes_precise_amount_cents numeric not null default 0,
    taxes_rate numeric not null default 0,
    precise_coupons_amount_cents numeric not null default 0,
    amount_details jsonb not null default '{}',
    grouped_by jsonb not null default '{}',
    payment_status text not null default 'pending',
    from_at timestamptz,
    to_at timestamptz,
    event_transaction_id text,
    true_up_parent_fee_id uuid references fee (id),
    succeeded_at timestamptz,
    failed_at timestamptz,
    refunded_at timestamptz,
    created_at timestamptz not null
);

create index fee_of_invoice on fee (invoice_id, position);
create index fee_newest on fee (organization_id, created_at desc, id);
create index fee_of_subscription on fee (subscription_id, created_at desc);

-- A finalized invoice is never edited: only what happens to it afterwards (payment, voiding, metadata) changes.
create function refuse_edit_of_final_invoice() returns trigger language plpgsql as $$
begin
    if old.status in ('finalized', 'voided') and (
        (old.number, old.customer_id, old.currency, old.fees_amount_cents, old.taxes_amount_cents,
         old.coupons_amount_cents, old.total_amount_cents, old.issuing_date)
        is distinct from
        (new.number, new.customer_id, new.currency, new.fees_amount_cents, new.taxes_amount_cents,
         new.coupons_amount_cents, new.total_amount_cents, new.issuing_date)
    ) then
        raise exception 'invoice % is final: void it or issue a credit note', old.number;
    end if;
    return new;
end
$$;

create trigger invoice_is_final before update on invoice
for each row execute function refuse_edit_of_final_invoice();

-- Who is told ------------------------------------------------------------------------------------------------

create table webhook_endpoint (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    webhook_url text not null,
    signature_algo text not null default 'jwt',
    name text,
    event_types text[],
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (organization_id, webhook_url)
);

-- The outbox: written in the transaction of the change, delivered afterwards, kept 90 days as the log.
create table webhook (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    webhook_endpoint_id uuid not null references webhook_endpoint (id) on delete cascade,
    webhook_type text not null,
    object_type text not null,
    object_id uuid not null,
    payload text, -- the JSON as it was first sent; rendered from the object at the first attempt
    status text not null default 'pending', -- pending, retrying, succeeded, failed
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock; null when nothing is left to do
    http_status bigint,
    response text,
    last_attempt_at timestamptz,
    created_at timestamptz not null
);

create index webhook_to_send on webhook (next_attempt_at) where next_attempt_at is not null;
create index webhook_of_organization on webhook (organization_id, created_at desc, id);
create index webhook_of_endpoint on webhook (webhook_endpoint_id, created_at desc);

-- The RSA key that signs webhooks, one per installation.
create table signing_key (
    singleton boolean primary key default true check (singleton),
    private_pem text not null,
    created_at timestamptz not null
);
