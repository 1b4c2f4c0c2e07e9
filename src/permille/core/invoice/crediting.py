"""What may still come back of an invoice, and how a note on it is split into credit, refund and offset.

Source: semantics-billing.md sections 7.2 to 7.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

from permille.core.invoice.credit_note import (
    CreditAmounts,
    CreditedFee,
    CreditLeft,
    Item,
    credit_amounts,
)
from permille.core.invoice.payment import PaymentStatus
from permille.core.money import ZERO, apportion, exact, round_cents
from permille.core.record import Record, replace

_TOO_MUCH = "higher_than_remaining_invoice_amount"
_FIVE_DECIMALS = Decimal("0.00001")
_TOLERANCE = 1
"""Cents that what is asked for may differ from what its items come to."""


class BilledFee(Record, kw_only=True):
    """A fee, and what came back of it already, in cents before taxes."""

    fee: CreditedFee
    credited_cents: int

    @property
    def left_cents(self) -> int:
        return self.fee.amount_cents - self.credited_cents


class BilledInvoice(Record, kw_only=True):
    """A final invoice with all that was paid and came back of it, in cents."""

    fees: Sequence[BilledFee]
    is_prepaid: bool
    """Whether it is for prepaid credits: of these nothing but refunds comes back."""
    is_voided: bool
    payment_status: PaymentStatus
    total_cents: int
    paid_cents: int
    """By payments, nothing once a dispute about them was lost: the bank has given them back."""
    balances_cents: int
    """What credit notes and wallets have paid of it."""
    due_cents: int
    credited_cents: int
    """With taxes, as all that follows."""
    given_up_cents: int
    """What of that credit was given up, unspent."""
    refunded_cents: int
    offset_cents: int
    given_back_cents: int
    """What its void has given back to wallets."""
    left: CreditLeft
    """What its notes have left of it."""

    @property
    def billed_cents(self) -> int:
        """All fees with their taxes, before coupons."""
        with exact():
            rates = [(each.fee.amount_cents, each.fee.taxes) for each in self.fees]
            taxes = sum((cents * tax.rate / 100 for cents, own in rates for tax in own), ZERO)
            return sum(cents for cents, _ in rates) + round_cents(taxes)

    @property
    def refundable_cents(self) -> int:
        """What was paid and not refunded; nothing while it is unclear whether it was paid."""
        if self.paid_cents == self.total_cents and self.payment_status is not PaymentStatus.SUCCEEDED:
            return 0
        return max(self.within_kept(self.paid_cents - self.refunded_cents), 0)

    @property
    def kept_cents(self) -> int:
        """What it was paid with less what the customer has back of it, below zero where that is more."""
        paid = self.paid_cents + self.balances_cents
        return paid - self.credited_cents + self.given_up_cents - self.refunded_cents - self.given_back_cents

    def within_kept(self, cents: int) -> int:
        """The cents as far as the customer does not have them back: nothing is due of a voided invoice any more."""
        return max(min(cents, self.kept_cents), 0) if self.is_voided else cents

    @property
    def left_cents(self) -> int:
        """What is left of its fees, before taxes and coupons."""
        return sum(each.left_cents for each in self.fees)


class CreditSplit(Record, kw_only=True):
    """The three parts of a note, in cents with taxes."""

    credit_cents: int = 0
    """For later invoices."""
    refund_cents: int = 0
    """Paid back."""
    offset_cents: int = 0
    """Taken off what is due on the invoice itself."""

    @property
    def total_cents(self) -> int:
        return self.credit_cents + self.refund_cents + self.offset_cents


NO_PARTS = CreditSplit()


def item_errors(invoice: BilledInvoice, amounts: Mapping[UUID, int]) -> str | None:
    """Why these amounts of fees cannot come back, None when they can."""
    left = {each.fee.fee_id: each.left_cents for each in invoice.fees}
    if any(cents < 0 for cents in amounts.values()):
        return "invalid_value"
    if any(cents > left[fee_id] for fee_id, cents in amounts.items()):
        return "higher_than_remaining_fee_amount"
    return None


def note_on(invoice: BilledInvoice, amounts: Mapping[UUID, int]) -> CreditAmounts:
    """What a note on so much of these fees comes to."""
    known = {each.fee.fee_id: each.fee for each in invoice.fees}
    items = [
        Item(fee=known[fee_id], precise_amount_cents=Decimal(cents)) for fee_id, cents in amounts.items()
    ]
    return note_of(invoice, items)


def note_of(invoice: BilledInvoice, items: Sequence[Item]) -> CreditAmounts:
    """What a note of these items comes to; the last one evens out how coupons and taxes of all were rounded."""
    is_last = 0 < sum(item.amount_cents for item in items) == invoice.left_cents
    return credit_amounts(items, left=invoice.left, is_last=is_last)


def note_on_all(invoice: BilledInvoice) -> CreditAmounts:
    """What a note on all that is left comes to."""
    return note_on(invoice, _left(invoice))


def note_on_part(invoice: BilledInvoice, total_cents: int, *, whole_cents: int) -> CreditAmounts:
    """A note on a part of all that is left, which comes to exactly this total with taxes; each fee has its share.

    `whole_cents` is what a note on all would come to.
    """
    items = _shares(invoice, total_cents, whole_cents)
    is_last = total_cents == whole_cents
    return credit_amounts(items, left=invoice.left, is_last=is_last, total_cents=total_cents)


def note_on_rest(invoice: BilledInvoice, part: CreditAmounts, *, whole_cents: int) -> CreditAmounts:
    """A note on what the one on a part leaves: the two come to what one on all would."""
    with exact():
        items = [
            Item(
                fee=item.fee,
                precise_amount_cents=left - item.precise_amount_cents,
                rounded_cents=left - item.amount_cents,
            )
            for item, left in zip(part.items, _left(invoice).values(), strict=True)
        ]
    return credit_amounts(
        items,
        left=_left_after(invoice.left, part),
        is_last=True,
        total_cents=whole_cents - part.total_amount_cents,
    )


def items_worth(fees: Sequence[BilledFee], cents: int) -> list[Item]:
    """What is left of fees, in proportion, so that it comes to these cents once their coupons have gone with it.

    Where less is left it is all of that.
    """
    with exact():
        left = [(each.fee, each.left_cents) for each in fees if each.left_cents > 0]
        worth = sum((_worth(fee, of) for fee, of in left), ZERO)
        share = min(cents / worth, Decimal(1)) if worth > 0 else ZERO
        items = [
            Item(fee=fee, precise_amount_cents=(of * share).quantize(_FIVE_DECIMALS, ROUND_DOWN))
            for fee, of in left
        ]
    return [item for item in items if item.precise_amount_cents]


def worth_of(items: Sequence[Item]) -> int:
    """What items come to once their coupons have gone with them, in cents."""
    with exact():
        return round_cents(sum((_worth(item.fee, item.precise_amount_cents) for item in items), ZERO))


def with_note(invoice: BilledInvoice, amounts: CreditAmounts, split: CreditSplit) -> BilledInvoice:
    """The invoice once this note is issued."""
    came_back = {item.fee.fee_id: item.amount_cents for item in amounts.items}
    return replace(
        invoice,
        fees=[
            replace(each, credited_cents=each.credited_cents + came_back.get(each.fee.fee_id, 0))
            for each in invoice.fees
        ],
        due_cents=invoice.due_cents - split.offset_cents,
        credited_cents=invoice.credited_cents + split.credit_cents,
        refunded_cents=invoice.refunded_cents + split.refund_cents,
        offset_cents=invoice.offset_cents + split.offset_cents,
        left=_left_after(invoice.left, amounts),
    )


def _left_after(left: CreditLeft, amounts: CreditAmounts) -> CreditLeft:
    with exact():
        return CreditLeft(
            sub_total_cents=left.sub_total_cents - amounts.sub_total_excluding_taxes_amount_cents,
            taxes_cents=left.taxes_cents - amounts.taxes_amount_cents,
            rounded_up=left.rounded_up + amounts.taxes_amount_cents - amounts.precise_taxes_amount_cents,
        )


def _worth(fee: CreditedFee, of: Decimal | int) -> Decimal:
    return of - fee.precise_coupons_amount_cents * of / fee.amount_cents


def _left(invoice: BilledInvoice) -> dict[UUID, int]:
    """Fee -> what is left of it, where anything is."""
    return {each.fee.fee_id: each.left_cents for each in invoice.fees if each.left_cents}


def _shares(invoice: BilledInvoice, total_cents: int, whole: int) -> list[Item]:
    fees = [each for each in invoice.fees if each.left_cents]
    with exact():
        shares = [Decimal(each.left_cents * total_cents) / (whole or 1) for each in fees]
    return [
        Item(fee=each.fee, precise_amount_cents=share, rounded_cents=cents)
        for each, share, cents in zip(fees, shares, apportion(shares), strict=True)
    ]


def most(invoice: BilledInvoice, amounts: CreditAmounts) -> CreditSplit:
    """The most that each part of a note with these amounts may be, if the others are nothing."""
    total = amounts.total_amount_cents
    return CreditSplit(
        credit_cents=0 if invoice.is_prepaid else invoice.within_kept(total),
        refund_cents=min(total, invoice.refundable_cents),
        offset_cents=0 if invoice.is_prepaid else max(min(total, invoice.due_cents), 0),
    )


def split_errors(invoice: BilledInvoice, amounts: CreditAmounts, wanted: CreditSplit) -> dict[str, list[str]]:
    """Why a note with these amounts cannot be split like that, by field."""
    found: dict[str, str | None] = {
        "refund_amount_cents": _refund_error(invoice, wanted.refund_cents),
        "credit_amount_cents": _credit_error(invoice, wanted.credit_cents),
        "offset_amount_cents": _offset_error(invoice, wanted.offset_cents),
        "base": _base_error(invoice, amounts, wanted),
    }
    return {name: [code] for name, code in found.items() if code is not None}


def _refund_error(invoice: BilledInvoice, cents: int) -> str | None:
    if cents < 0:
        return "invalid_value"
    is_unpaid = not invoice.paid_cents or (
        invoice.paid_cents == invoice.total_cents and invoice.payment_status is not PaymentStatus.SUCCEEDED
    )
    if cents and is_unpaid:
        return "cannot_refund_unpaid_invoice"
    return _TOO_MUCH if cents > invoice.refundable_cents else None


def _credit_error(invoice: BilledInvoice, cents: int) -> str | None:
    if cents < 0:
        return "invalid_value"
    if cents and invoice.is_prepaid:
        return "cannot_credit_invoice"
    left = invoice.billed_cents - invoice.credited_cents - invoice.offset_cents
    return _TOO_MUCH if cents > left + _TOLERANCE else None


def _offset_error(invoice: BilledInvoice, cents: int) -> str | None:
    if cents < 0:
        return "invalid_value"
    if cents and invoice.is_prepaid:
        return "cannot_apply_to_paid_invoice"
    return _TOO_MUCH if cents > invoice.due_cents else None


def _base_error(invoice: BilledInvoice, amounts: CreditAmounts, wanted: CreditSplit) -> str | None:
    if wanted.total_cents <= 0 or amounts.total_amount_cents <= 0:
        return "total_amount_must_be_positive"
    if amounts.total_amount_cents > invoice.within_kept(amounts.total_amount_cents):
        return _TOO_MUCH
    with exact():
        precisely = round_cents(amounts.precise_total_amount_cents)
    if abs(wanted.total_cents - precisely) > _TOLERANCE:
        return "does_not_match_item_amounts"
    return None


def evened(invoice: BilledInvoice, amounts: CreditAmounts, wanted: CreditSplit) -> CreditSplit:
    """The parts as they are kept: they add up to the note's total, and the cent that differs is in the credit.

    Without credit it is in the refund or the offset, as far as that much was paid or is due.
    """
    credit, refund, offset = wanted.credit_cents, wanted.refund_cents, wanted.offset_cents
    rest = amounts.total_amount_cents - wanted.total_cents
    if rest > 0 and not credit and refund and refund + rest <= invoice.refundable_cents:
        refund += rest
    elif rest > 0 and not credit and offset and offset + rest <= invoice.due_cents:
        offset += rest
    elif rest > 0:
        credit += rest
    else:
        from_credit = min(credit, -rest)
        from_refund = min(refund, -rest - from_credit)
        credit, refund = credit - from_credit, refund - from_refund
        offset -= -rest - from_credit - from_refund
    return CreditSplit(credit_cents=credit, refund_cents=refund, offset_cents=offset)


def split_at_end(
    choice: str | None,
    *,
    total_cents: int,
    used_cents: Decimal,
    paid_cents: Decimal,
    refundable_cents: int,
    due_cents: int,
) -> CreditSplit:
    """The parts of the note for what is paid and not used when a subscription ends (section 7.6).

    `used_cents` is what was used, with taxes, and `paid_cents` what was paid of the fee. What was paid beyond what was
    used is refunded where that is chosen, and the rest is credit, or comes off what is due on the invoice.
    """
    if choice not in ("refund", "offset"):
        return CreditSplit(credit_cents=total_cents)
    with exact():
        refund = max(min(round_cents(paid_cents - used_cents), total_cents, refundable_cents), 0)
    offset = min(total_cents - refund, max(due_cents, 0)) if choice == "offset" else 0
    return CreditSplit(credit_cents=total_cents - refund - offset, refund_cents=refund, offset_cents=offset)
