"""Invoices that are voided with credit notes: one for what is asked for, and one that is void itself for the rest (4.8)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .prices import rounded
from .settle import Note

if TYPE_CHECKING:
    from .oracle import Action, Oracle
    from .settle import Bill


def parts(oracle: Oracle, action: Action) -> tuple[int, int]:
    """What is credited and what is refunded, so much of each as there is."""
    found = oracle.bill(action["bill"])
    if found is None:
        return 0, 0
    _, bill = found
    whole = _creditable(bill)
    credit = rounded(whole * Fraction(action["credit"]))
    refund = min(rounded(whole * Fraction(action["refund"])), whole - credit, bill.paid - bill.refunded)
    return credit, max(refund, 0)


def _creditable(bill: Bill) -> int:
    """What a note on all that is left comes to; credits that were sold come back by no note."""
    return 0 if bill.fills else sum(bill.note((fee, fee.cents - rounded(fee.credited)) for fee in bill.fees))


def void(oracle: Oracle, action: Action) -> bool:
    """Coupons come back; what wallets and credit notes have paid does not."""
    found = oracle.bill(action["bill"])
    if found is None or found[1].status != "finalized":
        return False
    who, bill = found
    credit, refund = parts(oracle, action)
    rest = _creditable(bill) - credit - refund
    if credit + refund:
        oracle.played |= {"voided_with_credit"} if credit else set()
        oracle.played |= {"voided_with_refund"} if refund else set()
        oracle.give(who, bill, Note(credit + refund, credit, credit, oracle.now))
    if rest:
        oracle.give(who, bill, Note(rest, rest, 0, oracle.now))
    bill.status = "voided"
    bill.refunded += refund
    for fee in bill.fees:
        fee.credited = Fraction(fee.cents)
    for coupon, cents in bill.used_coupons:
        coupon.use(-cents, -1)
    return True
