-- The rules of a custom aggregation: {"total_units": text, "amount": text}.
alter table billable_metric add column custom_aggregator jsonb;
