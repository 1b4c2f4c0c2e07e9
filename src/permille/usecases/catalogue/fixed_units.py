"""How many units of fixed charges running subscriptions have: their plan's or their own, from now or the next period on.

Source: semantics-billing.md section 6.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, fixed_charges_period
from permille.core.errors import NotFound
from permille.core.record import Record, replace
from permille.store import customers, fixed_charges, subscriptions
from permille.store.fixed_charges import NewUnits
from permille.usecases.invoices.fixed_charges import ChangedUnits, bill_units


class UnitsWanted(Record):
    """Units of a fixed charge, and whether they count at once instead of from the next period on."""

    units: Decimal
    at_once: bool


def by_code(plan: Plan, code: str | None) -> FixedCharge:
    """Raises NotFound."""
    found = next((charge for charge in plan.fixed_charges if charge.code == code), None)
    if found is None:
        raise NotFound("fixed_charge")
    return found


def named(plan: Plan, charge_id: UUID | None) -> FixedCharge:
    """The fixed charge with its own id, or that of the one it is a copy of. Raises NotFound."""
    for charge in plan.fixed_charges:
        if charge_id in charge.ids:
            return charge
    raise NotFound("fixed_charge")


def with_own_units(plan: Plan, own: Mapping[UUID, Decimal]) -> Plan:
    """The plan with the units that a subscription has of its own."""
    charges = [
        replace(charge, units=next((own[each] for each in charge.ids if each in own), charge.units))
        for charge in plan.fixed_charges
    ]
    return replace(plan, fixed_charges=tuple(charges)) if own else plan


def follow_plan(
    conn: Connection[Any], before: Plan, after: Plan, *, at_once: Collection[UUID], now: datetime
) -> None:
    """Subscriptions get the units that have changed in their plan, unless they have units of their own.

    `at_once` are the charges whose units count from now on; for what waits for its payment they never do.
    """
    was, now_asked = {charge.id: charge.units for charge in before.fixed_charges}, set(at_once)
    changed = {charge.id for charge in after.fixed_charges if was.get(charge.id) != charge.units}
    asked = [
        charge
        for charge in after.fixed_charges
        if charge.id in changed or not now_asked.isdisjoint(charge.ids)
    ]
    if not asked:
        return
    rows = subscriptions.started_of_plan(conn, after.id)
    own = fixed_charges.with_own_units(conn, [charge.id for charge in asked])
    coming = _still_to_come(conn, rows, [each for each in asked if each.id not in changed], now=now)
    following = [
        (
            row,
            [
                each
                for each in asked
                if (row.id, each.id) not in own and (each.id in changed or (row.id, each.id) in coming)
            ],
        )
        for row in rows
    ]
    _set(conn, after, following, at_once=at_once, now=now)


def set_own(
    conn: Connection[Any], row: Subscription, plan: Plan, wanted: Mapping[UUID, UnitsWanted], *, now: datetime
) -> None:
    """Give a subscription units of its own, of charges of its plan. Raises NotFound."""
    known = {named(plan, charge_id).id: each for charge_id, each in wanted.items()}
    had = with_own_units(plan, fixed_charges.own_units(conn, row.id))
    fixed_charges.set_own_units(conn, row.id, {charge_id: each.units for charge_id, each in known.items()})
    again = [
        charge
        for charge in had.fixed_charges
        if (each := known.get(charge.id)) and each.at_once and each.units == charge.units
    ]
    coming = _still_to_come(conn, [row], again, now=now)
    changed = [
        replace(charge, units=known[charge.id].units)
        for charge in had.fixed_charges
        if charge.id in known and (known[charge.id].units != charge.units or (row.id, charge.id) in coming)
    ]
    if row.status in ("active", "incomplete") and changed:
        at_once = [charge_id for charge_id, each in known.items() if each.at_once]
        _set(conn, plan, [(row, changed)], at_once=at_once, now=now)


def _still_to_come(
    conn: Connection[Any], rows: Sequence[Subscription], charges: Sequence[FixedCharge], *, now: datetime
) -> set[tuple[UUID, UUID]]:
    """(Subscription, fixed charge) whose units that were set last do not count yet."""
    ids = [each for charge in charges for each in charge.ids]
    coming = fixed_charges.still_to_come(conn, [row.id for row in rows], ids, at=now)
    return {
        (row.id, charge.id)
        for row in rows
        for charge in charges
        if any((row.id, each) in coming for each in charge.ids)
    }


def _set(
    conn: Connection[Any],
    plan: Plan,
    following: Sequence[tuple[Subscription, Sequence[FixedCharge]]],
    *,
    at_once: Collection[UUID],
    now: datetime,
) -> None:
    """Write the changes down; what is paid in advance and counts at once is billed."""
    payers = customers.of_subscriptions(conn, [row for row, _ in following])
    changes: list[NewUnits] = []
    to_bill: list[ChangedUnits] = []
    for row, charges in following:
        customer = payers[row.id]
        whole = fixed_charges_period(row, plan, timezone=customer.applicable_timezone, now=now)
        # What waits for its payment has an invoice of the units as they were.
        immediate = [
            charge for charge in charges if row.status == "active" and not set(at_once).isdisjoint(charge.ids)
        ]
        changes += [
            NewUnits(
                subscription_id=row.id,
                charge_id=charge.id,
                units=charge.units,
                at=now if charge in immediate else whole.to,
                at_once=charge in immediate,
            )
            for charge in charges
        ]
        paid = [charge for charge in immediate if charge.pay_in_advance]
        if paid:
            to_bill.append(ChangedUnits(row=row, plan=plan, customer=customer, whole=whole, charges=paid))
    if changes:
        fixed_charges.add_units(conn, changes)
    bill_units(conn, to_bill, now=now)
