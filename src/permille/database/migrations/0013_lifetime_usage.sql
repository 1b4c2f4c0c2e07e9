-- What was used before Permille knew of it. It stands on the first row of an external id's life.
alter table subscription add column historical_usage_amount_cents bigint not null default 0;
