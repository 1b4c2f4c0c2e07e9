"""What an event's properties and timestamp mean.

Source: semantics-metering.md sections 1.3 and 2.3, PostgreSQL semantics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from permille.core.bounds import DIGITS_MAX, EARLIEST, LATEST
from permille.core.instants import EPOCH

LOOKED_AT_AFTER = timedelta(minutes=65)
"""When an hour of events is looked through, from its beginning: five minutes after it, when nothing of it is on its way any more."""


class EventState(StrEnum):
    """What has become of an event that was taken."""

    COUNTS = "counts"
    UNPRICED = "unpriced"
    """It counts, and nobody has decided what it costs (core.unlisted)."""
    TOO_LATE = "too_late"
    """It counts, and came after the invoice of its period was final, which it is not on (core.late_usage)."""
    IGNORED = "ignored"
    """It counts as nothing, or nothing bills it."""


_NUMERIC = re.compile(rf"-?[0-9]{{1,{DIGITS_MAX}}}(?:\.[0-9]{{1,{DIGITS_MAX}}})?")
_TIMESTAMP = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,60}))?")
_DATE_AND_TIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<minute>[0-9]{2}:[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,60}))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])(?::?(?P<minutes>[0-5][0-9]))?)?"
)
_TOO_LARGE = 10**DIGITS_MAX
_FIRST = (EARLIEST - EPOCH) // timedelta(microseconds=1)
_END = (LATEST - EPOCH) // timedelta(microseconds=1)
_SECONDS_MAX = 10**12


def numeric_value(json_value: Any) -> Decimal | None:
    """The number that a metric takes from a property, None when it is none and the event does not count.

    A JSON number, or text of digits with an optional minus and fraction: no plus, no exponent, no blanks.
    Numbers beyond DIGITS_MAX are none: they are refused before they are stored.
    """
    if isinstance(json_value, str):
        return Decimal(json_value) if _NUMERIC.fullmatch(json_value) else None
    if isinstance(json_value, bool):
        return None
    if isinstance(json_value, int):
        return Decimal(json_value) if -_TOO_LARGE < json_value < _TOO_LARGE else None
    if isinstance(json_value, Decimal):
        return json_value if _is_bounded(json_value) else None
    return None


def _is_bounded(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -DIGITS_MAX and number.adjusted() < DIGITS_MAX


def property_text(json_value: Any) -> str | None:
    """The text of a property by which filters and groups compare: what PostgreSQL's ->> gives of a jsonb.

    Text as it is, numbers in plain notation with their own decimals, true and false; None for null.
    """
    if isinstance(json_value, str):
        return json_value
    if json_value is None:
        return None
    return _jsonb_text(json_value)


def property_texts(properties: Mapping[str, Any]) -> dict[str, str | None]:
    """The text of each property."""
    return {name: value if type(value) is str else property_text(value) for name, value in properties.items()}


def is_add(operation: str | None) -> bool | None:
    """Whether an operation_type adds a distinct value, as without one, or removes it; None when it is neither."""
    return {None: True, "add": True, "remove": False}.get(operation)


def _jsonb_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return _number_text(value)
    if isinstance(value, dict):
        # jsonb keeps keys by length, then by bytes
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{_quoted(key)}: {_jsonb_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_jsonb_text, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _number_text(number: Decimal) -> str:
    if not _is_bounded(number):
        return str(number)
    return format(number or abs(number), "f")


def timestamp_microseconds(value: Any) -> int | None:
    """The instant of a timestamp in microseconds since 1970; what is finer is cut off.

    A timestamp is a number of seconds, its text, or an ISO 8601 date and time; without an offset that is in UTC.
    None for anything else, a date alone among it, and outside the years 1900 to 2199.
    """
    microseconds = value * 1_000_000 if type(value) is int else _microseconds(value)
    return microseconds if microseconds is not None and _FIRST <= microseconds < _END else None


def _microseconds(value: Any) -> int | None:
    if isinstance(value, Decimal):
        if not (value.is_finite() and -_SECONDS_MAX < value < _SECONDS_MAX):
            return None
        # An exponent can make a short number very long to write out.
        value = format(value, "f")[:60] if value and value.adjusted() > -DIGITS_MAX else "0"
    if not isinstance(value, str):
        return None
    return _of_short_text(value) if len(value) <= _SHORT else _of_text(value)


def _of_text(value: str) -> int | None:
    found = _TIMESTAMP.fullmatch(value)
    if not found:
        return _of_date_and_time(value)
    sign, seconds, fraction = found.groups()
    amount = int(seconds) * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))
    return -amount if sign else amount


_SHORT = 40
_of_short_text = lru_cache(maxsize=64)(_of_text)
"""Who checks a timestamp asks for it again."""


def _of_date_and_time(text: str) -> int | None:
    found = _DATE_AND_TIME.fullmatch(text)
    if not found:
        return None
    fraction = (found["fraction"] or "")[:6].ljust(6, "0")
    offset = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
    try:
        at = datetime.fromisoformat(f"{found['date']}T{found['minute']}:{found['second'] or '00'}+00:00")
    except ValueError:
        return None
    distance = at - EPOCH + (offset if found["sign"] == "-" else -offset)
    return distance // timedelta(seconds=1) * 1_000_000 + int(fraction)


class Arrival(NamedTuple):
    """How far events had come in when usage was read: surely those up to the first seq, and none after the second."""

    counted_to: int
    seen_to: int


class Series(NamedTuple):
    """Events of a subscription and a code with the same values of the dimensions."""

    id: int
    organization_id: UUID
    external_subscription_id: str | None
    code: str
    dimensions: Mapping[str, Any]


class PlacedEvent(NamedTuple):
    """An event with its place in the order of arrival, and its series."""

    identity: UUID
    transaction_id: str
    at: datetime
    seq: int
    has_value: bool
    series: Series


class Arrived(NamedTuple):
    """Events of a subscription and a code that came in together, by one of their times: the first, or each."""

    organization_id: UUID
    external_subscription_id: str
    code: str
    at: datetime
    seq: int
    """The last of them in the order of arrival."""
