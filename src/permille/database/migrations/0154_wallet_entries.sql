-- What invoices take of wallets is written without a function for each lot, and without looking each lot up twice more:
-- that consumptions and transactions agree, both ways, is a question of the audit.
drop trigger wallet_transaction_stays on wallet_transaction;

create or replace function refuse_edit_of_wallet_entry() returns trigger language plpgsql as $$
begin
    raise exception 'what moved prepaid credits is not edited: add an entry that moves them back';
end
$$;

create trigger wallet_transaction_stays before update on wallet_transaction for each row
when (
    (old.status = 'settled' and new.status <> 'settled')
    or (old.wallet_id, old.transaction_type, old.transaction_status, old.amount_cents, old.credit_amount)
        <> (new.wallet_id, new.transaction_type, new.transaction_status, new.amount_cents, new.credit_amount)
)
execute function refuse_edit_of_wallet_entry();
create trigger wallet_transaction_is_kept before delete on wallet_transaction
for each row execute function refuse_edit_of_wallet_entry();

alter table wallet_consumption drop constraint wallet_consumption_inbound_id_fkey;
alter table wallet_consumption drop constraint wallet_consumption_outbound_id_fkey;
