-- Whether versions of the price catalogue without outliers are approved as they come in.
alter table organization add column auto_approve_prices boolean not null default false;
