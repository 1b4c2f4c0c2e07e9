"""The lines of a voided invoice, billed again with what is changed of them. Source: semantics-billing.md section 4.9.

Nothing is read of events again: units and prices are those of the voided lines, or those that somebody names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge
from permille.core.errors import Invalid, NotFound
from permille.core.fee_kind import FeeKind
from permille.core.money import exact, line_amounts, subunits
from permille.core.rating.charge import Bucket
from permille.core.rating.fee import Fee
from permille.core.rating.models import ChargeModel, Quantity
from permille.core.rating.pricing_unit import Owed, owed
from permille.core.rating.rounding import Rounding
from permille.core.record import Record, replace

_OF_EVENTS = (ChargeModel.PERCENTAGE, ChargeModel.DYNAMIC, ChargeModel.CUSTOM)
"""Models whose price depends on more than the number of units."""
_NO_PRICE = {"charge": ["invalid_charge_model"]}


class LineChange(Record, kw_only=True):
    """What is said of a line of the new invoice; None leaves what it was."""

    units: Decimal | None = None
    unit_amount_cents: Decimal | None = None
    """With any number of decimals: a token costs less than a cent."""
    invoice_display_name: str | None = None
    description: str | None = None


class FeeChange(Record, kw_only=True):
    """A change of one fee of the voided invoice."""

    fee_id: UUID
    change: LineChange
    is_removed: bool = False


class AddedFee(Record, kw_only=True):
    """Usage of a charge that the voided invoice did not bill."""

    subscription_id: UUID
    charge_id: UUID
    charge_filter_id: UUID | None
    change: LineChange


def changed_fee(fee: Fee, change: LineChange, *, charge: Charge | None, currency: str) -> Fee:
    """The fee with the change: other units are priced again, units with a price of one are multiplied.

    `charge` is the one that has priced it, None for other fees. Raises Invalid where units alone have no price.
    """
    named = replace(
        fee,
        invoice_display_name=change.invoice_display_name or fee.invoice_display_name,
        own_name=change.invoice_display_name or fee.own_name,
        description=change.description or fee.description,
    )
    if change.units is None and change.unit_amount_cents is None:
        return named
    units = fee.units if change.units is None else change.units
    with exact():
        if change.unit_amount_cents is not None:
            return _priced(named, units, _multiplied(units, change.unit_amount_cents, currency))
        if fee.kind is FeeKind.CHARGE:
            return _repriced(named, units, charge=charge, currency=currency)
        unit_cents = fee.precise_unit_amount * subunits(currency)
        if unit_cents * fee.units != fee.precise_amount_cents:
            raise Invalid(_NO_PRICE)
        return _priced(named, units, _multiplied(units, unit_cents, currency))


def added_fee(added: AddedFee, *, charge: Charge, from_: datetime, to: datetime, currency: str) -> Fee:
    """The fee of usage that somebody adds to a period. Raises NotFound for a filter that the charge does not have."""
    known: dict[UUID | None, str | None] = {each.id: each.invoice_display_name for each in charge.filters}
    if added.charge_filter_id is not None and added.charge_filter_id not in known:
        raise NotFound("charge_filter")
    empty = Fee(
        kind=FeeKind.CHARGE,
        subscription_id=added.subscription_id,
        charge_id=charge.id,
        charge_filter_id=added.charge_filter_id,
        invoice_display_name=known.get(added.charge_filter_id) or charge.invoice_display_name,
        units=Decimal(0),
        events_count=0,
        total_aggregated_units=None,
        amount_cents=0,
        precise_amount_cents=Decimal(0),
        unit_amount_cents=0,
        precise_unit_amount=Decimal(0),
        amount_details={},
        grouped_by={},
        from_=from_,
        to=to,
        pay_in_advance=charge.pay_in_advance,
    )
    return changed_fee(empty, added.change, charge=charge, currency=currency)


def _multiplied(units: Decimal, unit_cents: Decimal, currency: str) -> Owed:
    per_unit = subunits(currency)
    unit_amount = unit_cents / per_unit
    return Owed(line_amounts(units * unit_amount, unit_amount, per_unit), None)


def _repriced(fee: Fee, units: Decimal, *, charge: Charge | None, currency: str) -> Fee:
    bucket = _bucket(fee, charge, currency)
    price = bucket.pricer(Quantity(units=units, subunits=subunits(currency), group=fee.grouped_by))
    assert charge is not None, "it has a bucket"
    due = owed(
        price.amount,
        price.unit_amount,
        per_unit=subunits(currency),
        applied=charge.applied_pricing_unit,
    )
    return _priced(replace(fee, is_unpriced=price.is_unpriced), units, due, price.details)


def _bucket(fee: Fee, charge: Charge | None, currency: str) -> Bucket:
    """The price that the fee has, where it depends on units alone."""
    compiled = compile_plan_charge(charge, currency=currency) if charge else None
    buckets = compiled.buckets if compiled else ()
    found = next((each for each in buckets if each.charge_filter_id == fee.charge_filter_id), None)
    if (
        fee.is_true_up
        or found is None
        or charge is None
        or found.reads_events
        or found.model in _OF_EVENTS
        or (charge.prorated and found.model is ChargeModel.GRADUATED)
    ):
        raise Invalid(_NO_PRICE)
    return found


def _priced(fee: Fee, units: Decimal, due: Owed, details: Mapping[str, object] | None = None) -> Fee:
    """The fee with other units and amounts, rounded by itself."""
    money = due.money
    return replace(
        fee,
        units=units,
        total_aggregated_units=None,
        amount_cents=money.amount_cents,
        precise_amount_cents=money.precise_amount_cents,
        unit_amount_cents=money.unit_amount_cents,
        precise_unit_amount=money.precise_unit_amount,
        amount_details=_plan_details(fee) if details is None else details,
        in_unit=due.in_unit,
        presentation=None,
        rounding=Rounding.PER_FEE,
        earlier=None,
    )


def _plan_details(fee: Fee) -> Mapping[str, object]:
    """The plan's price of its period goes with the fee, whatever was charged: days that are not used are given back at it."""
    return fee.amount_details if fee.kind is FeeKind.SUBSCRIPTION else {}
