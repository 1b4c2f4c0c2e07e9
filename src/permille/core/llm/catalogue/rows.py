"""Rows of the catalogue: what a provider asks for a unit of a model, from one UTC date to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from permille.core.record import Record

STANDARD = "standard"
OFF_PEAK = "off_peak"
TEXT = "text"
NO_REGION = ""

CONTEXTS = (0, 32_000, 100_000, 128_000, 200_000, 256_000, 272_000, 512_000)
"""The sizes of a request's input from which on a provider may ask for another price."""


AMOUNT_MAX = 10**9
DECIMALS_MAX = 40


class UnreadablePricesError(ValueError):
    """A price file says something that cannot be read."""


class UnreadPrices(NamedTuple):
    """What a price file says that is not understood and left out, and of how many models."""

    what: str
    models_count: int
    example: str
    """One of the models."""


def unread_prices(found: Mapping[str, Sequence[str]]) -> tuple[UnreadPrices, ...]:
    """What is not understood of which models, in order."""
    return tuple(UnreadPrices(what, len(models), models[0]) for what, models in sorted(found.items()))


class Rate(NamedTuple):
    """An amount of US dollars for so many units: as price lists say it, so that no division loses a digit."""

    amount: Decimal
    per: int

    def of(self, quantity: Decimal) -> Decimal:
        """What a quantity costs. Call under money.exact()."""
        return self.amount * quantity / self.per


class Measure(NamedTuple):
    """What is counted: a metric, a type of it and its modality."""

    metric: str
    type: str
    modality: str = TEXT


class Conditions(NamedTuple):
    """What else a price depends on: the tier that served, the size of the request's input, the region."""

    tier: str = STANDARD
    context: int = 0
    region: str = NO_REGION


class PriceRow(Record):
    """A price of a model. `valid_from` None: always before; `valid_to` None: until further notice."""

    measure: Measure
    conditions: Conditions
    rate: Rate
    valid_from: date | None = None
    valid_to: date | None = None

    def is_valid(self, on: date) -> bool:
        """Whether it is the price on a UTC date."""
        return (self.valid_from is None or self.valid_from <= on) and (
            self.valid_to is None or on < self.valid_to
        )

    @property
    def text(self) -> str:
        """What it is the price of, without what is usual: `cached_input batch above 200,000`."""
        conditions = self.conditions
        words = (
            self.measure.type,
            self.measure.modality if self.measure.modality != TEXT else "",
            conditions.tier if conditions.tier != STANDARD else "",
            conditions.region,
            f"above {conditions.context:,}" if conditions.context else "",
        )
        return " ".join(filter(None, words))


def read_amount(value: Any) -> Decimal | None:
    """A price as a file says it; None for what is none, or is beyond what any price can be."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except (ArithmeticError, ValueError):
        return None
    if not amount.is_finite() or amount < 0 or amount > AMOUNT_MAX:
        return None
    exponent = amount.as_tuple().exponent
    return amount if isinstance(exponent, int) and abs(exponent) <= DECIMALS_MAX else None


def context_class(start: int) -> int:
    """The bound of CONTEXTS that a price list's own bound means: 199,999 is 200,000, and 524,288 is 512,000."""
    return min(CONTEXTS, key=lambda bound: abs(bound - start))


def in_order(rows: Iterable[PriceRow]) -> list[PriceRow]:
    """The rows by what they are the price of, then by date."""
    return sorted(
        rows, key=lambda each: (each.measure, each.conditions, each.valid_from or date.min, each.rate)
    )


def joined(rows: Iterable[PriceRow]) -> tuple[PriceRow, ...]:
    """The rows in order, one for each stretch of time in which a price stays the same."""
    found: list[PriceRow] = []
    for row in in_order(rows):
        last = found[-1] if found else None
        if (
            last is not None
            and (last.measure, last.conditions, last.rate) == (row.measure, row.conditions, row.rate)
            and last.valid_to is not None
            and last.valid_to == row.valid_from
        ):
            found[-1] = PriceRow(row.measure, row.conditions, row.rate, last.valid_from, row.valid_to)
        else:
            found.append(row)
    return tuple(found)
