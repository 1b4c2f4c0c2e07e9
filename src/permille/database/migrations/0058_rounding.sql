-- What of a charge is rounded to cents: each fee by itself, or all of its fees together.
alter table charge add column rounding text not null default 'per_fee';
alter table charge add constraint charge_rounding check (rounding in ('per_fee', 'per_charge'));

-- How a fee was rounded: with what the fees that it carries on from come to precisely, also in its pricing unit.
alter table fee add column rounding text not null default 'per_fee';
alter table fee add column earlier_amount_cents numeric;
alter table fee add column earlier_in_unit_cents numeric;

-- What the fees of events of a charge in a period come to precisely, where the charge rounds them together.
create table advance_rounding (
    subscription_id uuid not null,
    charge_id uuid not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    amount_cents numeric not null,
    in_unit_cents numeric not null,
    primary key (subscription_id, charge_id, from_at, to_at)
);
