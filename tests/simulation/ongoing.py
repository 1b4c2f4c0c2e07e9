"""What usage and drafts so far leave of wallets, and the top-ups by threshold that follow (5.6)."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

from . import days, progressive
from .prices import digits, rounded

if TYPE_CHECKING:
    from .oracle import Customer, Oracle
    from .settle import Wallet


def look(oracle: Oracle) -> None:
    """Top up the wallets that have fallen to the thresholds of their rules."""
    for who in oracle.customers.values():
        wallets = sorted(
            (one for one in who.wallets if not one.ended), key=lambda one: (one.priority, one.order)
        )
        watched = [one for one in wallets if tops_up_below(one)]
        used = _used(oracle, who, wallets) if watched else {}
        for wallet in watched:
            unit = wallet.rate * 10 ** oracle.decimals(who)
            ongoing = wallet.balance / unit - digits(used[wallet.id] / unit, 5)
            _top_up(oracle, who, wallet, ongoing)


def tops_up_below(wallet: Wallet) -> bool:
    return wallet.rule is not None and wallet.rule["trigger"] == "threshold"


def _top_up(oracle: Oracle, who: Customer, wallet: Wallet, ongoing: Fraction) -> None:
    pending = sum(
        (
            bill.fees[0].units
            for bill in who.bills
            if bill.fills is wallet and not bill.paid and bill.status != "voided"
        ),
        Fraction(0),
    )
    rule = wallet.rule
    threshold, granted = Fraction(rule["threshold"]), Fraction(rule["granted"])
    if ongoing > threshold or ongoing + pending > threshold:
        return
    paid = Fraction(rule["paid"])
    if rule["target"]:
        gap = Fraction(rule["target"]) - ongoing - pending
        paid, granted = (Fraction(0), gap) if rule["grants"] else (gap, Fraction(0))
    elif not paid:
        granted *= max(floor((threshold - ongoing - pending) / granted) + 1, 1)
    elif (gap := threshold - ongoing - granted - pending) >= paid:
        paid *= floor(gap / paid) + 1
    oracle.played.add("thresholds_of_wallets")
    if paid:
        oracle.sell(who, wallet, paid)
    if granted:
        oracle.grant(who, wallet, granted)


def _used(oracle: Oracle, who: Customer, wallets: list[Wallet]) -> dict[str, Fraction]:
    """What each wallet has to pay: one that tops itself up all that it pays for, else each up to what it has."""
    buckets = _buckets(oracle, who)
    taken = {one.id: Fraction(0) for one in wallets}
    for key in sorted(buckets, key=lambda key: -buckets[key]):
        payers = [one for one in wallets if one.pays(*key)]
        if not payers:
            continue
        rest = buckets[key]
        absorbing = next((one for one in payers if tops_up_below(one)), None)
        for one in [] if absorbing else payers:
            part = min(rest, max(one.balance - taken[one.id], Fraction(0)))
            taken[one.id] += part
            rest -= part
        taken[(absorbing or payers[-1]).id] += rest
    return {name: Fraction(rounded(cents)) for name, cents in taken.items()}


def _buckets(oracle: Oracle, who: Customer) -> dict[tuple[str, str], Fraction]:
    """Usage of the running periods and what is on drafts, with taxes, by kind and metric."""
    found: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for row in oracle.rows:
        if row.customer is who and row.runs:
            first, after = row.usage_period(row.day(oracle.now))
            start, end = max(days.opens(first, row.zone), row.started), days.opens(after, row.zone)
            charges = [charge for charge in row.plan["charges"] if not charge["advance"]]
            fees = [fee for each in charges for fee in oracle.usage_fees(row, each, start, end, first)]
            progressive.take_off_running(oracle, row, fees)
            for fee in fees:
                rate = sum((rate for _, rate in fee.taxes), Fraction(0))
                found["charge", fee.code] += fee.left * (1 + rate / 100)
    for bill in who.bills:
        for fee in bill.fees if bill.status == "draft" else ():
            key = fee.kind, fee.code if fee.kind == "charge" else ""
            found[key] += fee.left + fee.exact_tax
    return found
