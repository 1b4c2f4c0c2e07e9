"""Add-ons that are billed by hand, at once: with taxes, without coupons, credit notes and wallets (4.12)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import receivables, settle
from .prices import rounded
from .settle import Bill, Fee

if TYPE_CHECKING:
    from .oracle import Action, Customer, Oracle


def bill(oracle: Oracle, action: Action) -> bool:
    """Bill add-ons to a customer, by the billing entity that is named or its own."""
    who, entity = oracle.customers.get(action["customer"]), action.get("entity", "")
    is_known = all(
        "cents" in oracle.add_ons.get(each["code"], {})
        and all(code in oracle.taxes for code in each["taxes"])
        for each in action["fees"]
    )
    if who is None or not is_known or (entity and entity not in oracle.entities):
        return False
    fees = [_fee(oracle, who, each, entity) for each in action["fees"]]
    made = Bill("one_off", [fee for fee in fees if fee.cents], oracle.now, all_fees=fees, entity=entity)
    settle.take_taxes(made)
    oracle.keep(who, made)
    return True


def _fee(oracle: Oracle, who: Customer, sold: Any, entity: str) -> Fee:
    add_on = oracle.add_ons[sold["code"]]
    cents = add_on["cents"] if sold["cents"] is None else sold["cents"]
    units = Fraction(sold["units"])
    chosen = [(code, oracle.taxes[code]) for code in sold["taxes"] or add_on["taxes"]]
    taxes = chosen or receivables.taxes_of(oracle, who, entity)
    return Fee("add_on", sold["code"], units, units * cents, rounded(units * cents), taxes)
