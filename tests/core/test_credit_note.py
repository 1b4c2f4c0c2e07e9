"""What comes back of a fee, and what pays an invoice (semantics-billing.md 5.5, 7.2, 7.6, vectors of section 12)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from math import floor
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.invoice.credit_note import (
    CreditedFee,
    Item,
    PaidPeriod,
    credit_amounts,
    spend,
    unused_amount,
)
from permille.core.tax import Tax
from tests.core.given import decimals

ZERO = Decimal(0)


def tax(rate: str, number: int = 1) -> Tax:
    return Tax(
        id=UUID(int=number),
        code=f"t{number}",
        name="Tax",
        description=None,
        rate=Decimal(rate),
        applied_to_organization=False,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


def item(amount: str, *taxes: Tax, fee_cents: int = 100_000, coupons: str = "0") -> Item:
    fee = CreditedFee(
        fee_id=UUID(int=9), amount_cents=fee_cents, precise_coupons_amount_cents=Decimal(coupons), taxes=taxes
    )
    return Item(fee=fee, precise_amount_cents=Decimal(amount))


def utc(*parts: Any) -> datetime:
    return datetime(*parts).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "rate", "sub_total", "taxes", "total"),
    [("19333.33333", "25", 19_333, 4_833, 24_166), ("15466.66666", "25", 15_467, 3_867, 19_334)],
)
def test_the_total_is_the_sum_of_what_is_shown(
    amount: str, rate: str, sub_total: int, taxes: int, total: int
) -> None:
    found = credit_amounts([item(amount, tax(rate))])
    assert found.sub_total_excluding_taxes_amount_cents == sub_total
    assert (found.taxes_amount_cents, found.total_amount_cents) == (taxes, total)
    assert found.taxes_rate == Decimal(rate)


def test_several_fees_with_taxes_of_their_own_and_a_coupon() -> None:
    vat, extra = tax("10"), tax("20", 2)
    found = credit_amounts([item("100", vat), item("300", vat, extra, fee_cents=600, coupons="200")])
    assert found.coupons_adjustment_amount_cents == 100
    assert found.sub_total_excluding_taxes_amount_cents == 300
    assert [(each.fees_amount_cents, each.amount_cents) for each in found.applied_taxes] == [
        (300, 30),
        (200, 40),
    ]
    assert found.taxes_amount_cents == 70
    assert found.taxes_rate == Decimal("23.33333")
    assert found.precise_total_amount_cents == 370


RATES = [tax("20", 1), tax("5.5", 2), tax("0.25", 3)]
returned = st.tuples(
    st.integers(1, 10**6), decimals(0, 10**6, 5), st.integers(0, 100), st.sets(st.sampled_from([0, 1, 2]))
)


def half_away(value: Fraction) -> int:
    """For values of 0 or more."""
    return floor(value + Fraction(1, 2))


@given(st.lists(returned, max_size=5))
def test_coupons_and_taxes_go_with_their_share_of_each_fee(
    drawn: list[tuple[int, Decimal, int, set[int]]],
) -> None:
    """In exact fractions, rounded once each; `coupons` is a percentage of the fee."""
    found = credit_amounts(
        [
            item(
                str(amount),
                *(RATES[n] for n in sorted(own)),
                fee_cents=cents,
                coupons=str(Decimal(cents * percent) / 100),
            )
            for cents, amount, percent, own in drawn
        ]
    )
    bases = [Fraction(amount) * (100 - percent) / 100 for _, amount, percent, _ in drawn]
    assert found.sub_total_excluding_taxes_amount_cents == half_away(sum(bases, Fraction(0)))
    by_tax = {
        n: sum((base for base, (*_, own) in zip(bases, drawn, strict=True) if n in own), Fraction(0))
        for n in range(3)
        if any(n in own for *_, own in drawn)
    }
    rates = {n: Fraction(RATES[n].rate) / 100 for n in by_tax}
    assert found.taxes_amount_cents == half_away(sum((by_tax[n] * rates[n] for n in by_tax), Fraction(0)))
    assert {each.tax.code: each.fees_amount_cents for each in found.applied_taxes} == {
        RATES[n].code: half_away(by_tax[n]) for n in by_tax
    }
    assert sum(each.amount_cents for each in found.applied_taxes) == found.taxes_amount_cents
    exact_of = {RATES[n].code: by_tax[n] * rates[n] for n in by_tax}
    assert all(abs(each.amount_cents - exact_of[each.tax.code]) < 1 for each in found.applied_taxes)


def test_nothing_comes_back_of_a_fee_of_nothing() -> None:
    found = credit_amounts([item("0", tax("10"), fee_cents=0)])
    assert (found.total_amount_cents, found.taxes_rate) == (0, 0)


def paid(
    cents: int, days: int, to: datetime, timezone: str = "UTC", trial: datetime | None = None
) -> PaidPeriod:
    last_day = (to - timedelta(days=1)).date()
    return PaidPeriod(
        plan_amount_cents=cents, days=days, last_day=last_day, timezone=timezone, trial_ends_at=trial
    )


VECTORS = [
    # V-20: 7 of 28 days; V-24: 20 of 28; V-48: 1 of 31 by an upgrade; V-49: 20 of 31.
    (paid(10_000, 28, utc(2025, 3, 1)), utc(2025, 2, 21), False, "2500"),
    (paid(10_000, 28, utc(2025, 3, 1)), utc(2025, 2, 8), False, "7142.85714"),
    (paid(1_000, 31, utc(2023, 9, 29)), utc(2023, 9, 28, 5), True, "32.25806"),
    (paid(1_000, 31, utc(2024, 4, 1)), utc(2024, 3, 12, 12), True, "645.16129"),
    (paid(1_000, 30, utc(2024, 5, 1)), utc(2024, 4, 30, 23), False, "0"),
    (paid(1_000, 30, utc(2024, 5, 1)), utc(2024, 5, 2), False, "0"),
    (paid(3_000, 30, utc(2024, 5, 1), trial=utc(2024, 4, 21)), utc(2024, 4, 5), False, "1000"),
]


@pytest.mark.parametrize(("period", "ended_at", "upgraded", "amount"), VECTORS)
def test_the_days_that_are_left(period: PaidPeriod, ended_at: datetime, upgraded: bool, amount: str) -> None:
    found = unused_amount(period, ended_at=ended_at, upgraded=upgraded, at_most=Decimal(100_000))
    assert found == Decimal(amount)


@given(
    cents=st.integers(1, 10**7), day=st.integers(0, 29), upgraded=st.booleans(), at_most=st.integers(0, 10**7)
)
def test_what_is_left_is_counted_day_by_day(cents: int, day: int, upgraded: bool, at_most: int) -> None:
    begins = utc(2024, 4, 1)
    ended_at = begins + timedelta(days=day, hours=13)
    days = [begins + timedelta(days=number) for number in range(30)]
    left = [
        each
        for each in days
        if each.date() > ended_at.date() or (upgraded and each.date() == ended_at.date())
    ]
    expected = min(Decimal(cents) * len(left) / 30, Decimal(at_most)).quantize(Decimal("0.00001"), ROUND_DOWN)
    period = paid(cents, 30, utc(2024, 5, 1))
    assert unused_amount(period, ended_at=ended_at, upgraded=upgraded, at_most=Decimal(at_most)) == expected


@given(balances=st.lists(st.integers(1, 500), max_size=6), owed=st.integers(0, 1_500))
def test_the_oldest_balances_pay_first_and_never_too_much(balances: list[int], owed: int) -> None:
    spent = spend([(UUID(int=i), cents) for i, cents in enumerate(balances)], owed)
    assert sum(each.amount_cents for each in spent) == min(sum(balances), owed)
    assert all(0 < each.amount_cents <= balances[each.credit_note_id.int] for each in spent)
    emptied = [each.amount_cents == balances[each.credit_note_id.int] for each in spent]
    assert all(emptied[:-1])
    assert [each.credit_note_id.int for each in spent] == list(range(len(spent)))


def test_the_day_on_which_the_trial_ended_is_not_used() -> None:
    """From the day after on the day of the end is used; a trial that goes beyond the period leaves nothing."""
    ended = utc(2024, 3, 10, 23)
    whole = Decimal(100_000)
    over = unused_amount(
        paid(3_100, 31, utc(2024, 4, 1), trial=utc(2024, 3, 10, 21)),
        ended_at=ended,
        upgraded=False,
        at_most=whole,
    )
    assert over == 22 * 100
    next_day = paid(3_100, 31, utc(2024, 4, 1), trial=utc(2024, 3, 9, 21))
    assert unused_amount(next_day, ended_at=ended, upgraded=False, at_most=whole) == 21 * 100
    beyond = paid(3_100, 31, utc(2024, 4, 1), trial=utc(2024, 4, 2))
    assert unused_amount(beyond, ended_at=ended, upgraded=False, at_most=whole) == 0


def test_an_item_and_a_tax_are_shown_in_whole_cents() -> None:
    assert item("100.5").amount_cents == 101
    found = credit_amounts([item("250", tax("10"))])
    assert [(each.fees_amount_cents, each.amount_cents) for each in found.applied_taxes] == [(250, 25)]
    assert found.taxes_amount_cents == 25
