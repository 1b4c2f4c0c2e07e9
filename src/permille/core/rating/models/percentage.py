"""percentage: a rate of the units and a fixed amount per event, with free events and free units.

With a least or greatest price of an event the events are priced one by one, and the two allowances add up
instead of limiting each other (semantics-metering.md section 5.7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from itertools import accumulate
from typing import Any

from permille.core.metering.aggregations import LATEST
from permille.core.money import ZERO, decimal_text
from permille.core.rating.models.price import (
    Model,
    Price,
    Pricer,
    Quantity,
    codes,
    is_amount,
    is_whole,
    number,
    per_unit,
)
from permille.core.record import Record

KEYS = (
    "rate",
    "fixed_amount",
    "free_units_per_events",
    "free_units_per_total_aggregation",
    "per_transaction_min_amount",
    "per_transaction_max_amount",
)
DEFAULTS: dict[str, Any] = {"rate": "0"}


class PercentageTerms(Record, kw_only=True):
    """The properties, read."""

    rate: Decimal
    fixed_amount: Decimal
    free_events: int
    free_amount: Decimal
    least: Decimal | None
    greatest: Decimal | None

    @property
    def bounds_events(self) -> bool:
        """Whether the price of a single event is bounded."""
        return self.least is not None or self.greatest is not None


def read_terms(properties: Mapping[str, Any]) -> PercentageTerms:
    """The terms of valid properties."""
    least, greatest = (properties.get(f"per_transaction_{end}_amount") for end in ("min", "max"))
    return PercentageTerms(
        rate=number(properties.get("rate")),
        fixed_amount=number(properties.get("fixed_amount")),
        free_events=int(number(properties.get("free_units_per_events"))),
        free_amount=number(properties.get("free_units_per_total_aggregation")),
        least=None if least is None else number(least),
        greatest=None if greatest is None else number(greatest),
    )


def needs_event_values(properties: Mapping[str, Any]) -> bool:
    """Whether the price depends on single events and not only on their sum and count."""
    terms = read_terms(properties)
    return bool(terms.bounds_events or terms.free_events or terms.free_amount)


def running_totals(values: Iterable[Decimal], properties: Mapping[str, Any]) -> list[Decimal]:
    """The totals after each event of a sum that the free units look at (semantics-metering.md 2.6).

    The first free events, or up to the first total above the free units when only those are given.
    """
    terms = read_terms(properties)
    totals: list[Decimal] = []
    for total in accumulate(values):
        if terms.free_events and len(totals) == terms.free_events:
            break
        totals.append(total)
        if not terms.free_events and total > terms.free_amount:
            break
    return totals if terms.free_events or terms.free_amount else []


def counted_totals(units: int, properties: Mapping[str, Any]) -> range:
    """The totals after each event of a count, of which there may be millions."""
    terms = read_terms(properties)
    return range(1, units + 1 if terms.free_events or terms.free_amount else 1)


def allowance(properties: Mapping[str, Any]) -> Callable[[int, Decimal], bool]:
    """Whether the price of an event after so many with that sum may still depend on them."""
    terms = read_terms(properties)

    def is_left(count: int, total: Decimal) -> bool:
        return count < terms.free_events or (0 < terms.free_amount >= total)

    return is_left


def price_alone(units: Decimal, properties: Mapping[str, Any]) -> Price:
    """One event of so many units, within the bounds of an event's price and without any allowance."""
    terms = read_terms(properties)
    amount = _bounded(terms, units * terms.rate / 100 + terms.fixed_amount)
    return Price(amount, per_unit(amount, units), {})


def pricer(properties: Mapping[str, Any]) -> Pricer:
    """The model with its terms."""
    terms = read_terms(properties)

    def price(quantity: Quantity) -> Price:
        return _price(terms, quantity)

    return price


def _price(terms: PercentageTerms, quantity: Quantity) -> Price:
    units, events_count = quantity.units, quantity.events_count
    free_units = _free_units(terms, quantity.running_totals)
    free_events = _free_events(terms, quantity.running_totals)
    rate_part = ZERO if free_units > units else (units - free_units) * terms.rate / 100
    paid_events = max(events_count - free_events, 0) if units else 0
    fixed_part = paid_events * terms.fixed_amount
    amount = rate_part + fixed_part
    adjustment = ZERO
    if terms.bounds_events:
        if quantity.counted_events is None:
            bounded = sum(_event_amounts(terms, quantity.event_values), ZERO)
        else:
            bounded = _counted_amount(terms, quantity.counted_events)
        adjustment, amount = bounded - amount, bounded
    details = {
        "units": decimal_text(units),
        "free_units": decimal_text(free_units),
        "free_events": free_events,
        "paid_units": decimal_text(max(units - free_units, ZERO)),
        "rate": decimal_text(terms.rate),
        "per_unit_total_amount": decimal_text(rate_part),
        "paid_events": paid_events,
        "fixed_fee_unit_amount": decimal_text(terms.fixed_amount if paid_events else ZERO),
        "fixed_fee_total_amount": decimal_text(fixed_part),
        "min_max_adjustment_total_amount": decimal_text(adjustment),
    }
    return Price(amount, per_unit(amount, units), details)


def _free_units(terms: PercentageTerms, totals: Sequence[Decimal] | range) -> Decimal:
    last = Decimal(totals[-1]) if totals else ZERO
    if not last:
        return ZERO
    if 0 < terms.free_events < len(totals):
        return Decimal(totals[terms.free_events - 1])
    return min(last, terms.free_amount) if terms.free_amount else last


def _free_events(terms: PercentageTerms, totals: Sequence[Decimal] | range) -> int:
    """The smaller allowance that is one; an event that just uses up the free units is not free."""
    if isinstance(totals, range):
        within = min(_below(terms.free_amount), len(totals))
    else:
        within = sum(1 for total in totals if total < terms.free_amount) if terms.free_amount else 0
    return min((count for count in (terms.free_events, within) if count), default=0)


def _event_amounts(terms: PercentageTerms, values: Sequence[Decimal]) -> Iterable[Decimal]:
    """Each event's price: free while either allowance lasts, else the bounded price of what is above it."""
    events_left, amount_left = terms.free_events, terms.free_amount
    for value in values:
        paid_value = value
        if events_left > 0 or amount_left > 0:
            events_left -= 1
            if not amount_left:
                continue
            if amount_left > value:
                amount_left -= value
                continue
            paid_value -= amount_left
            events_left, amount_left = 0, ZERO
        yield _bounded(terms, paid_value * terms.rate / 100 + terms.fixed_amount)


def _below(amount: Decimal) -> int:
    """How many of 1, 2, 3 and so on are below an amount."""
    return max(int(amount.to_integral_value(ROUND_CEILING)) - 1, 0)


def _counted_amount(terms: PercentageTerms, count: int) -> Decimal:
    """The same of events that bring one unit each: some are free, one may be in part, the rest cost all the same."""
    free = _below(terms.free_amount) if terms.free_amount else terms.free_events
    if count <= free:
        return ZERO
    whole = first = _bounded(terms, terms.rate / 100 + terms.fixed_amount)
    if terms.free_amount:
        paid_value = 1 - (terms.free_amount - free)
        first = _bounded(terms, paid_value * terms.rate / 100 + terms.fixed_amount)
    return first + (count - free - 1) * whole


def _bounded(terms: PercentageTerms, amount: Decimal) -> Decimal:
    if terms.least is not None and amount < terms.least:
        return terms.least
    return terms.greatest if terms.greatest is not None and amount > terms.greatest else amount


def is_free(properties: Mapping[str, Any]) -> bool:
    """Whether no usage costs anything."""
    terms = read_terms(properties)
    return terms.greatest == 0 or not (terms.rate or terms.fixed_amount or terms.least)


def errors(properties: Mapping[str, Any]) -> list[str]:
    """Lago's codes for properties that cannot be; all but the rate may be left out or null."""

    def optional(key: str) -> bool:
        return properties.get(key) is None or is_amount(properties[key])

    least, greatest = (properties.get(f"per_transaction_{end}_amount") for end in ("min", "max"))
    both = is_amount(least) and is_amount(greatest)
    free_events = properties.get("free_units_per_events")
    return codes(
        [
            ("invalid_rate", is_amount(properties.get("rate"))),
            ("invalid_fixed_amount", optional("fixed_amount")),
            ("invalid_free_units_per_events", free_events is None or is_whole(free_events, least=1)),
            ("invalid_free_units_per_total_aggregation", optional("free_units_per_total_aggregation")),
            ("invalid_amount", optional("per_transaction_min_amount")),
            ("invalid_amount", optional("per_transaction_max_amount")),
            (
                "per_transaction_max_lower_than_per_transaction_min",
                not both or number(greatest) >= number(least),
            ),
        ]
    )


MODEL = Model(
    keys=KEYS,
    defaults=DEFAULTS,
    pricer=pricer,
    is_free=is_free,
    errors=errors,
    refuses=LATEST,
    details_in_advance=True,
    has_instant_price=True,
    reads_events=needs_event_values,
)
