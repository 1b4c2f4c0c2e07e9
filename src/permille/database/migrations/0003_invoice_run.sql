-- An invoice run writes a dozen rows for each subscription, and each foreign key looks its row up and locks it,
-- while several runs lock the same organization at once. That was half the time of a run. What these keys refer
-- to is never deleted.
alter table invoice drop constraint invoice_organization_id_fkey;
alter table invoice drop constraint invoice_billing_entity_id_fkey;
alter table invoice_subscription drop constraint invoice_subscription_invoice_id_fkey;
alter table invoice_subscription drop constraint invoice_subscription_subscription_id_fkey;
alter table invoice_sequence drop constraint invoice_sequence_customer_id_fkey;
alter table invoice_sequence drop constraint invoice_sequence_billing_entity_id_fkey;
alter table fee drop constraint fee_invoice_id_fkey;
alter table webhook drop constraint webhook_organization_id_fkey;
alter table webhook drop constraint webhook_webhook_endpoint_id_fkey;
