-- Which wallets are out of date is said beside them: what bills and usage change of a wallet is in no index then, and its
-- row is updated in place where its page has room.
drop index wallet_to_refresh;

create table wallet_to_refresh (
    customer_id uuid primary key,
    organization_id uuid not null,
    since timestamptz not null
);

create index wallet_to_refresh_first on wallet_to_refresh (organization_id, since);

insert into wallet_to_refresh (customer_id, organization_id, since)
select customer_id, organization_id, min(refresh_at) from wallet
where status = 'active' and refresh_at is not null group by customer_id, organization_id;

alter table wallet drop column refresh_at;
alter table wallet set (fillfactor = 50);

drop trigger audited_insert on wallet;
drop trigger audited_update on wallet;
drop trigger audited_delete on wallet;

create trigger audited_insert after insert on wallet
referencing new table as new_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position ongoing_usage_balance_cents is_depleted last_balance_sync_at');

create trigger audited_update after update on wallet for each row
when (current_setting('permille.change', true) <> '')
execute function audit_row('id', 'code', 'created_at updated_at organization_id digest position ongoing_usage_balance_cents is_depleted last_balance_sync_at');

create trigger audited_delete after delete on wallet
referencing old table as old_rows for each statement
when (current_setting('permille.change', true) <> '')
execute function audit_rows('id', 'code', 'created_at updated_at organization_id digest position ongoing_usage_balance_cents is_depleted last_balance_sync_at');
