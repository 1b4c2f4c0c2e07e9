"""One-off invoices: add-ons that are billed once, by hand. Source: semantics-billing.md section 4.12."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from permille.core.add_on import AddOn
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import Line
from permille.core.money import exact, precise, round_cents, subunits
from permille.core.period import INSTANT
from permille.core.rating.fee import Fee
from permille.core.record import Record
from permille.core.tax import Tax


class SoldAddOn(Record, kw_only=True):
    """So much of an add-on on an invoice; None is the add-on's own."""

    add_on: AddOn
    units: Decimal = Decimal(1)
    unit_amount_cents: int | None = None
    invoice_display_name: str | None = None
    description: str | None = None
    period: tuple[datetime, datetime] | None = None
    """From and to, both inclusive; None is the instant of the invoice."""
    taxes: tuple[Tax, ...] = ()
    """Instead of the add-on's."""


def line_of(sold: SoldAddOn, *, currency: str, at: datetime) -> Line:
    """The line of a one-off invoice."""
    add_on = sold.add_on
    unit_cents = add_on.amount_cents if sold.unit_amount_cents is None else sold.unit_amount_cents
    from_, to = sold.period or (at, at)
    with exact():
        cents = unit_cents * sold.units
        unit_amount = Decimal(unit_cents) / subunits(currency)
    fee = Fee(
        kind=FeeKind.ADD_ON,
        subscription_id=None,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name=sold.invoice_display_name or add_on.invoice_display_name or add_on.name,
        units=sold.units,
        events_count=None,
        total_aggregated_units=None,
        amount_cents=round_cents(cents),
        precise_amount_cents=precise(cents),
        unit_amount_cents=unit_cents,
        precise_unit_amount=precise(unit_amount),
        amount_details={},
        grouped_by={},
        from_=from_,
        to=to + INSTANT,
        item_id=add_on.id,
        description=add_on.description if sold.description is None else sold.description,
    )
    return Line(fee, own_taxes=sold.taxes or add_on.taxes)
