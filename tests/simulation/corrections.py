"""What comes back of final invoices for prices of the catalogue that were approved from a past day on (docs/catalogue.md)."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import days
from .prices import rounded
from .settle import Bill, Fee, Note

if TYPE_CHECKING:
    from datetime import datetime

    from .oracle import Customer, Oracle, Subscription

METRIC = "llm_tokens"


def credit(oracle: Oracle, place: int) -> None:
    """Make the notes of all invoices that a version corrects."""
    version = oracle.versions[-1 - place % len(oracle.versions)]
    since = days.opens(version.since, "UTC")
    found = [
        (who, bill)
        for who in oracle.customers.values()
        for bill in who.bills
        if bill.status == "finalized" and (bill.finalized or bill.made) <= version.approved
    ]
    for who, bill in sorted(found, key=lambda each: (each[1].made, each[1].order), reverse=True):
        if items := _items(oracle, who, bill, since):
            _note(oracle, who, bill, items)


def _lines(fees: list[Fee], row: Subscription) -> list[Fee]:
    return [fee for fee in fees if fee.code == METRIC and fee.subscription is row]


def _items(oracle: Oracle, who: Customer, bill: Bill, since: datetime) -> list[tuple[Fee, int]]:
    """So much of each fee: of what has become cheaper, as far as it has, less what others have become dearer."""
    billed = [fee for fee in bill.all_fees if fee.code == METRIC]
    rows = {id(fee.subscription): fee.subscription for fee in billed}.values()
    ends = [fee.end for fee in billed if fee.end is not None]
    if not any(end > since for end in ends) or bill.periods_at or any(r.plan["commitment"] for r in rows):
        return []  # the version is of another time, or somebody has to look at it
    final = bill.finalized or bill.made
    if any(row.plan["made"] >= final or _changed(row) >= final for row in rows):
        return []  # its charges may be others
    now = {id(row): _now(oracle, row, bill) for row in rows}
    if any(_usage(_lines(billed, row)) != _usage(now[id(row)]) for row in rows):
        return []  # it has other usage by now
    gone = {(id(row), _place(fee)) for row in rows for fee in now[id(row)] if fee.is_unpriced}
    if any(fee.cents and (id(fee.subscription), _place(fee)) in gone for fee in billed):
        return []  # it has no price any more
    cents = sum(fee.cents - fee.corrected for fee in billed)
    cents -= sum(fee.cents for own in now.values() for fee in own)
    found = []
    for row in rows:
        cheaper: dict[Any, int] = defaultdict(int)
        for fee in _lines(billed, row):
            cheaper[_place(fee)] += fee.cents
        for fee in now[id(row)]:
            cheaper[_place(fee)] -= fee.cents
        for fee in _lines(billed, row):
            taken = max(min(cents, cheaper[_place(fee)], fee.cents - rounded(fee.credited)), 0)
            cheaper[_place(fee)] -= taken
            cents -= taken
            found += [(fee, taken)] if taken else []
    return found


def _changed(row: Subscription) -> datetime:
    """When a charge by the catalogue was changed last."""
    return max(
        (each["changed"] for each in row.plan["charges"] if "changed" in each), default=row.plan["made"]
    )


def _now(oracle: Oracle, row: Subscription, bill: Bill) -> list[Fee]:
    """What the usage of an invoice costs by now."""
    before, oracle.now = oracle.now, bill.made
    if bill.row is not None:
        fees = [fee for fee in oracle.running_fees(row) if not fee.is_unpriced]
    else:
        why = next(why for part, why in bill.parts if part is row)
        fees = [*oracle.usage(row, why, bill.parts)]
    oracle.now = before
    return _lines(fees, row)


def _place(fee: Fee) -> Any:
    """Which usage it is of, whatever its price dates from; what lacks of a minimum is none."""
    return (fee.place, *fee.group[1:4]) if fee.charge is not None else None


def _usage(fees: list[Fee]) -> dict[Any, tuple[Fraction, int]]:
    found: dict[Any, tuple[Fraction, int]] = defaultdict(lambda: (Fraction(0), 0))
    for fee in fees:
        if fee.charge is not None:
            units, count = found[_place(fee)]
            found[_place(fee)] = units + fee.units, count + fee.count
    return {place: used for place, used in found.items() if any(used)}


def _note(oracle: Oracle, who: Customer, bill: Bill, items: list[tuple[Fee, int]]) -> None:
    """Take a note off what is due on its invoice; the rest is credit. None is made of what no money came of."""
    note = bill.note(items)
    base, total = note[0], sum(note)
    offset = max(min(total, bill.due), 0)
    with_taxes = [Fraction(fee.cents * rate, 100) for fee in bill.fees for _, rate in fee.taxes]
    most = bill.fees_cents + rounded(sum(with_taxes, Fraction(0))) - bill.offset
    most -= sum(note.credit for note in bill.credit_notes)
    if total <= 0 or total - offset > most + 1:
        return
    oracle.played.add("corrections")
    bill.give_back(note)
    bill.offset += offset
    bill.corrected += base
    for fee, cents in items:
        fee.credited += cents
        fee.corrected += cents
    credit = total - offset
    note_ = Note(total, credit, credit, oracle.now, is_correction=True, offset=offset, items=[*items])
    oracle.give(who, bill, note_)
