-- What was kept aside is locked by identity, as everywhere, so that nobody waits for each other.
create or replace function note_counted(owners uuid[], names text[], payers text[], counted_ats timestamptz[]) returns void language plpgsql as $$
begin
    update held_usage h set counted_at = w.at, counted_for = w.payer from (
        select h.id, c.at, c.payer
        from unnest(owners, names, payers, counted_ats) as c (owner, name, payer, at)
        join held_usage h on h.organization_id = c.owner and h.identity = c.name and h.counted_at is null
        order by h.organization_id, h.identity for update of h
    ) w where h.id = w.id;
end
$$;
