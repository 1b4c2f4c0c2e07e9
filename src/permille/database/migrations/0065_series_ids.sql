-- Ids of series have 64 bits: those of 32 would have run out for all organizations together.
--
-- What it costs: event and the cells are written anew with their indexes while nobody else can use them, about 6 seconds
-- for a million events (docs/performance.md): some 10 minutes for 100 million, and as much disk again meanwhile. Rows and
-- indexes of event stay as long as they were, since the 4 bytes were padding.
drop view counted_event;
drop view sent_event;
drop function store_events(bigint, int[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[]);
drop function store_events_in_advance(
    bigint, int[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[], uuid[], uuid[]
);

alter table series alter column id type bigint;
alter table event alter column series_id type bigint;
alter table usage_cell alter column series_id type bigint;
alter table unique_cell alter column series_id type bigint;

-- What usage is made of.
create view counted_event as
select e.* from event e where not exists (select from struck_event s where s.identity = e.identity);

-- What was sent: every event once, whatever became of it.
create view sent_event as
select e.* from event e where not exists (select from event_amendment a where a.id = e.identity);

-- The one way into the event table: all rows or none, in order, and only under the metering they were encoded for.
-- 5045524D is the lock that says so: shared by those who insert, exclusive for those who change the metering
-- or want to know that no insert is under way. Raises PM001 when the metering has changed meanwhile,
-- 23505 when an identity is taken.
create function store_events(
    known_version bigint, series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[]
) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
    if (select version from metering_state) <> known_version then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    insert into event (
        series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
    )
    select * from unnest(
        series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
    );
end
$$;

-- As store_events, for a group with events that are paid in advance: these identities, of these organizations.
create function store_events_in_advance(
    known_version bigint, series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[],
    waiting uuid[], organizations uuid[]
) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
    if (select version from metering_state) <> known_version then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    with stored as (
        insert into event (
            series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra
        )
        select * from unnest(
            series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras
        )
        returning seq, event.identity
    )
    insert into advance_event (organization_id, seq, identity)
    select w.organization_id, s.seq, s.identity
    from stored s join unnest(waiting, organizations) as w (identity, organization_id) using (identity);
end
$$;
