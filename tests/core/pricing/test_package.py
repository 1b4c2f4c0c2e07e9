from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.money import minor, round_cents
from permille.core.rating.models import ChargeModel, validate
from tests.core.given import decimals
from tests.core.pricing.table import priced

PACKAGE = ChargeModel.PACKAGE


def of(amount: str, size: int, free: int = 0) -> dict[str, Any]:
    return {"amount": amount, "package_size": size, "free_units": free}


@pytest.mark.parametrize(
    ("properties", "units", "total", "unit_amount"),
    [
        # semantics-metering.md 7.10
        (of("100", 10), "121", "1300", "10.743801652892562"),
        (of("100", 10, 10), "121", "1200", "10.810810810810811"),
        (of("100", 10, 200), "121", "0", "0"),
        (of("100", 10), "3", "100", "33.333333333333333"),
        (of("100", 10), "15", "200", "13.333333333333333"),
        (of("100", 10, 5), "3", "0", "0"),
        (of("100", 10, 5), "5", "0", "0"),
        (of("100", 10, 5), "12", "100", "14.285714285714286"),
        (of("100", 10), "0", "0", "0"),
        (of("100", 10), "10", "100", "10"),
        (of("100", 10), "10.0000000000000000000000001", "200", "20"),
        (of("100", 10), "-5", "0", "0"),
        # semantics-metering.md, appendix D: tokens
        (of("0.03", 1000), "1234", "0.06", "0.00004862"),
        (of("0.06", 1000), "999", "0.06", "0.00006006"),
        (of("0.06", 1000), "10000", "0.60", "0.00006"),
        (of("0.12", 1000), "1", "0.12", "0.12"),
        (of("0.0015", 1000), "2001", "0.0045", "0.000002249"),
    ],
)
def test_vectors(properties: dict[str, Any], units: str, total: str, unit_amount: str) -> None:
    price = priced(PACKAGE, properties, units)
    assert price.amount == Decimal(total)
    assert abs(price.unit_amount - Decimal(unit_amount)) < Decimal("5e-9")


def test_fractions_of_a_cent_are_kept_until_the_fee_is_rounded() -> None:
    totals = [priced(PACKAGE, of("0.0015", 1000), units).amount for units in ("3000", "4000")]
    assert [round_cents(minor(total, "USD")) for total in totals] == [0, 1]


@pytest.mark.parametrize(
    ("units", "free", "details"),
    [
        (
            "121",
            10,
            {
                "free_units": "10.0",
                "paid_units": "111.0",
                "per_package_size": 10,
                "per_package_unit_amount": "100.0",
            },
        ),
        (
            "121",
            200,
            {
                "free_units": "200.0",
                "paid_units": "0.0",
                "per_package_size": 10,
                "per_package_unit_amount": "100.0",
            },
        ),
        (
            "0",
            200,
            {
                "free_units": "0.0",
                "paid_units": "0.0",
                "per_package_size": 0,
                "per_package_unit_amount": "0.0",
            },
        ),
    ],
)
def test_it_explains_itself(units: str, free: int, details: dict[str, Any]) -> None:
    assert priced(PACKAGE, of("100", 10, free), units).details == details


@given(decimals(0, 300, 2), st.integers(1, 50), st.integers(0, 80), decimals(0, 10, 4))
def test_packages_are_handed_out_one_by_one(units: Decimal, size: int, free: int, amount: Decimal) -> None:
    left, packages = units - free, 0
    while left > 0:
        left -= size
        packages += 1
    price = priced(PACKAGE, of(format(amount, "f"), size, free), str(units))
    assert price.amount == packages * amount


@given(decimals(0, 10**6, 3), decimals(0, 10**6, 3), st.integers(1, 1000), st.integers(0, 1000))
def test_more_units_never_cost_less(a: Decimal, b: Decimal, size: int, free: int) -> None:
    less, more = sorted((a, b))
    prices = [priced(PACKAGE, of("0.03", size, free), str(units)).amount for units in (less, more)]
    assert prices[0] <= prices[1]


@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        ({}, ["invalid_amount", "invalid_package_size", "invalid_free_units"]),
        (of("0.03", 1000), []),
        (of("0.03", 0), ["invalid_package_size"]),
        (of("0.03", 1, -1), ["invalid_free_units"]),
        (
            {"amount": 3, "package_size": "1", "free_units": Decimal("1.5")},
            ["invalid_amount", "invalid_package_size", "invalid_free_units"],
        ),
        (
            {"amount": "1", "package_size": True, "free_units": None},
            ["invalid_package_size", "invalid_free_units"],
        ),
    ],
)
def test_invalid_properties(properties: dict[str, Any], codes: list[str]) -> None:
    assert validate(PACKAGE, properties) == codes
