from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from permille.core.money import CURRENCIES, subunits
from permille.core.rating.models import ChargeModel, price, validate
from tests.core.given import decimals


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


@given(
    st.lists(st.tuples(decimals(1, 50, 1), decimals(0, 10**6, 6)), min_size=1, max_size=6),
    st.sampled_from(sorted(CURRENCIES)),
)
def test_the_price_is_the_sum_of_what_the_events_were_sent_with(
    sent: list[tuple[Decimal, Decimal]], currency: str
) -> None:
    found = price(
        ChargeModel.DYNAMIC,
        units=sum((units for units, _ in sent), Decimal(0)),
        properties={},
        currency=currency,
        precise_amount_cents=sum((cents for _, cents in sent), Decimal(0)),
    )
    assert Fraction(found.amount) == sum(Fraction(cents) for _, cents in sent) / subunits(currency)


def test_it_has_no_properties_that_could_be_wrong() -> None:
    assert validate(ChargeModel.DYNAMIC, {"amount": 7}) == []
