"""Usage by brute force: from a list of events and the published rules, in fractions, with nothing of ours.

semantics-metering.md sections 2.2 to 2.5, 4.3, 4.4 and 6.1.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

MONTHS = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}
TICK = timedelta(microseconds=1)

Line = tuple[Fraction, int, int, Fraction]
"""Units, events, cents, aggregated units."""


@dataclass(frozen=True)
class Sent:
    order: int
    at: datetime
    code: str
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """The instants from `start` up to and without `end`, of a whole billing period that may be longer."""

    start: datetime
    end: datetime
    whole_start: datetime
    timezone: str

    def days_from(self, at: datetime) -> int:
        return (_day(self.end - TICK, self.timezone) - _day(at, self.timezone)).days + 1


def span_of(now: datetime, started: datetime, interval: str, billing_time: str, timezone: str) -> Span:
    """The running period."""
    today, anchor = _day(now, timezone), _day(started, timezone)
    if billing_time == "calendar":
        anchor = date(2001, 1, 1)  # a Monday
    if interval == "weekly":
        first = today - timedelta(days=(today - anchor).days % 7)
        after = first + timedelta(days=7)
    else:
        n, step = -1, MONTHS[interval]
        while _months_later(anchor, (n + 1) * step) <= today:
            n += 1
        first, after = _months_later(anchor, n * step), _months_later(anchor, (n + 1) * step)
    whole_start = _midnight(first, timezone)
    return Span(max(whole_start, started), _midnight(after, timezone), whole_start, timezone)


def _day(at: datetime, timezone: str) -> date:
    return at.astimezone(ZoneInfo(timezone)).date()


def _midnight(day: date, timezone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def lines(
    metric: Mapping[str, Any], charge: Mapping[str, Any], sent: Sequence[Sent], span: Span
) -> dict[tuple[str | None, ...], Line]:
    """(cloud of the filter or None, region of the group if any) -> what it comes to, at the charge's one price."""
    found: dict[tuple[str | None, ...], list[Sent]] = {}
    for each in sorted(sent, key=lambda one: (one.at, one.order)):
        is_early = each.at < span.start and not metric.get("recurring")
        if each.code != metric["code"] or is_early or each.at >= span.end:
            continue
        if metric["aggregation_type"] not in {"count_agg", "unique_count_agg"} and _number(each) is None:
            continue
        cloud = each.properties.get("cloud")
        place: tuple[str | None, ...] = (cloud if cloud in charge["clouds"] else None,)
        if charge["grouped"]:
            place = (*place, each.properties.get("region") or None)
        found.setdefault(place, []).append(each)
    for cloud in (*charge["clouds"], None):
        if not any(place[0] == cloud for place in found):
            found[(cloud, None) if charge["grouped"] else (cloud,)] = []
    price = Fraction(charge["amount"])
    return {place: _line(metric, charge, own, span, price) for place, own in found.items()}


def _line(
    metric: Mapping[str, Any], charge: Mapping[str, Any], own: Sequence[Sent], span: Span, price: Fraction
) -> Line:
    units, events, level = _aggregated(metric, own, span)
    priced = _prorated(metric, own, span) if charge["prorated"] else units
    if units < 0 or priced < 0:
        is_weighted = metric["aggregation_type"] == "weighted_sum_agg"
        return Fraction(0), events, 0, level if is_weighted else Fraction(0)
    return units, events, _rounded(priced * price * 100), level


def _aggregated(metric: Mapping[str, Any], own: Sequence[Sent], span: Span) -> tuple[Fraction, int, Fraction]:
    values = [value for each in own if (value := _number(each)) is not None]
    match metric["aggregation_type"]:
        case "count_agg":
            units, events = Fraction(len(own)), len(own)
        case "sum_agg":
            units, events = sum(values, Fraction(0)), len(values)
        case "max_agg":
            units, events = max(values, default=Fraction(0)), len(values)
        case "latest_agg":
            units, events = max([*values[-1:], Fraction(0)]), len(values)
        case "unique_count_agg":
            units = Fraction(sum(1 for stays in _stays(own).values() if stays and stays[-1][1] is None))
            events = int(units)
        case _:
            return _weighted(own, span)
    return units, events, units


def _weighted(own: Sequence[Sent], span: Span) -> tuple[Fraction, int, Fraction]:
    area, level = Fraction(0), Fraction(0)
    for each in own:
        value = _number(each) or Fraction(0)
        area += value * Fraction((span.end - max(each.at, span.start)) // TICK)
        level += value
    units = Fraction(_rounded(area / ((span.end - span.whole_start) // TICK) * 10**16), 10**16)
    return units, sum(each.at >= span.start for each in own), level


def _stays(own: Sequence[Sent]) -> dict[Any, list[tuple[datetime, datetime | None]]]:
    """Distinct value -> from when to when it was there."""
    found: dict[Any, list[tuple[datetime, datetime | None]]] = {}
    for each in own:
        stays = found.setdefault(each.properties.get("v"), [])
        is_there = bool(stays) and stays[-1][1] is None
        match each.properties.get("operation_type", "add"):
            case "add" if not is_there:
                stays.append((each.at, None))
            case "remove" if is_there:
                stays[-1] = (stays[-1][0], each.at)
    return found


def _prorated(metric: Mapping[str, Any], own: Sequence[Sent], span: Span) -> Fraction:
    """Days on which each unit stood; for distinct values as sets of days, in which none counts twice."""
    days = Fraction(span.days_from(span.whole_start))
    if metric["aggregation_type"] == "sum_agg":
        total = sum(
            ((_number(each) or 0) * span.days_from(max(each.at, span.start)) for each in own), Fraction(0)
        )
    else:
        total = Fraction(0)
        for stays in _stays(own).values():
            there: set[date] = set()
            for came, went in stays:
                if went is None or went >= span.start:
                    last = _day(span.end - TICK if went is None else went, span.timezone)
                    first = _day(max(came, span.start), span.timezone)
                    there |= {first + timedelta(days=n) for n in range((last - first).days + 1)}
            total += len(there)
    return Fraction(-((-total / days * 100_000) // 1), 100_000)


def _number(each: Sent) -> Fraction | None:
    text = each.properties.get("v")
    if isinstance(text, int) and not isinstance(text, bool):
        return Fraction(text)
    is_number = isinstance(text, str) and re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII)
    return Fraction(str(text)) if is_number else None


def _rounded(number: Fraction) -> int:
    """Half away from zero."""
    whole = (abs(number) * 2 + 1) // 2
    return int(whole if number >= 0 else -whole)
