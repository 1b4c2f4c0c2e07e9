-- Which series were used in which month, so that what looks at some days need not walk all series that ever were.

create table series_month (
    organization_id uuid not null,
    code text not null,
    starts_at timestamptz not null,
    series_id bigint not null,
    primary key (organization_id, code, starts_at, series_id)
);

insert into series_month (organization_id, code, starts_at, series_id)
select s.organization_id, s.code, c.starts_at, c.series_id
from usage_cell c join series s on s.id = c.series_id
where c.grain = 'm';
