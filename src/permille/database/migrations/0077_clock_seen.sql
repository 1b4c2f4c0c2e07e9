-- The last instant that a worker has seen, against a clock that is ahead or goes back.

create table clock_seen (
    at timestamptz, -- null: no worker has run yet
    doubted boolean not null default false -- a worker has seen the clock being set, and nobody has confirmed it
);

insert into clock_seen default values;

-- Inserts don't wait for a change of an organization's metering: PM002 names the organizations, and the others go on.
create or replace function enter_events(owners uuid[], known_versions bigint[]) returns void language plpgsql as $$
declare
    changing text;
begin
    select string_agg(o.id::text, ' ') into changing from unnest(owners) as o (id)
    where not pg_try_advisory_xact_lock_shared(uuid_hash_extended(o.id, x'5045524F'::bigint));
    if changing is not null then
        raise exception 'the metering is being changed' using errcode = 'PM002', detail = changing;
    end if;
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
