"""Invoices that wait out a grace period: priced again from the events that there are by then, then paid by credits (4.5)."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from . import days, plan_fees, progressive, settle
from .prices import rounded
from .settle import Bill, Fee

if TYPE_CHECKING:
    from .oracle import Customer, Oracle


def begin(oracle: Oracle, customer: Customer, bill: Bill) -> None:
    """Keep an invoice as a draft, with its taxes and what was billed before, without other credits."""
    if customer.grace:
        oracle.played.add("drafts")
    day = days.day_of(bill.made, customer.zone) + timedelta(days=customer.grace)
    bill.status, bill.final_at = "draft", days.opens(day, customer.zone)
    _price(oracle, bill)
    oracle.keep(customer, bill)


def _price(oracle: Oracle, bill: Bill) -> None:
    for row, why in bill.parts:
        progressive.take_off(oracle, row, why, bill)
    settle.take_taxes(bill)
    bill.waits, bill.is_released = has_no_price(bill), False


def has_no_price(bill: Bill) -> bool:
    """Whether usage on it is held until it has a price."""
    return any(fee.is_held for fee in bill.all_fees)


def waiting(oracle: Oracle) -> list[tuple[Customer, Bill]]:
    """The drafts that there are, the oldest first."""
    found = [(who, bill) for who in oracle.customers.values() for bill in who.bills if bill.status == "draft"]
    return sorted(found, key=lambda each: (each[1].made, each[1].order))


def release(oracle: Oracle) -> None:
    """What waits for a price is tried once more."""
    for _, bill in waiting(oracle):
        bill.is_released = True


def due(oracle: Oracle) -> list[tuple[Customer, Bill, datetime]]:
    """The drafts that become final, or are tried, and when."""
    return [
        (who, bill, bill.final_at)
        for who, bill in waiting(oracle)
        if bill.final_at is not None and (bill.is_released or not bill.waits)
    ]


def finalize_due(oracle: Oracle, clock: datetime) -> None:
    """What has waited for a price becomes final as of the clock."""
    found = [(who, bill) for who, bill, at in due(oracle) if at <= oracle.now]
    for has_waited, at in ((False, oracle.now), (True, clock)):
        for customer, bill in [each for each in found if each[1].waits is has_waited]:
            before, oracle.now = oracle.now, at
            finalize(oracle, customer, bill)
            oracle.now = before


def finalize(oracle: Oracle, customer: Customer, bill: Bill) -> bool:
    """Price a draft a last time, pay it by credits, and give back what was paid in advance for nothing.

    One with usage that has no price stays a draft.
    """
    has_waited = bill.waits
    _make_again(oracle, bill)
    if has_no_price(bill):
        _price(oracle, bill)
        return False
    if has_waited:
        oracle.played.add("catalogue_priced_later")
    bill.status, bill.finalized = "finalized", oracle.now
    oracle.finish(customer, bill)
    for row, _ in bill.parts:
        if row.ended is not None and row.paid is not None and row.paid[1] is bill:
            oracle.give_back(row)
    return True


def refresh(oracle: Oracle, bill: Bill) -> None:
    """Price a draft again."""
    _make_again(oracle, bill)
    _price(oracle, bill)


def lacks_price(oracle: Oracle, bill: Bill) -> bool:
    """Whether it could not become final now."""
    now, oracle.now = oracle.now, bill.made
    found = [fee for row, why in bill.parts for fee in oracle.usage(row, why, bill.turn)]
    oracle.now = now
    return any(fee.is_held for fee in found)


def _price_fee(fee: Fee) -> None:
    """A plan's own fee, by what the plan costs now."""
    if fee.begin is not None:
        fee.price = plan_fees.of_period(fee.subscription, fee.begin)
        fee.precise = Fraction(fee.price * fee.days, fee.whole_days)
        fee.cents = rounded(fee.precise)


def _make_again(oracle: Oracle, bill: Bill) -> None:
    """Usage and what lacks of a commitment, as of the instant at which the invoice was made."""
    now, oracle.now = oracle.now, bill.made
    bill.counted = oracle.numbers
    stays = [fee for fee in bill.all_fees if fee.is_late or fee.kind in {"subscription", "fixed_charge"}]
    gone = [fee for fee in bill.all_fees if not any(fee is each for each in stays)]
    for fee in stays:
        _price_fee(fee)
    bill.all_fees, bill.earlier, bill.takes_off = stays, 0, []
    for row, why in bill.parts:
        row.fees = [fee for fee in row.fees if not any(fee is each for each in gone)]
        used = [*oracle.usage(row, why, bill.turn)]
        row.fees += used
        missing = [*oracle.commitment(row, why)]
        row.fees += missing
        bill.all_fees = [*bill.all_fees, *used, *missing]
    for fee in bill.all_fees:
        fee.taxes = oracle.taxes_of(fee.subscription, bill.entity)
    bill.fees = [fee for fee in bill.all_fees if fee.cents]
    oracle.now = now
