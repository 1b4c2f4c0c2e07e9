-- The dimensions of a metric are kept in the order in which they were given; until now they were sorted by key.

alter table billable_metric_filter add column position integer not null default 0;

update billable_metric_filter f set position = o.position
from (
  select billable_metric_id, key, row_number() over (partition by billable_metric_id order by key collate "C") - 1 as position
  from billable_metric_filter
) o
where o.billable_metric_id = f.billable_metric_id and o.key = f.key;

alter table billable_metric_filter alter column position drop default;
