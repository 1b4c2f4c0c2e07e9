"""Coupons on invoices: which fees they are for, their order, what they take, and what is left of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.plan import Plan, PriceVersion
from permille.core.coupon import (
    AppliedCoupon,
    Coupon,
    CouponStatus,
    CouponType,
    Discount,
    Frequency,
    applied_to,
    given_back,
    in_order,
    overlap,
    spread,
    taken_off,
    used,
)
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, Line
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.record import names_of, replace

from .test_invoice_draft import ONE, TWO, customer, draft, fee, half_up, plan, tax

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def coupon(number: int = 1, **fields: Any) -> Coupon:
    """A coupon of 10.00 EUR that is used once."""
    own = {name: fields.pop(name) for name in names_of(Discount) if name in fields}
    is_percentage = "percentage_rate" in own
    if isinstance(own.get("percentage_rate"), str):
        own["percentage_rate"] = Decimal(own["percentage_rate"])
    discount = {
        "coupon_type": CouponType.PERCENTAGE if is_percentage else CouponType.FIXED_AMOUNT,
        "amount_cents": None if is_percentage else 1_000,
        "amount_currency": None if is_percentage else "EUR",
        "percentage_rate": None,
        "frequency": Frequency.ONCE,
        "frequency_duration": None,
        **own,
    }
    columns = {
        "id": UUID(int=number),
        "organization_id": ONE,
        "name": f"C{number}",
        "code": f"c{number}",
        "description": None,
        "discount": Discount(**discount),
        "reusable": True,
        "expiration_at": None,
        "plan_ids": (),
        "billable_metric_ids": (),
        "created_at": NOW,
    }
    return Coupon(**{**columns, **fields})


def applied(number: int = 1, **fields: Any) -> AppliedCoupon:
    """The same, as the first customer has it."""
    return applied_to(coupon(number, **fields), ONE, applied_id=UUID(int=1_000 + number))


def priced(number: int, metrics: dict[int, int], **fields: Any) -> Plan:
    """A plan with charges, charge -> metric by their numbers."""
    charges = tuple(
        SimpleNamespace(id=UUID(int=charge), metric=SimpleNamespace(id=UUID(int=metric)), taxes=())
        for charge, metric in metrics.items()
    )
    return plan(id=UUID(int=number), charges=charges, **fields)


def bill(lines: list[Line], *coupons: AppliedCoupon, **fields: Any) -> InvoiceDraft:
    (made,) = make([draft(*lines, **fields)], Facts(coupons={ONE: in_order(coupons)}))
    return made


def shares(made: InvoiceDraft) -> list[str]:
    return [str(line.discount_cents) for line in made.lines]


def test_coupons_for_metrics_go_first_then_those_for_plans_then_those_for_all() -> None:
    low, high = tax(1, "8"), tax(2, "16")
    one, two = priced(1, {11: 101, 12: 102}), priced(2, {21: 103, 22: 101})
    lines = [
        Line(fee(cents, charge_id=UUID(int=charge)), of, own_taxes=(rate,))
        for cents, charge, of, rate in (
            (1_200, 11, one, low),
            (1_800, 12, one, high),
            (2_500, 21, two, low),
            (600, 22, two, high),
        )
    ]
    made = bill(
        lines,
        applied(1, amount_cents=700),
        applied(2, amount_cents=500, plan_ids=(UUID(int=2),)),
        applied(3, amount_cents=900, billable_metric_ids=(UUID(int=101),)),
    )
    assert [credit.left.code for credit in made.coupons] == ["c3", "c2", "c1"]
    # c3: 900 over 1,200 and 600; c2: 500 over 2,500 and 300; c1: 700 over 600, 1,800, 2,053.57143 and 246.42857
    assert shares(made) == [
        str(Decimal("600.00000") + Decimal("89.36170")),
        "268.08511",
        str(Decimal("446.42857") + Decimal("305.85106")),
        str(Decimal("300.00000") + Decimal("53.57143") + Decimal("36.70213")),
    ]
    assert (made.fees_amount_cents, made.coupons_amount_cents) == (6_100, 2_100)
    assert made.sub_total_excluding_taxes_amount_cents == 4_000
    assert [line.taxed.amount_cents for line in made.lines] == [41, 245, 140, 34]
    assert made.taxes_amount_cents == 459, "of 2,258.35867 at 8 and 1,741.64133 at 16 percent"


def test_a_plan_is_meant_with_its_copies_and_a_metric_in_every_version_of_prices() -> None:
    copy = plan(id=TWO, parent_id=ONE)
    assert bill([Line(fee(100), copy)], applied(plan_ids=(ONE,))).coupons_amount_cents == 100
    (earlier,) = priced(1, {11: 101}).charges
    versions = (PriceVersion(id=ONE, valid_until=None, amount_cents=0, charges=(earlier,)),)
    changed = plan(id=ONE, price_versions=versions)
    by_metric = applied(billable_metric_ids=(UUID(int=101),))
    lines = [
        Line(fee(100, charge_id=UUID(int=11)), changed),
        Line(fee(70, kind="subscription"), changed),
        Line(fee(9)),
    ]
    assert shares(bill(lines, by_metric)) == ["100.00000", "0", "0"]


@pytest.mark.parametrize(
    ("fields", "owed", "expected"),
    [
        ({"amount_cents": 2_500}, [1_000, 1_000, 1_000], [1_000, 1_000, 500]),
        ({"amount_cents": 400}, [1_000, 1_000], [400, 0]),
        ({"percentage_rate": "33.333"}, [1_000, 1_000], [333, 0]),
        ({"percentage_rate": "33.333", "frequency": "forever"}, [1_000, 1_000], [333, 333]),
        (
            {"amount_cents": 300, "frequency": "recurring", "frequency_duration": 2},
            [1_000, 200, 900],
            [300, 200, 0],
        ),
        ({"percentage_rate": "50", "frequency": "recurring", "frequency_duration": 1}, [3, 3], [2, 0]),
        ({"amount_cents": 300, "frequency": "forever"}, [100, 0, 500], [100, 0, 300]),
        ({"amount_cents": 300, "frequency": "recurring", "frequency_duration": 1}, [0, 500], [0, 300]),
        ({"amount_cents": 300, "amount_currency": "USD"}, [1_000], [0]),
    ],
)
def test_how_often_and_how_far_a_coupon_goes(
    fields: dict[str, Any], owed: list[int], expected: list[int]
) -> None:
    """Also within one batch: an invoice that nothing is taken off uses nothing."""
    if "frequency" in fields:
        fields = {**fields, "frequency": Frequency(fields["frequency"])}
    drafts = [draft(Line(fee(cents), plan()), number=number) for number, cents in enumerate(owed)]
    made = make(drafts, Facts(coupons={ONE: [applied(**fields)]}))
    assert [each.coupons_amount_cents for each in made] == expected


def test_coupons_over_the_total_leave_nothing_to_tax_and_the_rest_stays() -> None:
    made = bill(
        [Line(fee(5_000), plan(), own_taxes=(tax(1, "19"),))],
        applied(1, amount_cents=700),
        applied(2, amount_cents=6_000),
        applied(3, percentage_rate="10"),
    )
    assert (made.coupons_amount_cents, made.taxes_amount_cents, made.total_amount_cents) == (5_000, 0, 0)
    assert [(credit.left.code, credit.left.amount_left_cents) for credit in made.coupons] == [
        ("c1", 0),
        ("c2", 1_700),
    ]
    assert [credit.left.is_used_up for credit in made.coupons] == [True, False], (
        "the third has nothing to take off"
    )


def test_a_line_below_zero_has_its_share_below_zero_and_its_taxes_stay() -> None:
    """As what late usage takes of a minimum commitment."""
    vat = tax(1, "20")
    one = priced(1, {11: 101})
    lines = [
        Line(fee(1_200, charge_id=UUID(int=11)), one, own_taxes=(vat,)),
        Line(fee(-200, kind="commitment"), one, own_taxes=(vat,)),
    ]
    made = bill(lines, applied(1, amount_cents=100))
    assert shares(made) == ["120.00000", "-20.00000"]
    assert (made.coupons_amount_cents, made.taxes_amount_cents, made.total_amount_cents) == (100, 180, 1_080)
    made = bill(lines, applied(1, amount_cents=5_000, billable_metric_ids=(UUID(int=101),)))
    assert shares(made) == ["1000.00000", "0"]
    assert (made.coupons_amount_cents, made.taxes_amount_cents, made.total_amount_cents) == (1_000, 0, 0)


@given(
    st.lists(st.integers(-3_000, 9_000), min_size=1, max_size=6), st.lists(st.integers(1, 9_000), max_size=3)
)
def test_discounts_add_up_to_the_amount_and_take_no_fee_past_zero(
    fees: list[int], amounts: list[int]
) -> None:
    discounts = [Decimal(0)] * len(fees)
    for each in amounts:
        base = sum(fees) - sum(discounts, Decimal(0))
        amount = min(each, int(base))
        if amount <= 0:
            break
        taken = spread(amount, base, list(zip(fees, discounts, strict=True)))
        assert abs(base - sum(fees) + sum(taken) - amount) <= len(fees) * Decimal("0.00001")
        discounts = taken
    for place, discount in enumerate(discounts):
        assert min(0, fees[place]) <= discount <= max(0, fees[place])


def test_whether_an_invoice_is_for_nothing_is_decided_before_coupons_and_a_draft_has_none() -> None:
    payer = customer(finalize_zero_amount_invoice="skip")
    paid = bill([Line(fee(100), plan())], applied(), customer=payer)
    assert (paid.status, paid.total_amount_cents) == (InvoiceStatus.FINALIZED, 0)
    waiting = bill([Line(fee(100), plan())], applied(), has_grace_period=True)
    assert (waiting.status, waiting.coupons, waiting.total_amount_cents) == (InvoiceStatus.DRAFT, (), 100)


COUPONS = st.builds(
    lambda number, of, amount, rate, frequency: applied(
        number,
        frequency=frequency,
        frequency_duration=2 if frequency is Frequency.RECURRING else None,
        **({"percentage_rate": Decimal(rate)} if rate else {"amount_cents": amount}),
        **of,
    ),
    st.integers(1, 10**6),
    st.sampled_from(
        [{}, {"plan_ids": (ONE,)}, {"plan_ids": (TWO,)}, {"billable_metric_ids": (UUID(int=101),)}]
    ),
    st.integers(1, 20_000),
    st.sampled_from(["", "", "12.5", "33.333", "100"]),
    st.sampled_from(list(Frequency)),
)


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from([(1, 11), (1, 12), (2, 21)])),
        min_size=1,
        max_size=6,
    ),
    st.lists(COUPONS, max_size=4, unique_by=lambda one: one.id),
)
def test_discounts_are_those_of_fractions(
    fees: list[tuple[int, tuple[int, int]]], some: list[AppliedCoupon]
) -> None:
    plans = {1: priced(1, {11: 101, 12: 102}), 2: priced(2, {21: 101})}
    lines = [Line(fee(cents, charge_id=UUID(int=charge)), plans[of]) for cents, (of, charge) in fees]
    made = bill(lines, *some)
    left = [Fraction(cents) for cents, _ in fees]
    expected: list[tuple[UUID, int]] = []
    for one in in_order(some):
        chosen = [i for i, (_, (of, charge)) in enumerate(fees) if slowly_is_for(one, of, charge)]
        total = sum(cents for cents, _ in fees) - sum(cents for _, cents in expected)
        is_limited = one.plan_ids or one.billable_metric_ids
        whole = sum((left[i] for i in chosen), Fraction(0)) if is_limited else Fraction(total)
        base = min(whole, Fraction(total))
        rate = one.discount.percentage_rate
        worth = half_up(base * Fraction(rate) / 100) if rate is not None else one.discount.amount_cents or 0
        taken = min(worth, int(base))
        if taken:
            expected.append((one.id, taken))
            for i in chosen:
                share = Fraction(half_up(taken * left[i] / base * 100_000), 100_000)
                left[i] = max(left[i] - share, Fraction(0))
    assert [(credit.left.id, credit.amount_cents) for credit in made.coupons] == expected
    assert made.sub_total_excluding_taxes_amount_cents >= 0
    for line, rest in zip(made.lines, left, strict=True):
        assert abs(Fraction(line.fee.amount_cents) - Fraction(line.discount_cents) - rest) < Fraction(
            1, 10_000
        )
        assert 0 <= line.discount_cents <= line.fee.amount_cents


def slowly_is_for(one: AppliedCoupon, of: int, charge: int) -> bool:
    if one.billable_metric_ids:
        return charge in (11, 21)
    return not one.plan_ids or UUID(int=of) in one.plan_ids


@given(COUPONS, st.lists(st.integers(1, 3_000), max_size=5))
def test_what_comes_back_is_what_was_taken(one: AppliedCoupon, owed: list[int]) -> None:
    now = one
    taken: list[int] = []
    for cents in owed:
        if not now.is_used_up and (amount := taken_off(now, cents, "EUR")):
            now, taken = used(now, amount), [*taken, amount]
    for amount in taken:
        now = given_back(now, amount)
    assert now == one
    assert now.status_by_use is CouponStatus.ACTIVE


def test_coupons_for_the_same_fees_overlap() -> None:
    metrics_of = {UUID(int=1): {UUID(int=101)}, UUID(int=2): {UUID(int=102)}}
    first, second = (applied(number, plan_ids=(UUID(int=number),)) for number in (1, 2))
    metric = applied(3, billable_metric_ids=(UUID(int=101), UUID(int=7)))
    same = applied(4, billable_metric_ids=(UUID(int=7),))
    pairs = [
        (first, first),
        (first, second),
        (first, metric),
        (metric, first),
        (second, metric),
        (metric, same),
    ]
    assert [overlap(one, other, metrics_of) for one, other in pairs] == [True, False, True, True, False, True]


def test_a_coupon_can_be_applied_until_it_expires_or_is_deleted() -> None:
    later = replace(coupon(), expiration_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert [later.status(at) for at in (NOW, datetime(2026, 2, 1, tzinfo=UTC))] == ["active", "terminated"]
    deleted = replace(later, deleted_at=NOW)
    assert deleted.terminated_at(datetime(2027, 1, 1, tzinfo=UTC)) == NOW
