"""What goes into a price model and what comes out; how the numbers of its properties are read and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from permille.core.bounds import DIGITS_MAX
from permille.core.metering.aggregations import Aggregation
from permille.core.metering.event import numeric_value
from permille.core.money import ZERO, exact
from permille.core.record import Record

_DIGITS = rf"[0-9]{{1,{DIGITS_MAX}}}"
_AMOUNT = re.compile(rf"\+?(?:{_DIGITS}(?:\.[0-9]{{0,{DIGITS_MAX}}})?|\.{_DIGITS})(?:[eE][+-]?[0-9]{{1,2}})?")
_AMOUNTS_END = Decimal(10) ** DIGITS_MAX


def _never(_properties: Mapping[str, Any]) -> bool:
    return False


_UNGROUPED: Mapping[str, str | None] = MappingProxyType({})


class Quantity(NamedTuple):
    """The usage of one bucket that is priced on its own."""

    units: Decimal
    events_count: int = 0
    precise_amount_cents: Decimal = ZERO
    """Sum of the events' own amounts, for the dynamic model."""
    subunits: int = 100
    full_units: Decimal | None = None
    """Units before proration; None when the charge is not prorated."""
    running_totals: Sequence[Decimal] | range = ()
    """Totals after each event, for the percentage model's free units; a range of events that are counted."""
    event_values: Sequence[Decimal] = ()
    """Values in the order of time, for the percentage model's bounds of an event's price."""
    counted_events: int | None = None
    """How many events there are instead, where each brings one unit."""
    custom_amount: Decimal = ZERO
    """What a custom aggregation has added up, in major units, for the custom model."""
    changes: Sequence[tuple[Decimal, Decimal]] = ()
    """In the order of time, for the graduated model of a prorated charge: each whole, and times its days."""
    days_in_period: int = 1
    """Number of days in the billing period that `changes` are weighted by."""
    group: Mapping[str, str | None] = _UNGROUPED
    """The pricing group, for the catalogue model."""

    @property
    def whole_units(self) -> Decimal:
        """The units that a unit amount is of."""
        return self.units if self.full_units is None else self.full_units


class Price(NamedTuple):
    """An amount and the amount of one unit, both in major units and unrounded, and how it came about."""

    amount: Decimal
    unit_amount: Decimal
    details: dict[str, Any]
    is_unpriced: bool = False
    """Whether nobody has decided what it costs."""
    is_held: bool = False
    """Whether an invoice waits until somebody has."""


Dimensions = Mapping[str, str | None]
Pricer = Callable[[Quantity], Price]
"""A price model with its properties read: pure, so it can be kept and used for any number of buckets."""


class Model(Record, kw_only=True):
    """A charge model: its properties, its price, and what it can be combined with (semantics-metering.md 5.1)."""

    keys: tuple[str, ...]
    """The properties that belong to it."""
    defaults: Mapping[str, Any]
    """The properties of a charge that is created without any."""
    pricer: Callable[[Mapping[str, Any]], Pricer]
    """Reads valid properties once."""
    is_free: Callable[[Mapping[str, Any]], bool]
    """Whether valid properties give every usage away."""
    errors: Callable[[Mapping[str, Any]], list[str]]
    """Lago's codes of all that is wrong with properties."""
    needs: Aggregation | None = None
    """The only aggregation that it prices."""
    refuses: Aggregation | None = None
    """An aggregation that it does not price."""
    in_advance: bool = True
    """Whether it prices single events."""
    prorated: bool = False
    prorated_in_advance: bool = False
    is_of_units: bool = False
    """Whether its price depends on the units alone."""
    is_linear: bool = False
    """Whether an amount is the units times a price that depends on the pricing group alone."""
    is_of_changes: bool = False
    """Whether prorated units have a price for each change of the level, not for the changes of a day together."""
    has_instant_price: bool = False
    """Whether it has a rate by which an event is priced alone."""
    details_in_advance: bool = False
    """Whether a fee of an event states the details of its price."""
    reads_events: Callable[[Mapping[str, Any]], bool] = _never
    """Whether the price depends on single events, with these properties."""
    priced_by: tuple[str, ...] = ()
    """The properties of events that its price depends on: usage is always split by them."""
    dated_by: str | None = None
    """The name under which usage is split by the dates of its prices too."""
    placed: Callable[[Mapping[str, Any]], Callable[[Dimensions], Dimensions]] | None = None
    """What usage is split by instead of its own dimensions, where these say more than the price depends on."""


def per_unit(amount: Decimal, units: Decimal) -> Decimal:
    """The amount of one unit, 0 when there is none."""
    return amount / units if units else ZERO


def is_average(
    *, units: Decimal, unit_amount: Decimal, amount: Decimal, details: Mapping[str, Any] | None
) -> bool:
    """Whether a fee's price of a unit is only what its units came to on average: there is none that they all have.

    `amount` is the precise one; `details` are those of tiers, packages and percentages.
    """
    with exact():
        return bool(details) or units * unit_amount != amount


def number(value: Any) -> Decimal:
    """A number of the properties, sent as text or as a JSON number; 0 for null."""
    return ZERO if value is None else Decimal(str(value))


def is_amount(value: Any) -> bool:
    """Whether it is text of a decimal that is not negative, below 10^DIGITS_MAX. JSON numbers are made texts before."""
    if not isinstance(value, str) or _AMOUNT.fullmatch(value) is None:
        return False
    return Decimal(value) < _AMOUNTS_END


_AMOUNTS = frozenset(
    (
        *("markup", "exchange_rate", "amount", "rate", "fixed_amount", "per_unit_amount", "flat_amount"),
        *("free_units_per_total_aggregation", "per_transaction_min_amount", "per_transaction_max_amount"),
    )
)
_WHOLES = frozenset(("package_size", "free_units", "free_units_per_events"))


def in_texts(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties, or a tier, with every amount that is a JSON number as the text of the same decimal.

    A whole number with a fraction of zeros becomes whole. What can't be one is left as it is, to be refused.
    """
    return {name: _in_text(name, value) for name, value in properties.items()}


def _in_text(name: str, value: Any) -> Any:
    if isinstance(value, list) and name.endswith("_ranges"):
        return [in_texts(tier) if isinstance(tier, Mapping) else tier for tier in value]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    amount = numeric_value(value)
    if amount is None:
        return value
    if name in _AMOUNTS:
        return format(amount or ZERO, "f")
    return int(amount) if name in _WHOLES and amount == int(amount) else value


def is_whole(value: Any, *, least: int) -> bool:
    """Whether it is a JSON integer of at least that much."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 10**DIGITS_MAX


def _bound(value: Any) -> Decimal | None:
    found = numeric_value(value)
    return found if found is not None and found >= 0 else None


def tier_errors(tiers: Any, *, key: str, amounts: Mapping[str, str], gap: int) -> list[str]:
    """The codes of what is wrong in a list of tiers, in their order, one for each offence.

    `amounts` gives the code of each amount. A tier starts at the previous `to_value` plus `gap`, or one more
    (the first at 0 or 1), ends above its start, and the last one alone is open (semantics-metering.md 5.2).
    """
    if not isinstance(tiers, Sequence) or isinstance(tiers, str) or not tiers:
        return [f"missing_{key}"]
    codes: list[str] = []
    start = ZERO
    with exact():
        for i, tier in enumerate(tiers):
            fields = tier if isinstance(tier, Mapping) else {}
            codes += [code for name, code in amounts.items() if not is_amount(fields.get(name))]
            if not _is_placed(fields, start, is_last=i == len(tiers) - 1):
                codes.append(f"invalid_{key}")
            start = (_bound(fields.get("to_value")) or ZERO) + gap
    return codes


def _is_placed(tier: Mapping[str, Any], start: Decimal, *, is_last: bool) -> bool:
    from_value = _bound(tier.get("from_value"))
    if from_value is None or from_value not in (start, start + 1):
        return False
    if is_last or tier.get("to_value") is None:
        return is_last and tier.get("to_value") is None
    to_value = _bound(tier["to_value"])
    return to_value is not None and to_value > from_value


def codes(checks: Iterable[tuple[str, bool]]) -> list[str]:
    """The codes whose check failed."""
    return [code for code, passed in checks if not passed]
