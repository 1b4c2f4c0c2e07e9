"""Billable metrics and their filters, the dimensions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from permille.core.metering.aggregations import aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.record import names_of
from permille.store import page_sizes

_NAMES = (
    "aggregation_type",
    *(name for name in names_of(BillableMetric) if name not in ("filters", "aggregation")),
)
COLUMNS = ", ".join(f"m.{name}" for name in _NAMES)
FILTERS = (
    "(select coalesce(json_object_agg(f.key, f.values order by f.position), '{}')"
    " from billable_metric_filter f where f.billable_metric_id = m.id)"
)


_COUNT_VALUES = "select sum(cardinality(values)) from billable_metric_filter where billable_metric_id = any(%(ids)s::uuid[])"


def from_row(row: Mapping[str, Any]) -> BillableMetric:
    """A metric of a row that has COLUMNS and FILTERS (as `filters`)."""
    filters = filters_of(row["filters"])
    kept = {name: row[name] for name in _NAMES if name != "aggregation_type"}
    return BillableMetric(**kept, aggregation=aggregation_of(row["aggregation_type"]), filters=filters)


def filters_of(found: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """What FILTERS answers."""
    return {key: tuple(values) for key, values in found.items()}


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[BillableMetric]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {COLUMNS}, {FILTERS} as filters from billable_metric m where {condition}", values
        ).fetchall()
    return [from_row(row) for row in rows]


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> BillableMetric | None:
    """The metric that is not deleted."""
    found = _select(
        conn, "m.organization_id = %s and m.code = %s and m.deleted_at is null", [organization_id, code]
    )
    return found[0] if found else None


def by_codes(
    conn: Connection[Any], organization_id: UUID, codes: Collection[str]
) -> dict[str, BillableMetric]:
    """The metrics that are not deleted, by code."""
    condition = "m.organization_id = %s and m.code = any(%s) and m.deleted_at is null"
    return {row.code: row for row in _select(conn, condition, [organization_id, list(codes)])}


def every(conn: Connection[Any], organization_id: UUID) -> list[BillableMetric]:
    """All metrics that are not deleted."""
    return _select(conn, "m.organization_id = %s and m.deleted_at is null", [organization_id])


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, BillableMetric]:
    """Metrics by id, deleted ones too: fees and webhooks still speak of them."""
    return {row.id: row for row in _select(conn, "m.id = any(%s)", [list(ids)])}


def to_price(
    conn: Connection[Any], organization_id: UUID, ids: Collection[UUID]
) -> dict[UUID, BillableMetric]:
    """Those of the metrics that the organization has; deleted ones and others' are left out."""
    return {
        row.id: row
        for row in _select(
            conn,
            "m.organization_id = %s and m.id = any(%s) and m.deleted_at is null",
            [organization_id, list(ids)],
        )
    }


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[BillableMetric], int]:
    """Metrics, newest first, and how many there are. Raises Invalid for a page too large."""
    condition = "m.organization_id = %s and m.deleted_at is null"
    page = f"{condition} order by m.created_at desc, m.id limit %s offset %s"
    values = [organization_id, limit, offset]
    ids = [found[0] for found in conn.execute(f"select m.id from billable_metric m where {page}", values)]
    page_sizes.refuse_large(conn, _COUNT_VALUES, ids)
    rows = _select(conn, page, values)
    row = conn.execute(
        f"select count(*) from billable_metric m where {condition}", [organization_id]
    ).fetchone()
    return rows, row[0] if row else 0


def is_priced(conn: Connection[Any], billable_metric_id: UUID) -> bool:
    """Whether a charge of a plan that is not deleted uses the metric."""
    row = conn.execute(
        "select exists (select from charge c join plan p on p.id = c.plan_id"
        " where c.billable_metric_id = %s and c.deleted_at is null and p.deleted_at is null"
        " and not exists (select from plan o where o.id = p.version_of and o.deleted_at is not null))",
        [billable_metric_id],
    ).fetchone()
    return row is not None and row[0]


def add(conn: Connection[Any], metric: BillableMetric) -> bool:
    """False when the code is taken."""
    places = ", ".join(f"%({name})s" for name in _NAMES)
    cursor = conn.execute(
        f"insert into billable_metric ({', '.join(_NAMES)}) values ({places})"
        " on conflict (organization_id, code) where deleted_at is null do nothing",
        _values(metric),
    )
    if cursor.rowcount == 1:
        _set_filters(conn, metric)
    return cursor.rowcount == 1


def replace(conn: Connection[Any], metric: BillableMetric) -> None:
    """Write every field of an existing metric, its filters too."""
    changes = ", ".join(f"{name} = %({name})s" for name in _NAMES if name != "id")
    conn.execute(
        f"update billable_metric set {changes} where id = %(id)s",
        _values(metric),
    )
    conn.execute("delete from billable_metric_filter where billable_metric_id = %s", [metric.id])
    _set_filters(conn, metric)


def _values(metric: BillableMetric) -> dict[str, Any]:
    values = {name: getattr(metric, name) for name in _NAMES}
    rules = metric.custom_aggregator
    return {**values, "custom_aggregator": None if rules is None else Jsonb(rules)}


def _set_filters(conn: Connection[Any], metric: BillableMetric) -> None:
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into billable_metric_filter (billable_metric_id, key, values, position) values (%s, %s, %s, %s)",
            [
                [metric.id, key, list(values), place]
                for place, (key, values) in enumerate(metric.filters.items())
            ],
        )


def delete(conn: Connection[Any], *, billable_metric_id: UUID, now: datetime) -> None:
    """Soft, with its charges and their filters: they vanish from every plan at once. Events are kept."""
    conn.execute(
        "update billable_metric set deleted_at = %s, updated_at = %s where id = %s",
        [now, now, billable_metric_id],
    )
    conn.execute(
        "update charge_filter set deleted_at = %s where deleted_at is null"
        " and charge_id in (select id from charge where billable_metric_id = %s)",
        [now, billable_metric_id],
    )
    conn.execute(
        "update charge set deleted_at = %s where billable_metric_id = %s and deleted_at is null",
        [now, billable_metric_id],
    )
