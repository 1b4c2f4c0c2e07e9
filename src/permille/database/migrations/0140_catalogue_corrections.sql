-- Credit notes for final invoices whose prices of the catalogue were corrected.
alter table credit_note add column catalogue_version_id uuid; -- whose corrected prices it gives back
create index fee_by_catalogue on fee (organization_id, to_at, invoice_id) where amount_details ? 'catalogue';
