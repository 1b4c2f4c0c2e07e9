"""Plays a script in the product and in the oracle, compares them after each action, and shortens a script that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from permille.store import audit
from tests.api.conftest import Server

from . import gates, late, previews, receivables, voids
from .faults import Deaths
from .oracle import Action, Oracle, said
from .product import Product
from .script import Script

QUIET = {
    "tax",
    "entity",
    "unit",
    "add_on",
    "metric",
    "plan",
    "customer",
    "use",
    "call",
    "version",
    "again",
    "amend",
    "preview",
}
"""What bills nothing: it is seen at the next action that may."""
TRIES_MAX = 80
"""How many times a list of actions is played while it is shortened."""


@dataclass(frozen=True)
class Difference:
    """Where the product and the oracle part."""

    action: Action
    what: str


def play(server: Server, actions: Sequence[Action], deaths: Deaths | None = None) -> Difference | None:
    """The first difference; actions that cannot be done are left out. With `deaths`, processes die on the way."""
    oracle, product = Oracle(), Product(server)
    do = product.do if deaths is None else partial(deaths.do, product)
    try:
        for number, action in enumerate(actions, 1):
            asked = {**action, **amounts(oracle, action)}
            if not oracle.do(action):
                continue
            try:
                do(asked)
            except AssertionError as error:
                return Difference(action, f"refused: {error}")
            if action["do"] in QUIET and number < len(actions):
                continue
            if found := compare(oracle, product) or audited(product):
                return Difference(action, found)
        return None
    finally:
        product.close()


def amounts(oracle: Oracle, action: Action) -> dict[str, Any]:
    """What has to be named: what is paid or credited of an invoice, and where a clock goes."""
    if action["do"] == "pay":
        return {"cents": oracle.part_due(action)}
    if action["do"] == "pay_gate":
        return {"cents": gates.due_of(oracle, action)}
    if action["do"] == "move":
        return {"until": oracle.arrives(action)}
    if action["do"] == "price_back":
        return {"terms": oracle.price_today(action)}
    if action["do"] == "price_unknown":
        return {"terms": oracle.with_own_prices(action)}
    if action["do"] == "cancel_price":
        return {"at": oracle.to_cancel(action)}
    if action["do"] == "request":
        return {"places": receivables.to_request(oracle, action)}
    if action["do"] == "late" and (chosen := late.chosen(oracle, action)):
        return late.named(chosen)
    if action["do"] == "again_bill":
        return {"place": oracle.voided(action)}
    if action["do"] == "preview" and (shown := previews.expected(oracle, action)):
        return {"asked": shown.asked, "shown": shown.shown}
    if action["do"] == "void_with_notes":
        return dict(zip(("credit", "refund"), voids.parts(oracle, action), strict=True))
    if action["do"] == "note" and (credited := oracle.credited(action)):
        return {"cents": credited[1], "total": credited[2]}
    return {}


def audited(product: Product) -> str:
    """What the audit finds, or nothing."""
    found = audit.findings(product.server.conn, organization_id=product.api.organization.id)
    return ", ".join(f"{one.sentence}: {one.what} ({one.detail})" for one in found)


def compare(oracle: Oracle, product: Product) -> str:
    """What is not the same, or nothing."""
    found, expected = product.bills(), bills_of(oracle)
    for number in range(max(len(found), len(expected))):
        one, other = found[number : number + 1], expected[number : number + 1]
        if one != other:
            return f"invoice {number + 1}:\n  product {one}\n  oracle  {other}"
    balances, known = product.balances(), balances_of(oracle)
    if balances != known:
        names = sorted(set(balances) | set(known))
        return "\n".join(
            f"{name}: product {balances.get(name)}, oracle {known.get(name)}"
            for name in names
            if balances.get(name) != known.get(name)
        )
    return ""


def bills_of(oracle: Oracle) -> list[Any]:
    return [said(who, bill) for who, bill in oracle.bills()]


def balances_of(oracle: Oracle) -> dict[str, str]:
    found: dict[str, str] = {}
    for who in oracle.customers.values():
        found |= {f"wallet {one.id}": str(one.balance) for one in who.wallets}
        for one in who.coupons:
            status = "active" if one.active else "terminated"
            rest = ["-" if each is None else str(each) for each in (one.left, one.uses)]
            found[f"coupon {one.id}"] = ", ".join([status, *rest])
        if who.requests:
            found[f"requests of {who.id}"] = " ".join(map(str, sorted(who.requests)))
        if who.notes:
            notes = sorted((each.made, each.total, each.balance) for each in who.notes)
            found[f"notes of {who.id}"] = " ".join(f"{total}/{balance}" for _, total, balance in notes)
    return found


def shortened(server: Server, actions: Sequence[Action], first: Difference) -> list[Action]:
    """The actions up to the difference, without those that it does not need."""
    end = next(
        number for number, each in enumerate(actions, 1) if each is first.action
    )  # another may be equal
    left = [*actions[:end]]
    tries, size = 0, max(len(left) // 2, 1)
    while size and tries < TRIES_MAX:
        place = 0
        while place < len(left) and tries < TRIES_MAX:
            shorter = left[:place] + left[place + size :]
            tries += 1
            if shorter and play(server, shorter) is not None:
                left = shorter
            else:
                place += size
        size //= 2
    return left


def run(server: Server, seed: int) -> str:
    """What goes wrong in the world of a seed, with the shortest list of actions that shows it; nothing if all is well."""
    actions = Script(seed).actions
    first = play(server, actions)
    if first is None:
        return ""
    short = shortened(server, actions, first)
    found = play(server, short)
    what = found.what if found else f"{first.what}, which does not show again"
    listed = "\n".join(f"  {dict(action)}" for action in short)
    return f"seed {seed}: {what}\n{listed}\nagain: make simulate SEED={seed}"


def run_with_deaths(server: Server, seed: int, kind: type[Deaths] = Deaths) -> str:
    """What goes wrong in the world of a seed when processes die on the way; nothing if all is as without."""
    deaths = kind(server, seed)
    try:
        found = play(server, Script(seed).actions, deaths)
        assert deaths.count > 0
    finally:
        deaths.close()
    return f"seed {seed}, with {kind.__name__}: {found.what}\n{dict(found.action)}" if found else ""
