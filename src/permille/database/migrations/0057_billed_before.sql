-- Invoices from before late usage was looked for: what comes from now on is in none of them.
update invoice_subscription set
    counted_to = (select rolled_up_to from metering_state),
    seen_to = (select case when is_called then last_value else last_value - 1 end from event_seq_seq)
where seen_to is null;
