"""What may come back of an invoice, and how it is split (semantics-billing.md 7.2 to 7.6, vectors V-86 to V-99)."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.invoice.credit_note import CreditAmounts, CreditedFee, CreditLeft, coupons_in_cents
from permille.core.invoice.crediting import (
    BilledFee,
    BilledInvoice,
    CreditSplit,
    evened,
    item_errors,
    most,
    note_on,
    note_on_all,
    note_on_part,
    note_on_rest,
    split_at_end,
    split_errors,
    with_note,
)
from permille.core.record import replace
from permille.core.tax import Tax, tax_invoice
from tests.core.test_credit_note import tax

ZERO = Decimal(0)


def fee(number: int, cents: int, *taxes: Tax, coupons: str = "0") -> BilledFee:
    """A fee of which nothing came back yet."""
    own = CreditedFee(
        fee_id=UUID(int=number),
        amount_cents=cents,
        precise_coupons_amount_cents=Decimal(coupons),
        taxes=taxes,
    )
    return BilledFee(fee=own, credited_cents=0)


def billed(*fees: BilledFee, **fields: Any) -> BilledInvoice:
    taxes = tax_invoice(
        [(each.fee.amount_cents - each.fee.precise_coupons_amount_cents, each.fee.taxes) for each in fees]
    )
    coupons = sum((each.fee.precise_coupons_amount_cents for each in fees), ZERO)
    known: dict[str, Any] = {
        "is_prepaid": False,
        "is_voided": False,
        "payment_status": "pending",
        "total_cents": 100_000,
        "paid_cents": 0,
        "balances_cents": 0,
        "due_cents": 100_000,
        "credited_cents": 0,
        "given_up_cents": 0,
        "refunded_cents": 0,
        "offset_cents": 0,
        "given_back_cents": 0,
        "left": CreditLeft(
            sub_total_cents=sum(each.fee.amount_cents for each in fees) - coupons_in_cents(coupons),
            taxes_cents=taxes.amount_cents,
        ),
    }
    return BilledInvoice(fees=fees, **{**known, **fields})


def after(invoice: BilledInvoice, note: CreditAmounts) -> BilledInvoice:
    """The invoice once this note is issued as credit."""
    return with_note(invoice, note, CreditSplit(credit_cents=note.total_amount_cents))


VAT = tax("20")


@pytest.mark.parametrize(
    ("fees", "notes", "expected"),
    [
        # fee and amount of each note; its taxes, exactly and rounded, and its total
        ([6_833] * 2, [(0, 6_833), (1, 6_833)], [("1366.6", 1_367, 8_200), ("1366.2", 1_366, 8_199)]),
        ([76_900], [(0, 72_686), (0, 4_214)], [("14537.2", 14_537, 87_223), ("843", 843, 5_057)]),
        (
            [6_833] * 4,
            [(0, 6_833), (1, 6_833), (2, 6_833), (3, 1_367), (3, 2_233), (3, 3_233)],
            [
                ("1366.6", 1_367, 8_200),
                ("1366.6", 1_367, 8_200),
                ("1366.6", 1_367, 8_200),
                ("273.4", 273, 1_640),
                ("446.6", 447, 2_680),
                ("645.4", 645, 3_878),
            ],
        ),
    ],
)
def test_the_last_note_evens_out_how_the_taxes_of_all_were_rounded(
    fees: list[int], notes: list[tuple[int, int]], expected: list[tuple[str, int, int]]
) -> None:
    invoice = billed(*(fee(number, cents, VAT) for number, cents in enumerate(fees)))
    for (number, cents), (precisely, taxes, total) in zip(notes, expected, strict=True):
        note = note_on(invoice, {UUID(int=number): cents})
        assert note.precise_taxes_amount_cents == Decimal(precisely)
        assert (note.taxes_amount_cents, note.total_amount_cents) == (taxes, total)
        invoice = after(invoice, note)
    assert invoice.left_cents == 0


def test_coupons_leave_with_their_fees() -> None:
    shares = ("69.25342", "236.72268", "694.02390")
    invoice = billed(
        *(
            fee(number, cents, VAT, coupons=share)
            for number, (cents, share) in enumerate(zip((1_999, 6_833, 20_033), shares, strict=True))
        )
    )
    expected = [(2_316, 386, 69), (7_915, 1_319, 237), (23_207, 3_868, 694)]
    for number, (total, taxes, coupons) in enumerate(expected):
        note = note_on(invoice, {UUID(int=number): invoice.fees[number].left_cents})
        assert (note.total_amount_cents, note.taxes_amount_cents) == (total, taxes)
        assert round(note.coupons_adjustment_amount_cents) == coupons
        invoice = after(invoice, note)


RATES = (tax("20", 1), tax("5.5", 2), tax("0.25", 3))


@st.composite
def invoices(pull: st.DrawFn) -> BilledInvoice:
    fees = []
    for number in range(pull(st.integers(1, 4))):
        cents = pull(st.integers(1, 10**7))
        coupons = pull(st.decimals(0, cents, places=5)) if pull(st.booleans()) else ZERO
        own = pull(st.sets(st.sampled_from(range(3))))
        fees.append(fee(number, cents, *(RATES[n] for n in sorted(own)), coupons=str(coupons)))
    return billed(*fees)


@given(invoices(), st.lists(st.integers(0, 100), max_size=4))
def test_notes_one_after_the_other_come_to_what_one_for_all_does(
    invoice: BilledInvoice, percents: Sequence[int]
) -> None:
    whole = note_on_all(invoice)
    notes = []
    for percent in (*percents, 100):
        amounts = {each.fee.fee_id: each.left_cents * percent // 100 for each in invoice.fees}
        if not sum(amounts.values()):
            continue
        notes.append(note_on(invoice, amounts))
        invoice = after(invoice, notes[-1])
    assert invoice.left_cents == 0
    sub_totals = sum(note.sub_total_excluding_taxes_amount_cents for note in notes)
    assert sub_totals == whole.sub_total_excluding_taxes_amount_cents
    taxes = sum(note.taxes_amount_cents for note in notes)
    assert taxes == whole.taxes_amount_cents or not notes[-1].applied_taxes
    for note in notes:
        assert sum(each.amount_cents for each in note.applied_taxes) == note.taxes_amount_cents
        items = sum(item.amount_cents for item in note.items)
        assert items - note.coupons_cents == note.sub_total_excluding_taxes_amount_cents


SMALL = ("0.5", "2.5", "7.5", "13.5", "19.6", "50")


@given(st.data())
def test_however_small_notes_are_all_of_them_come_to_what_was_billed(data: st.DataObject) -> None:
    """Each of a few cents may be rounded up: together they give no more than the invoice came to, and in the end just that."""
    pull = data.draw
    taxes = [
        tax(rate, n) for n, rate in enumerate(pull(st.lists(st.sampled_from(SMALL), min_size=1, max_size=3)))
    ]
    cents = pull(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    coupons = [str(pull(st.decimals(0, each, places=5))) if pull(st.booleans()) else "0" for each in cents]
    invoice = billed(
        *(fee(n, each, *taxes, coupons=off) for n, (each, off) in enumerate(zip(cents, coupons, strict=True)))
    )
    all_of_it, given_back = invoice.left, CreditLeft(sub_total_cents=0, taxes_cents=0)
    at_once = note_on_all(invoice)
    while left := [each for each in invoice.fees if each.left_cents]:
        one = pull(st.sampled_from(left))
        note = note_on(invoice, {one.fee.fee_id: pull(st.integers(1, min(one.left_cents, 4)))})
        assert min(note.sub_total_excluding_taxes_amount_cents, note.taxes_amount_cents) >= 0
        assert all(each.amount_cents >= 0 for each in note.applied_taxes)
        assert sum(each.amount_cents for each in note.applied_taxes) == note.taxes_amount_cents
        assert abs(note.total_amount_cents - note.precise_total_amount_cents) <= 1
        invoice = after(invoice, note)
        given_back = CreditLeft(
            sub_total_cents=given_back.sub_total_cents + note.sub_total_excluding_taxes_amount_cents,
            taxes_cents=given_back.taxes_cents + note.taxes_amount_cents,
        )
        assert given_back.sub_total_cents <= all_of_it.sub_total_cents
        assert given_back.taxes_cents <= all_of_it.taxes_cents
    assert given_back == all_of_it
    assert given_back.sub_total_cents + given_back.taxes_cents == at_once.total_amount_cents


@pytest.mark.parametrize("taxes_cents", [0, 3])
def test_taxes_that_were_rounded_on_each_fee_come_back_as_they_were_billed(taxes_cents: int) -> None:
    """An invoice of fees that were paid in advance has the sum of their taxes, which is not that of their amounts."""
    invoice = billed(
        *(fee(n, 2, VAT) for n in range(5)), left=CreditLeft(sub_total_cents=10, taxes_cents=taxes_cents)
    )
    assert note_on_all(invoice).taxes_amount_cents == taxes_cents
    first = note_on(invoice, {UUID(int=n): 2 for n in range(4)})
    assert first.taxes_amount_cents == min(taxes_cents, 2)
    assert (
        note_on(after(invoice, first), {UUID(int=4): 2}).taxes_amount_cents
        == taxes_cents - first.taxes_amount_cents
    )


@given(invoices(), st.integers(0, 100))
def test_a_void_invoice_comes_back_in_two_notes_to_the_cent(invoice: BilledInvoice, percent: int) -> None:
    whole = note_on_all(invoice)
    total = whole.total_amount_cents * percent // 100
    part = note_on_part(invoice, total, whole_cents=whole.total_amount_cents)
    rest = note_on_rest(invoice, part, whole_cents=whole.total_amount_cents)
    assert part.total_amount_cents == total
    assert part.total_amount_cents + rest.total_amount_cents == whole.total_amount_cents
    assert sum(item.amount_cents for note in (part, rest) for item in note.items) == invoice.left_cents
    for note in (part, rest):
        listed = sum(each.amount_cents for each in note.applied_taxes)
        assert listed == note.taxes_amount_cents or not note.applied_taxes


def test_an_item_is_at_most_what_is_left_of_its_fee() -> None:
    invoice = billed(replace(fee(1, 1_000), credited_cents=400))
    assert item_errors(invoice, {UUID(int=1): 600}) is None
    assert item_errors(invoice, {UUID(int=1): 601}) == "higher_than_remaining_fee_amount"
    assert item_errors(invoice, {UUID(int=1): -1}) == "invalid_value"


PAID = {"paid_cents": 500, "payment_status": "pending", "total_cents": 1_200, "due_cents": 700}


@pytest.mark.parametrize(
    ("known", "wanted", "field", "code"),
    [
        (PAID, CreditSplit(refund_cents=501, credit_cents=699), "refund_amount_cents", "higher_than_remaining_invoice_amount"),
        (PAID, CreditSplit(offset_cents=701, credit_cents=499), "offset_amount_cents", "higher_than_remaining_invoice_amount"),
        ({"credited_cents": 2, "offset_cents": 3}, CreditSplit(credit_cents=1_197), "credit_amount_cents", "higher_than_remaining_invoice_amount"),
        ({}, CreditSplit(refund_cents=1_200), "refund_amount_cents", "cannot_refund_unpaid_invoice"),
        ({**PAID, "paid_cents": 1_200}, CreditSplit(refund_cents=1_200), "refund_amount_cents", "cannot_refund_unpaid_invoice"),
        ({"is_prepaid": True}, CreditSplit(credit_cents=1_200), "credit_amount_cents", "cannot_credit_invoice"),
        ({}, CreditSplit(credit_cents=1_202), "base", "does_not_match_item_amounts"),
        ({}, CreditSplit(), "base", "total_amount_must_be_positive"),
        ({}, CreditSplit(credit_cents=-1), "credit_amount_cents", "invalid_value"),
    ],
)  # fmt: skip
def test_parts_that_are_refused(known: dict[str, Any], wanted: CreditSplit, field: str, code: str) -> None:
    invoice = billed(fee(1, 1_000, VAT), **known)
    assert split_errors(invoice, note_on_all(invoice), wanted).get(field) == [code]


def test_the_most_of_each_part() -> None:
    invoice = billed(fee(1, 1_000, VAT), **PAID)
    assert most(invoice, note_on_all(invoice)) == CreditSplit(
        credit_cents=1_200, refund_cents=500, offset_cents=700
    )
    prepaid = billed(fee(1, 1_000), is_prepaid=True, paid_cents=1_000, payment_status="succeeded")
    assert most(prepaid, note_on(prepaid, {UUID(int=1): 10})) == CreditSplit(refund_cents=10)


@given(st.integers(1, 10**6), st.integers(0, 100), st.integers(0, 100), st.integers(-1, 1))
def test_the_cent_that_differs_is_evened_out(cents: int, refund: int, offset: int, off_by: int) -> None:
    """The parts add up to the note, and none is more than there is of it."""
    invoice = billed(fee(1, cents, VAT), paid_cents=cents // 2, total_cents=cents * 2, due_cents=cents // 3)
    note = note_on_all(invoice)
    refunded, taken_off = cents // 2 * refund // 100, cents // 3 * offset // 100
    credit = max(note.total_amount_cents + off_by - refunded - taken_off, 0)
    wanted = CreditSplit(credit_cents=credit, refund_cents=refunded, offset_cents=taken_off)
    if split_errors(invoice, note, wanted):
        return
    kept = evened(invoice, note, wanted)
    assert kept.total_cents == note.total_amount_cents
    assert kept.credit_cents >= 0
    assert 0 <= kept.refund_cents <= invoice.refundable_cents
    assert 0 <= kept.offset_cents <= invoice.due_cents


@pytest.mark.parametrize(
    ("choice", "paid", "due", "expected"),
    [
        ("credit", 7_500, 1_500, CreditSplit(credit_cents=3_000)),
        ("refund", 7_500, 1_500, CreditSplit(credit_cents=1_500, refund_cents=1_500)),
        ("refund", 9_000, 0, CreditSplit(refund_cents=3_000)),
        ("refund", 0, 9_000, CreditSplit(credit_cents=3_000)),
        ("offset", 7_500, 1_500, CreditSplit(refund_cents=1_500, offset_cents=1_500)),
        ("offset", 7_500, 1_000, CreditSplit(credit_cents=500, refund_cents=1_500, offset_cents=1_000)),
    ],
)
def test_the_end_of_a_subscription(choice: str, paid: int, due: int, expected: CreditSplit) -> None:
    """75.00 and 20 % for three weeks, of which one is not used; V-21 in other words."""
    found = split_at_end(
        choice,
        total_cents=3_000,
        used_cents=Decimal(6_000),
        paid_cents=Decimal(paid),
        refundable_cents=paid,
        due_cents=due,
    )
    assert found == expected
