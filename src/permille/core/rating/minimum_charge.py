"""Minimum charges: the true-up fee where a charge comes to less. Source: semantics-metering.md section 5.13."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from permille.core.money import ZERO, exact, precise, round_cents
from permille.core.rating.charge import CompiledCharge
from permille.core.rating.fee import Fee
from permille.core.rating.pricing_unit import InUnit, Owed
from permille.core.rating.proration import RatedPeriod
from permille.core.rating.rounding import Rounding, carry_on, sum_of_lines
from permille.core.record import replace


def true_up_fee(charge: CompiledCharge, fees: Sequence[Fee], *, rated: RatedPeriod) -> Fee | None:
    """What a charge's fees of a period lack of its minimum, by the period's days; None when they lack nothing."""
    minimum = rated.proration.share(charge.min_amount_cents, rated.period)
    priced = [fee.priced_cents for fee in fees]
    with exact():
        missing = minimum - sum(cents for cents, _ in priced)
        if missing <= 0:
            return None
        amount = Decimal(round_cents(missing)) / charge.priced_subunits
        money, in_unit = charge.owed(amount, amount)
        precise_cents = precise(minimum - sum((cents for _, cents in priced), ZERO))
        if in_unit is None:
            money = money._replace(precise_amount_cents=precise_cents)
        else:
            in_unit = InUnit(in_unit.applied, in_unit.amounts._replace(precise_amount_cents=precise_cents))
        if charge.rounding is Rounding.PER_CHARGE:
            earlier = sum_of_lines(fee.owed for fee in fees)
            money, in_unit = carry_on(Owed(money, in_unit), earlier, per_unit=charge.subunits)
    return replace(
        fees[-1],
        charge_filter_id=None,
        is_true_up=True,
        invoice_display_name=None,
        units=Decimal(1),
        events_count=0,
        total_aggregated_units=None,
        amount_cents=money.amount_cents,
        precise_amount_cents=money.precise_amount_cents,
        unit_amount_cents=money.amount_cents,
        precise_unit_amount=money.precise_unit_amount,
        amount_details={},
        grouped_by={},
        in_unit=in_unit,
        presentation=None,
        is_unpriced=False,
        is_held=False,
    )
