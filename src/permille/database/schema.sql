-- The whole schema of Permille, in the order of the data: who, what is measured, what it costs, who pays,
-- what happened (events), how much that is (usage), what is owed (invoices), who is notified (webhooks).
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
    test_target timestamptz, -- where the test clock is on its way to
    requires_second_factor boolean not null default false, -- of users in the web admin
    auto_approve_prices boolean not null default false, -- versions of the price catalogue without outliers
    constraint organization_clock check (test_mode = (test_now is not null)),
    constraint organization_target check (test_target is null or test_mode)
);

create index organization_on_its_way on organization (id) where test_target is not null;

-- Dunning campaigns request what is overdue.
create table dunning_campaign (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    description text,
    thresholds jsonb not null, -- [{"currency": "EUR", "amount_cents": 15000}], one for each currency
    days_between_attempts bigint not null,
    max_attempts bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    bcc_emails text[] not null default '{}', -- who gets a copy of each request that it mails
    unique (organization_id, code)
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
    unique (organization_id, code),
    tax_ids uuid[] not null default '{}',
    bank_details text,
    reverse_charge_note text,
    dunning_campaign_id uuid references dunning_campaign (id),
    email_settings text[] not null default '{}', -- what customers get by mail without being asked
    eu_tax_management boolean not null default false, -- its customers get the European Union's VAT that applies to them
    custom_section_ids uuid[] not null default '{}',
    brand_color text -- of headings in documents and mails, like #1f4e79
);

create table logo (
    billing_entity_id uuid primary key references billing_entity (id),
    url text not null, -- where it came from; when the entity's logo_url is another, the row is out of date
    content bytea, -- as it is printed; null when it was never fetched
    media_type text,
    etag text,
    problem text, -- why the last attempt failed; null when it did not
    checked_at timestamptz not null,
    expires_at timestamptz not null -- it is fetched again at the next document after this
);

create table api_key (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text,
    digest bytea not null unique, -- SHA-256 of the key; the key itself is shown once and never stored
    prefix text not null,
    last_four text not null,
    created_at timestamptz not null,
    revoked_at timestamptz,
    permissions jsonb, -- null: everything
    expires_at timestamptz,
    last_used_at timestamptz
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
    deleted_at timestamptz,
    custom_aggregator jsonb -- {"total_units", "amount"}: the rules of a custom aggregation
);

create unique index billable_metric_code on billable_metric (organization_id, code) where deleted_at is null;
create index billable_metric_newest on billable_metric (organization_id, created_at desc, id) where deleted_at is null;

-- The dimensions of a metric (Lago: filters), e.g. model and type.
create table billable_metric_filter (
    billable_metric_id uuid not null references billable_metric (id),
    key text not null,
    values text[] not null,
    position integer not null, -- in the order in which the keys were given, like the values
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
    expression_field text, -- the property that the expression writes
    in_advance boolean not null default false, -- a charge on it is paid in advance
    distinct_field text, -- the property whose distinct values are counted
    rebuilding boolean not null default false, -- some events are still encoded as before, in series of older versions
    primary key (organization_id, code)
);

create index metering_rebuilding on metering (organization_id, code) where rebuilding;

-- Grows with every change of an organization's metering; its events are inserted only under the version that they were
-- encoded for. An organization without a row has had no change: version 0.
create table metering_version (
    organization_id uuid primary key references organization (id),
    version bigint not null,
    amended bigint not null default 0 -- grows with every amendment of an event
);

-- One row.
create table metering_state (
    singleton boolean primary key default true check (singleton),
    rolled_up_to bigint not null -- events up to this seq are in usage_cell
);

insert into metering_state (rolled_up_to) values (0);

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
    deleted_at timestamptz,
    tax_ids uuid[] not null default '{}',
    version_of uuid references plan (id), -- of earlier prices: the plan whose they are
    valid_until timestamptz, -- of earlier prices: they price the periods that begin before it
    usage_thresholds jsonb not null default '[]',
    said jsonb not null default '[]', -- of earlier prices: what the change at their end says, also what is as before: [[id of a charge or filter, field], ...]
    constraint plan_version check ((version_of is null) = (valid_until is null))
);

create unique index plan_code on plan (organization_id, code)
    where parent_id is null and version_of is null and deleted_at is null;
create index plan_newest on plan (organization_id, created_at desc, id)
    where parent_id is null and version_of is null and deleted_at is null;
create unique index plan_version_until on plan (version_of, valid_until)
    where version_of is not null and deleted_at is null;

create index plan_version_of_organization on plan (organization_id, valid_until)
    where version_of is not null and deleted_at is null;

create index plan_with_thresholds on plan (organization_id) where usage_thresholds <> '[]';
create index plan_of_parent on plan (parent_id) where parent_id is not null;

-- What a period of a plan comes to at least.
create table commitment (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    plan_id uuid not null unique references plan (id),
    amount_cents bigint not null,
    invoice_display_name text,
    tax_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint commitment_amount check (amount_cents > 0)
);

-- What charges are priced in instead of their plan's currency.
create table pricing_unit (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    short_name text not null,
    description text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index pricing_unit_code on pricing_unit (organization_id, code) where deleted_at is null;
create index pricing_unit_newest on pricing_unit (organization_id, created_at desc, id) where deleted_at is null;

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
    deleted_at timestamptz,
    tax_ids uuid[] not null default '{}',
    pricing_unit_id uuid references pricing_unit (id),
    conversion_rate numeric, -- of one pricing unit, in major units of the plan's currency
    unlisted_values text not null default 'free', -- what usage costs that no filter lists
    version_of uuid references charge (id), -- in earlier prices of a plan: the charge that fees are of
    constraint charge_conversion_rate check (
        (pricing_unit_id is null) = (conversion_rate is null) and conversion_rate > 0
    ),
    rounding text not null default 'per_fee', -- what is rounded to cents by itself
    constraint charge_unlisted_values check (unlisted_values in ('free', 'held', 'default')),
    constraint charge_rounding check (rounding in ('per_fee', 'per_charge'))
);

create index charge_of_plan on charge (plan_id, position) where deleted_at is null;
create index charge_of_metric on charge (billable_metric_id) where deleted_at is null;
create index charge_of_pricing_unit on charge (pricing_unit_id) where pricing_unit_id is not null and deleted_at is null;

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
    deleted_at timestamptz,
    version_of uuid references charge_filter (id) -- in earlier prices of a plan: the filter that fees are of
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
    deleted_at timestamptz,
    tax_ids uuid[] not null default '{}',
    dunning_campaign_id uuid references dunning_campaign (id),
    exclude_from_dunning_campaign boolean not null default false,
    custom_section_ids uuid[] not null default '{}',
    taxes_are_chosen boolean not null default false
);

create unique index customer_external_id on customer (organization_id, external_id) where deleted_at is null;
create unique index customer_sequential_id on customer (organization_id, sequential_id);
create index customer_newest on customer (organization_id, created_at desc, id) where deleted_at is null;

-- VAT numbers of customers that are looked up in VIES, where their billing entity manages the European Union's VAT.
create table vat_check (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    customer_id uuid not null references customer (id),
    number text not null, -- as the customer had it
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock; null: it was decided, or another one came in its place
    is_valid boolean, -- null: not decided
    name text, -- what the register says
    address text,
    problem text, -- why the last attempt decided nothing
    created_at timestamptz not null,
    decided_at timestamptz
);

create unique index vat_check_waiting on vat_check (customer_id) where next_attempt_at is not null;
create index vat_check_due on vat_check (organization_id, next_attempt_at) where next_attempt_at is not null;
create index vat_check_of_customer on vat_check (customer_id, decided_at desc);

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
    charges_billed_until timestamptz,
    upgraded boolean not null default false, -- a dearer plan took over at terminated_at, or one that was paid then
    historical_usage_amount_cents bigint not null default 0, -- on the first row of a life: used before we knew of it
    fixed_charges_billed_until timestamptz,
    fixed_charges_paid_until timestamptz, -- up to where those in advance are paid
    usage_thresholds jsonb not null default '[]', -- of its own, instead of its plan's
    cancellation_reason text, -- payment_failed, timeout: of one that waited for its payment
    end_alert_at timestamptz, -- active: when its end is announced next
    billing_entity_id uuid references billing_entity (id) -- whose invoices it is on; null: the customer's
);

create index subscription_after on subscription (previous_subscription_id) where previous_subscription_id is not null;
create unique index subscription_active on subscription (organization_id, external_id) where status = 'active';
create unique index subscription_incomplete on subscription (organization_id, external_id) where status = 'incomplete';
create index subscription_external_id on subscription (organization_id, external_id, created_at desc);
create index subscription_newest on subscription (organization_id, subscription_at desc, created_at desc, id);
create index subscription_of_customer on subscription (customer_id);
create index subscription_with_thresholds on subscription (organization_id) where usage_thresholds <> '[]';
create index subscription_of_plan on subscription (plan_id);
create index subscription_to_bill on subscription (organization_id, next_billing_at) where next_billing_at is not null;
create index subscription_to_activate on subscription (organization_id, activates_at) where activates_at is not null;
create index subscription_to_announce on subscription (organization_id, end_alert_at) where end_alert_at is not null;
create index subscription_to_end on subscription (organization_id, ends_at) where ends_at is not null;

-- What has to happen before a subscription runs.
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

-- What happened ----------------------------------------------------------------------------------------------

-- (organization, external subscription, code, dimension values), interned to a small id.
create table series (
    id bigint generated always as identity primary key,
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
    series_id bigint not null,
    at timestamptz not null,
    created_at timestamptz not null,
    -- 8 bytes of digest(organization, transaction), the first 6 of them the time of a transaction id that has one, and
    -- 8 of digest(subscription): unique for ever, found by transaction id alone through its first half, and the lago_id.
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
create index event_created_at on event using brin (created_at) with (pages_per_range = 64, autosummarize = on);

-- Hours in which events of an organization came in and that have not been looked through for errors yet.
create table event_hour (
    organization_id uuid not null,
    starts_at timestamptz not null,
    primary key (organization_id, starts_at)
);

-- Events that were wrong. Nothing stored is changed: an amendment is a row of its own, and of an event with several
-- the last one is in force. What a replacement says instead is one more row of event, whose identity is the
-- amendment's id and whose seq is that of the event, so that it keeps its place in the order of arrival.
create table event_amendment (
    id uuid primary key,
    position bigint generated always as identity, -- the order of amendments
    organization_id uuid not null,
    transaction_id text not null, -- the amendment's own
    event_identity uuid not null,
    event_transaction_id text not null,
    external_subscription_id text,
    kind text not null,
    reason text not null,
    api_key_id uuid, -- whose key it was sent with
    code text, -- with the following: what a replacement says, as it was sent
    at timestamptz,
    precise_total_amount_cents numeric,
    properties jsonb,
    created_at timestamptz not null,
    constraint event_amendment_kind check (kind in ('void', 'replace'))
);

create unique index event_amendment_once on event_amendment (organization_id, transaction_id);
create index event_amendment_of_event on event_amendment (event_identity, position);
create index event_amendment_newest on event_amendment (organization_id, position);
create index event_amendment_of_transaction on event_amendment (organization_id, event_transaction_id, position);
create index event_amendment_of_subscription on event_amendment (organization_id, external_subscription_id, position);

-- Rows of event that do not count any more: voided, replaced, or replacements that were amended in their turn.
create table struck_event (
    identity uuid primary key,
    amendment_id uuid not null
);

-- What usage is made of.
create view counted_event as
select e.* from event e where not exists (select from struck_event s where s.identity = e.identity);

-- What was sent: every event once, whatever became of it.
create view sent_event as
select e.* from event e where not exists (select from event_amendment a where a.id = e.identity);

create function refuse_change_of_amendment() returns trigger language plpgsql as $$
begin
    raise exception 'amendments are never changed: add another';
end
$$;

create trigger event_amendment_stays before update or delete on event_amendment
for each row execute function refuse_change_of_amendment();
create trigger struck_event_stays before update or delete on struck_event
for each row execute function refuse_change_of_amendment();

-- How much that is -------------------------------------------------------------------------------------------

-- Sums of events by series and by UTC hour, day and month, of the events with seq <= metering_state.rolled_up_to.
create table usage_cell (
    series_id bigint not null,
    grain "char" not null, -- 'h' hour, 'd' day, 'm' month
    starts_at timestamptz not null,
    events_count bigint not null,
    values_count bigint not null, -- events with a numeric value
    sum numeric not null,
    max numeric,
    precise_amount_cents numeric not null,
    moment numeric not null, -- sum of each value times its instant, in seconds since 1970
    primary key (series_id, grain, starts_at)
) with (fillfactor = 70);

-- The series that were used in a month, so that what looks at some days need not walk all series that ever were.
create table series_month (
    organization_id uuid not null,
    code text not null,
    starts_at timestamptz not null,
    series_id bigint not null,
    primary key (organization_id, code, starts_at, series_id)
);

-- How many events an organization's cells hold, of each code: a list says how many there are without going through the series.
create table event_count (
    organization_id uuid not null,
    grain "char" not null, -- as of usage_cell
    starts_at timestamptz not null,
    code text not null,
    events_count bigint not null,
    primary key (organization_id, grain, starts_at, code)
);

-- The series is looked up for hours alone: days and months are added up from them.
create function add_event_counts(hours_of bigint[], starts timestamptz[], counts bigint[]) returns void language sql as $$
with hour as (
    select s.organization_id, s.code, h.starts_at, sum(h.events_count)::bigint as events_count
    from unnest(hours_of, starts, counts) as h (series_id, starts_at, events_count) join series s on s.id = h.series_id
    group by 1, 2, 3
), counted as (
    select organization_id, 'h'::"char" as grain, starts_at, code, events_count from hour
    union all
    select organization_id, 'd', date_trunc('day', starts_at, 'UTC'), code, sum(events_count)::bigint from hour group by 1, 3, 4
    union all
    select organization_id, 'm', date_trunc('month', starts_at, 'UTC'), code, sum(events_count)::bigint from hour group by 1, 3, 4
)
insert into event_count as c select * from counted where events_count <> 0
on conflict (organization_id, grain, starts_at, code) do update set events_count = c.events_count + excluded.events_count
$$;

create function count_events() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(events_count))
        from added where grain = 'h' having count(*) > 0;
    elsif tg_op = 'DELETE' then
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(-events_count))
        from gone where grain = 'h' having count(*) > 0;
    else
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(events_count))
        from (
            select series_id, starts_at, events_count from added where grain = 'h'
            union all
            select series_id, starts_at, -events_count from gone where grain = 'h'
        ) changed having count(*) > 0;
    end if;
    return null;
end
$$;

create trigger usage_cell_counts_added after insert on usage_cell
referencing new table as added for each statement execute function count_events();
create trigger usage_cell_counts_changed after update on usage_cell
referencing old table as gone new table as added for each statement execute function count_events();
create trigger usage_cell_counts_gone after delete on usage_cell
referencing old table as gone for each statement execute function count_events();

-- Usage by day of a metric, of which more is in use than a page can add up: made in the background, kept for a while.
create table usage_chart (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    key text not null, -- the dimension, '' without one
    shown text not null,
    since timestamptz not null, -- the window that was asked for last
    until timestamptz not null,
    asked_at timestamptz not null, -- by the system's clock, as made_at
    days jsonb, -- null until it was made once
    made_at timestamptz,
    unique (organization_id, code, key, shown)
);

-- Beside those sums, where distinct values are counted: of each value its last operation.
create table unique_cell (
    series_id bigint not null,
    grain "char" not null,
    starts_at timestamptz not null,
    digest uuid not null, -- of the text, which may be long
    text text,
    at timestamptz not null,
    seq bigint not null,
    is_add boolean not null,
    primary key (series_id, grain, starts_at, digest)
) with (fillfactor = 70);

-- Events of what is paid in advance wait here until their fee is made, in the order of arrival.
create table advance_event (
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    primary key (organization_id, seq),
    due_at timestamptz, -- when the fee would have been made, of an event that was held
    charge_ids uuid[] -- null: of every charge that bills the event
);

-- Events whose fee in advance waits until their usage has a price, and of which charges. They are put back into the
-- queue for those charges alone: of the others the fee is made.
create table unpriced_advance_event (
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    charge_ids uuid[] not null,
    due_at timestamptz not null, -- when the fee would have been made
    primary key (organization_id, seq),
    retry_at timestamptz not null
);

-- Customers with something due that cannot be billed as it is, e.g. an amount out of range.
-- Nothing that is due of them is done before retry_at, by the organization's clock, so that it stays in order.
create table billing_hold (
    customer_id uuid primary key,
    organization_id uuid not null,
    due_at timestamptz not null, -- of what cannot be billed
    since timestamptz not null,
    retry_at timestamptz, -- null: released, holds up nothing
    reason text not null
);

create index billing_hold_of_organization on billing_hold (organization_id);

-- Their events that wait for a fee: out of the way of all others, and moved back at each try.
create table held_advance_event (
    customer_id uuid not null,
    organization_id uuid not null,
    seq bigint not null,
    identity uuid not null,
    due_at timestamptz not null, -- when the fee would have been made
    charge_ids uuid[],
    primary key (customer_id, seq)
);

-- How far what is paid in advance has come in a period, so that a fee need not be reckoned from all of its events.
-- A shortcut and nothing more: any row may be deleted at any time.
-- What the fees of events of a charge in a period come to precisely, where the charge rounds them together.
create table advance_rounding (
    subscription_id uuid not null,
    charge_id uuid not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    amount_cents numeric not null,
    in_unit_cents numeric not null, -- hundredths of the charge's pricing unit
    primary key (subscription_id, charge_id, from_at, to_at)
);

create table advance_level (
    subscription_id uuid not null,
    charge_id uuid not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    stamp uuid not null, -- digest of all else that the levels depend on
    until_seq bigint not null, -- the events up to it are in
    events_count bigint not null,
    levels jsonb not null, -- by bucket and pricing group
    primary key (subscription_id, charge_id, from_at, to_at)
);

-- The one way into the event table: all rows or none, in order, and only under the metering they were encoded for.
-- Two locks, both shared: that of each organization keeps its metering as it is; 5045524D says that numbers are being
-- drawn, to those who want to know which are settled, and is never waited for. Raises PM001 when the metering of an
-- organization has changed meanwhile, PM002 with the organizations of which it is being changed, 23505 when an identity
-- is taken.
create function enter_events(owners uuid[], known_versions bigint[]) returns void language plpgsql as $$
declare
    changing text;
begin
    select string_agg(o.id::text, ' ') into changing from unnest(owners) as o (id)
    where not pg_try_advisory_xact_lock_shared(uuid_hash_extended(o.id, x'5045524F'::bigint));
    if changing is not null then
        raise exception 'the metering is being changed' using errcode = 'PM002', detail = changing;
    end if;
    if exists (
        select from unnest(owners, known_versions) as k (id, version)
        left join metering_version v on v.organization_id = k.id
        where k.version <> coalesce(v.version, 0)
    ) then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
end
$$;

-- Transaction ids that count once whatever the subscription is: a call of a model, a session that several calls share.
-- Each is the digest of (organization, transaction id), and goes in with its events. Calls from before are known by these.
create table counted_once (
    identity uuid primary key
);

create function count_once(claimed uuid[]) returns void language plpgsql as $$
begin
    insert into counted_once select * from unnest(claimed);
end
$$;

create function append_events(
    owners uuid[], known_versions bigint[], series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[]
) returns void language plpgsql as $$
begin
    perform enter_events(owners, known_versions);
    insert into event (
        series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
    )
    select * from unnest(
        series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
    );
end
$$;

-- As append_events, for a group with events that are paid in advance: these identities, of these organizations.
create function append_events_in_advance(
    owners uuid[], known_versions bigint[], series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[],
    waiting uuid[], organizations uuid[]
) returns void language plpgsql as $$
begin
    perform enter_events(owners, known_versions);
    with stored as (
        insert into event (
            series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
        )
        select * from unnest(
            series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
        )
        returning seq, event.identity
    )
    insert into advance_event (organization_id, seq, identity)
    select w.organization_id, s.seq, s.identity
    from stored s join unnest(waiting, organizations) as w (identity, organization_id) using (identity);
end
$$;

create table tax (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    name text not null,
    code text not null,
    rate numeric not null, -- percent
    description text,
    applied_to_organization boolean not null default false,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index tax_code on tax (organization_id, code) where deleted_at is null;

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

-- What subscriptions and wallets print on their invoices instead of what their customers have chosen.
create table custom_section_choice (
    owner_id uuid primary key, -- a subscription, a wallet, its rule, or a transaction that fills it
    organization_id uuid not null references organization (id),
    skips boolean not null, -- its invoices print none
    custom_section_ids uuid[] not null,
    created_at timestamptz not null
);

-- What is sold beside usage: once, or in every period as a fixed charge of a plan.
create table add_on (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    code text not null,
    name text not null,
    invoice_display_name text,
    description text,
    amount_cents bigint not null,
    amount_currency text not null,
    tax_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create unique index add_on_code on add_on (organization_id, code) where deleted_at is null;
create index add_on_newest on add_on (organization_id, created_at desc, id) where deleted_at is null;

-- Fixed charges of plans: quantities of add-ons in every period.
create table fixed_charge (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    plan_id uuid not null references plan (id),
    parent_id uuid references fixed_charge (id),
    add_on_id uuid not null references add_on (id),
    code text not null,
    position bigint not null, -- order within the plan
    invoice_display_name text,
    charge_model text not null,
    pay_in_advance boolean not null,
    prorated boolean not null,
    properties jsonb not null,
    units numeric not null,
    tax_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

create index fixed_charge_of_plan on fixed_charge (plan_id) where deleted_at is null;

-- The units that a subscription has of its own, instead of its plan's.
create table fixed_charge_own_units (
    subscription_id uuid not null references subscription (id),
    fixed_charge_id uuid not null references fixed_charge (id),
    units numeric not null,
    primary key (subscription_id, fixed_charge_id)
);

create index fixed_charge_own_units_of_charge on fixed_charge_own_units (fixed_charge_id);

-- How many units of a fixed charge a subscription has from when on; rows are only added, in the order of their ids.
create table fixed_charge_units (
    id bigint generated always as identity primary key,
    subscription_id uuid not null references subscription (id),
    fixed_charge_id uuid not null references fixed_charge (id),
    units numeric not null,
    effective_at timestamptz not null,
    at_once boolean not null default false -- it counted when it was made, and was billed by itself
);

create index fixed_charge_units_of_subscription on fixed_charge_units (subscription_id, id);

-- Series that are to be looked at for usage without a price: the roll-up puts each here once a month that it is used.
create table unchecked_series (
    series_id bigint primary key
);

-- Organizations whose prices, metrics or subscriptions have changed since their series were looked at.
create table unchecked_organization (
    organization_id uuid primary key,
    look_at timestamptz not null default '-infinity' -- by the organization's clock
);

-- Values of dimensions that no filter of a charge lists and that have no price there.
create table unpriced_usage (
    charge_id uuid not null,
    digest uuid not null, -- of the values
    organization_id uuid not null,
    code text not null, -- of the metric
    values jsonb not null,
    noticed_at timestamptz not null, -- by the organization's clock
    primary key (charge_id, digest)
);

create index unpriced_usage_newest on unpriced_usage (organization_id, noticed_at desc, charge_id, digest);

-- The series with these values, for their units.
create table unpriced_series (
    charge_id uuid not null,
    digest uuid not null,
    series_id bigint not null,
    primary key (charge_id, digest, series_id),
    foreign key (charge_id, digest) references unpriced_usage (charge_id, digest) on delete cascade
);

-- What is owed -----------------------------------------------------------------------------------------------

-- An invoice run writes a dozen rows for each subscription, and each foreign key looks its row up and locks it,
-- while several runs lock the same organization at once. That was half the time of a run. So of these tables only
-- the invoice's customer is one: nothing else that they refer to is ever deleted.

create table invoice_sequence (
    customer_id uuid not null,
    billing_entity_id uuid not null,
    last_value bigint not null,
    primary key (customer_id, billing_entity_id)
);

create table invoice (
    id uuid primary key,
    organization_id uuid not null,
    billing_entity_id uuid not null,
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
    updated_at timestamptz not null,
    applied_taxes jsonb not null default '[]',
    finalizes_at timestamptz, -- when a draft becomes final
    waits_for_price boolean not null default false, -- a draft with usage that is held: it does not become final
    price_retry_at timestamptz, -- when it is tried again whether that usage has a price, by the organization's clock
    prepaid_granted_credit_amount_cents bigint, -- the parts of prepaid_credit_amount_cents
    prepaid_purchased_credit_amount_cents bigint,
    offset_amount_cents bigint not null default 0, -- what its own credit notes took off what is due
    custom_sections jsonb not null default '[]', -- as they were when it was made
    voided_invoice_id uuid references invoice (id), -- which it replaces
    original_invoice_id uuid references invoice (id), -- the first of those that replace each other: it has the periods
    notes_before_void bigint -- how many credit notes it had when it was voided
);

create unique index invoice_replacement on invoice (voided_invoice_id) where voided_invoice_id is not null;
create index invoice_to_finalize on invoice (organization_id, finalizes_at)
    where finalizes_at is not null and price_retry_at is null;
create index invoice_to_price on invoice (organization_id, price_retry_at) where price_retry_at is not null;
create index invoice_waiting_for_price on invoice (organization_id, created_at) where waits_for_price;
create index invoice_draft_of_customer on invoice (customer_id) where status = 'draft';
create index invoice_draft_of_entity on invoice (billing_entity_id) where status = 'draft';
create index invoice_progressive on invoice (organization_id) where invoice_type = 'progressive_billing';
create index invoice_newest on invoice (organization_id, created_at desc, id);
create index invoice_of_customer on invoice (customer_id, created_at desc, id);
create index invoice_issued on invoice (organization_id, issuing_date) where status = 'finalized';
create index invoice_overdue_since on invoice (organization_id, payment_due_date) where payment_overdue;
create unique index invoice_number on invoice (billing_entity_id, number) where sequential_id is not null;

-- The documents of which a webhook has said that they can be fetched.
create table announced_document (
    object_id uuid primary key,
    organization_id uuid not null references organization (id),
    created_at timestamptz not null
);

-- The PDF of an invoice, as long as it shows what the invoice says.
create table invoice_document (
    invoice_id uuid primary key references invoice (id) on delete cascade,
    organization_id uuid not null,
    digest bytea not null, -- of all that it shows
    content bytea not null,
    size bigint not null,
    made_at timestamptz not null
);

alter table invoice_document alter column content set storage external; -- it is packed already
create index invoice_document_of_organization on invoice_document (organization_id, made_at);

create table invoice_subscription (
    invoice_id uuid not null,
    subscription_id uuid not null,
    invoicing_reason text not null,
    recurring boolean not null,
    billed_at timestamptz not null, -- the instant that was due
    from_at timestamptz,
    to_at timestamptz,
    charges_from_at timestamptz,
    charges_to_at timestamptz,
    fixed_charges_from_at timestamptz,
    fixed_charges_to_at timestamptz,
    primary key (invoice_id, subscription_id),
    counted_to bigint, -- events up to this seq are surely in its usage fees
    seen_to bigint -- the last seq when its usage was read: what came later is in none of them
);

-- No subscription is billed twice for the same due instant, whichever worker runs the billing and however often.
create unique index invoice_subscription_once on invoice_subscription (subscription_id, billed_at) where recurring;
create index invoice_subscription_of_subscription on invoice_subscription (subscription_id, charges_to_at desc);

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

insert into threshold_check (seen_to) values (0);

create table fee (
    id uuid primary key,
    organization_id uuid not null,
    invoice_id uuid,
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
    created_at timestamptz not null,
    applied_taxes jsonb not null default '[]',
    pricing_unit_details jsonb, -- as they were when the fee was priced
    presentation jsonb, -- how its units are split for show, and by which properties its invoice shows them
    is_unpriced boolean not null default false, -- of usage that no filter lists and that had no price
    late_usage_id uuid, -- of a fee that bills usage which came after its period was billed
    rounding text not null default 'per_fee', -- whether it was rounded by itself or with its charge's other fees
    earlier_amount_cents numeric, -- what the fees that it carries on from come to precisely; null: none
    earlier_in_unit_cents numeric, -- the same in hundredths of its pricing unit
    item_id uuid, -- what it is for where that is neither a charge nor a plan: an add-on, a wallet's transaction
    original_fee_id uuid, -- of a voided invoice, which it bills again
    own_name text -- instead of that of what it is for
);

create index fee_true_up on fee (true_up_parent_fee_id) where true_up_parent_fee_id is not null;
create unique index fee_of_event on fee (organization_id, event_transaction_id, subscription_id, charge_id)
    where event_transaction_id is not null and original_fee_id is null;
create index fee_alone on fee (subscription_id) where invoice_id is null;
create index fee_of_invoice on fee (invoice_id, position);
create index fee_newest on fee (organization_id, created_at desc, id);
create index fee_of_subscription on fee (subscription_id, created_at desc);
create index fee_by_catalogue on fee (organization_id, to_at, invoice_id) where amount_details ? 'catalogue';
create index fee_succeeded on fee (organization_id, succeeded_at) where succeeded_at is not null;
create index fee_failed on fee (organization_id, failed_at) where failed_at is not null;
create index fee_refunded on fee (organization_id, refunded_at) where refunded_at is not null;

-- Usage of a billed period that came in after it was billed, by charge: what the period comes to more than was billed.
create table late_usage (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null,
    subscription_id uuid not null,
    charge_id uuid not null,
    code text not null, -- the metric's
    invoice_id uuid not null, -- the one that had billed the period
    from_at timestamptz not null,
    to_at timestamptz not null,
    currency text not null,
    status text not null,
    events_count bigint not null,
    units numeric not null,
    amount_cents bigint not null,
    lines jsonb not null, -- the difference by price and group
    seen_to bigint not null, -- the last seq when it was priced
    adjusting_invoice_id uuid, -- the one that bills it
    reason text, -- why it is not billed
    decided_by uuid, -- the API key
    decided_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint late_usage_status check (status in ('open', 'scheduled', 'billed', 'accepted'))
);

create unique index late_usage_open on late_usage (subscription_id, charge_id, from_at, to_at) where status = 'open';
create index late_usage_of_period on late_usage (subscription_id, charge_id, from_at);
create index late_usage_undecided on late_usage (organization_id, created_at desc, id) where status = 'open';
create index late_usage_newest on late_usage (organization_id, created_at desc, id);
create index late_usage_to_bill on late_usage (customer_id) where status = 'scheduled';
create index late_usage_on_invoice on late_usage (adjusting_invoice_id) where adjusting_invoice_id is not null;

-- Billed periods with events that came in later and are not priced yet.
create table late_mark (
    organization_id uuid not null,
    subscription_id uuid not null,
    invoice_id uuid not null,
    code text not null,
    primary key (organization_id, subscription_id, invoice_id, code)
);

-- One row: how far the events are looked through for late ones. Those up to next_to are looked at once every
-- transaction is over that began before next_xid: a bill that was under way without them is visible by then.
create table late_check (
    singleton boolean primary key default true check (singleton),
    checked_to bigint not null,
    next_to bigint,
    next_xid xid8
);

insert into late_check (checked_to) values (0);

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

-- Webhooks ---------------------------------------------------------------------------------------------------

create table webhook_endpoint (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    webhook_url text not null,
    signature_algo text not null default 'jwt',
    name text,
    event_types text[],
    created_at timestamptz not null,
    updated_at timestamptz not null,
    is_slow boolean not null default false, -- by its last deliveries: then it has a slot among the slow ones
    unique (organization_id, webhook_url)
);

-- The outbox: written in the transaction of the change, delivered afterwards, kept 90 days as the log.
-- A writer holds its endpoint (for key share); deleting an endpoint deletes these rows too.
create table webhook (
    id uuid primary key,
    organization_id uuid not null,
    webhook_endpoint_id uuid not null,
    webhook_type text not null,
    object_type text not null,
    object_id uuid not null,
    payload text, -- the JSON, where it is given when the webhook is queued; else see `rendered`
    status text not null default 'pending', -- pending, retrying, succeeded, failed
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock; null when nothing is left to do
    http_status bigint,
    response text,
    last_attempt_at timestamptz,
    created_at timestamptz not null,
    rendered bytea storage external -- rendered from the object at the first attempt, packed (store/packing.py)
);

create index webhook_to_send_to on webhook (webhook_endpoint_id, next_attempt_at, id) where next_attempt_at is not null;
create index webhook_failed on webhook (last_attempt_at) where status = 'failed';
create index webhook_of_organization on webhook (organization_id, created_at desc, id);
create index webhook_of_endpoint on webhook (webhook_endpoint_id, created_at desc);

-- The RSA key that signs webhooks, one per installation.
create table signing_key (
    singleton boolean primary key default true check (singleton),
    private_pem text not null,
    created_at timestamptz not null
);

-- What is sent to customers by mail, and what came of it. Statuses: waiting, sent, failed, suppressed (test mode), unknown.
create table mail (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    kind text not null, -- invoice, credit_note, payment_receipt, payment_request, test
    object_id uuid not null,
    recipients text[] not null,
    cc text[] not null,
    bcc text[] not null,
    status text not null default 'waiting',
    attempts bigint not null default 0,
    next_attempt_at timestamptz, -- system clock, as all instants here but created_at; null when nothing is left to do
    handed_over_at timestamptz, -- from then on the mail server may have it
    response text,
    sent_at timestamptz,
    queued_at timestamptz not null,
    created_at timestamptz not null
);

create index mail_to_send on mail (organization_id, next_attempt_at) where next_attempt_at is not null;
create index mail_of_organization on mail (organization_id, created_at desc, id);
create index mail_of_object on mail (object_id, created_at desc);

-- A mail server that an organization's mail goes through, in place of the installation's.
create table mail_server (
    organization_id uuid primary key references organization (id),
    host text not null,
    port bigint not null,
    security text not null, -- starttls, tls, none
    user_name text,
    secret text, -- the password; it is never shown
    mail_from text not null,
    reply_to text, -- null: the billing entity's email
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- Who works in the web admin --------------------------------------------------------------------------------

create table app_user (
    id uuid primary key,
    email text not null,
    password_hash text, -- argon2id; null: signs in by one-time links only
    created_at timestamptz not null,
    removed_at timestamptz,
    is_owner boolean not null default false -- admin of all organizations, and may make new ones
);

create unique index app_user_email on app_user (lower(email)) where removed_at is null;

-- The role of a user in an organization.
create table membership (
    user_id uuid not null references app_user (id),
    organization_id uuid not null references organization (id),
    role text not null,
    created_at timestamptz not null,
    primary key (user_id, organization_id),
    constraint membership_role check (role in ('admin', 'finance', 'read_only'))
);

create index membership_of_organization on membership (organization_id, created_at, user_id);

create table user_session (
    digest bytea primary key, -- SHA-256 of the cookie
    user_id uuid not null references app_user (id),
    organization_id uuid references organization (id), -- the one that is looked at
    created_at timestamptz not null,
    last_seen_at timestamptz not null,
    expires_at timestamptz not null,
    address text, -- from where it was opened
    browser text, -- what that called itself
    awaits_code boolean not null default false -- of the second factor: until then nobody is signed in
);

create index user_session_of_user on user_session (user_id);

-- Forms of the web admin that were done, so that each is done once.
create table sent_form (
    session_digest bytea not null references user_session (digest) on delete cascade,
    digest bytea not null, -- SHA-256 of the page's token, the address and the fields
    content bytea not null, -- the same without the token
    led_to text not null, -- the address of what came of it
    sent_at timestamptz not null,
    primary key (session_digest, digest)
);

create index sent_form_of_content on sent_form (session_digest, content, sent_at);

-- A second factor of sign-in: codes by time (RFC 6238).
create table second_factor (
    user_id uuid primary key references app_user (id),
    secret text not null, -- base32
    created_at timestamptz not null,
    confirmed_at timestamptz, -- null while it is being set up
    last_step bigint not null default 0 -- of the last code that was taken: each works once
);

create table recovery_code (
    user_id uuid not null references app_user (id),
    digest bytea not null, -- SHA-256; deleted when used
    primary key (user_id, digest)
);

-- Who a user is at a provider of single sign-on.
create table sign_in_identity (
    issuer text not null,
    subject text not null,
    user_id uuid not null references app_user (id),
    created_at timestamptz not null,
    primary key (issuer, subject)
);

create unique index sign_in_identity_of_user on sign_in_identity (user_id, issuer);

-- A browser in which the user has signed in before: strangers' failures don't count for it.
create table known_browser (
    digest bytea not null, -- SHA-256 of the cookie
    user_id uuid not null references app_user (id),
    used_at timestamptz not null,
    primary key (digest, user_id)
);

create index known_browser_of_user on known_browser (user_id, used_at desc);

-- A link that works once: it signs a user in, lets somebody become the first user, or invites to an organization.
create table one_time_link (
    digest bytea primary key, -- SHA-256 of the token in the link
    user_id uuid references app_user (id),
    role text, -- in the organization that it invites to
    is_first boolean not null default false, -- good only while there is no user
    path text not null, -- where it leads
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    organization_id uuid references organization (id), -- the one that it invites to
    constraint one_time_link_role check (role in ('admin', 'finance', 'read_only')),
    constraint one_time_link_invites check ((organization_id is null) = (role is null))
);

-- Attempts to sign in that have failed or are under way.
create table sign_in_failure (
    id uuid primary key,
    subject text not null, -- email:... and address:..., or browser:...
    at timestamptz not null
);

create index sign_in_failure_of_subject on sign_in_failure (subject, at);
create index sign_in_failure_at on sign_in_failure (at);

-- What somebody has changed, an entry for each request: who, when, by what.
create table audit_entry (
    id uuid primary key,
    organization_id uuid references organization (id), -- null: of the installation, such as a new user
    user_id uuid references app_user (id),
    user_email text,
    action text not null, -- what a user did, in words; empty for requests of the API
    subject text not null,
    details jsonb not null default '{}',
    at timestamptz not null, -- the system's clock, in test mode too
    actor text not null default 'user',
    api_key_id uuid,
    api_key_prefix text,
    operation text not null default '', -- the method and the address of the request, or the command
    organization_at timestamptz, -- the organization's clock
    request_id text,
    constraint audit_entry_actor check (actor in ('user', 'api_key', 'admin_key', 'command_line'))
);

create index audit_entry_newest on audit_entry (organization_id, at desc, id);
create index audit_entry_of_user on audit_entry (organization_id, user_email, at desc, id) where user_email is not null;
create index audit_entry_of_key on audit_entry (organization_id, api_key_prefix, at desc, id) where api_key_prefix is not null;

-- The objects that a request has changed, and their fields: name -> [before, after].
create table audit_change (
    id uuid primary key,
    entry_id uuid not null references audit_entry (id),
    organization_id uuid,
    object_type text not null,
    object_id text not null, -- the key of its row
    object_code text, -- its name for people
    customer_id uuid,
    external_subscription_id text,
    action text not null,
    changes jsonb not null,
    at timestamptz not null,
    constraint audit_change_action check (action in ('created', 'updated', 'deleted'))
);

create index audit_change_of_entry on audit_change (entry_id);
create index audit_change_newest on audit_change (organization_id, at desc, id desc);
create index audit_change_of_object on audit_change (organization_id, object_id, at desc, id desc);
create index audit_change_of_code on audit_change (organization_id, object_code, at desc, id desc);
create index audit_change_of_customer on audit_change (organization_id, customer_id, at desc, id desc)
    where customer_id is not null;
create index audit_change_of_subscription on audit_change (organization_id, external_subscription_id, at desc, id desc)
    where external_subscription_id is not null;

create function audit_key(fields jsonb, keys text[]) returns text language sql immutable
return (select string_agg(fields ->> key, ' ' order by position) from unnest(keys) with ordinality as k (key, position));

create function audit_difference(before jsonb, after jsonb, ignored text[]) returns jsonb language sql immutable
return (
    select jsonb_object_agg(
        key,
        case
            when key in ('hmac_key', 'password_hash', 'private_pem', 'digest', 'secret', 'token') then '["(not shown)", "(not shown)"]'
            when key = 'webhook_url' then jsonb_build_array(
                regexp_replace(b.value #>> '{}', '//[^/@]*@|\?.*$', '...', 'g'), regexp_replace(a.value #>> '{}', '//[^/@]*@|\?.*$', '...', 'g')
            )
            else jsonb_build_array(b.value, a.value)
        end
    )
    from jsonb_each(coalesce(before, '{}')) as b (key, value)
    full join jsonb_each(coalesce(after, '{}')) as a (key, value) using (key)
    where coalesce(b.value, 'null') is distinct from coalesce(a.value, 'null') and key <> all(ignored)
);

create function audit_merge(earlier jsonb, later jsonb) returns jsonb language sql immutable
return (
    select jsonb_object_agg(key, jsonb_build_array(coalesce(e.value, l.value) -> 0, coalesce(l.value, e.value) -> 1))
    from jsonb_each(earlier) as e (key, value) full join jsonb_each(later) as l (key, value) using (key)
);

create function audit_keep(
    object_type text, befores jsonb[], afters jsonb[], keys text[], label text, ignored text[]
) returns void language sql as $$
    with change as (
        select c.* from jsonb_to_record(current_setting('permille.change')::jsonb) as c (
            id uuid, organization_id uuid, actor text, user_id uuid, user_email text, api_key_id uuid, api_key_prefix text,
            operation text, at timestamptz, organization_at timestamptz, request_id text
        )
    ), changed as (
        select
            coalesce(
                (fields ->> 'organization_id')::uuid,
                case when object_type = 'organization' then (fields ->> 'id')::uuid end,
                change.organization_id
            ) as organization_id,
            audit_key(fields, keys) as object_id,
            fields,
            case
                when before is null then 'created'
                when after is null or before ->> 'deleted_at' is null and after ->> 'deleted_at' is not null then 'deleted'
                else 'updated'
            end as action,
            difference
        from unnest(befores, afters) as rows (before, after),
            lateral (select coalesce(after, before) as fields, audit_difference(before, after, ignored) as difference) as d,
            change
        where difference is not null
    ), entry as (
        insert into audit_entry (
            id, organization_id, actor, user_id, user_email, api_key_id, api_key_prefix, action, subject, operation, at,
            organization_at, request_id
        )
        select
            id, coalesce(organization_id, (select max(changed.organization_id::text)::uuid from changed)), actor, user_id, user_email,
            api_key_id, api_key_prefix, '', '', operation, at, organization_at, request_id
        from change where exists (select from changed)
        on conflict (id) do update set organization_id = excluded.organization_id
            where audit_entry.organization_id is null and excluded.organization_id is not null
    )
    insert into audit_change as kept (
        id, entry_id, organization_id, object_type, object_id, object_code, customer_id, external_subscription_id, action,
        changes, at
    )
    select
        substr(encode(sha256(convert_to(concat_ws('/', change.id, object_type, object_id), 'UTF8')), 'hex'), 1, 32)::uuid,
        change.id, changed.organization_id, object_type, object_id,
        regexp_replace(fields ->> label, '//[^/@]*@|\?.*$', '...', 'g'),
        case when object_type = 'customer' then fields ->> 'id' else fields ->> 'customer_id' end::uuid,
        case when object_type = 'subscription' then fields ->> 'external_id' else fields ->> 'external_subscription_id' end,
        changed.action, difference, change.at
    from changed, change
    on conflict (id) do update set
        changes = audit_merge(kept.changes, excluded.changes),
        action = case
            when excluded.action = 'updated' then kept.action
            when kept.action = 'deleted' and excluded.action = 'created' then 'updated'
            else excluded.action
        end
$$;

create function audit_rows() returns trigger language plpgsql as $$
declare
    keys text[] := string_to_array(tg_argv[0], ' ');
    befores jsonb[];
    afters jsonb[];
begin
    if tg_op = 'INSERT' then
        select array_agg(null::jsonb), array_agg(to_jsonb(a)) into befores, afters from new_rows a;
    elsif tg_op = 'DELETE' then
        select array_agg(to_jsonb(b)), array_agg(null::jsonb) into befores, afters from old_rows b;
    else
        select array_agg(b.fields), array_agg(a.fields) into befores, afters
        from (select to_jsonb(o) as fields from old_rows o) as b
        join (select to_jsonb(n) as fields from new_rows n) as a on audit_key(a.fields, keys) = audit_key(b.fields, keys)
        where a.fields <> b.fields;
    end if;
    if befores is not null then
        perform audit_keep(tg_table_name, befores, afters, keys, tg_argv[1], string_to_array(tg_argv[2], ' '));
    end if;
    return null;
end
$$;

create table credit_note (
    id uuid primary key,
    organization_id uuid not null,
    billing_entity_id uuid not null,
    customer_id uuid not null,
    invoice_id uuid not null,
    sequential_id bigint not null, -- within the invoice
    number text not null,
    issuing_date date not null,
    credit_status text, -- available, consumed, voided; null without a part for later invoices
    refund_status text,
    reason text not null,
    description text,
    currency text not null,
    total_amount_cents bigint not null, -- credit + refund + offset
    precise_total_amount_cents numeric not null,
    credit_amount_cents bigint not null,
    refund_amount_cents bigint not null,
    offset_amount_cents bigint not null,
    balance_amount_cents bigint not null check (balance_amount_cents between 0 and credit_amount_cents),
    sub_total_excluding_taxes_amount_cents bigint not null,
    taxes_amount_cents bigint not null,
    precise_taxes_amount_cents numeric not null,
    taxes_rate numeric not null,
    coupons_adjustment_amount_cents numeric not null,
    applied_taxes jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    voided_amount_cents bigint not null default 0, -- credit that was given up; the balance is what is neither that nor spent
    voided_at timestamptz,
    refunded_at timestamptz,
    metadata jsonb not null default '{}',
    catalogue_version_id uuid, -- whose corrected prices it gives back
    given_up_before_void_cents bigint not null default 0 -- what had been given up when its invoice was voided
);

create unique index credit_note_of_invoice on credit_note (invoice_id, sequential_id);
create index credit_note_newest on credit_note (organization_id, created_at desc, id);
create index credit_note_with_balance on credit_note (customer_id, created_at, id) where balance_amount_cents > 0;

create table credit_note_item (
    id uuid primary key,
    credit_note_id uuid not null references credit_note (id),
    fee_id uuid not null,
    amount_cents bigint not null,
    precise_amount_cents numeric not null,
    created_at timestamptz not null
);

create index credit_note_item_of_note on credit_note_item (credit_note_id);
create index credit_note_item_of_fee on credit_note_item (fee_id);

-- What of a note's balance has paid an invoice.
create table invoice_credit (
    id uuid primary key,
    invoice_id uuid not null,
    credit_note_id uuid not null references credit_note (id),
    amount_cents bigint not null check (amount_cents > 0),
    created_at timestamptz not null,
    given_back_at timestamptz -- the invoice was never paid
);

create index invoice_credit_of_invoice on invoice_credit (invoice_id);
create index invoice_credit_of_note on invoice_credit (credit_note_id);

-- Coupons, the coupons of customers, and what these took off invoices.
create table coupon (
    id uuid primary key,
    organization_id uuid not null,
    name text not null,
    code text not null,
    description text,
    coupon_type text not null,
    amount_cents bigint,
    amount_currency text,
    percentage_rate numeric,
    frequency text not null,
    frequency_duration bigint,
    reusable boolean not null,
    expiration_at timestamptz, -- null: it doesn't expire
    plan_ids uuid[] not null default '{}', -- the plans whose fees it is for; neither these nor metrics: all fees
    billable_metric_ids uuid[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    constraint coupon_discount check (
        coupon_type = 'fixed_amount' and amount_cents > 0 and amount_currency is not null and percentage_rate is null
        or coupon_type = 'percentage' and percentage_rate > 0 and amount_cents is null and amount_currency is null
    ),
    constraint coupon_frequency check ((frequency = 'recurring') = (frequency_duration is not null))
);

create unique index coupon_code on coupon (organization_id, code) where deleted_at is null;
create index coupon_newest on coupon (organization_id, created_at desc, id);

create table applied_coupon (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    coupon_id uuid not null references coupon (id),
    status text not null, -- active, terminated
    coupon_type text not null,
    amount_cents bigint,
    amount_currency text,
    percentage_rate numeric,
    frequency text not null,
    frequency_duration bigint,
    amount_left_cents bigint check (amount_left_cents between 0 and amount_cents), -- of an amount that is used once
    uses_left bigint check (uses_left >= 0), -- further invoices; null where that is not counted
    created_at timestamptz not null,
    updated_at timestamptz not null,
    terminated_at timestamptz,
    position bigint generated always as identity, -- of coupons applied at one instant, which was first
    constraint applied_coupon_discount check (
        coupon_type = 'fixed_amount' and amount_cents > 0 and amount_currency is not null and percentage_rate is null
        or coupon_type = 'percentage' and percentage_rate > 0 and amount_cents is null and amount_currency is null
    ),
    constraint applied_coupon_status check ((status = 'active') = (terminated_at is null))
);

create index applied_coupon_active on applied_coupon (customer_id, created_at, position) where status = 'active';
create index applied_coupon_of_customer on applied_coupon (customer_id, created_at desc, position desc);
create index applied_coupon_of_coupon on applied_coupon (coupon_id, created_at desc, position desc);
create index applied_coupon_newest on applied_coupon (organization_id, created_at desc, position desc);

-- Entries that are only added: what a coupon took off an invoice, or with a negative amount what came back of it.
create table coupon_credit (
    id uuid primary key,
    invoice_id uuid not null,
    applied_coupon_id uuid not null,
    amount_cents bigint not null check (amount_cents <> 0),
    created_at timestamptz not null,
    position bigint generated always as identity
);

create unique index coupon_credit_of_invoice on coupon_credit (invoice_id, applied_coupon_id, (amount_cents > 0));
create index coupon_credit_of_applied on coupon_credit (applied_coupon_id, created_at);

-- Payments, what they pay of each invoice, their receipts, and requests to pay several invoices together.
create table payment_request (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    billing_entity_id uuid not null,
    email text,
    amount_cents bigint not null,
    currency text not null,
    payment_status text not null default 'pending', -- pending, succeeded, failed
    created_at timestamptz not null,
    updated_at timestamptz not null,
    dunning_campaign_id uuid
);

create index payment_request_newest on payment_request (organization_id, created_at desc, id);
create index payment_request_of_customer on payment_request (customer_id, created_at desc, id);

-- How far the dunning of a customer has come.
create table dunning (
    customer_id uuid primary key references customer (id),
    organization_id uuid not null,
    due_at timestamptz, -- when to look again whether anything is to be requested; null: when an invoice becomes overdue
    last_attempt_at timestamptz,
    attempts jsonb not null default '{}', -- by currency
    is_finished boolean not null default false -- the webhook of it is sent
);

create index dunning_due on dunning (organization_id, due_at) where due_at is not null;

create table payment_request_invoice (
    payment_request_id uuid not null references payment_request (id),
    invoice_id uuid not null,
    amount_cents bigint not null, -- what was due of it when it was requested
    primary key (payment_request_id, invoice_id)
);

create index payment_request_of_invoice on payment_request_invoice (invoice_id);

create table payment (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    payable_type text not null, -- Invoice or PaymentRequest
    payable_id uuid not null,
    amount_cents bigint not null check (amount_cents > 0),
    currency text not null,
    payment_type text not null, -- manual or provider
    status text not null, -- in the provider's words
    payment_status text not null, -- pending, processing, succeeded, failed
    reference text,
    created_at timestamptz not null, -- when it was paid
    updated_at timestamptz not null
);

create index payment_newest on payment (organization_id, created_at desc, id);
create index payment_of_customer on payment (customer_id, created_at desc, id);

-- What succeeded payments pay of each invoice: rows are only added, and what is paid of an invoice is their sum.
create table invoice_payment (
    payment_id uuid not null references payment (id),
    invoice_id uuid not null,
    amount_cents bigint not null check (amount_cents > 0),
    primary key (payment_id, invoice_id)
);

create index invoice_payment_of_invoice on invoice_payment (invoice_id);

create table payment_receipt (
    id uuid primary key,
    organization_id uuid not null,
    payment_id uuid not null unique references payment (id),
    customer_id uuid not null,
    sequential_id bigint not null, -- among the customer's receipts
    number text not null,
    created_at timestamptz not null,
    unique (customer_id, sequential_id)
);

create index payment_receipt_newest on payment_receipt (organization_id, created_at desc, id);

-- Final invoices that are not paid, by the end of their due date in the customer's timezone.
create index invoice_to_be_overdue on invoice (
    organization_id, ((payment_due_date + 1)::timestamp at time zone timezone)
) where status = 'finalized' and payment_status <> 'succeeded' and payment_dispute_lost_at is null and not payment_overdue;
create index invoice_overdue on invoice (customer_id) where payment_overdue;

-- Prepaid credits -----------------------------------------------------------------------------------------

create table wallet (
    id uuid primary key,
    organization_id uuid not null,
    customer_id uuid not null references customer (id),
    billing_entity_id uuid, -- whose invoices top-ups are on; null: the customer's
    status text not null, -- active, terminated
    currency text not null,
    code text not null,
    name text,
    purchase_order_number text,
    priority bigint not null, -- from 1, which is spent first, to 50
    rate_amount numeric not null check (rate_amount > 0), -- what a credit is worth
    invoice_requires_successful_payment boolean not null,
    paid_top_up_min_amount_cents bigint,
    paid_top_up_max_amount_cents bigint,
    fee_types text[] not null, -- what it pays for; with no metrics either, for everything
    billable_metric_ids uuid[] not null,
    balance_cents bigint not null check (balance_cents >= 0), -- the sum of what its settled transactions moved
    credits_balance numeric not null check (credits_balance >= 0),
    consumed_amount_cents bigint not null, -- by invoices, less what was given back
    consumed_credits numeric not null,
    ongoing_usage_balance_cents bigint not null, -- usage and drafts that it will have to pay
    is_depleted boolean not null, -- whether they come to more than its balance
    last_balance_sync_at timestamptz,
    last_consumed_credit_at timestamptz,
    expiration_at timestamptz,
    terminated_at timestamptz,
    metadata jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    position bigint generated always as identity -- of those made at one instant, which was first
) with (fillfactor = 50); -- bills and usage change no column of an index: a row has room beside it for the next one

create unique index wallet_code on wallet (customer_id, code) where status = 'active';
create index wallet_newest on wallet (organization_id, created_at desc, id);
create index wallet_of_customer on wallet (customer_id, created_at desc, id);
create index wallet_to_expire on wallet (organization_id, expiration_at)
    where status = 'active' and expiration_at is not null;

-- Customers whose wallets' ongoing balances are out of date. A transaction that writes here has locked the customer.
create table wallet_to_refresh (
    customer_id uuid primary key,
    organization_id uuid not null,
    since timestamptz not null
);

create index wallet_to_refresh_first on wallet_to_refresh (organization_id, since);

-- Customers who are to be put there, without waiting for a lock. Marks are added and taken, never changed: nobody waits for a look.
create table wallet_mark (
    organization_id uuid not null,
    customer_id uuid not null
);

create index wallet_mark_of_customer on wallet_mark (customer_id);
create index wallet_mark_of_organization on wallet_mark (organization_id);

create table wallet_rule (
    id uuid primary key,
    organization_id uuid not null,
    wallet_id uuid not null references wallet (id),
    status text not null, -- active, terminated
    trigger text not null, -- interval, threshold
    method text not null, -- fixed, target
    "interval" text,
    threshold_credits numeric not null,
    paid_credits numeric not null,
    granted_credits numeric not null,
    target_ongoing_balance numeric,
    grants_target_top_up boolean not null,
    started_at timestamptz,
    expiration_at timestamptz,
    invoice_requires_successful_payment boolean not null,
    ignore_paid_top_up_limits boolean not null,
    transaction_name text,
    transaction_metadata jsonb not null,
    purchase_order_number text,
    next_top_up_at timestamptz, -- when an interval is over
    terminated_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create unique index wallet_rule_of_wallet on wallet_rule (wallet_id) where status = 'active';
create index wallet_rule_to_top_up on wallet_rule (organization_id, next_top_up_at)
    where status = 'active' and next_top_up_at is not null;
create index wallet_rule_to_expire on wallet_rule (organization_id, expiration_at)
    where status = 'active' and expiration_at is not null;

-- What fills a wallet (inbound) and what empties it (outbound).
create table wallet_transaction (
    id uuid primary key,
    organization_id uuid not null,
    wallet_id uuid not null,
    transaction_type text not null, -- inbound, outbound
    transaction_status text not null, -- purchased, granted, voided, invoiced
    status text not null, -- pending, settled, failed
    source text not null, -- manual, interval, threshold
    amount_cents bigint not null check (amount_cents >= 0),
    credit_amount numeric not null check (credit_amount >= 0),
    remaining_amount_cents bigint, -- of one that fills: what nothing has taken yet; null until it is settled
    priority bigint not null, -- of one that fills: from 1, which is taken first, to 50
    name text,
    purchase_order_number text,
    invoice_requires_successful_payment boolean not null,
    invoice_id uuid, -- that it bought or paid
    voided_invoice_id uuid, -- that gave it back
    credit_note_id uuid, -- that it was voided for
    metadata jsonb not null,
    settled_at timestamptz,
    failed_at timestamptz,
    created_at timestamptz not null,
    position bigint generated always as identity, -- of those made at one instant, which was first
    constraint wallet_transaction_remains check (remaining_amount_cents between 0 and amount_cents)
);

create index wallet_transaction_of_wallet on wallet_transaction (wallet_id, created_at desc, id);
create index wallet_transaction_with_rest on wallet_transaction (wallet_id) where remaining_amount_cents > 0;
create index wallet_transaction_of_invoice on wallet_transaction (invoice_id) where invoice_id is not null;
create index wallet_transaction_of_voided on wallet_transaction (voided_invoice_id) where voided_invoice_id is not null;

-- How much of one that fills went into one that empties.
create table wallet_consumption (
    id uuid primary key,
    inbound_id uuid not null,
    outbound_id uuid not null,
    amount_cents bigint not null check (amount_cents > 0),
    credit_amount numeric not null,
    created_at timestamptz not null
);

create index wallet_consumption_of_inbound on wallet_consumption (inbound_id, created_at, id);
create index wallet_consumption_of_outbound on wallet_consumption (outbound_id, created_at, id);

-- What moved money is never edited: a balance is the sum of it.
create function refuse_edit_of_wallet_entry() returns trigger language plpgsql as $$
begin
    raise exception 'what moved prepaid credits is not edited: add an entry that moves them back';
end
$$;

create trigger wallet_transaction_stays before update on wallet_transaction for each row
when (
    (old.status = 'settled' and new.status <> 'settled')
    or (old.wallet_id, old.transaction_type, old.transaction_status, old.amount_cents, old.credit_amount)
        <> (new.wallet_id, new.transaction_type, new.transaction_status, new.amount_cents, new.credit_amount)
)
execute function refuse_edit_of_wallet_entry();
create trigger wallet_transaction_is_kept before delete on wallet_transaction
for each row execute function refuse_edit_of_wallet_entry();
create trigger wallet_consumption_stays before update or delete on wallet_consumption
for each row execute function refuse_edit_of_wallet_entry();

-- How far arrived events were looked through for the ongoing balances of wallets.
create table wallet_check (
    singleton boolean primary key default true check (singleton),
    seen_to bigint not null
);

insert into wallet_check (seen_to) values (0);

-- Organizations of which a background task has failed: the task leaves them alone until retry_at, by the system's
-- clock, and does what it has to for all others.
create table fence (
    organization_id uuid not null,
    task text not null,
    failures bigint not null, -- in a row
    retry_at timestamptz not null,
    reason text not null,
    customer_id uuid, -- null: the organization as a whole
    since timestamptz not null
);

create unique index fence_of on fence (organization_id, task, customer_id) nulls not distinct;

-- Organizations that servers had requests of in the last seconds, and how long background work leaves one alone: while others
-- are there, one rests after each piece of its work. By the system's clock.
create unlogged table company (
    organization_id uuid primary key,
    seen_at timestamptz not null default '-infinity',
    rests_until timestamptz not null default '-infinity',
    is_strained boolean not null default false
);

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

insert into alert_check (seen_to) values (0);

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

-- Usage of language models that could not be counted as it came.
create table held_usage (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    identity text, -- provider and id of the answer; null where it has none
    provider text not null,
    model text,
    code text not null, -- why it is kept
    message text not null,
    external_subscription_id text, -- as it was sent
    external_customer_id text,
    at timestamptz not null,
    properties jsonb not null,
    sent jsonb not null, -- names and numbers only: nothing of prompts or answers
    created_at timestamptz not null,
    counted_at timestamptz,
    counted_for text, -- external id of the subscription
    payer_names jsonb not null default '{}', -- key, team, user and the like, for rules about who pays
    is_payer_requested boolean not null default false -- the request of an end user named who pays
);

create unique index held_usage_identity on held_usage (organization_id, identity) where identity is not null;
create index held_usage_open on held_usage (organization_id, created_at desc, id desc) where counted_at is null;
create index held_usage_newest on held_usage (organization_id, created_at desc, id desc);
create index held_usage_of_payer on held_usage using gin (payer_names jsonb_path_ops) where counted_at is null;

-- Calls that are counted now may have been kept aside when they came before: noted with their events, in one statement.
create function note_counted(owners uuid[], names text[], payers text[], counted_ats timestamptz[]) returns void language plpgsql as $$
begin
    update held_usage h set counted_at = w.at, counted_for = w.payer from (
        select h.id, c.at, c.payer
        from unnest(owners, names, payers, counted_ats) as c (owner, name, payer, at)
        join held_usage h on h.organization_id = c.owner and h.identity = c.name and h.counted_at is null
        order by h.organization_id, h.identity for update of h
    ) w where h.id = w.id;
end
$$;

-- What of an organization decides the events of a call, beside the call: what its metrics list, its names of models, payer rules.
create function call_terms(owner uuid) returns text stable language plpgsql as $$
begin
    return json_build_object(
        'listed', (
            select json_object_agg(m.code, (
                select json_object_agg(f.key, f.values order by f.position)
                from billable_metric_filter f where f.billable_metric_id = m.id
            ) order by m.code)
            from billable_metric m
            where m.organization_id = owner and m.deleted_at is null and m.code = any(
                '{llm_tokens,llm_calls,llm_seconds,llm_pages,llm_images,llm_characters,llm_cost}'
            )
        ),
        'aliases', (select json_object_agg(a.name, a.model order by a.name) from model_alias a where a.organization_id = owner),
        'has_payer_rules', exists (select from payer_rule p where p.organization_id = owner)
    );
end
$$;

-- Calls that are stored by plans, which take for granted that the terms of these are as they were (`stamps`), that each call's
-- payer runs at its time, and that none was stored before: raises PM003 with the places of the requests (owners, stamps,
-- counted_ats) with a call of which that is not so. Some may have been kept aside when they came before: noted with their events.
create function count_calls(
    owners uuid[], stamps text[], counted_ats timestamptz[],
    requests bigint[], names text[], payers text[], ats timestamptz[], firsts uuid[], lasts uuid[]
) returns void language plpgsql as $$
declare
    stale text;
begin
    select string_agg(distinct s.request::text, ' ') into stale
    from (
        select o.request from unnest(owners, stamps) with ordinality as o (owner, stamp, request)
        where o.stamp <> md5(call_terms(o.owner))
        union all
        select c.request
        from unnest(requests, names, payers, ats, firsts, lasts) as c (request, name, payer, at, first, last)
        where not exists (
            select from subscription r
            where r.organization_id = owners[c.request] and r.external_id = c.payer
                and r.started_at <= c.at and (r.terminated_at is null or r.terminated_at > c.at)
            order by r.created_at desc offset 0 -- by the index of both ids, even where there are no statistics yet
        ) or exists (
            select from event e where e.identity between c.first and c.last and e.transaction_id = c.name offset 0
        )
    ) s;
    if stale is not null then
        raise exception 'calls are to be looked at' using errcode = 'PM003', detail = stale;
    end if;
    perform note_counted(
        array(select owners[request] from unnest(requests) as request), names, payers,
        array(select counted_ats[request] from unnest(requests) as request)
    );
end
$$;

-- Who pays for calls of language models that come with a certain name.
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
    position integer check (position > 0), -- null: after those that have one
    constraint payer_rule_payer check (num_nonnulls(external_subscription_id, external_customer_id) = 1)
);

create unique index payer_rule_name on payer_rule (organization_id, field, value);
create index payer_rule_newest on payer_rule (organization_id, created_at desc, id desc);

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

-- Calls that were counted under the name that was sent, because it says nothing about the model.
create table unknown_model_call (
    organization_id uuid not null references organization (id),
    name text not null, -- `provider/name as sent`
    identity text not null, -- of the call
    transaction_ids text[] not null, -- of the events that have this name
    at timestamptz not null,
    outcome text, -- null while it waits; else why it doesn't
    counted_as text, -- the model that it was moved to
    primary key (organization_id, name, identity),
    constraint unknown_model_call_outcome check (outcome in ('moved', 'billed', 'amended'))
);

create index unknown_model_call_waiting on unknown_model_call (organization_id, name) where outcome is null;

-- The last usages of language models, and what became of them: what the page Connect shows. Ids begin with the time.
create table recent_usage (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    at timestamptz not null,
    road text not null,
    client text,
    status text not null,
    count bigint not null,
    identity text,
    provider text,
    model text,
    external_subscription_id text,
    external_customer_id text,
    code text,
    message text,
    events jsonb not null,
    warnings jsonb not null
);

create index recent_usage_newest on recent_usage (organization_id, id desc);

-- Price files, kept once an installation. They are public and never change; by which ones an organization charges
-- is its own to approve.
create table price_file (
    digest bytea primary key, -- SHA-256 of the source's name and the content
    source text not null, -- own, genai-prices or litellm
    content bytea not null, -- compressed with xz
    created_at timestamptz not null,
    size bigint not null -- bytes as it was written
);

-- The versions of the price catalogue of an organization: pending, or approved and valid from a date on.
create table catalogue_version (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    digest bytea not null references price_file (digest),
    source text not null,
    label text not null,
    created_at timestamptz not null,
    imported_by text not null,
    approved_at timestamptz,
    approved_by text,
    approval bigint, -- the place in the order of approvals
    valid_from date, -- UTC; null when it is approved: always
    accepted_outliers text[] not null default '{}', -- PROVIDER/MODEL
    constraint catalogue_version_approved check (
        (approved_at is null) = (approval is null) and (approved_at is null) = (approved_by is null)
        and (approved_at is not null or valid_from is null)
    )
);

create unique index catalogue_version_approval on catalogue_version (organization_id, approval) where approval is not null;
create unique index catalogue_version_pending on catalogue_version (organization_id, digest) where approval is null;
create index catalogue_version_of_file on catalogue_version (digest);
create index catalogue_version_newest on catalogue_version (organization_id, created_at desc, id desc);

-- The last instant that a worker has seen, against a clock that is ahead or goes back.
create table clock_seen (
    at timestamptz, -- null: no worker has run yet
    doubted boolean not null default false -- a worker has seen the clock being set, and nobody has confirmed it
);

insert into clock_seen default values;

-- Bills and deliveries update these by the thousands, and nobody's name is on it: a trigger of each row costs them nothing,
-- while one of the statement has its rows gathered before anybody looks whether they are wanted.
create function audit_row() returns trigger language plpgsql as $$
begin
    perform audit_keep(
        tg_table_name, array[to_jsonb(old)], array[to_jsonb(new)], string_to_array(tg_argv[0], ' '), tg_argv[1],
        string_to_array(tg_argv[2], ' ')
    );
    return null;
end
$$;

-- What is audited: the table, its key, the name of an object for people, the columns that are the engine's own business,
-- and by which statements. A transaction of the engine itself has no permille.change, and leaves no entries.
do $$
declare
    one record;
    way text;
    own_business text := 'created_at updated_at organization_id digest position';
    by_row text[] := array['subscription', 'invoice', 'fee', 'webhook', 'wallet', 'wallet_transaction', 'applied_coupon'];
begin
    for one in select * from (values
        ('organization', 'id', 'name', 'test_now last_customer_sequential_id', 'insert update delete'),
        ('billing_entity', 'id', 'code', 'last_invoice_sequential_id', 'insert update delete'),
        ('api_key', 'id', 'prefix', 'last_used_at', 'insert update delete'),
        ('billable_metric', 'id', 'code', '', 'insert update delete'),
        ('billable_metric_filter', 'billable_metric_id key', 'key', '', 'insert update delete'),
        ('plan', 'id', 'code', '', 'insert update delete'),
        ('commitment', 'id', 'invoice_display_name', '', 'insert update delete'),
        ('pricing_unit', 'id', 'code', '', 'insert update delete'),
        ('charge', 'id', 'code', '', 'insert update delete'),
        ('fixed_charge', 'id', 'code', '', 'insert update delete'),
        ('fixed_charge_own_units', 'subscription_id fixed_charge_id', 'units', '', 'insert update delete'),
        ('charge_filter', 'id', 'invoice_display_name', '', 'insert update delete'),
        ('customer', 'id', 'external_id', 'sequential_id slug', 'insert update delete'),
        (
            'subscription', 'id', 'external_id',
            'next_billing_at activates_at ends_at end_alert_at fee_billed_until charges_billed_until fixed_charges_billed_until'
            ' fixed_charges_paid_until', 'insert update delete'
        ),
        ('activation_rule', 'id', 'type', '', 'insert update delete'),
        ('tax', 'id', 'code', '', 'insert update delete'),
        ('add_on', 'id', 'code', '', 'insert update delete'),
        ('invoice_custom_section', 'id', 'code', '', 'insert update delete'),
        ('custom_section_choice', 'owner_id', 'owner_id', '', 'insert update delete'),
        ('event_amendment', 'id', 'event_transaction_id', 'event_identity properties', 'insert update delete'),
        ('invoice', 'id', 'number', 'finalizes_at waits_for_price price_retry_at', 'insert update delete'),
        ('fee', 'id', 'event_transaction_id', '', 'update'),
        ('late_usage', 'id', 'code', 'seen_to lines', 'update'),
        ('credit_note', 'id', 'number', '', 'insert update delete'),
        ('coupon', 'id', 'code', '', 'insert update delete'),
        ('applied_coupon', 'id', 'id', '', 'insert update delete'),
        ('dunning_campaign', 'id', 'code', '', 'insert update delete'),
        ('payment', 'id', 'reference', '', 'insert update delete'),
        ('payment_request', 'id', 'email', '', 'insert update delete'),
        ('feature', 'id', 'code', '', 'insert update delete'),
        ('entitlement', 'id', 'feature_id', '', 'insert update delete'),
        ('alert', 'id', 'code', 'previous_value period_from last_processed_at', 'insert update delete'),
        (
            'wallet', 'id', 'code',
            'ongoing_usage_balance_cents is_depleted last_balance_sync_at', 'insert update delete'
        ),
        ('held_usage', 'id', 'identity', 'sent properties', 'update'),
        ('payer_rule', 'id', 'value', '', 'insert update delete'),
        ('llm_intake', 'id', 'format', '', 'insert update delete'),
        ('model_alias', 'id', 'name', '', 'insert update delete'),
        ('catalogue_version', 'id', 'label', 'approval', 'insert update delete'),
        ('wallet_rule', 'id', 'trigger', 'next_top_up_at', 'insert update delete'),
        ('wallet_transaction', 'id', 'transaction_status', '', 'insert update'),
        ('mail_server', 'organization_id', 'host', '', 'insert update delete'),
        ('webhook_endpoint', 'id', 'webhook_url', 'is_slow', 'insert update delete'),
        ('webhook', 'id', 'webhook_type', 'payload response last_attempt_at http_status rendered', 'update'),
        ('app_user', 'id', 'email', '', 'insert update delete'),
        ('membership', 'user_id organization_id', 'role', '', 'insert update delete'),
        ('one_time_link', 'path created_at', 'role', '', 'insert')
    ) as audited (name, keys, label, ignored, ways) loop
        foreach way in array string_to_array(one.ways, ' ') loop
            execute format(
                'create trigger audited_%s after %s on %I %s'
                ' when (current_setting(''permille.change'', true) <> '''') execute function %I(%L, %L, %L)',
                way, way, one.name,
                case
                    when way = 'insert' then 'referencing new table as new_rows for each statement'
                    when way = 'delete' then 'referencing old table as old_rows for each statement'
                    when one.name = any(by_row) then 'for each row'
                    else 'referencing old table as old_rows new table as new_rows for each statement'
                end,
                case when way = 'update' and one.name = any(by_row) then 'audit_row' else 'audit_rows' end,
                one.keys, one.label, concat_ws(' ', own_business, nullif(one.ignored, ''))
            );
        end loop;
    end loop;
end
$$;

-- Requests with an organization's keys that write, but for events: what was sent, and what came of it.
create table api_log (
    id uuid primary key,
    organization_id uuid not null references organization (id),
    api_key_id uuid not null,
    request_id text not null,
    method text not null,
    path text not null,
    status bigint not null,
    client text not null,
    origin text not null,
    body text, -- JSON that jsonb may not be able to hold
    answer text, -- of a refusal
    duration_ms bigint not null,
    at timestamptz not null -- the system's clock
);

create index api_log_newest on api_log (organization_id, at desc, id);
create index api_log_of_request on api_log (organization_id, request_id);

-- Jobs: the schema of procrastinate 3.10 (MIT licence), as the library ships it ------------------------------

-- Enums

CREATE TYPE procrastinate_job_status AS ENUM (
    'todo',  -- The job is queued
    'doing',  -- The job has been fetched by a worker
    'succeeded',  -- The job ended successfully
    'failed',  -- The job ended with an error
    'cancelled', -- The job was cancelled
    'aborting',  -- legacy, not used anymore since v3.0.0
    'aborted'  -- The job was aborted
);

CREATE TYPE procrastinate_job_event_type AS ENUM (
    'deferred',  -- Job created, in todo
    'started',  -- todo -> doing
    'deferred_for_retry',  -- doing -> todo
    'failed',  -- doing -> failed
    'succeeded',  -- doing -> succeeded
    'cancelled', -- todo -> cancelled
    'abort_requested', -- not a state transition, but set in a separate field
    'aborted', -- doing -> aborted (only allowed when abort_requested field is set)
    'scheduled', -- not a state transition, but recording when a task is scheduled for
    'retried' -- Manually retried failed job
);

-- Composite Types

CREATE TYPE procrastinate_job_to_defer_v1 AS (
    queue_name character varying,
    task_name character varying,
    priority integer,
    lock text,
    queueing_lock text,
    args jsonb,
    scheduled_at timestamp with time zone
);

-- Tables

CREATE TABLE procrastinate_workers(
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    last_heartbeat timestamp with time zone NOT NULL DEFAULT NOW()
);

CREATE TABLE procrastinate_jobs (
    id bigserial PRIMARY KEY,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    lock text,
    queueing_lock text,
    args jsonb DEFAULT '{}' NOT NULL,
    status procrastinate_job_status DEFAULT 'todo'::procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone NULL,
    attempts integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint REFERENCES procrastinate_workers(id) ON DELETE SET NULL,
    CONSTRAINT check_not_todo_abort_requested CHECK (NOT (status = 'todo' AND abort_requested = true))
);

CREATE TABLE procrastinate_periodic_defers (
    id bigserial PRIMARY KEY,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint REFERENCES procrastinate_jobs(id) NULL,
    periodic_id character varying(128) NOT NULL DEFAULT '',
    CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp)
);

CREATE TABLE procrastinate_events (
    id bigserial PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES procrastinate_jobs ON DELETE CASCADE,
    type procrastinate_job_event_type,
    at timestamp with time zone DEFAULT NOW() NULL
);

-- Constraints & Indices

-- this prevents from having several jobs with the same queueing lock in the "todo" state
CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON procrastinate_jobs (queueing_lock) WHERE status = 'todo';
-- this prevents from having several jobs with the same lock in the "doing" state
CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON procrastinate_jobs (lock) WHERE status = 'doing';

-- Index for select_stalled_jobs_by_heartbeat query
CREATE INDEX idx_procrastinate_jobs_worker_not_null ON procrastinate_jobs(worker_id) WHERE worker_id IS NOT NULL AND status = 'doing'::procrastinate_job_status;

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON procrastinate_jobs(queue_name);
CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON procrastinate_jobs (id, lock) WHERE status = ANY (ARRAY['todo'::procrastinate_job_status, 'doing'::procrastinate_job_status]);
CREATE INDEX procrastinate_jobs_priority_idx_v1 ON procrastinate_jobs(priority desc, id asc) WHERE (status = 'todo'::procrastinate_job_status);

CREATE INDEX procrastinate_events_job_id_fkey_v1 ON procrastinate_events(job_id);

CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON procrastinate_periodic_defers(job_id);

CREATE INDEX idx_procrastinate_workers_last_heartbeat ON procrastinate_workers(last_heartbeat);

-- Functions
CREATE FUNCTION procrastinate_defer_jobs_v1(
    jobs procrastinate_job_to_defer_v1[]
)
    RETURNS bigint[]
    LANGUAGE plpgsql
AS $$
DECLARE
    job_ids bigint[];
BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;

    RETURN job_ids;
END;
$$;

CREATE FUNCTION procrastinate_defer_periodic_job_v2(
    _queue_name character varying,
    _lock character varying,
    _queueing_lock character varying,
    _task_name character varying,
    _priority integer,
    _periodic_id character varying,
    _defer_timestamp bigint,
    _args jsonb
)
    RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
	_job_id bigint;
	_defer_id bigint;
BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;

    IF _defer_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;

    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;

    RETURN _job_id;
END;
$$;

CREATE FUNCTION procrastinate_fetch_job_v2(
    target_queue_names character varying[],
    p_worker_id bigint
)
    RETURNS procrastinate_jobs
    LANGUAGE plpgsql
AS $$
DECLARE
	found_jobs procrastinate_jobs;
BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;

 RETURN found_jobs;
END;
$$;

CREATE FUNCTION procrastinate_finish_job_v1(job_id bigint, end_status procrastinate_job_status, delete_job boolean)
    RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$$;

CREATE FUNCTION procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean)
    RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;
        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;
        END IF;
    END IF;
    RETURN _job_id;
END;
$$;

CREATE FUNCTION procrastinate_retry_job_v1(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;
    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
END;
$$;

CREATE FUNCTION procrastinate_retry_job_v2(
    job_id bigint,
    retry_at timestamp with time zone,
    new_priority integer,
    new_queue_name character varying,
    new_lock character varying
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
    _current_status procrastinate_job_status;
BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;
    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;

END;
$$;

CREATE FUNCTION procrastinate_notify_queue_job_inserted_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_notify_queue_abort_job_v1()
RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_status_events_insert_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_status_events_update_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;
	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_function_scheduled_events_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);

	RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);
    RETURN NEW;
END;
$$;

CREATE FUNCTION procrastinate_unlink_periodic_defers_v1()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;
    RETURN OLD;
END;
$$;

CREATE FUNCTION procrastinate_register_worker_v1()
    RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;

CREATE FUNCTION procrastinate_unregister_worker_v1(worker_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;
END;
$$;

CREATE FUNCTION procrastinate_update_heartbeat_v1(worker_id bigint)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;
END;
$$;

CREATE FUNCTION procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat float)
    RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;
END;
$$;

-- Triggers

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_notify_queue_job_inserted_v1();

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs
    FOR EACH ROW WHEN ((old.abort_requested = false AND new.abort_requested = true AND new.status = 'doing'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_notify_queue_abort_job_v1();

CREATE TRIGGER procrastinate_trigger_status_events_update_v1
    AFTER UPDATE OF status ON procrastinate_jobs
    FOR EACH ROW
    EXECUTE PROCEDURE procrastinate_trigger_function_status_events_update_v1();

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1
    AFTER INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_trigger_function_status_events_insert_v1();

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1
    AFTER UPDATE OR INSERT ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.scheduled_at IS NOT NULL AND new.status = 'todo'::procrastinate_job_status))
    EXECUTE PROCEDURE procrastinate_trigger_function_scheduled_events_v1();

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1
    AFTER UPDATE OF abort_requested ON procrastinate_jobs
    FOR EACH ROW WHEN ((new.abort_requested = true))
    EXECUTE PROCEDURE procrastinate_trigger_abort_requested_events_procedure_v1();

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1
    BEFORE DELETE ON procrastinate_jobs
    FOR EACH ROW EXECUTE PROCEDURE procrastinate_unlink_periodic_defers_v1();

-- End of procrastinate ---------------------------------------------------------------------------------------
