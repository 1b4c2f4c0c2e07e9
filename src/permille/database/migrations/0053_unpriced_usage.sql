-- When it is tried again whether usage that is held has a price, by the organization's clock.
alter table invoice add column price_retry_at timestamptz;
drop index invoice_to_finalize;
create index invoice_to_finalize on invoice (organization_id, finalizes_at)
    where finalizes_at is not null and price_retry_at is null;
create index invoice_to_price on invoice (organization_id, price_retry_at) where price_retry_at is not null;
alter table unpriced_advance_event add column retry_at timestamptz not null;

-- Series that are to be looked at for usage without a price: the roll-up puts each here once a month that it is used.
create table unchecked_series (
    series_id bigint primary key
);

-- Organizations whose prices, metrics or subscriptions have changed since their series were looked at.
create table unchecked_organization (
    organization_id uuid primary key
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
