"""The subscription fees of plans, edited while they are sold: from when on they count, and which changes of plan follow (2.3)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import days, gates
from .prices import price_in_force, prices_after

if TYPE_CHECKING:
    from .oracle import Action, Oracle, Subscription

COST_PER_YEAR = {"weekly": 52, "monthly": 12, "quarterly": 4, "semiannual": 2, "yearly": 1}


def of_period(row: Subscription, begin: datetime) -> int:
    """The fee of a period, which begins when the subscription does if that is later."""
    return int(price_in_force(row.plan["fees"], max(begin, row.started)))


def of_year(oracle: Oracle, plan: Action) -> int:
    """What a plan costs a year, by the fee of today."""
    return int(price_in_force(plan["fees"], oracle.now)) * COST_PER_YEAR[plan["interval"]]


def edit(oracle: Oracle, action: Action) -> bool:
    """Another fee, for all that is not billed or for periods that begin from an instant on."""
    plan: Any = oracle.plans.get(action["plan"])
    if plan is None:
        return False
    since, amount = days.price_date(oracle.now, action["when"]), action["amount"]
    base = since or oracle.now
    before = price_in_force(plan["fees"], base)
    copies = [row.plan for row in oracle.copies(plan)] if action["cascade"] else []
    for one in [plan, *(each for each in copies if price_in_force(each["fees"], base) == before)]:
        if one is not plan and amount != before:
            oracle.played.add("fees_of_own_plans")
        one["fees"] = prices_after(one["fees"], since, oracle.now, amount)
    for row in oracle.rows:
        if row.plan is plan or any(row.plan is each for each in copies):
            oracle.mark(row)
    if amount != before:
        _follow(oracle, plan)
    return True


def _follow(oracle: Oracle, plan: Action) -> None:
    """A change to a plan that is cheaper no more: it happens now if that plan's fee was edited, and is off if the one before's was."""
    waiting = [row for row in oracle.rows if row.runs and row.next_plan is not None]
    for row in sorted(waiting, key=lambda each: each.next_asked):
        following: Any = row.next_plan
        if plan["code"] not in {row.plan["code"], following["code"]}:
            continue
        if of_year(oracle, following) < of_year(oracle, row.plan):
            continue
        row.next_plan = None
        if following["code"] != plan["code"]:
            oracle.played.add("changes_called_off_by_a_fee")
            continue
        oracle.played.add("changes_made_by_a_fee")
        new = oracle.follow(row, following, oracle.now, row.next_entity)
        if (state := gates.begin_change(oracle, row, new, row.next_timeout)) != "waits":
            oracle.take_over(row, new, "upgrade", "paid" if state == "paid" else "follow")
