"""Who issues invoices, until when they are to be paid, and what is asked for once that is over (1.2, 4.4, 4.10 and 8.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from . import days

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle
    from .settle import Bill, Tax


@dataclass
class Entity:
    """A billing entity: what holds for its customers that say nothing else."""

    term: int = 0
    taxes: list[Tax] = field(default_factory=list)


def taxes_of(oracle: Oracle, who: Customer, entity: str = "") -> list[Tax]:
    return who.taxes or oracle.entities[entity or who.entity].taxes


def issue(oracle: Oracle, who: Customer, bill: Bill, entity: str = "") -> None:
    """An invoice that is no draft is of the billing entity that its customer has, and to be paid within the days of now.

    One that replaces another is of the `entity` that has issued that.
    """
    if bill.entity or bill.status == "draft":
        return
    bill.entity = entity or who.entity
    term = oracle.entities[bill.entity].term if who.term is None else who.term
    day = days.day_of(bill.finalized or bill.made, who.zone) + timedelta(days=term)
    bill.overdue_at = days.opens(day + timedelta(days=1), who.zone)


def ends(oracle: Oracle) -> list[datetime]:
    """When invoices become overdue."""
    return [bill.overdue_at for _, bill in _to_mark(oracle) if bill.overdue_at is not None]


def mark_due(oracle: Oracle) -> None:
    for _, bill in _to_mark(oracle):
        if bill.overdue_at is not None and bill.overdue_at <= oracle.now:
            bill.was_overdue = True


def _to_mark(oracle: Oracle) -> list[tuple[Customer, Bill]]:
    return [each for each in oracle.bills() if each[1].due > 0 and not each[1].is_lost]


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
    """Another billing entity from now on; final invoices stay with the one that has issued them."""
    who = oracle.customers.get(action["customer"])
    if who is None or action["entity"] not in oracle.entities or who.entity == action["entity"]:
        return False
    who.entity = action["entity"]
    return True


def lose(oracle: Oracle, action: Action) -> bool:
    """A dispute about an invoice is lost: it is due, and never overdue."""
    found = oracle.bill(action["bill"])
    if found is None or found[1].status not in {"finalized", "voided"} or found[1].is_lost:
        return False
    found[1].is_lost = True
    return True
