"""How a metric and its prices want the events of its code to be kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.llm.call import METRICS
from permille.core.llm.cost import COSTED_BY, value_field
from permille.core.metering.aggregations import AGGREGATIONS, Needs, Reads
from permille.core.metering.encoding import SeriesLayout

_WITH_VALUE = [each.name for each in AGGREGATIONS if each.reads in (Reads.NUMBER, Reads.RULES)]
_WITH_UNIQUES = [each.name for each in AGGREGATIONS if each.needs is Needs.UNIQUES]


def wanted(conn: Connection[Any], organization_id: UUID, code: str) -> SeriesLayout | None:
    """The metering that the code's metric and prices ask for, its version not yet given.

    Usage of language models is kept by all that its cost depends on, with a metric or without.
    """
    costed = COSTED_BY if code in METRICS else ()
    metric = conn.execute(
        "select id, case when aggregation_type = any(%s) then field_name end,"
        " case when field_name is not null then expression end, field_name,"
        " exists (select from charge c where c.billable_metric_id = m.id and c.deleted_at is null and c.pay_in_advance),"
        " case when aggregation_type = any(%s) then field_name end"
        " from billable_metric m"
        " where organization_id = %s and code = %s and deleted_at is null",
        [_WITH_VALUE, _WITH_UNIQUES, organization_id, code],
    ).fetchone()
    if metric is None:
        return (
            SeriesLayout(field_name=value_field(code), keys=tuple(sorted(costed)), version=0)
            if costed
            else None
        )
    rows = conn.execute(
        "select f.key from billable_metric_filter f where f.billable_metric_id = %(metric)s"
        " union"
        " select jsonb_path_query(p.properties,"
        "   '$.pricing_group_keys[*] ? (@.type() == \"string\")') #>> '{}' from ("
        "   select c.properties from charge c where c.billable_metric_id = %(metric)s and c.deleted_at is null"
        "   union all select f.properties from charge c join charge_filter f on f.charge_id = c.id"
        "   where c.billable_metric_id = %(metric)s and c.deleted_at is null and f.deleted_at is null) p"
        " union"
        " select jsonb_path_query(c.properties, '$.presentation_group_keys[*].value') #>> '{}' from charge c"
        "   where c.billable_metric_id = %(metric)s and c.deleted_at is null"
        " union"
        " select 'target_wallet_code' from charge c where c.billable_metric_id = %(metric)s"
        "   and c.deleted_at is null and c.accepts_target_wallet",
        {"metric": metric[0]},
    ).fetchall()
    keys = sorted({key for (key,) in rows if key}.union(costed))
    return SeriesLayout(
        field_name=metric[1],
        keys=tuple(keys),
        version=0,
        expression=metric[2],
        expression_field=metric[3] if metric[2] else None,
        in_advance=metric[4],
        distinct_field=metric[5],
    )
