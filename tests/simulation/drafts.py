"""Invoices that wait out a grace period: priced again from the events that there are by then, then paid by credits (4.5)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from . import days, progressive, settle
from .settle import Bill

if TYPE_CHECKING:
    from .oracle import Customer, Oracle


def begin(oracle: Oracle, customer: Customer, bill: Bill) -> None:
    """Keep an invoice as a draft, with its taxes and what was billed before, without other credits."""
    oracle.played.add("drafts")
    day = days.day_of(bill.made, customer.zone) + timedelta(days=customer.grace)
    bill.status, bill.final_at = "draft", days.opens(day, customer.zone)
    _price(oracle, bill)
    oracle.keep(customer, bill)


def _price(oracle: Oracle, bill: Bill) -> None:
    for row, why in bill.parts:
        progressive.take_off(oracle, row, why, bill)
    settle.take_taxes(bill)


def waiting(oracle: Oracle) -> list[tuple[Customer, Bill]]:
    """The drafts that there are, the oldest first."""
    found = [(who, bill) for who in oracle.customers.values() for bill in who.bills if bill.status == "draft"]
    return sorted(found, key=lambda each: (each[1].made, each[1].order))


def finalize_due(oracle: Oracle) -> None:
    for customer, bill in waiting(oracle):
        if bill.final_at is not None and bill.final_at <= oracle.now:
            finalize(oracle, customer, bill)


def finalize(oracle: Oracle, customer: Customer, bill: Bill) -> None:
    """Price a draft a last time, pay it by credits, and give back what was paid in advance for nothing."""
    _make_again(oracle, bill)
    bill.status, bill.finalized = "finalized", oracle.now
    oracle.finish(customer, bill)
    for row, _ in bill.parts:
        if row.ended is not None and row.paid is not None and row.paid[1] is bill:
            oracle.give_back(row)


def refresh(oracle: Oracle, bill: Bill) -> None:
    """Price a draft again."""
    _make_again(oracle, bill)
    _price(oracle, bill)


def _make_again(oracle: Oracle, bill: Bill) -> None:
    """Usage and what lacks of a commitment, as of the instant at which the invoice was made."""
    now, oracle.now = oracle.now, bill.made
    stays = [fee for fee in bill.all_fees if fee.kind in {"subscription", "fixed_charge"}]
    gone = [fee for fee in bill.all_fees if not any(fee is each for each in stays)]
    bill.all_fees, bill.earlier, bill.takes_off = stays, 0, []
    for row, why in bill.parts:
        row.fees = [fee for fee in row.fees if not any(fee is each for each in gone)]
        used = [*oracle.usage(row, why, bill.parts)]
        row.fees += used
        missing = [*oracle.commitment(row, why)]
        row.fees += missing
        bill.all_fees = [*bill.all_fees, *used, *missing]
    bill.fees = [fee for fee in bill.all_fees if fee.cents]
    oracle.now = now
