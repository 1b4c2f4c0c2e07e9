"""A customer subscribes, and a subscription is changed or ended, with its plan where that is its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.custom_section import SectionChoice
from permille.core.customer import Customer
from permille.core.errors import NotFound
from permille.core.record import Record
from permille.database import locks
from permille.store import customers as store, progressive, subscriptions
from permille.usecases import subscriptions as lifecycle
from permille.usecases.catalogue import customers, fixed_units, own_plans
from permille.usecases.catalogue.fixed_units import UnitsWanted
from permille.usecases.catalogue.plans import meter
from permille.usecases.subscriptions import SubscriptionTerms


class NewSubscription(Record, kw_only=True):
    """Who subscribes to which plan."""

    external_customer_id: str
    customer: Customer | None
    """None: the customer is made."""
    plan: Plan
    terms: SubscriptionTerms
    is_agreed: bool
    """Whether the subscription has all terms of its own already."""


def subscribe(
    conn: Connection[Any], organization_id: UUID, wanted: NewSubscription, *, now: datetime
) -> Subscription:
    """As `lifecycle.subscribe`, for a customer that may be new."""
    customer = wanted.customer or customers.add(conn, organization_id, wanted.external_customer_id, now=now)
    made = lifecycle.subscribe(
        conn,
        customer=customer,
        plan=wanted.plan,
        terms=wanted.terms,
        now=now,
        is_agreed=wanted.is_agreed,
    )
    if wanted.plan.parent_id is not None:
        meter(conn, organization_id, wanted.plan.charges)
    return made


def newest(
    conn: Connection[Any], organization_id: UUID, external_id: str, *, status: str
) -> tuple[Subscription, list[Subscription]]:
    """The newest subscription with this id and status, and all with this id. Raises NotFound."""
    rows = subscriptions.history(conn, organization_id, external_id)
    found = next((row for row in rows if row.status == status), None)
    if found is None:
        raise NotFound("subscription")
    return found, rows


def to_change(conn: Connection[Any], organization_id: UUID, external_id: str, *, status: str) -> Subscription:
    """The only subscription with this id, or of several the one with the status, locked. Raises NotFound."""
    locks.use_catalogue(conn, organization_id)
    locks.change_subscription(conn, organization_id, external_id)
    rows = subscriptions.history(conn, organization_id, external_id)
    found = rows[0] if len(rows) == 1 else next((row for row in rows if row.status == status), None)
    if found is None:
        raise NotFound("subscription")
    return subscriptions.for_update(conn, [found.id])[found.id]


def change(
    conn: Connection[Any],
    before: Subscription,
    *,
    columns: Mapping[str, Any],
    section_choice: SectionChoice | None = None,
    sets_rule: bool = False,
    payment_timeout_hours: int | None = None,
    own_plan: tuple[Plan, Plan] | None = None,
    own_units: Mapping[UUID, UnitsWanted] | None = None,
    units_at_once: Collection[UUID] = (),
    since: datetime | None = None,
    now: datetime,
) -> Subscription:
    """Change a subscription, with `own_plan` (before, after) its plan, with `own_units` its fixed charges. Raises Invalid."""
    if own_plan is not None:
        own_plans.store(conn, before, *own_plan, since=since, units_at_once=units_at_once, now=now)
    if own_units:
        plan = own_plans.current(conn, before, now=now)
        fixed_units.set_own(conn, before, plan, own_units, now=now)
    after = lifecycle.update(
        conn,
        before,
        columns=columns,
        section_choice=section_choice,
        sets_rule=sets_rule,
        payment_timeout_hours=payment_timeout_hours,
        now=now,
    )
    progressive.mark(conn, {(after.organization_id, after.external_id)})
    if own_plan is None:
        return after
    lifecycle.follow_amounts(conn, own_plan[0].id, now=now)
    return subscriptions.by_ids(conn, [after.id])[after.id]


def to_end(conn: Connection[Any], organization_id: UUID, external_id: str, *, status: str) -> Subscription:
    """The subscription with this id and status, locked. Raises NotFound."""
    locks.change_subscription(conn, organization_id, external_id)
    found, _ = newest(conn, organization_id, external_id, status=status)
    store.lock(conn, found.customer_id)  # as all that bills, before the row
    row = subscriptions.for_update(conn, [found.id])[found.id]
    # What was due may have run while we waited for the row.
    if row.status != status:
        raise NotFound("subscription")
    return row


def end(
    conn: Connection[Any],
    row: Subscription,
    *,
    on_termination_invoice: str | None = None,
    on_termination_credit_note: str | None = None,
    now: datetime,
) -> Subscription:
    """A running subscription ends now and is billed, one that waits is canceled."""
    if row.status == "pending":
        return lifecycle.cancel(conn, row, now=now)
    if row.status == "incomplete":
        lifecycle.decline(conn, [row.id], now=now)
        return subscriptions.by_ids(conn, [row.id])[row.id]
    return lifecycle.terminate(
        conn,
        row,
        at=now,
        on_termination_invoice=on_termination_invoice,
        on_termination_credit_note=on_termination_credit_note,
    )
