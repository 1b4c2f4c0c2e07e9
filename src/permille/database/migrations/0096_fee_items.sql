-- Fees of what is neither a charge nor a plan: add-ons, prepaid credits.
alter table fee add column item_id uuid;
