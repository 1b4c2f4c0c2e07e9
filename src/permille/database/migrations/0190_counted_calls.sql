-- Calls that are counted now may have been kept aside when they came before: noted with their events, in one statement.
create function note_counted(owners uuid[], names text[], payers text[], counted_ats timestamptz[]) returns void language plpgsql as $$
begin
    update held_usage h set counted_at = c.at, counted_for = c.payer
    from unnest(owners, names, payers, counted_ats) as c (owner, name, payer, at)
    where h.organization_id = c.owner and h.identity = c.name and h.counted_at is null;
end
$$;
