alter table fixed_charge_units add column at_once boolean not null default false; -- it counted when it was made, and was billed by itself
