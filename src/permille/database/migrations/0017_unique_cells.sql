-- Beside the sums of an hour, day and month: of each distinct value its last operation. All cells are folded anew,
-- in the background; until then what is missing is read from the events.
create table unique_cell (
    series_id int not null,
    grain "char" not null,
    starts_at timestamptz not null,
    digest uuid not null,
    text text,
    at timestamptz not null,
    seq bigint not null,
    is_add boolean not null,
    primary key (series_id, grain, starts_at, digest)
) with (fillfactor = 70);

alter table metering add column distinct_field text;
update metering t set distinct_field = m.field_name from billable_metric m
where m.organization_id = t.organization_id and m.code = t.code and m.deleted_at is null
    and m.aggregation_type = 'unique_count_agg';

delete from usage_cell;
update metering_state set rolled_up_to = 0, version = version + 1;
