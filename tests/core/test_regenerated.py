"""Fees of a voided invoice that are billed again with other units and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permille.core.contract.plan import Charge
from permille.core.errors import Invalid
from permille.core.fee_kind import FeeKind
from permille.core.invoice.regenerated import LineChange, changed_fee
from permille.core.rating.fee import Fee
from permille.core.rating.models import ChargeModel
from permille.core.rating.rounding import Rounding
from permille.core.record import replace

from .given import day
from .test_override import charge

TIERS = [
    {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "1"},
    {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
]
GRADUATED = replace(
    charge("tokens", "1"), charge_model=ChargeModel.GRADUATED, properties={"graduated_ranges": TIERS}
)


def fee(kind: FeeKind = FeeKind.CHARGE, **fields: Any) -> Fee:
    """7 units of 15.00 in all, rounded with others."""
    found = Fee(
        kind=kind,
        subscription_id=None,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name="Tokens",
        units=Decimal(7),
        events_count=3,
        total_aggregated_units=Decimal(7),
        amount_cents=1_500,
        precise_amount_cents=Decimal(1_500),
        unit_amount_cents=214,
        precise_unit_amount=Decimal("2.142857142857143"),
        amount_details={"graduated_ranges": []},
        grouped_by={},
        from_=day("2024-03-01"),
        to=day("2024-04-01"),
        rounding=Rounding.PER_CHARGE,
    )
    return replace(found, **fields)


def changed(before: Fee, by: Charge | None = GRADUATED, currency: str = "EUR", **change: Any) -> Fee:
    return changed_fee(before, LineChange(**change), charge=by, currency=currency)


def test_units_alone_are_priced_again_and_units_with_a_price_are_multiplied() -> None:
    by_charge = changed(fee(), units=Decimal(14))
    assert (by_charge.units, by_charge.amount_cents, by_charge.rounding) == (14, 2_300, Rounding.PER_FEE)
    assert len(by_charge.amount_details["graduated_ranges"]) == 2
    agreed = changed(fee(), units=Decimal("3.5"), unit_amount_cents=Decimal("0.43"))
    assert (agreed.amount_cents, agreed.precise_amount_cents) == (2, Decimal("1.505"))
    assert (agreed.precise_unit_amount, agreed.amount_details) == (Decimal("0.0043"), {})
    yen = changed(fee(), unit_amount_cents=Decimal("1.5"), currency="JPY")
    assert (yen.units, yen.amount_cents, yen.precise_unit_amount) == (7, 11, Decimal("1.5"))
    named = changed(fee(), invoice_display_name="Words", description="agreed")
    assert named == replace(fee(), invoice_display_name="Words", own_name="Words", description="agreed")
    plan_fee = fee(FeeKind.SUBSCRIPTION, units=Decimal(1), precise_unit_amount=Decimal(15))
    assert changed(plan_fee, None, units=Decimal("0.5")).amount_cents == 750


@pytest.mark.parametrize(
    ("before", "by"),
    [
        (fee(), None),
        (fee(is_true_up=True), GRADUATED),
        (fee(), replace(GRADUATED, prorated=True)),
        (fee(), replace(GRADUATED, charge_model=ChargeModel.PERCENTAGE, properties={"rate": "1"})),
        (fee(charge_filter_id="gone"), GRADUATED),
        (fee(FeeKind.FIXED_CHARGE), None),
    ],
)
def test_units_alone_have_no_price_where_it_depends_on_more(before: Fee, by: Charge | None) -> None:
    with pytest.raises(Invalid) as refused:
        changed(before, by, units=Decimal(2))
    assert refused.value.errors == {"charge": ["invalid_charge_model"]}
    assert changed(before, by, units=Decimal(2), unit_amount_cents=Decimal(3)).amount_cents == 6
