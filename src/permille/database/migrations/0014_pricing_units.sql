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

alter table charge add column pricing_unit_id uuid references pricing_unit (id);
alter table charge add column conversion_rate numeric; -- of one pricing unit, in major units of the plan's currency
alter table charge add constraint charge_conversion_rate check (
    (pricing_unit_id is null) = (conversion_rate is null) and conversion_rate > 0
);

create index charge_of_pricing_unit on charge (pricing_unit_id) where pricing_unit_id is not null and deleted_at is null;

-- As they were when the fee was priced.
alter table fee add column pricing_unit_details jsonb;
