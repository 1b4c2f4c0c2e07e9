"""What credits are worth, and which wallets pay which fees of an invoice (semantics-billing.md 5.6, 5.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, strategies as st

from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import Line
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.invoice.steps.prepaid_credits import buckets
from permille.core.record import names_of
from permille.core.wallet import (
    FeeBucket,
    FilledWallet,
    Lot,
    Spending,
    Wallet,
    Worth,
    credits_to_take,
    cut_credits,
    spend,
    take,
    worth_of,
    worth_to_void,
)

from .test_invoice_draft import AT, ONE, draft, fee
from .test_tax import half_up, tax


def wallet(number: int, cents: int, **fields: Any) -> Wallet:
    columns = {
        "id": UUID(int=number),
        "customer_id": ONE,
        "status": "active",
        "currency": "EUR",
        "code": f"w{number}",
        "priority": 50,
        "rate_amount": Decimal(1),
        "fee_types": (),
        "billable_metric_ids": (),
        "balance_cents": cents,
        "credits_balance": Decimal(cents) / 100,
    }
    return Wallet(**{**dict.fromkeys(names_of(Wallet)), **columns, **fields})


def filled(number: int, *lots: int, granted: int = 99, **fields: Any) -> FilledWallet:
    """A wallet with these lots; the first so many were given for nothing."""
    rows = tuple(
        Lot(
            id=UUID(int=100 * number + i),
            wallet_id=UUID(int=number),
            remaining_amount_cents=cents,
            is_granted=i < granted,
        )
        for i, cents in enumerate(lots)
    )
    return FilledWallet(wallet=wallet(number, sum(lots), **fields), lots=rows)


def bucket(
    cents: str, kind: FeeKind = FeeKind.CHARGE, metric: int | None = None, target: str | None = None
) -> FeeBucket:
    return FeeBucket(kind, UUID(int=metric) if metric else None, target, Decimal(cents))


def amounts(spent: list[Spending]) -> dict[str, int]:
    return {each.wallet.code: each.amount_cents for each in spent}


@pytest.mark.parametrize(
    ("given_credits", "rate", "currency", "cents", "credits_"),
    [
        ("17.9699999999999988631316", "1", "EUR", 1797, "17.97"),
        ("1.23456789", "2", "EUR", 247, "1.235"),
        ("7", "3", "JPY", 21, "7"),
        ("0.5", "1", "JPY", 1, "1"),
        ("1.0005", "1", "KWD", 1001, "1.001"),
        ("0.001", "1", "USD", 0, "0"),
    ],
)
def test_credits_snap_to_whole_cents(
    given_credits: str, rate: str, currency: str, cents: int, credits_: str
) -> None:
    worth = worth_of(cut_credits(Decimal(given_credits)), Decimal(rate), currency)
    assert worth == Worth(cents, Decimal(credits_))


def test_voided_credits_stay_exact_and_all_of_them_are_all_the_money() -> None:
    full = wallet(1, 10_000)
    assert worth_to_void(full, cut_credits(Decimal("14.28444999"))) == Worth(1428, Decimal("14.28444"))
    odd = wallet(1, 8572, credits_balance=Decimal("85.71556"))
    assert worth_to_void(odd, Decimal("85.71556")) == Worth(8572, Decimal("85.71556"))
    assert credits_to_take(odd, 8572) == Decimal("85.71556")
    assert credits_to_take(odd, 2200) == 22
    assert credits_to_take(
        wallet(1, 100_000, rate_amount=Decimal(10), credits_balance=Decimal(100)), 2200
    ) == Decimal("2.2")


def test_lots_are_taken_one_after_the_other() -> None:
    rows = filled(1, 3_000, 5_000, 700).lots
    assert [part.amount_cents for part in take(rows, 6_000)] == [3_000, 3_000]
    assert [part.amount_cents for part in take(rows, 8_700)] == [3_000, 5_000, 700]


def test_nothing_is_taken_of_a_lot_that_is_empty() -> None:
    """An invoice of the same run may have emptied it."""
    assert [part.amount_cents for part in take(filled(1, 0, 500).lots, 200)] == [200]


def test_the_worked_example() -> None:
    """5.7: a limited wallet serves its metric, the other one the largest fees first."""
    some = [bucket("18001.7991", FeeKind.SUBSCRIPTION), bucket("7013.2009", metric=1)]
    limited, free = filled(1, 3_000, billable_metric_ids=(UUID(int=1),)), filled(2, 10_000)
    assert amounts(spend([limited, free], some, 25_015)) == {"w1": 3_000, "w2": 10_000}
    assert amounts(spend([filled(1, 30_000)], some, 25_015)) == {"w1": 25_015}


@pytest.mark.parametrize(
    ("limits", "paid"),
    [
        ({"fee_types": ("charge",)}, 700),
        ({"fee_types": ("subscription",), "billable_metric_ids": (UUID(int=2),)}, 500),
        ({"billable_metric_ids": (UUID(int=1),)}, 300),
        ({"code": "mine"}, 1_100),
        ({}, 1_000),
        ({"fee_types": ("commitment",)}, 0),
    ],
)
def test_limits_are_either_or_and_usage_may_name_its_wallet(limits: dict[str, Any], paid: int) -> None:
    some = [
        bucket("300", metric=1),
        bucket("200", metric=2),
        bucket("200", metric=3),
        bucket("300", FeeKind.SUBSCRIPTION),
        bucket("100", metric=1, target="mine"),
    ]
    spent = spend([filled(1, 5_000, **limits)], some, 1_100)
    assert sum(each.amount_cents for each in spent) == paid


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6), st.integers(0, 99)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 10**6), st.sets(st.integers(0, 3))), max_size=4),
)
def test_wallets_pay_as_a_slow_oracle_says(
    fees: list[tuple[int, int, int]], wallets: list[tuple[int, set[int]]]
) -> None:
    """Fractions, a bucket for each metric, and one wallet after the other."""
    left: dict[int, Fraction] = {}
    for metric, cents, hundredths in fees:
        left[metric] = left.get(metric, Fraction(0)) + cents + Fraction(hundredths, 100)
    total = half_up(sum(left.values(), Fraction(0)))
    some = [
        FeeBucket(FeeKind.CHARGE, UUID(int=1 + metric), None, Decimal(value.numerator) / value.denominator)
        for metric, value in left.items()
    ]
    rows = [
        filled(number, cents, billable_metric_ids=tuple(UUID(int=1 + each) for each in only))
        for number, (cents, only) in enumerate(wallets, start=1)
    ]
    spent = spend(rows, some, total)

    order = sorted(left, key=lambda metric: -left[metric])
    lacking = total - sum(left.values(), Fraction(0))
    if 0 < lacking <= len(left):
        left[order[0]] += lacking
    expected, owed = {}, total
    for number, (cents, only) in enumerate(wallets, start=1):
        taken = Fraction(0)
        for metric in order:
            if not only or metric in only:
                part = min(left[metric], cents - taken, owed - taken)
                left[metric] -= part
                taken += part
        whole = min(half_up(taken), owed, cents)
        if whole:
            expected[f"w{number}"] = whole
            owed -= whole
    assert amounts(spent) == expected
    assert sum(expected.values()) <= total
    for each in spent:
        assert sum(part.amount_cents for part in each.parts) == each.amount_cents


def test_invoices_of_a_batch_share_wallets_and_tell_given_from_bought() -> None:
    vat = tax(1, "40")
    rows = [Line(fee(0, Decimal("0.4")), own_taxes=(vat,)) for _ in range(6)] + [
        Line(fee(1, Decimal(1)), own_taxes=(vat,)) for _ in range(2)
    ]
    wallets = {
        (ONE, "EUR"): [filled(1, 2, 3, granted=1), filled(2, 5, expiration_at=AT + timedelta(seconds=1))]
    }
    small, second, third, late = make(
        [
            draft(*rows),
            draft(Line(fee(6)), number=8),
            draft(Line(fee(9)), number=9),
            draft(Line(fee(9)), number=10, made_at=datetime(2026, 3, 1, tzinfo=UTC)),
        ],
        Facts(wallets=wallets),
    )
    assert (small.fees_amount_cents, small.taxes_amount_cents, small.prepaid_credit_amount_cents) == (2, 1, 3)
    assert (small.prepaid_granted_credit_amount_cents, small.prepaid_purchased_credit_amount_cents) == (2, 1)
    assert (small.total_amount_cents, small.payment_status) == (0, "succeeded")
    assert [each.amount_cents for each in second.prepaid] == [2, 4]
    assert (third.prepaid_credit_amount_cents, third.total_amount_cents) == (1, 8)
    assert (late.prepaid, late.prepaid_granted_credit_amount_cents) == ((), None)


def test_an_expired_wallet_and_another_currency_pay_nothing() -> None:
    wallets = {(ONE, "EUR"): [filled(1, 500, expiration_at=AT)], (ONE, "USD"): [filled(2, 500)]}
    (made,) = make([draft(Line(fee(100)))], Facts(wallets=wallets))
    assert (made.prepaid, made.total_amount_cents) == ((), 100)


def test_credit_notes_pay_before_wallets() -> None:
    facts = Facts(balances={(ONE, "EUR"): [(UUID(int=9), 40)]}, wallets={(ONE, "EUR"): [filled(1, 500)]})
    (made,) = make([draft(Line(fee(100)))], facts)
    assert (made.credit_notes_amount_cents, made.prepaid_credit_amount_cents) == (40, 60)


@given(
    st.lists(
        st.tuples(st.integers(-50, 500), st.integers(-49, 49), st.sampled_from(["0", "19", "300"])),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 9_000),
)
@example([(10, -49, "300")] * 4, 9_000)
def test_one_wallet_for_everything_pays_what_all_kinds_of_fees_come_to(
    fees: list[tuple[int, int, str]], balance: int
) -> None:
    """The same as by the amounts of each kind of fees, also where rounding leaves them short of the total."""
    rows = [
        Line(fee(cents, cents + Decimal(hundredths) / 100), own_taxes=(tax(1, rate),))
        for cents, hundredths, rate in fees
    ]
    (unpaid,) = make([draft(*rows)], Facts())
    facts = Facts(wallets={(ONE, "EUR"): [filled(1, balance)]})
    (made,) = make([draft(*rows)], facts)
    owed = max(unpaid.total_amount_cents, 0)
    expected = spend([filled(1, balance)], buckets(unpaid, facts), owed) if owed else []
    assert amounts(list(made.prepaid)) == amounts(expected)
