-- Identities in the order of time: where a transaction id carries its time (a UUIDv7 or a ULID, from 2026-11-29 on), the
-- first 6 bytes of the event's identity are that time (events/identity.py, docs/decisions/016). Events that were stored with
-- such an id get the identity that a repeat of them has from now on, whatever refers to them follows.
--
-- What it costs: all events are read once while nobody else can use them, about a minute for 100 million (0.5 us of
-- processor time each); and 20 us for each that gets another identity.
--
-- No event may come in under the old rule afterwards, of a server of the version before that is still running. Its
-- functions are gone for it by their names. Calls of them that have begun hold metering_version, and we wait for them; or
-- they are still going to read it, find another version then, and store nothing.
lock table event_amendment, metering_version, advance_event, unpriced_advance_event, held_advance_event in access exclusive mode;
lock table event in share row exclusive mode;

alter function store_events(
    uuid[], bigint[], bigint[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[]
) rename to append_events;
alter function store_events_in_advance(
    uuid[], bigint[], bigint[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[], uuid[], uuid[]
) rename to append_events_in_advance;
insert into metering_version (organization_id, version) select id, 1 from organization
on conflict (organization_id) do update set version = metering_version.version + 1;

-- The row of a replacement has the amendment's id as its identity, and keeps it.
create temporary table moved on commit drop as
select identity as old, (lpad(to_hex(milliseconds), 12, '0') || right(replace(identity::text, '-', ''), 20))::uuid as new
from (
    select identity, case
        when octet_length(transaction_id) <> 26 then ('x0000' || left(replace(transaction_id, '-', ''), 12))::bit(64)::bigint
        else (
            select sum((strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substr(upper(transaction_id), n, 1)) - 1)::bigint << 5 * (10 - n))
            from generate_series(1, 10) n
        )::bigint
    end as milliseconds
    from event e
    where (
        octet_length(transaction_id) = 36 and substr(transaction_id, 15, 1) = '7'
            and transaction_id ~ '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-7[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$'
        or octet_length(transaction_id) = 32 and substr(transaction_id, 13, 1) = '7'
            and transaction_id ~ '^[0-9A-Fa-f]{12}7[0-9A-Fa-f]{3}[89ABab][0-9A-Fa-f]{15}$'
        or octet_length(transaction_id) = 26 and transaction_id ~ '^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$'
    ) and not exists (select from event_amendment a where a.id = e.identity)
) e
where milliseconds >= 1795910400000 and milliseconds < 7258118400000;
analyze moved;

update event e set identity = m.new from moved m where e.identity = m.old;
update advance_event q set identity = m.new from moved m where q.identity = m.old;
update unpriced_advance_event q set identity = m.new from moved m where q.identity = m.old;
update held_advance_event q set identity = m.new from moved m where q.identity = m.old;
update webhook w set object_id = m.new from moved m where w.object_id = m.old and w.object_type = 'event_error';

alter table event_amendment disable trigger event_amendment_stays;
alter table struck_event disable trigger struck_event_stays;
update event_amendment a set event_identity = m.new from moved m where a.event_identity = m.old;
update struck_event s set identity = m.new from moved m where s.identity = m.old;
alter table event_amendment enable trigger event_amendment_stays;
alter table struck_event enable trigger struck_event_stays;
