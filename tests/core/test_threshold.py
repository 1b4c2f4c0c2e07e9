"""Usage thresholds: which are reached, how far it is to the next, and how what was billed comes off. Section 6.6."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.threshold import (
    UsageThreshold,
    completions,
    reached,
    threshold_json,
    thresholds_of_json,
)
from permille.core.invoice.draft import InvoiceKind, Line
from permille.core.invoice.facts import Facts, PlanPrices
from permille.core.invoice.kinds import make
from permille.core.invoice.progressive import BilledBefore, key_of_fee, spread_credit, unbilled_cents
from permille.core.record import replace
from tests.core.test_commitment import lived
from tests.core.test_invoice_draft import AT, ONE, TAXES, TWO, draft, fee, plan, subscription


def threshold(amount_cents: int, *, recurring: bool = False) -> UsageThreshold:
    columns: dict[str, Any] = {"id": ONE, "threshold_display_name": None, "created_at": AT, "updated_at": AT}
    return UsageThreshold(amount_cents=amount_cents, recurring=recurring, **columns)


def given_thresholds(*amounts: int, recurring: int | None = None) -> list[UsageThreshold]:
    more = [threshold(recurring, recurring=True)] if recurring else []
    return [*map(threshold, amounts), *more]


@pytest.mark.parametrize(
    ("thresholds", "before", "total", "expected"),
    [
        (given_thresholds(300, 900), 0, 299, []),
        (given_thresholds(300, 900), 0, 300, [300]),
        (given_thresholds(900, 300), 0, 5_000, [300, 900]),
        (given_thresholds(300, 900), 300, 899, []),
        (given_thresholds(300, 900), 5_000, 9_000, []),
        (given_thresholds(300, recurring=1_000), 0, 1_299, [300]),
        (given_thresholds(300, recurring=1_000), 0, 1_300, [300, 1_000]),
        (given_thresholds(300, recurring=1_000), 1_300, 1_999, []),
        (given_thresholds(300, recurring=1_000), 1_300, 2_000, [1_000]),
        (given_thresholds(recurring=70), 0, 69, []),
        (given_thresholds(recurring=70), 139, 140, [70]),
        (given_thresholds(recurring=70), 140, 130, []),
        ([], 0, 10, []),
    ],
)
def test_thresholds_on_the_way(
    thresholds: list[UsageThreshold], before: int, total: int, expected: list[int]
) -> None:
    found = reached(thresholds, before_cents=before, total_cents=total)
    assert [each.amount_cents for each in found] == expected
    assert list(thresholds_of_json(map(threshold_json, thresholds))) == thresholds


@given(
    st.sets(st.integers(1, 300), max_size=4),
    st.none() | st.integers(1, 90),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_whatever_the_steps_each_fixed_threshold_is_reached_once_and_the_recurring_one_at_each_multiple(
    amounts: set[int], recurring: int | None, steps: list[int]
) -> None:
    thresholds = given_thresholds(*amounts, recurring=recurring)
    before, found = 0, []
    for step in steps:
        passed = reached(thresholds, before_cents=before, total_cents=before + step)
        found += [each.amount_cents for each in passed if not each.recurring]
        highest = max(amounts, default=0)
        if recurring and before >= highest:
            multiples = [n for n in range(before + 1, before + step + 1) if n % recurring == 0]
            assert any(each.recurring for each in passed) is bool(multiples)
        before += step
    assert sorted(found) == sorted(amount for amount in amounts if amount <= before)


def test_how_far_it_is_to_each_threshold() -> None:
    def shown(total: int, *amounts: int, recurring: int | None = None) -> list[tuple[int, float]]:
        found = completions(given_thresholds(*amounts, recurring=recurring), total)
        return [(each.amount_cents, float(each.ratio)) for each in found]

    assert shown(350, 200, 500, 900) == [(200, 1.0), (500, 0.5), (900, 0.0)]
    assert shown(1_150, 200, 500, recurring=300) == [
        (200, 1),
        (500, 1),
        (800, 1),
        (1_100, 1),
        (1_400, 50 / 300),
    ]
    assert shown(0, recurring=300) == [(300, 0.0)]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=6),
    st.fractions(0, 1),
)
def test_a_credit_is_spread_whole_and_no_fee_comes_to_less_than_nothing(
    fees: list[tuple[int, int]], part: Fraction
) -> None:
    amount = int(sum(cents for cents, _ in fees) * part)
    spread = spread_credit(amount, fees)
    assert sum(spread) == amount
    assert all(0 <= share <= cents for share, (cents, _) in zip(spread, fees, strict=True))
    before = [cents for _, cents in fees]
    if amount == sum(before) and all(billed <= cents for cents, billed in fees):
        assert spread == [Decimal(billed) for billed in before], "what was billed of each"


def test_what_is_left_of_usage_when_some_of_it_was_billed() -> None:
    """Of 400 of a 300 billed the credit has 210 left; another charge and another group are not touched by it."""
    one, group, other = (ONE, None, ()), (ONE, None, (("team", "red"),)), (TWO, None, ())
    before = BilledBefore(invoice_id=TWO, fees_amount_cents=300, left_cents=210, fees={one: 300})
    usage = [(other, 50), (one, 400), (group, 70)]
    assert unbilled_cents(usage, None) == [50, 400, 70]
    assert unbilled_cents(usage, before) == [50, 190, 70]
    assert unbilled_cents([(other, 50), (one, 100), (group, 70)], before) == [50, 0, 0]
    assert unbilled_cents([], before) == []


def test_what_was_billed_before_comes_off_before_taxes_and_is_no_coupon() -> None:
    """Fees of 900 and 300, of which 500 and 100 were billed before: 400 and 200 are taxed, on drafts too."""
    terms = plan(id=ONE, taxes=(TAXES[0],))
    prices = {ONE: PlanPrices.of(terms)}
    (billing,) = lived(subscription(1), terms, until=AT)[:1]
    one, two, other = fee(900, charge_id=ONE), fee(300, charge_id=TWO), fee(70, kind="subscription")
    before = BilledBefore(
        invoice_id=TWO,
        fees_amount_cents=600,
        left_cents=600,
        fees={key_of_fee(one): 500, key_of_fee(two): 100},
    )
    lines = [Line(each, terms) for each in (one, two, other)]
    billed = draft(*lines, billings=(billing,), kind=InvoiceKind.PROGRESSIVE)
    (made,) = make([billed], Facts(prices=prices, billed_before={ONE: before}))
    assert [line.discount_cents for line in made.lines] == [500, 100, 0]
    assert [line.taxed.amount_cents for line in made.lines] == [80, 40, 14]
    assert (made.progressive_billing_credit_amount_cents, made.coupons_amount_cents) == (600, 0)
    assert (made.sub_total_excluding_taxes_amount_cents, made.total_amount_cents) == (670, 804)
    (credit,) = made.progressive_credits
    assert (credit.invoice_id, credit.excess_cents) == (TWO, 0)
    too_much = replace(before, left_cents=1_500)
    (made,) = make([billed], Facts(prices=prices, billed_before={ONE: too_much}))
    (credit,) = made.progressive_credits
    assert (credit.amount_cents, credit.excess_cents) == (1_200, 300)
