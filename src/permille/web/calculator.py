"""What units would cost by themselves: the same pricing as on invoices, on numbers that somebody has typed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from permille.core.money import exact, subunits
from permille.core.rating.models import ChargeModel, Price, price
from permille.core.rating.models.percentage import running_totals
from permille.core.rating.pricing_unit import AppliedPricingUnit, Owed, owed
from permille.web.typed_number import number_or_none

MODELS = (
    ChargeModel.STANDARD,
    ChargeModel.PACKAGE,
    ChargeModel.GRADUATED,
    ChargeModel.GRADUATED_PERCENTAGE,
    ChargeModel.VOLUME,
    ChargeModel.PERCENTAGE,
)
"""Those whose price is one of units; the others look at each event."""
EVENTS_MAX = 100_000


def typed_events(text: str) -> int | None:
    """In how many events the units came, 1 if nothing is said; None of what can't be."""
    events = number_or_none(text, whole=True) if text else Decimal(1)
    is_whole = events is not None and events == events.to_integral_value() and 1 <= events <= EVENTS_MAX
    return int(events) if events is not None and is_whole else None


def priced(
    model: ChargeModel, properties: Mapping[str, Any], *, units: Decimal, events: int, currency: str
) -> Price:
    """The price of so many units, which so many events brought in equal parts."""
    with exact():
        values = [units / events] * events
        totals = running_totals(values, properties) if model is ChargeModel.PERCENTAGE else []
    return price(
        model,
        units=units,
        properties=properties,
        currency=currency,
        events_count=events,
        running_totals=totals,
        event_values=values,
    )


def due(found: Price, *, currency: str, applied: AppliedPricingUnit | None) -> Owed:
    """The price rounded as a fee is, and converted where it is in a pricing unit."""
    with exact():
        return owed(found.amount, found.unit_amount, per_unit=subunits(currency), applied=applied)
