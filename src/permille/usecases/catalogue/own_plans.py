"""The plan that a subscription has of its own: a copy that only it is on. semantics-billing.md section 2.2."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.override import copy_plan
from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import edit_base, in_force
from permille.core.contract.subscription import Subscription
from permille.core.errors import NotFound
from permille.database import locks
from permille.events.engine import event_log
from permille.ids import new_id
from permille.store import billing_holds, fixed_charges, late_usage, plans, subscriptions
from permille.usecases.catalogue import fixed_units
from permille.usecases.catalogue.plans import edited, meter, save_edit
from permille.usecases.price_change import amounts_changed


def subscribed(
    conn: Connection[Any],
    organization_id: UUID,
    external_id: str,
    *,
    status: str | None = None,
    now: datetime,
) -> tuple[Subscription, Plan]:
    """The subscription with this id and status, else the active or waiting one, and its plan. Raises NotFound."""
    rows = subscriptions.history(conn, organization_id, external_id)
    statuses = [status] if status else ["active", "pending"]
    found = [row for each in statuses for row in rows if row.status == each]
    if not found:
        raise NotFound("subscription")
    return found[0], in_force(plans.plan_by_id(conn, found[0].plan_id), now)


def own_copy(plan: Plan, *, now: datetime, is_committed: bool = False) -> Plan:
    """A copy of the plan, not stored yet, without its minimum commitment unless `is_committed`."""
    return copy_plan(plan, new_id=partial(new_id, now), now=now, is_committed=is_committed)


def to_change(
    conn: Connection[Any],
    organization_id: UUID,
    external_id: str,
    *,
    status: str | None = None,
    since: datetime | None = None,
    now: datetime,
) -> Plan:
    """The subscription's plan with all that it says, made its own and stored if it is not yet; the catalogue is locked.

    Its prices are those that an edit valid from `since` on changes. Raises NotFound.
    """
    row = row_to_change(conn, organization_id, external_id, status=status, now=now)
    plan = current(conn, row, since=since, now=now)
    if plan.parent_id is not None:
        return plan
    copy = own_copy(plan, now=now, is_committed=True)
    child = fixed_units.with_own_units(copy, fixed_charges.own_units(conn, row.id))
    store(conn, row, child, child, since=None, now=now)
    return child


def row_to_change(
    conn: Connection[Any],
    organization_id: UUID,
    external_id: str,
    *,
    status: str | None = None,
    now: datetime,
) -> Subscription:
    """The subscription, with the catalogue locked. Raises NotFound."""
    locks.change_catalogue(conn, organization_id)
    locks.change_subscription(conn, organization_id, external_id)
    return subscribed(conn, organization_id, external_id, status=status, now=now)[0]


def store(
    conn: Connection[Any],
    row: Subscription,
    before: Plan,
    after: Plan,
    *,
    since: datetime | None,
    units_at_once: Collection[UUID] = (),
    now: datetime,
) -> None:
    """Store a plan of a subscription's own, new or changed, and put the subscription on it. Raises Invalid."""
    if row.plan_id == before.id:
        save_edit(conn, before, after, since=since, units_at_once=units_at_once, now=now)
    else:
        plans.add(conn, edited(before, after, since=since, now=now))
        subscriptions.update(conn, subscription_id=row.id, columns={"plan_id": before.id}, now=now)
        billing_holds.retry_soon(conn, row.organization_id, now=now)
        late_usage.price_again(conn, row.organization_id)
        amounts_changed(conn, [row])
        meter(conn, row.organization_id, after.charges)
        fixed_units.follow_plan(conn, before, after, at_once=units_at_once, now=now)
    event_log.look_again(conn, row.organization_id, external_subscription_ids=[row.external_id])


def current(
    conn: Connection[Any], row: Subscription, *, since: datetime | None = None, now: datetime
) -> Plan:
    """The plan that the subscription is on, with the prices that an edit valid from `since` on changes."""
    return in_force(plans.plan_by_id(conn, row.plan_id), edit_base(since, now))
