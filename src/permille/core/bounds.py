"""What a value may be at most, by name: every length, number of digits and amount of work that a request may bring.

They hold for what is taken in. What was stored before a bound was there is read and billed as it is.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Instants from EARLIEST up to and without LATEST are accepted: each of them has a billing period in every timezone."""


def is_price_date(on: date) -> bool:
    """Whether a price may be said to hold from this date on."""
    return EARLIEST.date() <= on < LATEST.date()


DIGITS_MAX = 38
"""Digits that a number may have before its decimal point, and after it."""
NUMBER_TEXT_MAX = 1_000
"""Characters of a text that may still read as a number."""

NAME_MAX = 255
"""Characters of a code, an external id, the name of a property, and of the value of a dimension."""
PROPERTY_MAX = 65_536
"""Characters of an event's property, all that is nested in it included."""
PROPERTIES_MAX = 1_000
"""Properties of an event, nested ones included."""
PROPERTIES_DEPTH_MAX = 20
EVENT_MAX = 262_144
"""Characters of all properties of an event with their names."""

METRIC_VALUES_MAX = 20_000
"""Values of all filters of a metric."""
PLAN_PRICES_MAX = 10_000
"""Charges and filters of a plan together: it is read whole, wherever it is read."""
PLAN_PRICES_KEPT_MAX = 100_000
"""Those of earlier and later prices included."""
PAGE_CHILDREN_MAX = 100_000
"""What the objects of a page of a list have in them together: as much as one plan may have."""
PRICE_VERSIONS_MAX = 1_000
"""Versions of the price catalogue of an organization."""
PRICE_FILES_BYTES_MAX = 250_000_000
"""The files of these together, as they were written: those that are approved are kept in memory, ten times as large."""

EXPRESSION_LENGTH_MAX = 5_000
EXPRESSION_DEPTH_MAX = 60
EXPRESSION_ROUNDING_MAX = 100
"""Digits that an expression may round to."""
EXPRESSION_DIGITS_MAX = 1_000
"""Digits of what an expression has in between; what has more is rounded there."""
EXPRESSION_TEXT_MAX = 10_000
"""Characters of what `concat` makes."""
EXPRESSION_WORK_MAX = 200_000
"""Words of expressions that are evaluated for one request: those of each event's expression, added up."""
EXPRESSION_WORK_PER_EVENT = 50
"""However many events a request has, expressions of so many words are evaluated for each of them."""
EXPRESSION_WORK_AT_ONCE = 5_000
"""Words of expressions that are evaluated where events are taken in, without a thread of their own."""
