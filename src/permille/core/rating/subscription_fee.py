"""The plan's own fee. Source: semantics-billing.md section 3.11."""

from __future__ import annotations

from decimal import Decimal

from permille.core.fee_kind import FeeKind
from permille.core.money import exact, line_amounts, subunits
from permille.core.period import Period
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id


def subscription_fee(
    *,
    subscription_id: Id,
    amount_cents: int,
    currency: str,
    period: Period,
    days: int,
    days_in_period: int,
    invoice_display_name: str | None = None,
) -> Fee:
    """The plan's own fee: the plan's amount by the days that are billed of the days in the whole period.

    `period` is what the fee covers. The share is exact, and rounded once, half away from zero; Lago
    multiplies a price per day in binary floating point.
    """
    per_unit = subunits(currency)
    with exact():
        amount = Decimal(amount_cents * days) / (days_in_period * per_unit)
        amounts = line_amounts(amount, amount, per_unit)
    return Fee(
        kind=FeeKind.SUBSCRIPTION,
        subscription_id=subscription_id,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name=invoice_display_name,
        units=Decimal(1),
        events_count=None,
        total_aggregated_units=None,
        amount_cents=amounts.amount_cents,
        precise_amount_cents=amounts.precise_amount_cents,
        unit_amount_cents=amounts.amount_cents,
        precise_unit_amount=amounts.precise_unit_amount,
        amount_details={"plan_amount_cents": amount_cents},
        grouped_by={},
        from_=period.from_,
        to=period.to,
    )
