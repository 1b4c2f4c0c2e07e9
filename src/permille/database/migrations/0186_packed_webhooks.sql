-- What is rendered at the first attempt is kept packed (store/packing.py). Earlier ones stay in `payload`, as they are.
alter table webhook add column rendered bytea;
alter table webhook alter column rendered set storage external; -- there is nothing more to compress

drop trigger audited_update on webhook;

create trigger audited_update after update on webhook for each row
when (current_setting('permille.change', true) <> '')
execute function audit_row('id', 'webhook_type', 'created_at updated_at organization_id digest position payload response last_attempt_at http_status rendered');
