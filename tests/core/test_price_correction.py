"""Corrections of an invoice by corrected prices: for any lines, what comes back is the difference, once, and never more than a fee has."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from hypothesis import given, strategies as st

from permille.core.invoice.late_usage import Line
from permille.core.invoice.price_correction import (
    BilledLine,
    Correction,
    CorrectionProblem,
    CorrectionStatus,
    RepricedCharge,
    correction,
)


def line(model: str, cents: int, *, units: int = 1, since: str | None = None, unpriced: bool = False) -> Line:
    return Line(
        charge_filter_id=None,
        grouped_by={"model": model, "price_since": since},
        is_true_up=False,
        units=Decimal(units),
        events_count=units,
        amount_cents=cents,
        precise_amount_cents=Decimal(cents),
        is_unpriced=unpriced,
    )


def billed(number: int, of: Line, left: int | None = None) -> BilledLine:
    left_cents = of.amount_cents if left is None else left
    return BilledLine(fee_id=UUID(int=number), line=of, left_cents=left_cents)


CENTS = st.integers(min_value=0, max_value=1_000)
LINES = st.lists(st.tuples(CENTS, CENTS, CENTS), min_size=1, max_size=5)
"""What was billed of a model, what it would be, and what came back of it by other notes."""


@given(charges=st.lists(LINES, min_size=1, max_size=3))
def test_what_comes_back_is_the_difference_as_far_as_what_became_cheaper_has_it(
    charges: list[list[tuple[int, int, int]]],
) -> None:
    repriced, cheaper = [], 0
    for place, lines in enumerate(charges):
        before = [
            billed(10 * place + nth, line(str(nth), cents), max(cents - back, 0))
            for nth, (cents, _, back) in enumerate(lines)
        ]
        # Corrected prices may split a line at another date.
        now = [line(str(nth), cents, since="2026-11-10") for nth, (_, cents, _) in enumerate(lines)]
        repriced.append(RepricedCharge(billed=before, now=now))
        cheaper += sum(max(min(cents - new, cents - back), 0) for cents, new, back in lines)
    found = correction(repriced, credited_cents=0)
    owed = sum(cents - new for lines in charges for cents, new, _ in lines)
    assert found.difference_cents == -owed
    assert sum(found.items.values()) == max(min(owed, cheaper), 0)
    left = {each.fee_id: each.left_cents for charge in repriced for each in charge.billed}
    assert all(0 < cents <= left[fee_id] for fee_id, cents in found.items.items())
    if owed > 0:
        assert (found.status is CorrectionStatus.TO_CREDIT) == (cheaper > 0)
        assert found.problem is (None if cheaper else CorrectionProblem.NOTHING_LEFT)
    else:
        assert found.status is (CorrectionStatus.CUSTOMER_OWES if owed else CorrectionStatus.EVEN)


def one(now: list[Line], *before: Line, credited: int = 0) -> Correction:
    lines = [billed(nth, each, each.amount_cents) for nth, each in enumerate(before)]
    return correction([RepricedCharge(billed=lines, now=now)], credited_cents=credited)


def test_a_line_that_is_split_or_joined_is_the_same_usage() -> None:
    split = [line("a", 30, units=3), line("a", 40, units=2, since="2026-11-10")]
    assert one(split, line("a", 100, units=5)).items == {UUID(int=0): 30}
    joined = one([line("a", 50, units=5)], *split)
    assert joined.items == {UUID(int=0): 20}
    assert one([line("a", 70, units=5)], line("a", 100, units=5), credited=30).status is CorrectionStatus.EVEN


def test_other_usage_and_usage_without_a_price_are_problems() -> None:
    assert one([line("a", 70, units=4)], line("a", 100, units=5)).problem is CorrectionProblem.USAGE_CHANGED
    assert one([], line("a", 100)).problem is CorrectionProblem.USAGE_CHANGED
    unpriced = one([line("a", 0, unpriced=True)], line("a", 100))
    assert (unpriced.problem, unpriced.items, unpriced.is_priced) == (CorrectionProblem.UNPRICED, {}, False)
    assert one([line("a", 0, unpriced=True)], line("a", 0)).status is CorrectionStatus.EVEN
