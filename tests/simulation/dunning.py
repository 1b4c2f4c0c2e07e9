"""Customers are asked again and again to pay what is overdue, as the campaign says that applies to them (8.5)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from . import receivables

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle
    from .settle import Bill

INSTANT = timedelta(microseconds=1)


@dataclass
class Campaign:
    threshold: int
    days: int
    attempts: int


@dataclass
class State:
    """How often a customer was asked, the last time, and when there is something to look at."""

    attempts: int = 0
    last: datetime | None = None
    looks_at: datetime | None = None


def apply(oracle: Oracle, action: Action) -> bool:
    """Apply a campaign to a customer or a billing entity, or take it away (None): dunning begins again."""
    campaign = action["campaign"]
    if campaign is not None and campaign not in oracle.campaigns:
        return False
    known: dict[str, Any] = oracle.customers if action["of"] == "customer" else oracle.entities
    payer = known.get(action["name"])
    if payer is None or payer.campaign == campaign:
        return False
    before = campaigns(oracle)
    payer.campaign = campaign
    restart(oracle, before)
    return True


def exclude(oracle: Oracle, action: Action) -> bool:
    """Leave a customer out of whatever campaign applies to it, or don't any more."""
    who = oracle.customers.get(action["customer"])
    if who is None:
        return False
    before = campaigns(oracle)
    who.is_excluded = action["is_out"]
    oracle.played |= {"excluded_of_a_campaign"} if who.is_excluded and before[who.id] else set()
    restart(oracle, before)
    return True


def edit(oracle: Oracle, action: Action) -> bool:
    """Other terms of a campaign: it begins again for all whom it applies to. Another name changes nothing."""
    campaign = oracle.campaigns.get(action["campaign"])
    if campaign is None:
        return False
    before, edited = campaigns(oracle), replace(campaign, **action["terms"])
    if edited != campaign:
        oracle.campaigns[action["campaign"]] = edited
        again = [who for who in oracle.customers.values() if before[who.id] is campaign]
        oracle.played |= {"edited_while_dunned"} if any(who.dunning.attempts for who in again) else set()
    restart(oracle, before)
    return True


def drop(oracle: Oracle, action: Action) -> bool:
    """A campaign is gone: who had it has that of its billing entity, if any."""
    if action["campaign"] not in oracle.campaigns:
        return False
    before = campaigns(oracle)
    del oracle.campaigns[action["campaign"]]
    payers: list[Any] = [*oracle.customers.values(), *oracle.entities.values()]
    for payer in payers:
        payer.campaign = None if payer.campaign == action["campaign"] else payer.campaign
    restart(oracle, before)
    return True


def restart(oracle: Oracle, before: dict[str, Campaign | None]) -> None:
    """Those who have another campaign now have all attempts left."""
    for who in oracle.customers.values():
        if _of(oracle, who) is not before[who.id]:
            who.dunning = State(looks_at=oracle.now)


def _of(oracle: Oracle, who: Customer) -> Campaign | None:
    name = who.campaign or oracle.entities[who.entity].campaign
    return oracle.campaigns[name] if name and not who.is_excluded else None


def campaigns(oracle: Oracle) -> dict[str, Campaign | None]:
    return {who.id: _of(oracle, who) for who in oracle.customers.values()}


def _overdue(who: Customer) -> list[Bill]:
    return [bill for bill in who.bills if bill.fees_cents and receivables.is_overdue(bill)]


def settled(oracle: Oracle, who: Customer, bill: Bill) -> None:
    """Who owes nothing any more of an invoice that a campaign has asked for has all attempts left."""
    if bill.is_dunned and bill.due == 0:
        who.dunning.attempts, who.dunning.looks_at = 0, oracle.now


def run(oracle: Oracle) -> None:
    """Mark what has become overdue by now, and ask for it, each at its instant."""
    until = oracle.now
    for who in oracle.customers.values():
        while True:
            ends = [at for payer, at in receivables.ends(oracle) if payer is who]
            looks = [who.dunning.looks_at] if who.dunning.looks_at is not None else []
            due = [at for at in (*ends, *looks) if at <= until]
            if not due:
                break
            at = min(due)
            if at in ends:
                receivables.mark_due(who, at)
                if _of(oracle, who) is not None:
                    who.dunning.looks_at = at
            else:
                _look(oracle, who, at)


def _look(oracle: Oracle, who: Customer, at: datetime) -> None:
    state, campaign, overdue = who.dunning, _of(oracle, who), _overdue(who)
    state.looks_at = None
    total = sum(bill.total for bill in overdue)
    if campaign is None or not total or total < campaign.threshold or state.attempts >= campaign.attempts:
        return
    pause = timedelta(days=campaign.days) + INSTANT
    if state.last is not None and state.last + pause > at:
        state.looks_at = state.last + pause
        return
    oracle.played.add("dunned" if not state.attempts else "dunned_again")
    oracle.played |= {"dunned_by_own_campaign"} if who.campaign else set()
    asked: dict[str, int] = defaultdict(int)
    for bill in overdue:
        asked[bill.entity] += bill.due
        bill.is_dunned = True
    who.requests += asked.values()
    state.attempts, state.last = state.attempts + 1, at
    state.looks_at = at + pause if state.attempts < campaign.attempts else None
