from decimal import Decimal

import pytest
from hypothesis import given

from permille.core.rating.models import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import priced

STANDARD = ChargeModel.STANDARD


@pytest.mark.parametrize(
    ("amount", "units", "full_units", "total", "unit_amount"),
    [
        # semantics-metering.md 7.7
        ("5.12345", "10", None, "51.2345", "5.12345"),
        ("5.12345", "10", "100", "51.2345", "0.512345"),
        ("12.5", "4", None, "50", "12.5"),
        ("0.08", "100", None, "8", "0.08"),
        ("10", "0", None, "0", "0"),
        ("10", "0", "0", "0", "0"),
    ],
)
def test_vectors(amount: str, units: str, full_units: str | None, total: str, unit_amount: str) -> None:
    full = None if full_units is None else Decimal(full_units)
    price = priced(STANDARD, {"amount": amount}, units, full_units=full)
    assert (price.amount, price.unit_amount, price.details) == (Decimal(total), Decimal(unit_amount), {})


@given(decimals(0, 1000, 6), decimals(0, 1000, 6), decimals(0, 10, 8))
def test_the_price_of_a_sum_is_the_sum_of_the_prices(a: Decimal, b: Decimal, amount: Decimal) -> None:
    properties = {"amount": format(amount, "f")}
    parts = [priced(STANDARD, properties, str(units)).amount for units in (a, b)]
    assert priced(STANDARD, properties, str(a + b)).amount == sum(parts)


@pytest.mark.parametrize("amount", [None, 5, True, "", "-1", "abc", "1,5", "NaN", "Infinity", " 1", ["1"]])
def test_an_amount_is_text_of_a_number_that_is_not_negative(amount: object) -> None:
    assert validate(STANDARD, {"amount": amount}) == ["invalid_amount"]
    assert validate(STANDARD, {}) == ["invalid_amount"]


@pytest.mark.parametrize("amount", ["0", "5", "0.000001", "12.50", "1e-7"])
def test_valid_amounts(amount: str) -> None:
    assert validate(STANDARD, {"amount": amount}) == []
