"""Taxes of fees and invoices against fractions, and the vectors of semantics-billing.md 5.4 and 5.7."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.tax import UNTAXED, Tax, applicable, tax_fee, tax_invoice


def tax(number: int, rate: str) -> Tax:
    return Tax(
        id=UUID(int=number),
        code=f"t{number}",
        name=f"T{number}",
        description=None,
        rate=Decimal(rate),
        applied_to_organization=False,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def half_up(value: Fraction) -> int:
    """Half away from zero, of what is not negative."""
    return int(value + Fraction(1, 2))


def test_the_invoice_rounds_once() -> None:
    vat = tax(1, "20")
    fees = [(6_833, [vat]), (6_833, [vat])]
    assert [tax_fee(amount, Decimal(amount), taxes).amount_cents for amount, taxes in fees] == [1_367, 1_367]
    assert tax_invoice(fees).amount_cents == 2_733


def test_the_rate_of_an_invoice_is_weighted() -> None:
    found = tax_invoice([(18_000, [tax(1, "20")]), (7_650, [tax(2, "10")])])
    assert (found.amount_cents, found.rate) == (4_365, Decimal("17.01754"))
    assert [each.fees_amount_cents for each in found.applied] == [18_000, 7_650]
    assert tax_invoice([(0, [tax(1, "20")]), (0, [])]).rate == 10, (
        "by the number of fees when nothing is owed"
    )


def test_the_narrowest_level_wins() -> None:
    a, b = tax(1, "1"), tax(2, "2")
    assert applicable((), (a,), (b,)) == (a,)
    assert applicable((), ()) == ()


def test_without_taxes_nothing_is_taxed() -> None:
    assert tax_fee(100, Decimal(100), ()) is UNTAXED
    assert tax_invoice([(100, ())]) is UNTAXED


amounts = st.integers(0, 10_000_000)
rates = st.decimals("0", "30", places=3).map(str)


@given(
    st.lists(st.tuples(amounts, st.sets(st.integers(0, 3))), min_size=1, max_size=8),
    st.lists(rates, min_size=4, max_size=4),
)
def test_sums_are_exact_and_rounded_once(fees: list[tuple[int, set[int]]], given_rates: list[str]) -> None:
    taxes = [tax(number, rate) for number, rate in enumerate(given_rates)]
    priced = [(amount, [taxes[number] for number in sorted(chosen)]) for amount, chosen in fees]
    expected = sum(
        (Fraction(amount) * Fraction(each.rate) / 100 for amount, own in priced for each in own), Fraction(0)
    )
    assert tax_invoice(priced).amount_cents == half_up(expected)
    for amount, own in priced:
        whole = sum((Fraction(amount) * Fraction(each.rate) / 100 for each in own), Fraction(0))
        assert tax_fee(amount, Decimal(amount), own).amount_cents == half_up(whole)
