from decimal import Decimal

import pytest

from permille.core.pricing import ChargeModel, price, validate


@pytest.mark.parametrize(
    ("units", "cents", "currency", "amount", "unit_amount"),
    [
        # semantics-metering.md 7.12
        ("20", "40.2", "EUR", "0.402", "0.0201"),
        ("0", "40.2", "EUR", "0", "0"),
        ("10", "10.1", "EUR", "0.101", "0.0101"),
        ("10", "1500", "KWD", "1.5", "0.15"),
        ("10", "15", "JPY", "15", "1.5"),
        ("10", "0", "EUR", "0", "0"),
    ],
)
def test_vectors(units: str, cents: str, currency: str, amount: str, unit_amount: str) -> None:
    found = price(
        ChargeModel.DYNAMIC,
        units=Decimal(units),
        properties={},
        currency=currency,
        precise_amount_cents=Decimal(cents),
    )
    assert (found.amount, found.unit_amount) == (Decimal(amount), Decimal(unit_amount))


def test_it_has_no_properties_that_could_be_wrong() -> None:
    assert validate(ChargeModel.DYNAMIC, {"amount": 7}) == []
