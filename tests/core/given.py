"""What the property tests draw from."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from permille.core.metering.usage import EMPTY, Partial, merge
from permille.core.period import BillingTime, Interval, Period, seconds_of
from permille.core.rating.proration import Proration, RatedPeriod, proration_by

# Half-hour offsets, both hemispheres, the date line, clocks that change at midnight (Cairo, Asuncion, Beirut,
# Havana, Azores) and a day that never was (Apia, 30 December 2011).
TIMEZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/St_Johns",
    "America/Asuncion",
    "America/Havana",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
)

timezones = st.sampled_from(TIMEZONES)
intervals = st.sampled_from(list(Interval))
billing_times = st.sampled_from(list(BillingTime))
instants = st.datetimes(
    min_value=datetime(1999, 1, 1),
    max_value=datetime(2040, 1, 1),
    timezones=st.just(UTC),
)


def decimals(least: int | str, most: int | str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(least, most, allow_nan=False, allow_infinity=False, places=places)


def ts(*parts: Any) -> datetime:
    return datetime(*parts).replace(tzinfo=UTC)


def day(text: str) -> datetime:
    """A bare date is its midnight in UTC, a date followed by $ its last second; anything longer an instant."""
    if text.endswith("$"):
        return datetime.fromisoformat(text[:-1] + "T23:59:59+00:00")
    return datetime.fromisoformat(text if "T" in text else text + "T00:00:00+00:00")


def merge_all(partials: Iterable[Partial]) -> Partial:
    """The Partial of all their events."""
    return reduce(merge, partials, EMPTY)


def in_period(period: Period, *, seconds: int | None = None, by: Proration | None = None) -> RatedPeriod:
    """A period that is a whole billing period, unless the seconds or the days of another one are given."""
    return RatedPeriod(period, seconds or seconds_of(period), by or proration_by(period, "UTC"))
