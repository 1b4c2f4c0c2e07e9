-- An invoice that replaces a voided one, and its fees, which bill those of that one again.
alter table invoice add column voided_invoice_id uuid references invoice (id); -- which it replaces
-- The first of those that replace each other: it has the periods.
alter table invoice add column original_invoice_id uuid references invoice (id);
create unique index invoice_replacement on invoice (voided_invoice_id) where voided_invoice_id is not null;

alter table fee add column original_fee_id uuid; -- of a voided invoice, which it bills again
alter table fee add column own_name text; -- instead of that of what it is for
drop index fee_of_event;
create unique index fee_of_event on fee (organization_id, event_transaction_id, subscription_id, charge_id)
    where event_transaction_id is not null and original_fee_id is null;
