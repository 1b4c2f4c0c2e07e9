"""Margin: revenue less what providers bill for it, by groups of both and by currency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from permille.core.llm.cost import Cost
from permille.core.money import ZERO, exact, minor
from permille.core.record import Record

USD = "USD"
ALL_FILTER_VALUES = "__ALL_FILTER_VALUES__"
_SHARE = Decimal("0.0001")


class GroupBy(StrEnum):
    """What revenue and cost can be grouped by."""

    MODEL = "model"
    CUSTOMER = "customer"
    PLAN = "plan"
    PROVIDER = "provider"
    TYPE = "type"
    DAY = "day"


GroupTexts = tuple[str | None, ...]
"""The value of each GroupBy that is asked for, in order; None for what has none."""


class Revenue(Record, kw_only=True):
    """Amounts before taxes, in the smallest unit: on final invoices, and not on any yet."""

    group: GroupTexts
    currency: str
    billed_cents: int
    unbilled_cents: int
    without_cost_cents: int = 0
    """The part of both that is for usage by metrics whose cost is not looked up."""


class CostedUsage(Record, kw_only=True):
    """The cost of usage of a metric, and the currency that its customer pays in."""

    group: GroupTexts
    currency: str
    metric: str
    cost: Cost


class Uncosted(Record, kw_only=True):
    """Usage of a metric whose cost is not known."""

    metric: str
    quantity: Decimal
    events_count: int


class Margin(Record, kw_only=True):
    """Revenue and cost of a group."""

    group: GroupTexts
    currency: str
    billed_cents: int
    unbilled_cents: int
    without_cost_cents: int
    """The part of the revenue that is for usage by metrics whose cost is not looked up."""
    cost_usd: Decimal
    rate: Decimal | None
    """What one US dollar is in the currency; None: nobody has said it."""
    uncosted: tuple[Uncosted, ...]

    @property
    def revenue_cents(self) -> int:
        return self.billed_cents + self.unbilled_cents

    @property
    def cost_cents(self) -> Decimal | None:
        """The cost in the smallest unit of the currency, unrounded."""
        if not self.cost_usd:
            return ZERO
        if self.rate is None:
            return None
        with exact():
            return minor(self.cost_usd * self.rate, self.currency)

    @property
    def margin_cents(self) -> Decimal | None:
        """What is left of the revenue, unrounded."""
        cost = self.cost_cents
        if cost is None:
            return None
        with exact():
            return self.revenue_cents - cost

    @property
    def share(self) -> Decimal | None:
        """The margin as a share of the revenue, with four decimals; None without a revenue."""
        margin = self.margin_cents
        if margin is None or not self.revenue_cents:
            return None
        with exact():
            return (margin / self.revenue_cents).quantize(_SHARE, ROUND_HALF_UP)


@dataclass(slots=True)
class _Sums:
    """What gathers for a group."""

    billed_cents: int = 0
    unbilled_cents: int = 0
    without_cost_cents: int = 0
    cost_usd: Decimal = ZERO
    uncosted: dict[str, tuple[Decimal, int]] = field(default_factory=dict)

    def add_uncosted(self, metric: str, quantity: Decimal, events_count: int) -> None:
        """Add usage without a known cost."""
        before, events = self.uncosted.get(metric, (ZERO, 0))
        self.uncosted[metric] = before + quantity, events + events_count

    @property
    def is_nothing(self) -> bool:
        return not (self.billed_cents or self.unbilled_cents or self.cost_usd or self.uncosted)


def margins(
    revenues: Iterable[Revenue], costs: Iterable[CostedUsage], rates: Mapping[str, Decimal]
) -> list[Margin]:
    """The margin of each group that has a revenue, a cost or uncosted usage, by currency."""
    found: dict[tuple[str, GroupTexts], _Sums] = defaultdict(_Sums)
    with exact():
        for each in revenues:
            sums = found[each.currency, each.group]
            sums.billed_cents += each.billed_cents
            sums.unbilled_cents += each.unbilled_cents
            sums.without_cost_cents += each.without_cost_cents
        for used in costs:
            sums = found[used.currency, used.group]
            sums.cost_usd += used.cost.amount
            if used.cost.uncosted_quantity or used.cost.uncosted_events:
                sums.add_uncosted(used.metric, used.cost.uncosted_quantity, used.cost.uncosted_events)
    return [
        _margin(group, currency, sums, rates)
        for (currency, group), sums in found.items()
        if not sums.is_nothing
    ]


def _margin(group: GroupTexts, currency: str, sums: _Sums, rates: Mapping[str, Decimal]) -> Margin:
    return Margin(
        group=group,
        currency=currency,
        billed_cents=sums.billed_cents,
        unbilled_cents=sums.unbilled_cents,
        without_cost_cents=sums.without_cost_cents,
        cost_usd=sums.cost_usd,
        rate=Decimal(1) if currency == USD else rates.get(currency),
        uncosted=tuple(
            Uncosted(metric=metric, quantity=quantity, events_count=events)
            for metric, (quantity, events) in sorted(sums.uncosted.items())
        ),
    )


def in_order(found: Iterable[Margin], by: Sequence[GroupBy]) -> list[Margin]:
    """By currency; then by day where there are days; then those with the most revenue and cost first."""
    day = by.index(GroupBy.DAY) if GroupBy.DAY in by else None
    return sorted(
        found,
        key=lambda each: (
            each.currency,
            "" if day is None else each.group[day] or "",
            -each.revenue_cents,
            -each.cost_usd,
            tuple((text is None, text or "") for text in each.group),
        ),
    )


def totals(found: Iterable[Margin]) -> list[Margin]:
    """All groups together, by currency."""
    every = list(found)
    rates = {each.currency: each.rate for each in every if each.rate is not None}
    sums: dict[str, _Sums] = defaultdict(_Sums)
    with exact():
        for each in every:
            total = sums[each.currency]
            total.billed_cents += each.billed_cents
            total.unbilled_cents += each.unbilled_cents
            total.without_cost_cents += each.without_cost_cents
            total.cost_usd += each.cost_usd
            for used in each.uncosted:
                total.add_uncosted(used.metric, used.quantity, used.events_count)
    return [_margin((), currency, total, rates) for currency, total in sorted(sums.items())]


def text_of(
    name: str, grouped_by: Mapping[str, str | None], filter_values: Mapping[str, Sequence[str]]
) -> str | None:
    """The text of a property that a fee is for: its pricing group's, or the only one that its filter lists."""
    listed = filter_values.get(name) or ()
    if grouped_by.get(name) is not None:
        return grouped_by[name]
    return listed[0] if len(listed) == 1 and listed[0] != ALL_FILTER_VALUES else None
