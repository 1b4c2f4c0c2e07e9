alter table credit_note add given_up_before_void_cents bigint not null default 0; -- what had been given up when its invoice was voided
update credit_note n set given_up_before_void_cents = n.voided_amount_cents
from invoice i
where i.id = n.invoice_id and i.status = 'voided' and n.sequential_id <= i.notes_before_void and n.voided_at < i.voided_at;
