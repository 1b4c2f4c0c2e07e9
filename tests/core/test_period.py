"""Boundaries against a walk through the days with Lago's rule for billing days, and against worked examples."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, strategies as st

from permille.core.bounds import EARLIEST, LATEST
from permille.core.period import (
    INSTANT,
    BillingTime,
    Interval,
    Period,
    charges_interval,
    day_diff,
    days_in,
    local_date,
    midnight,
    next_boundary,
    period_containing,
    previous_period,
    seconds_of,
    start_of_day,
)
from tests.core.given import TIMEZONES, billing_times, day, instants, intervals, timezones, ts

EVERY = {Interval.MONTHLY: 1, Interval.QUARTERLY: 3, Interval.SEMIANNUAL: 6, Interval.YEARLY: 12}


def is_billing_day(on: date, interval: Interval, billing_time: BillingTime, anchor: date) -> bool:
    """semantics-billing.md 3.10, read literally."""
    if interval is Interval.WEEKLY:
        wanted = 0 if billing_time is BillingTime.CALENDAR else anchor.weekday()
        return on.weekday() == wanted
    month, first = (1, 1) if billing_time is BillingTime.CALENDAR else (anchor.month, anchor.day)
    last = monthrange(on.year, on.month)[1]
    on_the_day = on.day == first or (on.day == last and first > last)
    return on_the_day and (on.month - month) % EVERY[interval] == 0


def walk(on: date, step: int, interval: Interval, billing_time: BillingTime, anchor: date) -> date:
    while not is_billing_day(on, interval, billing_time, anchor):
        on += timedelta(days=step)
    return on


@given(instants, intervals, billing_times, instants, timezones)
def test_a_period_runs_from_billing_day_to_billing_day(
    at: datetime, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> None:
    zone = ZoneInfo(timezone)
    today, origin = at.astimezone(zone).date(), anchor.astimezone(zone).date()
    first = walk(today, -1, interval, billing_time, origin)
    following = walk(today + timedelta(days=1), 1, interval, billing_time, origin)
    period = period_containing(
        at, interval=interval, billing_time=billing_time, anchor=anchor, timezone=timezone
    )
    assert period == Period(midnight(first, timezone), midnight(following, timezone))


accepted = st.datetimes(
    min_value=EARLIEST.replace(tzinfo=None),
    max_value=(LATEST - INSTANT).replace(tzinfo=None),
    timezones=st.just(UTC),
)


@given(accepted, intervals, billing_times, accepted, st.sampled_from(sorted(available_timezones())))
@example(LATEST - INSTANT, Interval.YEARLY, BillingTime.ANNIVERSARY, EARLIEST, "Pacific/Kiritimati")
@example(EARLIEST, Interval.YEARLY, BillingTime.ANNIVERSARY, LATEST - INSTANT, "Etc/GMT+12")
def test_every_instant_that_is_accepted_has_a_period(
    at: datetime, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> None:
    rule: dict[str, Any] = {
        "interval": interval,
        "billing_time": billing_time,
        "anchor": anchor,
        "timezone": timezone,
    }
    assert at in period_containing(at, **rule)
    assert previous_period(at, **rule).to <= at < next_boundary(at, **rule)
    assert start_of_day(at, timezone) <= at


@given(instants, intervals, billing_times, instants, timezones)
def test_periods_tile_the_line(
    at: datetime, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> None:
    rule: dict[str, Any] = {
        "interval": interval,
        "billing_time": billing_time,
        "anchor": anchor,
        "timezone": timezone,
    }
    period = period_containing(at, **rule)
    assert at in period
    assert period.from_ in period
    assert period.to not in period
    assert period_containing(period.from_, **rule) == period
    assert period_containing(period.to - INSTANT, **rule) == period
    following = period_containing(period.to, **rule)
    assert following.from_ == period.to
    assert previous_period(period.to, **rule) == period
    assert next_boundary(at, **rule) == period.to
    assert next_boundary(period.from_ - INSTANT, **rule) == period.from_


@given(instants, intervals, billing_times, instants, timezones)
def test_boundaries_strictly_increase(
    at: datetime, interval: Interval, billing_time: BillingTime, anchor: datetime, timezone: str
) -> None:
    rule: dict[str, Any] = {
        "interval": interval,
        "billing_time": billing_time,
        "anchor": anchor,
        "timezone": timezone,
    }
    boundaries = [at]
    for _ in range(15):
        boundaries.append(next_boundary(boundaries[-1], **rule))
    assert all(earlier < later for earlier, later in pairwise(boundaries))
    dates = [local_date(boundary, timezone) for boundary in boundaries[1:]]
    assert len(set(dates)) == len(dates)


@given(instants, timezones, st.integers(1, 400))
def test_daylight_saving_changes_no_number_of_days(at: datetime, timezone: str, days: int) -> None:
    first = local_date(at, timezone)
    # Samoa had no 30 December 2011
    lost = timezone == "Pacific/Apia" and first <= date(2011, 12, 30) < first + timedelta(days=days)
    begin, end = midnight(first, timezone), midnight(first + timedelta(days=days), timezone)
    assert days_in(Period(begin, end), timezone) == days or lost


@given(instants, timezones)
def test_a_day_starts_at_its_first_instant(at: datetime, timezone: str) -> None:
    begin = start_of_day(at, timezone)
    assert begin <= at
    assert local_date(begin, timezone) == local_date(at, timezone)
    assert local_date(begin - INSTANT, timezone) < local_date(at, timezone)


def day_before(at: datetime, timezone: str) -> date:
    return local_date(at, timezone) - timedelta(days=1)


@example(
    at=datetime(2011, 9, 15, tzinfo=UTC),
    interval=Interval.SEMIANNUAL,
    billing_time=BillingTime.ANNIVERSARY,
    anchor=datetime(2000, 9, 15, tzinfo=UTC),
    timezone="Pacific/Apia",
    offsets=[107],
)
@given(
    at=instants,
    interval=intervals,
    billing_time=billing_times,
    anchor=instants,
    timezone=timezones,
    offsets=st.lists(st.integers(0, 366), max_size=5),
)
def test_the_parts_of_a_period_have_days_that_sum_to_its_own(
    *,
    at: datetime,
    interval: Interval,
    billing_time: BillingTime,
    anchor: datetime,
    timezone: str,
    offsets: list[int],
) -> None:
    whole = period_containing(
        at, interval=interval, billing_time=billing_time, anchor=anchor, timezone=timezone
    )
    first = local_date(whole.from_, timezone)
    cuts = {midnight(first + timedelta(days=n), timezone) for n in offsets}
    bounds = sorted({whole.from_, whole.to} | {cut for cut in cuts if cut in whole})
    parts = [days_in(Period(a, b), timezone) for a, b in pairwise(bounds)]
    # A date that a place left out (Samoa, 30 December 2011) is a day of a longer period, and of no part cut there.
    left_out = [
        cut for cut in bounds[1:-1] if day_before(cut, timezone) != local_date(cut - INSTANT, timezone)
    ]
    assert sum(parts) == days_in(whole, timezone) - len(left_out)
    assert all(days > 0 for days in parts)


def test_a_period_cannot_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="cannot end"):
        Period(ts(2024, 1, 2), ts(2024, 1, 1))


def test_the_seconds_of_a_period_are_whole() -> None:
    assert timedelta(microseconds=1) == INSTANT
    day = Period(ts(2024, 10, 26, 22), ts(2024, 10, 27, 23))  # Paris puts its clocks back
    assert seconds_of(day) == 25 * 3600
    assert seconds_of(Period(day.from_, day.to - INSTANT)) == 25 * 3600 - 1


def test_an_hour_that_comes_twice_is_one_day() -> None:
    """At 01:00 UTC Paris puts its clocks back from 03:00 to 02:00: by them an end can be before its start."""
    back = ts(2024, 10, 27, 1)
    half = timedelta(minutes=30)
    assert day_diff(back, back, "Europe/Paris") == 0
    assert day_diff(back - half / 2, back + half, "Europe/Paris") == 1
    assert day_diff(back - half, back + half / 2, "Europe/Paris") == 1
    assert day_diff(back + half, back - half, "Europe/Paris") == 0


def test_an_empty_period_contains_nothing() -> None:
    at = ts(2024, 1, 1)
    assert at not in Period(at, at)
    assert day_diff(at, at, "UTC") == 0


@pytest.mark.parametrize(
    ("interval", "monthly", "expected"),
    [
        (Interval.YEARLY, True, Interval.MONTHLY),
        (Interval.SEMIANNUAL, True, Interval.MONTHLY),
        (Interval.YEARLY, False, Interval.YEARLY),
        (Interval.YEARLY, None, Interval.YEARLY),
        (Interval.QUARTERLY, True, Interval.QUARTERLY),
        (Interval.WEEKLY, True, Interval.WEEKLY),
    ],
)
def test_only_long_plans_bill_usage_by_the_month(
    interval: Interval, monthly: bool | None, expected: Interval
) -> None:
    assert charges_interval(interval, monthly) is expected


def test_lagos_worked_example_of_counting_days() -> None:
    """March 2024 in Paris, with an hour less: 31 days (semantics-billing.md 3.11)."""
    march = Period(ts(2024, 2, 29, 23), ts(2024, 3, 31, 22))
    assert days_in(march, "Europe/Paris") == 31


@pytest.mark.parametrize(
    ("from_", "last", "days"),
    [
        # the last instant that counts, as Lago has it
        (ts(2023, 9, 4, 22), ts(2023, 9, 6, 0, 15), 2),
        (ts(2023, 9, 4, 22), ts(2023, 9, 5, 22), 2),
        (ts(2023, 9, 4, 22), ts(2023, 9, 5, 21, 59, 59), 1),
        (ts(2023, 9, 4, 22), ts(2023, 9, 4, 22), 1),
        # a trial that ended in the afternoon: whole days, and one more that has only begun
        (ts(2023, 9, 1, 15), ts(2023, 9, 8, 15), 7),
        (ts(2023, 9, 1, 15), ts(2023, 9, 8, 15) + INSTANT, 8),
        (ts(2023, 10, 25, 15), ts(2023, 11, 1, 16), 7),
    ],
)
def test_the_day_of_the_last_instant_counts(from_: datetime, last: datetime, days: int) -> None:
    assert day_diff(from_, last + INSTANT, "Europe/Paris") == days


@pytest.mark.parametrize("timezone", TIMEZONES)
def test_every_day_of_thirty_years_is_one_day(timezone: str) -> None:
    on = date(2000, 1, 1)
    while on < date(2030, 1, 1):
        following = on + timedelta(days=1)
        length = days_in(Period(midnight(on, timezone), midnight(following, timezone)), timezone)
        assert length == 1 or (timezone == "Pacific/Apia" and on == date(2011, 12, 30) and length == 0), on
        on = following


ANNIVERSARY, CALENDAR = BillingTime.ANNIVERSARY, BillingTime.CALENDAR
WORKED = [
    # semantics-billing.md 3.12 and the conformance scenarios: interval, billing time, timezone, anchor, at, first, last
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 31, 1), ts(2024, 2, 28), "2024-01-31", "2024-02-28$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 31, 1), ts(2024, 3, 15), "2024-02-29", "2024-03-30$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 31, 1), ts(2024, 4, 29), "2024-03-31", "2024-04-29$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 30), ts(2024, 1, 30), "2024-01-30", "2024-02-28$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 30), ts(2024, 2, 29), "2024-02-29", "2024-03-29$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 30), ts(2024, 3, 30), "2024-03-30", "2024-04-29$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 30), ts(2024, 4, 30), "2024-04-30", "2024-05-29$"),
    ("yearly", ANNIVERSARY, "UTC", ts(2024, 1, 31, 1), ts(2024, 7, 1), "2024-01-31", "2025-01-30$"),
    ("yearly", ANNIVERSARY, "UTC", ts(2024, 2, 29), ts(2025, 2, 20), "2024-02-29", "2025-02-27$"),
    ("yearly", ANNIVERSARY, "UTC", ts(2024, 2, 29), ts(2025, 3, 10), "2025-02-28", "2026-02-27$"),
    ("semiannual", ANNIVERSARY, "UTC", ts(2024, 1, 31), ts(2024, 7, 1), "2024-01-31", "2024-07-30$"),
    ("quarterly", ANNIVERSARY, "UTC", ts(2024, 1, 31), ts(2024, 4, 1), "2024-01-31", "2024-04-29$"),
    ("quarterly", ANNIVERSARY, "UTC", ts(2024, 1, 31), ts(2024, 7, 1), "2024-04-30", "2024-07-30$"),
    ("quarterly", ANNIVERSARY, "UTC", ts(2022, 1, 31), ts(2022, 8, 15), "2022-07-31", "2022-10-30$"),
    ("quarterly", ANNIVERSARY, "UTC", ts(2021, 4, 30), ts(2021, 8, 15), "2021-07-30", "2021-10-29$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2024, 1, 15), ts(2024, 2, 20), "2024-02-15", "2024-03-14$"),
    # the current period of the conformance scenarios
    ("weekly", CALENDAR, "UTC", ts(2021, 2, 2), ts(2022, 3, 8), "2022-03-07", "2022-03-13$"),
    (
        "weekly",
        CALENDAR,
        "America/New_York",
        ts(2021, 2, 2),
        ts(2022, 3, 7),
        "2022-02-28T05:00:00Z",
        "2022-03-07T04:59:59Z",
    ),
    ("weekly", ANNIVERSARY, "UTC", ts(2021, 2, 2), ts(2022, 3, 8, 20), "2022-03-08", "2022-03-14$"),
    (
        "monthly",
        CALENDAR,
        "America/New_York",
        ts(2021, 2, 2),
        ts(2022, 3, 7),
        "2022-03-01T05:00:00Z",
        "2022-04-01T03:59:59Z",
    ),
    ("monthly", ANNIVERSARY, "UTC", ts(2021, 2, 2), ts(2022, 3, 7), "2022-03-02", "2022-04-01$"),
    ("monthly", ANNIVERSARY, "UTC", ts(2021, 2, 2), ts(2021, 12, 7), "2021-12-02", "2022-01-01$"),
    ("quarterly", ANNIVERSARY, "UTC", ts(2023, 4, 6), ts(2023, 8, 8), "2023-07-06", "2023-10-05$"),
    (
        "quarterly",
        CALENDAR,
        "America/New_York",
        ts(2021, 2, 2),
        ts(2022, 7, 2),
        "2022-07-01T04:00:00Z",
        "2022-10-01T03:59:59Z",
    ),
    ("semiannual", ANNIVERSARY, "UTC", ts(2023, 1, 6), ts(2023, 8, 8), "2023-07-06", "2024-01-05$"),
    ("yearly", ANNIVERSARY, "UTC", ts(2023, 3, 29), ts(2024, 3, 15), "2023-03-29", "2024-03-28$"),
    ("yearly", CALENDAR, "UTC", ts(2021, 2, 2), ts(2022, 3, 7), "2022-01-01", "2022-12-31$"),
    ("monthly", CALENDAR, "UTC", ts(2021, 2, 2), ts(2022, 3, 7), "2022-03-01", "2022-03-31$"),
    ("yearly", ANNIVERSARY, "UTC", ts(2021, 2, 2), ts(2022, 3, 7), "2022-02-02", "2023-02-01$"),
    (
        "monthly",
        CALENDAR,
        "America/Los_Angeles",
        ts(2024, 2, 10),
        ts(2024, 3, 20),
        "2024-03-01T08:00:00Z",
        "2024-04-01T06:59:59Z",
    ),
]


@pytest.mark.parametrize(("interval", "billing_time", "timezone", "anchor", "at", "first", "last"), WORKED)
def test_worked_periods(
    *,
    interval: str,
    billing_time: BillingTime,
    timezone: str,
    anchor: datetime,
    at: datetime,
    first: str,
    last: str,
) -> None:
    period = period_containing(
        at, interval=Interval(interval), billing_time=billing_time, anchor=anchor, timezone=timezone
    )
    assert period == Period(day(first), day(last) + timedelta(seconds=1))


@pytest.mark.parametrize("anchor_day", [29, 30, 31])
def test_two_years_from_the_end_of_a_month_have_no_gap_and_no_drift(anchor_day: int) -> None:
    anchor = datetime(2022, 12, anchor_day, 9, tzinfo=UTC)
    at = anchor
    for n in range(26):
        period = period_containing(
            at, interval=Interval.MONTHLY, billing_time=ANNIVERSARY, anchor=anchor, timezone="UTC"
        )
        first = local_date(period.from_, "UTC")
        assert first.day == min(anchor_day, monthrange(first.year, first.month)[1])
        assert first.month == (11 + n) % 12 + 1
        at = period.to
