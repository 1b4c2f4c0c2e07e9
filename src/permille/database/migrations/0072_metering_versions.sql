-- Versions of the metering by organization, so that none waits for, or reads again because of, the changes of another.

create table metering_version (
    organization_id uuid primary key references organization (id),
    version bigint not null,
    amended bigint not null default 0
);

insert into metering_version (organization_id, version, amended)
select o.id, s.version, s.amended from organization o cross join metering_state s where s.version > 0 or s.amended > 0;

alter table metering_state drop column version, drop column amended;

drop function store_events(bigint, bigint[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[]);
drop function store_events_in_advance(
    bigint, bigint[], timestamptz[], timestamptz[], uuid[], numeric[], text[], numeric[], jsonb[], uuid[], uuid[]
);

create function enter_events(owners uuid[], known_versions bigint[]) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(uuid_hash_extended(o.id, x'5045524F'::bigint)) from unnest(owners) as o (id);
    if exists (
        select from unnest(owners, known_versions) as k (id, version)
        left join metering_version v on v.organization_id = k.id
        where k.version <> coalesce(v.version, 0)
    ) then
        raise exception 'the metering has changed' using errcode = 'PM001';
    end if;
    perform pg_advisory_xact_lock_shared(x'5045524D'::bigint);
end
$$;

create function store_events(
    owners uuid[], known_versions bigint[], series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[]
) returns void language plpgsql as $$
begin
    perform enter_events(owners, known_versions);
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
    owners uuid[], known_versions bigint[], series_ids bigint[], ats timestamptz[], created_ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[],
    waiting uuid[], organizations uuid[]
) returns void language plpgsql as $$
begin
    perform enter_events(owners, known_versions);
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
