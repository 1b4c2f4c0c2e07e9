"""Usage of a subscription by day, for charts: an endpoint of ours, which Lago has not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from permille.api.http import Call, Page
from permille.api.objects import usage as objects
from permille.api.render import instant, last_instant
from permille.api.subscriptions import asked_row
from permille.api.usage import read_search
from permille.core.contract.plan import Charge
from permille.core.errors import Invalid
from permille.core.instants import parse_day
from permille.core.money import ZERO, decimal_text, exact
from permille.core.period import INSTANT, local_date
from permille.events.engine import usage
from permille.usecases.usage import daily_usage as daily
from permille.usecases.usage.daily_usage import Calendar, DailyLine, DailyUsage

DAYS_MAX = 366


def list_daily_usage(call: Call) -> dict[str, Any]:
    """GET /subscriptions/{external_id}/daily_usage: oldest day first, of the running period unless dates are given.

    Dates are the customer's, both included. `charge_id`, `charge_code` or `billable_metric_code` narrow it.
    """
    return usage.under_one_metering(call.conn, [call.organization.id], lambda: _listing(call))


def _listing(call: Call) -> dict[str, Any]:
    row, _ = asked_row(call)
    of = daily.calendar_of(call.conn, row, now=call.now)
    asked_first, asked_last = _asked(call, "from_date"), _asked(call, "to_date")
    if asked_first and asked_last and asked_last < asked_first:
        raise Invalid({"to_date": ["invalid_date"]})
    page = call.page()
    page = Page(number=page.number, per_page=min(page.per_page, DAYS_MAX))
    if of is None:
        return {"daily_usage": [], "meta": page.meta(0)}
    first, last = _bounds(call, of, asked_first, asked_last)
    total = max((last - first).days + 1, 0)
    count = max(min(page.per_page, total - page.offset), 0)
    days = of.days(date.fromordinal(first.toordinal() + page.offset), count) if count else []
    found = daily.daily_usage(call.conn, of, days, search=read_search(call.query))
    return {"daily_usage": [_render_day(each) for each in found], "meta": page.meta(total)}


def _asked(call: Call, name: str) -> date | None:
    text = call.query.get(name)
    found = parse_day(text)
    if text and found is None:
        raise Invalid({name: ["invalid_date"]})
    return found


def _bounds(call: Call, of: Calendar, first: date | None, last: date | None) -> tuple[date, date]:
    """The days asked for, by default those of the running period up to today, as far as they are subscribed."""
    if first is None:
        first = local_date(of.running(call.now).from_, of.timezone)
    if last is None:
        last = local_date(min(call.now, of.life.to - INSTANT), of.timezone)
    return max(first, of.first), min(last, of.last)


def _render_day(found: DailyUsage) -> objects.DailyUsage:
    return objects.DailyUsage(
        date=found.day.date,
        from_datetime=instant(found.day.part.from_),
        to_datetime=last_instant(found.day.part.to),
        charges_usage=[_render_charge(charge, lines) for charge, lines in found.charges],
    )


def _render_charge(charge: Charge, lines: Sequence[DailyLine]) -> objects.DailyChargeUsage:
    with exact():
        units = sum((line.usage.units for line in lines), ZERO)
    return objects.DailyChargeUsage(
        units=decimal_text(units),
        events_count=sum(line.usage.events_count for line in lines),
        charge=objects.UsedCharge(
            lago_id=charge.id,
            code=charge.code,
            charge_model=charge.charge_model,
            invoice_display_name=charge.invoice_display_name,
        ),
        billable_metric=objects.UsedMetric(
            lago_id=charge.metric.id,
            name=charge.metric.name,
            code=charge.metric.code,
            aggregation_type=charge.metric.aggregation_type,
        ),
        breakdown=[_render_line(line) for line in lines],
    )


def _render_line(line: DailyLine) -> objects.DailyLine:
    one = line.filter
    return objects.DailyLine(
        units=decimal_text(line.usage.units),
        events_count=line.usage.events_count,
        lago_charge_filter_id=one.id if one else None,
        invoice_display_name=one.invoice_display_name if one else None,
        values={key: list(values) for key, values in one.values.items()} if one else None,
        grouped_by=dict(line.grouped_by),
    )
