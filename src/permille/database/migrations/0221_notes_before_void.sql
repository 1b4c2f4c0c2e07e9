alter table invoice add notes_before_void bigint; -- how many credit notes it had when it was voided
update invoice i set notes_before_void = (
    select count(*) from credit_note n where n.invoice_id = i.id and n.created_at < i.voided_at)
where i.status = 'voided';
