-- Invoices that were made again are in the timezone in which their periods were billed.
update invoice r set timezone = o.timezone from invoice o where o.id = r.original_invoice_id and r.timezone <> o.timezone;
