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
    effective_at timestamptz not null
);

create index fixed_charge_units_of_subscription on fixed_charge_units (subscription_id, id);

alter table subscription
    add column fixed_charges_billed_until timestamptz,
    add column fixed_charges_paid_until timestamptz; -- up to where those in advance are paid

create trigger audited_insert after insert on fixed_charge
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on fixed_charge
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on fixed_charge
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position');

create trigger audited_insert after insert on fixed_charge_own_units
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('subscription_id fixed_charge_id', 'units', 'created_at updated_at organization_id digest position');

create trigger audited_update after update on fixed_charge_own_units
referencing old table as old_rows new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('subscription_id fixed_charge_id', 'units', 'created_at updated_at organization_id digest position');

create trigger audited_delete after delete on fixed_charge_own_units
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('subscription_id fixed_charge_id', 'units', 'created_at updated_at organization_id digest position');

-- How far a subscription is billed is the engine's own business.
drop trigger audited_insert on subscription;
drop trigger audited_update on subscription;
drop trigger audited_delete on subscription;

create trigger audited_insert after insert on subscription
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');

create trigger audited_update after update on subscription for each row
when (current_setting('permille.change', true) <> '')
execute function audit_row('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');

create trigger audited_delete after delete on subscription
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'external_id', 'created_at updated_at organization_id digest position next_billing_at activates_at ends_at fee_billed_until charges_billed_until fixed_charges_billed_until fixed_charges_paid_until');
