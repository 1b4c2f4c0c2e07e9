-- How many events an organization's cells hold, of each code: a list says how many there are without going through the series.
create table event_count (
    organization_id uuid not null,
    grain "char" not null, -- as of usage_cell
    starts_at timestamptz not null,
    code text not null,
    events_count bigint not null,
    primary key (organization_id, grain, starts_at, code)
);

-- The series is looked up for hours alone: days and months are added up from them.
create function add_event_counts(hours_of bigint[], starts timestamptz[], counts bigint[]) returns void language sql as $$
with hour as (
    select s.organization_id, s.code, h.starts_at, sum(h.events_count)::bigint as events_count
    from unnest(hours_of, starts, counts) as h (series_id, starts_at, events_count) join series s on s.id = h.series_id
    group by 1, 2, 3
), counted as (
    select organization_id, 'h'::"char" as grain, starts_at, code, events_count from hour
    union all
    select organization_id, 'd', date_trunc('day', starts_at, 'UTC'), code, sum(events_count)::bigint from hour group by 1, 3, 4
    union all
    select organization_id, 'm', date_trunc('month', starts_at, 'UTC'), code, sum(events_count)::bigint from hour group by 1, 3, 4
)
insert into event_count as c select * from counted where events_count <> 0
on conflict (organization_id, grain, starts_at, code) do update set events_count = c.events_count + excluded.events_count
$$;

create function count_events() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(events_count))
        from added where grain = 'h' having count(*) > 0;
    elsif tg_op = 'DELETE' then
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(-events_count))
        from gone where grain = 'h' having count(*) > 0;
    else
        perform add_event_counts(array_agg(series_id), array_agg(starts_at), array_agg(events_count))
        from (
            select series_id, starts_at, events_count from added where grain = 'h'
            union all
            select series_id, starts_at, -events_count from gone where grain = 'h'
        ) changed having count(*) > 0;
    end if;
    return null;
end
$$;

create trigger usage_cell_counts_added after insert on usage_cell
referencing new table as added for each statement execute function count_events();
create trigger usage_cell_counts_changed after update on usage_cell
referencing old table as gone new table as added for each statement execute function count_events();
create trigger usage_cell_counts_gone after delete on usage_cell
referencing old table as gone for each statement execute function count_events();

insert into event_count
select s.organization_id, c.grain, c.starts_at, s.code, sum(c.events_count)::bigint
from usage_cell c join series s on s.id = c.series_id group by 1, 2, 3, 4;
