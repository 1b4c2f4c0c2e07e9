alter table billing_entity add column eu_tax_management boolean not null default false; -- its customers get the European Union's VAT that applies to them
