"""Fixed charges: the units of a period become a fee, without events. semantics-billing.md section 6.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from permille.core.fee_kind import FeeKind
from permille.core.money import ZERO, exact, line_amounts, round_cents, subunits
from permille.core.period import INSTANT, Period, days_in, local_date
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.rating.models import ChargeModel, Price, Quantity, pricer
from permille.core.record import Record, replace

_SHARE_DIGITS = Decimal("0.000001")


class UnitsChange(Record):
    """How many units there are from an instant on."""

    units: Decimal
    at: datetime
    at_once: bool = False
    """Whether it was made then; what it costs in advance is billed by itself."""


class FixedPrice(Record, kw_only=True):
    """What a fixed charge costs."""

    id: Id
    model: ChargeModel
    properties: Mapping[str, Any]
    pay_in_advance: bool
    prorated: bool
    currency: str
    invoice_display_name: str | None


class FixedPeriod(Record, kw_only=True):
    """A period that is billed: the whole one, and the part that was subscribed."""

    whole: Period
    part: Period
    timezone: str

    @property
    def days(self) -> int:
        """Days in the part."""
        return days_in(self.part, self.timezone)

    @property
    def whole_days(self) -> int:
        """Days in the whole period, by which shares are measured."""
        return days_in(self.whole, self.timezone)


def in_effect(changes: Sequence[UnitsChange]) -> list[UnitsChange]:
    """The changes, given in the order in which they were made, without those that a later one came before."""
    kept: list[UnitsChange] = []
    for change in changes:
        while kept and kept[-1].at >= change.at:
            kept.pop()
        kept.append(change)
    return kept


def units_at(changes: Sequence[UnitsChange], at: datetime) -> Decimal:
    """How many units there are at an instant."""
    return next((change.units for change in reversed(in_effect(changes)) if change.at <= at), ZERO)


def units_paid_at(changes: Sequence[UnitsChange], at: datetime) -> Decimal:
    """How many units are billed in advance as of an instant, however much later: not those that are set at once then."""
    return units_at([change for change in changes if not (change.at_once and change.at == at)], at)


def fee_in_advance(price: FixedPrice, units: Decimal, period: FixedPeriod, *, subscription_id: Id) -> Fee:
    """The fee for units that are paid for a period to come, or for the rest of a running one."""
    with exact():
        priced = _share(units, period.days, period.whole_days) if price.prorated else units
        quantity = Quantity(
            units=priced,
            subunits=subunits(price.currency),
            full_units=units if price.prorated else None,
        )
        return _fee(price, units, quantity, period.part, subscription_id)


def fee_in_arrears(
    price: FixedPrice, changes: Sequence[UnitsChange], period: FixedPeriod, *, subscription_id: Id
) -> Fee:
    """The fee for the units of a period that has ended: those of its end or, prorated, of each of its days."""
    kept = [change for change in in_effect(changes) if change.at < period.part.to]
    units = kept[-1].units if kept else ZERO
    with exact():
        quantity = Quantity(units=units, subunits=subunits(price.currency))
        if price.prorated:
            quantity = _prorated(kept, period)._replace(subunits=quantity.subunits, full_units=units)
        return _fee(price, units, quantity, period.part, subscription_id)


def less_what_was_paid(fee: Fee, *, paid_cents: int, currency: str) -> Fee:
    """The fee without what was paid for the same days under the plan before: not less than nothing."""
    with exact():
        left = Decimal(max(fee.amount_cents - paid_cents, 0))
        amount = left / subunits(currency)
        amounts = line_amounts(amount, amount / fee.units if fee.units else ZERO, subunits(currency))
    return replace(
        fee,
        amount_cents=amounts.amount_cents,
        precise_amount_cents=amounts.precise_amount_cents,
        unit_amount_cents=amounts.unit_amount_cents,
        precise_unit_amount=amounts.precise_unit_amount,
    )


def paid_share(amount_cents: int, *, days: int, of_days: int) -> int:
    """What a fee in advance of so many days has paid for the last of them."""
    with exact():
        return round_cents(Decimal(amount_cents * min(days, of_days)) / (of_days or 1))


def _share(units: Decimal, days: int, of: int) -> Decimal:
    return (units * days / of).quantize(_SHARE_DIGITS, ROUND_HALF_UP)


def _prorated(kept: Sequence[UnitsChange], period: FixedPeriod) -> Quantity:
    """The units by the days on which they were there, and each change with the days after it."""
    timezone, first = period.timezone, local_date(period.part.from_, period.timezone)
    end = local_date(period.part.to - INSTANT, timezone) + timedelta(days=1)
    days = [max(local_date(change.at, timezone), first) for change in kept]
    total, before, changes = ZERO, ZERO, []
    for change, begins, until in zip(kept, days, [*days[1:], end], strict=False):
        total += _share(change.units, (until - begins).days, period.whole_days)
        step = change.units - before
        if step:
            changes.append((step, step * (end - begins).days))
        before = change.units
    return Quantity(units=total, changes=changes, days_in_period=period.whole_days)


def _fee(price: FixedPrice, units: Decimal, quantity: Quantity, period: Period, subscription_id: Id) -> Fee:
    priced = pricer(price.model, price.properties)(quantity) if quantity.units else Price(ZERO, ZERO, {})
    amounts = line_amounts(priced.amount, priced.unit_amount, quantity.subunits)
    return Fee(
        kind=FeeKind.FIXED_CHARGE,
        subscription_id=subscription_id,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name=price.invoice_display_name,
        units=units,
        events_count=None,
        total_aggregated_units=units,
        amount_cents=amounts.amount_cents,
        precise_amount_cents=amounts.precise_amount_cents,
        unit_amount_cents=amounts.unit_amount_cents,
        precise_unit_amount=amounts.precise_unit_amount,
        amount_details=priced.details,
        grouped_by={},
        from_=period.from_,
        to=period.to,
        pay_in_advance=price.pay_in_advance,
        item_id=price.id,
    )
