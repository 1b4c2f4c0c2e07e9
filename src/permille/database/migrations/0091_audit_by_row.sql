-- Bills and deliveries update these by the thousands, and nobody's name is on it: a trigger of each row costs them nothing,
-- while one of the statement has its rows gathered before anybody looks whether they are wanted.
create function audit_row() returns trigger language plpgsql as $$
begin
    perform audit_keep(
        tg_table_name, array[to_jsonb(old)], array[to_jsonb(new)], string_to_array(tg_argv[0], ' '), tg_argv[1],
        string_to_array(tg_argv[2], ' ')
    );
    return null;
end
$$;

do $$
declare
    one record;
begin
    for one in select * from (values
        (
            'subscription', 'external_id', 'next_billing_at activates_at ends_at fee_billed_until charges_billed_until'
        ),
        ('invoice', 'number', 'finalizes_at waits_for_price price_retry_at'),
        ('fee', 'event_transaction_id', ''),
        ('webhook', 'webhook_type', 'payload response last_attempt_at http_status')
    ) as audited (name, label, ignored) loop
        execute format('drop trigger audited_update on %I', one.name);
        execute format(
            'create trigger audited_update after update on %I for each row'
            ' when (current_setting(''permille.change'', true) <> '''') execute function audit_row(%L, %L, %L)',
            one.name, 'id', one.label,
            concat_ws(' ', 'created_at updated_at organization_id digest position', nullif(one.ignored, ''))
        );
    end loop;
end
$$;
