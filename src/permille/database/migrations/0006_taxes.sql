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

-- The taxes that apply; those of the narrowest level that has any do. Deleted ones stay in here and count for nothing.
alter table billing_entity add column tax_ids uuid[] not null default '{}';
alter table customer add column tax_ids uuid[] not null default '{}';
alter table plan add column tax_ids uuid[] not null default '{}';
alter table charge add column tax_ids uuid[] not null default '{}';

-- As they were when the invoice was made.
alter table invoice add column applied_taxes jsonb not null default '[]';
alter table fee add column applied_taxes jsonb not null default '[]';
