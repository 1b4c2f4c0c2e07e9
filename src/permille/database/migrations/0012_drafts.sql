-- When a draft becomes final; null for every other invoice.
alter table invoice add column finalizes_at timestamptz;

create index invoice_to_finalize on invoice (organization_id, finalizes_at) where finalizes_at is not null;
create index invoice_draft_of_customer on invoice (customer_id) where status = 'draft';
