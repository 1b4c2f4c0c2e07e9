-- The property that a metric's expression writes; metering.field_name is null where no number is taken.
alter table metering add column expression_field text;
