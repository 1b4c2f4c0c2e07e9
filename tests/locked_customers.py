"""A trigger for databases of tests: who writes which wallets are to be refreshed has locked their customer.

Else usage that is counted while another worker reckons them may be in no ongoing balance. What is changed or locked by a
transaction that runs is taken for locked by this one: which one it is cannot be seen of a transaction within another.
"""

CUSTOMER_IS_LOCKED = """
create function customer_is_locked() returns trigger language plpgsql as $$
declare
    holder record;
    locked boolean;
begin
    select xmin::text::xid8 as changed, xmax::text::xid8 as locked, xmax as several into holder
    from customer where id = coalesce(new.customer_id, old.customer_id);
    locked := pg_xact_status(holder.changed) = 'in progress';
    begin
        locked := locked or pg_xact_status(holder.locked) = 'in progress';
    exception when others then
        null;
    end;
    begin
        locked := locked or exists (
            select from pg_get_multixact_members(holder.several) m where pg_xact_status(m.xid::text::xid8) = 'in progress'
        );
    exception when others then
        null;
    end;
    if not coalesce(locked, false) then
        raise exception 'the customer % is not locked', coalesce(new.customer_id, old.customer_id);
    end if;
    return null;
end $$;

create trigger customer_is_locked after insert or update or delete on wallet_to_refresh
for each row execute function customer_is_locked();
"""
