"""Home: usage and revenue over time, top customers, invoices waiting, events a second."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from permille.clock import system_now
from permille.core.metering.billable_metric import BillableMetric
from permille.core.money import exact, subunits
from permille.events.engine import usage
from permille.events.usage import RATE_SECONDS, Shown, shown_of
from permille.store import (
    billable_metrics,
    billing_holds,
    customers,
    fences,
    late_usage,
    overview,
    plans,
    unpriced,
)
from permille.store.customers import CustomerSearch
from permille.store.usage_charts import Chart
from permille.usecases.unpriced import newest as newest_unpriced
from permille.usecases.usage.charts import charted_usage
from permille.web import chart
from permille.web.daily import UNNAMED, order_of, stacking_key
from permille.web.llm_usage import todo_counts
from permille.web.visit import HtmlPage, Visit

DAYS = 30
REVENUE_DAYS = 335  # the first of them lies in the first of the MONTHS
MONTHS = 12
METRICS_SHOWN = 3
UNPRICED_SHOWN = 5
_DAY = timedelta(days=1)


def overview_page(visit: Visit) -> HtmlPage:
    """GET /app."""
    conn, here = visit.conn, visit.here.id
    metrics, metrics_count = billable_metrics.listing(conn, here, limit=METRICS_SHOWN, offset=0)
    since = visit.now - timedelta(days=REVENUE_DAYS)
    first_steps = _first_steps(visit, metrics_count)
    context: dict[str, Any] = {
        "steps": first_steps,
        "is_new": not all(done for _, _, done in first_steps),
        "charts": [each for metric in metrics for each in _usage_chart(visit, metric)],
        "revenue": _revenue(visit, since),
        "top": overview.top_customers(conn, here, since=since),
        "unpriced": newest_unpriced(conn, here, limit=UNPRICED_SHOWN),
        "unpriced_count": unpriced.count(conn, here),
        "drafts_waiting": unpriced.drafts_waiting(conn, here),
        "llm_todo": todo_counts(visit),
        "held_count": billing_holds.count(conn, here),
        "has_fences": bool(fences.of_organization(conn, here, limit=1)),
        "too_late": late_usage.undecided(conn, here),
        "waiting": overview.waiting(conn, here, since=since),
        "rate": usage.events_per_second(conn, here, since=visit.now - timedelta(seconds=RATE_SECONDS)),
    }
    return HtmlPage(template="home.html", context=context)


def _first_steps(visit: Visit, metrics_count: int) -> list[tuple[str, str, bool]]:
    """(what to do, where, whether it is done)"""
    _, plans_count = plans.listing(visit.conn, visit.here.id, limit=1, offset=0)
    _, customers_count = customers.listing(visit.conn, visit.here.id, CustomerSearch(), limit=1, offset=0)
    return [
        ("Say what is counted: a metric with its dimensions", "/app/new-billable-metric", metrics_count > 0),
        ("Say what it costs: a plan with its prices", "/app/templates", plans_count > 0),
        ("Add a customer and subscribe it", "/app/new-customer", customers_count > 0),
    ]


def _usage_chart(visit: Visit, metric: BillableMetric) -> list[dict[str, Any]]:
    """The metric's last DAYS days, nothing when it was not used."""
    end = visit.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    key = stacking_key(metric)
    shown = shown_of(metric.aggregation)
    asked = Chart(
        organization_id=visit.here.id,
        code=metric.code,
        key=key,
        shown=shown,
        since=end - DAYS * _DAY,
        until=end,
    )
    found = charted_usage(visit.conn, asked, now=system_now())
    if not found.days and not found.is_being_made:
        return []
    days = [
        (_named(day), _kinds(found.days.get(day.date(), {}), key))
        for day in (end - number * _DAY for number in range(DAYS, 0, -1))
    ]
    what = "" if shown is Shown.UNITS else f": {shown}"
    drawn = chart.stacked(days, order_of(metric))
    return [{"metric": metric, "what": what, "key": key, "drawn": drawn, "found": found}]


def _kinds(units: Mapping[str, Decimal], key: str | None) -> Mapping[str, Decimal]:
    return units if key else {UNNAMED: sum(units.values(), Decimal(0))} if units else {}


def _named(day: datetime) -> str:
    return f"{day.day} {day:%b}"


def _revenue(visit: Visit, since: datetime) -> list[dict[str, Any]]:
    """For each currency the last MONTHS months as bars in major units."""
    found = overview.invoiced_by_day(visit.conn, visit.here.id, since=since)
    drawn = []
    for currency, days in found.items():
        months: dict[str, dict[str, Decimal]] = {name: {} for name in _months(visit.now)}
        for day, cents in days:
            with exact():
                month = months.setdefault(f"{day:%b %Y}", {})
                month[currency] = month.get(currency, Decimal(0)) + Decimal(cents) / subunits(currency)
        total = sum(cents for _, cents in days)
        drawn.append({"currency": currency, "total": total, "drawn": chart.stacked(list(months.items()))})
    return drawn


def _months(now: datetime) -> list[str]:
    """The names of the last MONTHS months, this one last."""
    numbers = range(now.year * 12 + now.month - MONTHS, now.year * 12 + now.month)
    return [f"{datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC):%b %Y}" for number in numbers]
