"""Who issues invoices, until when they are to be paid, and what is asked for once that is over (1.2, 4.4, 4.10 and 8.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from . import days, dunning, gates

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle, Subscription
    from .settle import Bill, Tax


@dataclass
class Entity:
    """A billing entity: what holds for its customers that say nothing else."""

    term: int = 0
    taxes: list[Tax] = field(default_factory=list)
    campaign: str | None = None


def taxes_of(oracle: Oracle, who: Customer, entity: str = "") -> list[Tax]:
    return who.taxes or oracle.entities[entity or who.entity].taxes


def _named(bill: Bill) -> set[str]:
    """The billing entities that the subscriptions on an invoice name, or the wallet that it fills; '' is the customer's.

    A plan that has taken over is on it with what it is billed, not where it was paid before or costs nothing yet.
    """
    rows = [row for row, why in bill.parts if why not in {"paid", "follow"} or _is_billed(bill, row)] or [
        bill.row,
        *(fee.subscription for fee in bill.fees),
    ]
    return {row.entity for row in rows if row is not None} or {bill.fills.entity if bill.fills else ""}


def _is_billed(bill: Bill, row: Subscription) -> bool:
    return any(fee.subscription is row for fee in bill.all_fees)


def issue(oracle: Oracle, who: Customer, bill: Bill, entity: str = "") -> None:
    """An invoice is of the billing entity that its subscriptions name, or its customer has, and to be paid within the days of now.

    One that replaces another is of the `entity` that has issued that.
    """
    bill.entity = bill.entity or entity or max(_named(bill)) or who.entity
    if bill.overdue_at is not None or bill.status == "draft":
        return
    term = oracle.entities[bill.entity].term if who.term is None else who.term
    day = days.day_of(bill.finalized or bill.made, who.zone) + timedelta(days=term)
    bill.overdue_at = days.opens(day + timedelta(days=1), who.zone)


def ends(oracle: Oracle) -> list[tuple[Customer, datetime]]:
    """When invoices become overdue, and whose."""
    found = [each for each in oracle.bills() if each[1].due > 0 and not each[1].is_lost]
    return [
        (who, bill.overdue_at) for who, bill in found if bill.overdue_at is not None and not bill.was_overdue
    ]


def mark_due(who: Customer, at: datetime) -> None:
    for bill in who.bills:
        if bill.overdue_at is not None and bill.overdue_at <= at and bill.due > 0 and not bill.is_lost:
            bill.was_overdue = True


def is_overdue(bill: Bill) -> bool:
    return bill.was_overdue and bill.due > 0 and not bill.is_lost


def to_request(oracle: Oracle, action: Action) -> list[int]:
    """The places among all invoices of those of a customer that are overdue, of the billing entity of the first."""
    found = [
        (place, bill)
        for place, (who, bill) in enumerate(oracle.bills())
        if who.id == action["customer"] and is_overdue(bill)
    ]
    return [place for place, bill in found if bill.entity == found[0][1].entity]


def request(oracle: Oracle, action: Action) -> bool:
    """Ask for what is due of all of these together."""
    known = oracle.bills()
    chosen = [known[place][1] for place in to_request(oracle, action)]
    if chosen:
        oracle.customers[action["customer"]].requests.append(sum(bill.due for bill in chosen))
    return bool(chosen)


def move(oracle: Oracle, action: Action) -> bool:
    """Another billing entity from now on; final invoices stay with the one that has issued them.

    So do drafts of subscriptions that name an entity themselves.
    """
    who = oracle.customers.get(action["customer"])
    if who is None or action["entity"] not in oracle.entities or who.entity == action["entity"]:
        return False
    for bill in who.bills:
        if bill.status == "draft" and bill.entity == who.entity and _named(bill) == {""}:
            bill.entity = action["entity"]
    before = dunning.campaigns(oracle)
    who.entity = action["entity"]
    dunning.restart(oracle, before)
    return True


def name(oracle: Oracle, action: Action) -> bool:
    """A subscription is on the invoices of an entity from now on, and so is what waits to take over from it; None is the customer's."""
    row = oracle.active(action["subscription"])
    entity = action["entity"] or ""
    if row is None or (entity and entity not in oracle.entities):
        return False
    if row.next_entity == row.entity:
        row.next_entity = entity
    for each in gates.waiting(oracle):
        if each.follows is row and each.entity == row.entity:
            each.entity = entity
    row.entity = entity
    oracle.mark(row)
    return True


def apart(parts: list[tuple[Subscription, str]]) -> list[list[tuple[Subscription, str]]]:
    """What is billed at an instant by billing entity, in the order of their codes; ends of trials are billed apart."""
    places = sorted({(row.issuer, why == "trial") for row, why in parts})
    return [[each for each in parts if (each[0].issuer, each[1] == "trial") == place] for place in places]


def lose(oracle: Oracle, action: Action) -> bool:
    """A dispute about an invoice is lost: it is due, and never overdue."""
    found = oracle.bill(action["bill"])
    if found is None or found[1].status not in {"finalized", "voided"} or found[1].is_lost:
        return False
    found[1].is_lost = True
    return True
