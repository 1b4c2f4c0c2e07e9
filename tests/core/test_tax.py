"""Taxes of fees and invoices against fractions, and the vectors of semantics-billing.md 5.4 and 5.7."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.tax import (
    UNTAXED,
    Tax,
    add_up_taxes,
    applicable,
    tax_fee,
    tax_invoice,
    tax_of_json,
)


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


def test_coupons_are_taken_off_before() -> None:
    """V-78 and V-79: fees of 10 and 20 % less their coupons, each rounded; the invoice once."""
    low, high = tax(1, "10"), tax(2, "20")
    coupons = [
        "676.47059",
        "1352.94117",
        "88.23529",
        "117.64706",
        "126.47059",
        "252.94118",
        "379.41176",
        "505.88235",
    ]
    amounts = [1_000, 2_000, 3_000, 4_000] * 2
    fees = [
        (amount - Decimal(coupon), [high if amount == 2_000 else low])
        for amount, coupon in zip(amounts, coupons, strict=True)
    ]
    assert [tax_fee(base, base, taxes).amount_cents for base, taxes in fees] == [
        *(32, 129, 291, 388),
        *(87, 349, 262, 349),
    ]
    assert tax_invoice(fees).amount_cents == 1_889


def test_two_taxes_on_one_fee() -> None:
    """V-84: 17900 at 10 %, 39900 less a coupon of 25000 at 10 + 10 %."""
    one, two = tax(1, "10"), tax(2, "10")
    found = tax_invoice([(17_900, [one]), (14_900, [one, two])])
    assert (found.amount_cents, found.rate) == (4_770, Decimal("14.54268"))
    assert [(each.amount_cents, each.fees_amount_cents) for each in found.applied] == [
        (3_280, 32_800),
        (1_490, 14_900),
    ]
    fee = tax_fee(5, Decimal(5), [tax(1, "50"), tax(2, "50")])
    assert (fee.amount_cents, [each.amount_cents for each in fee.applied]) == (5, [3, 2]), (
        "the sum is rounded, and what the taxes show adds up to it"
    )


def test_the_lines_of_two_taxes_add_up_to_the_total() -> None:
    """99.90 at 5 and 9.975 %: 4.995 and 9.965025, together 14.96."""
    gst, qst = tax(1, "5"), tax(2, "9.975")
    for found in (tax_fee(9_990, Decimal(9_990), [gst, qst]), tax_invoice([(9_990, [gst, qst])])):
        assert (found.amount_cents, [each.amount_cents for each in found.applied]) == (1_496, [499, 997])


def test_the_narrowest_level_wins() -> None:
    a, b = tax(1, "1"), tax(2, "2")
    assert applicable((), (a,), (b,)) == (a,)
    assert applicable((), ()) == ()


def test_without_taxes_nothing_is_taxed() -> None:
    assert tax_fee(100, Decimal(100), ()) is UNTAXED
    assert tax_invoice([(100, ())]) is UNTAXED


def rate_of(fees: list[tuple[int, list[Tax]]]) -> Fraction:
    """The average rate, each tax by what it is taken of."""
    total = sum(amount for amount, _ in fees)
    return sum(
        (
            Fraction(each.rate) * (Fraction(amount, total) if total else Fraction(1, len(fees)))
            for amount, own in fees
            for each in own
        ),
        Fraction(0),
    )


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
    found = tax_invoice(priced)
    assert found.amount_cents == half_up(expected)
    assert abs(Fraction(found.rate) - rate_of(priced)) <= Fraction(5, 1_000_000)
    assert {each.tax.id: each.fees_amount_cents for each in found.applied} == {
        each.id: sum(amount for amount, own in priced if each in own)
        for each in taxes
        if any(each in own for _, own in priced)
    }
    of_fees = [tax_fee(amount, Decimal(amount), own) for amount, own in priced]
    for (amount, own), fee in zip(priced, of_fees, strict=True):
        whole = sum((Fraction(amount) * Fraction(each.rate) / 100 for each in own), Fraction(0))
        assert fee.amount_cents == half_up(whole)
    for taxed in (found, *of_fees):
        assert sum(each.amount_cents for each in taxed.applied) == taxed.amount_cents
        for each in taxed.applied:
            assert abs(each.amount_cents - each.fees_amount_cents * Fraction(each.tax.rate) / 100) < 1


def test_the_precise_tax_is_of_the_precise_amount() -> None:
    found = tax_fee(100, Decimal("99.5"), [tax(1, "20"), tax(2, "1")])
    assert (found.amount_cents, found.precise_amount_cents, found.rate) == (21, Decimal("20.895"), 21)


def test_taxes_of_fees_are_added_up_by_tax() -> None:
    vat, extra = tax(1, "20"), tax(2, "3")
    found = add_up_taxes(
        amount_cents=233,
        precise_amount_cents=Decimal("232.5"),
        fees_amount_cents=1_100,
        applied=[(vat, 100, 500), (extra, 13, 500), (vat, 120, 600)],
    )
    assert [(each.tax, each.amount_cents, each.fees_amount_cents) for each in found.applied] == [
        (vat, 220, 1_100),
        (extra, 13, 500),
    ]
    assert (found.amount_cents, found.precise_amount_cents) == (233, Decimal("232.5"))
    assert found.rate == Decimal("21.18")
    nothing = add_up_taxes(
        amount_cents=0, precise_amount_cents=Decimal(0), fees_amount_cents=0, applied=[(vat, 0, 0)]
    )
    assert nothing.rate == 0


def test_a_tax_is_read_back_from_what_is_kept_of_it() -> None:
    kept = {
        "lago_tax_id": str(UUID(int=7)),
        "tax_code": "t7",
        "tax_name": "T7",
        "tax_description": None,
        "tax_rate": 12.5,
    }
    assert tax_of_json(kept, datetime(2026, 1, 1, tzinfo=UTC)) == tax(7, "12.5")
