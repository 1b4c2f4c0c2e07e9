"""Usage by day as charts show it: by one dimension of the metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Plan, charges_on
from permille.core.metering.aggregations import Reads
from permille.core.metering.billable_metric import BillableMetric
from permille.core.period import local_date
from permille.core.rating.charge import CompiledCharge, Dimensions
from permille.core.rating.daily_usage import Day, Reach, fold_days, reach_of
from permille.usecases.usage.daily_usage import Calendar, counted_series, read_days

PREFERRED = "model"
UNNAMED = "all"

Days = list[tuple[str, Mapping[str, Decimal]]]


def stacking_key(metric: BillableMetric) -> str | None:
    """The dimension that a chart is stacked by: the model where there is one."""
    return PREFERRED if PREFERRED in metric.filters else next(iter(metric.filters), None)


def order_of(metric: BillableMetric) -> Sequence[str]:
    """The values of the stacking dimension, as the metric lists them."""
    return metric.filters.get(stacking_key(metric) or "", ())


def _counting_charge(plan: Plan, metric: BillableMetric) -> CompiledCharge:
    """The charge whose units a chart of the metric shows: one in arrears where there is one, which counts the most."""
    chosen = min(charges_on(plan, metric), key=lambda charge: charge.pay_in_advance)
    return compile_plan_charge(chosen, currency=plan.amount_currency)


def charted_days(conn: Connection[Any], of: Calendar, *, now: datetime) -> list[tuple[BillableMetric, Days]]:
    """The units of each metric of the plan on every day of the running period, by the stacking dimension.

    Units that are carried over are shown up to today: nobody knows yet what it will be. Custom aggregations
    are left out: what they come to depends on the charge, not on the metric alone.
    """
    running, today = of.running(now), local_date(now, of.timezone)
    first = local_date(running.from_, of.timezone)
    days = of.days(first, (of.last - first).days + 1)
    metrics = [charge.metric for charge in of.plan.charges]
    by_code = {each.code: each for each in metrics if each.aggregation.reads is not Reads.RULES}
    read = read_days(conn, of, days, by_code)
    charted = []
    for code, metric in by_code.items():
        counted = partial(counted_series, _counting_charge(of.plan, metric))
        own = [(day, counted(series)) for day, series in read[code].days]
        folded = fold_days(metric, counted(read[code].before), own, place_of=_kind_of(metric))
        lasts = reach_of(metric) is not Reach.DAY
        named: Days = [
            (
                _name(day),
                {} if lasts and day.date > today else {kind: used.units for kind, used in by_kind.items()},
            )
            for day, by_kind in zip(days, folded, strict=True)
        ]
        charted.append((metric, named))
    return charted


def _kind_of(metric: BillableMetric) -> Callable[[Dimensions], str]:
    key = stacking_key(metric)

    def kind_of(dimensions: Dimensions) -> str:
        return (dimensions.get(key) or "other") if key else UNNAMED

    return kind_of


def _name(day: Day) -> str:
    return f"{day.date.day} {day.date:%b}"
