"""What previews have to show (4.11): the invoice that is made if nothing else happens until then.

The world goes on in a copy. Where anything else happens to the customer before, the copy says nothing about a preview.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import settle

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle, Subscription
    from .settle import Bill, Fee

INSTANT = timedelta(microseconds=1)
OFFERED = "offered"


@dataclass
class Preview:
    """What is asked for, and what it has to show."""

    asked: dict[str, Any]
    shown: tuple[Any, ...]

    @property
    def has(self) -> set[str]:
        """What else of previews is in it."""
        found = {"preview_with_coupons": "coupons" in self.asked and self.shown[2]}
        found["preview_of_later_start"] = "subscription_at" in self.asked
        return {name for name, is_in in found.items() if is_in}


def expected(oracle: Oracle, action: Action) -> Preview | None:
    """None where what comes is no single invoice of what is asked for, or has late usage on it."""
    if any(each.status == "scheduled" for each in oracle.late):
        return None
    ways = {"next": _next, "end": _end, "change": _change, "offer": _offer}
    found = ways[action["of"]](deepcopy(oracle), action)
    if found is None or not action["coupons"]:
        return found
    coupons = [_asked(oracle, each) for each in action["coupons"]]
    return replace(found, asked={**found.asked, "coupons": coupons})


def _asked(oracle: Oracle, coupon: Action) -> dict[str, Any]:
    """A coupon as it is asked for: by its code, or with all that it would be."""
    if coupon["id"] in oracle.coupons:
        return {"code": coupon["id"]}
    worth: dict[str, Any] = {"percentage_rate": coupon["value"]}
    if coupon["kind"] == "fixed_amount":
        currency = next((each.currency for each in oracle.customers.values()), "EUR")
        worth = {"amount_cents": int(coupon["value"]), "amount_currency": currency}
    if coupon["frequency"] == "recurring":
        worth["frequency_duration"] = coupon["uses"]
    return {"code": coupon["id"], "coupon_type": coupon["kind"], **worth}


def _takes(world: Oracle, who: Customer, action: Action) -> bool:
    """Let the customer have these coupons instead of its own, if any are said; whether there are such."""
    if not action["coupons"]:
        return True
    known = [{**each, **world.coupons.get(each["id"], {})} for each in action["coupons"]]
    if any("kind" not in each for each in known):
        return False
    who.coupons[:] = [settle.unused(each, who.currency) for each in known]
    return True


def fee_said(fee: Fee) -> tuple[Any, ...]:
    return fee.kind, fee.code, fee.units, fee.cents


def _said(bill: Bill) -> tuple[Any, ...]:
    amounts = bill.earlier, bill.coupons, bill.taxes, bill.notes, bill.prepaid, bill.total
    return (bill.entity, *amounts, sorted(fee_said(fee) for fee in bill.fees if fee.cents))


def _first(world: Oracle, who: Customer, count: int) -> Bill | None:
    """The first invoice after so many, if it is final and for anything, and nothing that has to be paid first took credits at its instant."""
    made = who.bills[count:]
    is_fit = made and made[0].status == "finalized" and made[0].fees_cents and made[0].parts
    gates = [row.gate.made for row in world.rows if row.customer is who and row.gate is not None]
    return made[0] if is_fit and made[0].made not in gates else None


def _state(who: Customer) -> tuple[Any, ...]:
    return (
        len(who.bills),
        [(one.balance, len(one.lots)) for one in who.wallets],
        [(one.left, one.uses, one.gone) for one in who.coupons],
        [note.balance for note in who.notes],
    )


def _waits_calmly(world: Oracle, who: Customer, until: datetime) -> bool:
    """Let time pass up to an instant, without what is due then; whether nothing has happened to the customer."""
    before = _state(who)
    if until - INSTANT > world.now:
        _move(world, until - INSTANT)
    return _state(who) == before


def _move(world: Oracle, until: datetime) -> None:
    world.do({"do": "move", "seconds": (until - world.now).total_seconds(), "stops": False})


def _is_settled(world: Oracle, who: Customer) -> bool:
    """Whether no draft waits that would take credits first, nor a period that is over. The invoices to come are no drafts either."""
    who.grace = 0
    is_behind = any(row.behind for row in world.rows if row.customer is who and row.runs)
    return not is_behind and all(bill.status != "draft" for bill in who.bills)


def _are_credits_held(world: Oracle, who: Customer) -> bool:
    """Whether a start or change that waits for its payment has taken credits: given up at the instant of a bill, it gives them back first."""
    gates = [row.gate for row in world.rows if row.customer is who and row.gate is not None]
    return any(gate.coupons or gate.notes or gate.prepaid for gate in gates)


def _of(who: Customer, **subscriptions: Any) -> dict[str, Any]:
    return {"customer": {"external_id": who.id}, "subscriptions": subscriptions}


def _row(world: Oracle, action: Action) -> Subscription | None:
    """The subscription that it is about, if there is one and nothing waits that would take credits first."""
    row = world.active(action["subscription"])
    if row is None or not _is_settled(world, row.customer) or not _takes(world, row.customer, action):
        return None
    return row


def _next(world: Oracle, action: Action) -> Preview | None:
    row = _row(world, action)
    if row is None:
        return None
    who, at = row.customer, world.next_due(row)
    count = len(who.bills)
    due = [each for each in world.rows if each.runs and world.next_due(each) == at]
    theirs = {id(each) for each in due}
    own = [each for each in due if each.customer is who and each.next_plan is not None]
    if any((each.next_entity or who.entity) != each.issuer for each in own):
        return None  # two invoices, which is refused
    if _are_credits_held(world, who) or not _waits_calmly(world, who, at):
        return None
    _move(world, at)
    bill = _first(world, who, count)
    if bill is None or any(why not in {"period", "trial", "downgrade", "follow"} for _, why in bill.parts):
        return None
    if any(why != "follow" and id(each) not in theirs for each, why in bill.parts):
        return None  # one that does not run yet, or whose next invoice is one of nothing that comes before
    names = list(dict.fromkeys(each.id for each, _ in bill.parts))
    return Preview(_of(who, external_ids=names), _said(bill))


def _end(world: Oracle, action: Action) -> Preview | None:
    row = _row(world, action)
    if row is None:
        return None
    who, left = row.customer, world.next_due(row) - world.now
    at = world.now + timedelta(seconds=max(int(left.total_seconds() * Fraction(action["share"])), 1))
    count = len(who.bills)
    if not _waits_calmly(world, who, at):
        return None
    _move(world, at)
    if len(who.bills) > count:
        return None
    world.do({"do": "end", "subscription": row.id, "no_bill": False, "note": "credit"})
    bill = _first(world, who, count)
    asked = _of(who, external_ids=[row.id], terminated_at=at.isoformat())
    return Preview(asked, _said(bill)) if bill else None


def _change(world: Oracle, action: Action) -> Preview | None:
    row = _row(world, action)
    if row is None:
        return None
    who, count = row.customer, len(row.customer.bills)
    if not world.do({"do": "change", "subscription": row.id, "plan": action["plan"]}):
        return None
    if row.changes_at is not None and row.next_plan is not None:
        if not _waits_calmly(world, who, row.changes_at):
            return None
        _move(world, row.changes_at)
    bill = _first(world, who, count)
    if bill is None or row not in [each for each, _ in bill.parts]:
        return None
    return Preview(_of(who, external_ids=[row.id], plan_code=action["plan"]), _said(bill))


def _offer(world: Oracle, action: Action) -> Preview | None:
    """The first invoice of a plan, for a customer or for somebody who is none yet."""
    stranger = action["stranger"]
    if stranger is not None and not world.do({"do": "customer", "id": OFFERED, "grace": 0, **stranger}):
        return None
    who = world.customers.get(OFFERED if stranger else action["customer"])
    if who is None or not _is_settled(world, who) or not _takes(world, who, action):
        return None
    count, asked_at = len(who.bills), world.now + timedelta(seconds=action["ahead"])
    taken = {"id": OFFERED, "customer": who.id, "plan": action["plan"], "time": action["time"]}
    if not world.do({"do": "subscribe", **taken, "back": 0, "ahead": action["ahead"], "own": None}):
        return None
    row = world.rows[-1]
    if row.waits:
        if not _waits_calmly(world, who, row.started):
            return None
        _move(world, row.started)
    if len(who.bills) == count:
        if row.fees:
            return None  # its first invoice is one of nothing
        at = world.next_due(row)
        if not _waits_calmly(world, who, at):
            return None
        _move(world, at)
    bill = _first(world, who, count)
    if bill is None or [each for each, _ in bill.turn] != [row]:
        return None
    asked = {"plan_code": action["plan"], "billing_time": action["time"]}
    if action["ahead"]:
        asked["subscription_at"] = asked_at.isoformat()
    if stranger is None:
        return Preview({"customer": {"external_id": who.id}, **asked}, _said(bill))
    named = {"timezone": who.zone, "currency": who.currency, "tax_codes": stranger["taxes"]}
    customer = {"name": "Somebody", "net_payment_term": who.term, **named}
    return Preview({"customer": customer, "billing_entity_code": who.entity, **asked}, _said(bill))
