-- The billing entity whose invoices a subscription is on; null: its customer's.
alter table subscription add column billing_entity_id uuid references billing_entity (id);
create index invoice_draft_of_entity on invoice (billing_entity_id) where status = 'draft';
