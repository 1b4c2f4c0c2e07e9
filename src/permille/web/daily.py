"""Usage by day: of a subscription, exact; of a whole organization, from the cells that are rolled up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import Connection

from permille.core.billable_metric import BillableMetric
from permille.core.organization import Organization
from permille.core.period import Period
from permille.core.usage import AggregationType
from permille.store import usage
from permille.store.usage import Window

DAYS_MAX = 366
PREFERRED = "model"
UNNAMED = "all"

_COUNTED = (AggregationType.COUNT, AggregationType.UNIQUE_COUNT)

Days = list[tuple[str, Mapping[str, Decimal]]]


def days_of(period: Period, timezone: str) -> Iterator[tuple[datetime, datetime]]:
    """The local days of a period, its first and last perhaps cut."""
    zone = ZoneInfo(timezone)
    start = period.from_
    for _ in range(DAYS_MAX):
        if start >= period.to:
            return
        local = start.astimezone(zone)
        midnight = datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=1)
        end = min(midnight, period.to)
        yield start, end
        start = end


def stacking_key(metric: BillableMetric) -> str | None:
    """The dimension that a chart is stacked by: the model where there is one."""
    return PREFERRED if PREFERRED in metric.filters else next(iter(metric.filters), None)


def subscription_days(
    conn: Connection[Any],
    *,
    organization: Organization,
    external_subscription_id: str,
    metric: BillableMetric,
    period: Period,
    timezone: str,
) -> Days:
    """Units of each day by the stacking dimension: sums, or numbers of events where the metric counts."""
    bounds = list(days_of(period, timezone))
    windows = [
        Window(
            organization_id=organization.id,
            external_subscription_id=external_subscription_id,
            codes=(metric.code,),
            from_=start,
            to=end,
        )
        for start, end in bounds
    ]
    key, counted = stacking_key(metric), metric.aggregation_type in _COUNTED
    days: Days = []
    for (start, _), found in zip(bounds, usage.usage_of_many(conn, windows), strict=True):
        by_kind: dict[str, Decimal] = {}
        for series in found:
            kind = (series.dimensions.get(key) or "other") if key else UNNAMED
            units = Decimal(series.partial.events_count) if counted else series.partial.sum
            by_kind[kind] = by_kind.get(kind, Decimal(0)) + units
        local = start.astimezone(ZoneInfo(timezone))
        days.append((f"{local.day} {local:%b}", by_kind))
    return days
