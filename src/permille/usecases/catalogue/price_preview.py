"""The running bills of many subscriptions, before and after an edit of prices that is not saved.

The edit itself runs, and is undone: what it would do is what it did. Bills are read set-based, as current usage is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import (
    Subscription,
    facts_of,
    fixed_charges_period,
    plan_period_end,
)
from permille.core.contract.timeline import next_fee_cents
from permille.core.customer import Customer
from permille.core.errors import NotFound
from permille.core.period import Period
from permille.core.rating.fixed_charge import FixedPeriod
from permille.core.rating.price_preview import Preview, RunningBill, compare_bills
from permille.core.record import Record
from permille.store import customers, fixed_charges, plans, subscriptions
from permille.usecases.catalogue import own_plans
from permille.usecases.usage.usage import UsageSearch, running_usages

COMPARED_MAX = 10_000
"""How many running bills a preview looks at."""
BATCH = 1_000


class AffectedSubscriptions(Record, kw_only=True):
    """The running subscriptions that an edit reaches: COMPARED_MAX of them, and how many there are."""

    running: Sequence[UUID] = ()
    count: int = 0


def reached_by_plan(
    conn: Connection[Any], organization_id: UUID, code: str, *, with_copies: bool
) -> AffectedSubscriptions:
    """Those on the plan, and with_copies those on plans of their own that are copies of it."""
    plan = plans.plan_by_code(conn, organization_id, code)
    if plan is None:
        return AffectedSubscriptions()
    copies = plans.children(conn, plan.id) if with_copies else []
    ids = [plan.id, *(child.id for child in copies)]
    running, count = subscriptions.running_on_plans(conn, ids, limit=COMPARED_MAX)
    return AffectedSubscriptions(running=running, count=count)


def reached_by_own_plan(
    conn: Connection[Any],
    organization_id: UUID,
    external_id: str,
    *,
    status: str | None = None,
    now: datetime,
) -> AffectedSubscriptions:
    """The subscription itself, if it runs."""
    try:
        row, _ = own_plans.subscribed(conn, organization_id, external_id, status=status, now=now)
    except NotFound:  # the edit says what there is none of
        return AffectedSubscriptions()
    return (
        AffectedSubscriptions(running=[row.id], count=1)
        if row.status == "active"
        else AffectedSubscriptions()
    )


def preview(
    conn: Connection[Any], edit: Callable[[], object], reached: AffectedSubscriptions, *, now: datetime
) -> Preview:
    """What `edit` does to the bills of the running subscriptions that it reaches. Nothing of it is kept.

    Raises what the edit raises.
    """
    with conn.transaction(force_rollback=True):
        before = dict(_bills(conn, reached.running, now=now))
        edit()
        after = dict(_bills(conn, reached.running, now=now))
    return compare_bills(before, after, subscriptions=reached.count)


def _bills(
    conn: Connection[Any], ids: Sequence[UUID], *, now: datetime
) -> Iterator[tuple[UUID, RunningBill]]:
    for start in range(0, len(ids), BATCH):
        rows = subscriptions.by_ids(conn, ids[start : start + BATCH])
        yield from _bills_of(conn, [row for row in rows.values() if row.status == "active"], now=now)


def _bills_of(
    conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime
) -> Iterator[tuple[UUID, RunningBill]]:
    payers = customers.of_subscriptions(conn, rows)
    of = [(row, payers[row.id]) for row in rows]
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    fees, fixed = _next_fees(conn, of, known, now=now), _next_fixed(conn, of, known, now=now)
    found = running_usages(conn, of, search=UsageSearch(with_taxes=False), now=now)
    for (row, customer), usage in zip(of, found, strict=True):
        yield (
            row.id,
            RunningBill(
                external_subscription_id=row.external_id,
                external_customer_id=customer.external_id,
                currency=usage.currency,
                amount_cents=usage.amount_cents + fees[row.id] + fixed.get(row.id, 0),
            ),
        )


def _next_fees(
    conn: Connection[Any],
    of: Sequence[tuple[Subscription, Customer]],
    known: Mapping[UUID, Plan],
    *,
    now: datetime,
) -> dict[UUID, int]:
    """The plan's own fee that each subscription is billed next: of the running period or, in advance, of the next."""
    first_starts = subscriptions.first_starts(conn, [row.id for row, _ in of])
    found = {}
    for row, customer in of:
        plan, timezone = known[row.plan_id], customer.applicable_timezone
        facts = facts_of(row, plan, timezone=timezone, first_started_at=first_starts.get(row.id))
        ends = plan_period_end(row, plan, timezone=timezone, now=now)
        found[row.id] = next_fee_cents(facts, period_end=ends)
    return found


def _next_fixed(
    conn: Connection[Any],
    of: Sequence[tuple[Subscription, Customer]],
    known: Mapping[UUID, Plan],
    *,
    now: datetime,
) -> dict[UUID, int]:
    """What the fixed charges of each subscription that has some come to, as they are billed next."""
    having = [(row, customer) for row, customer in of if known[row.plan_id].fixed_charges]
    units = fixed_charges.units_of(conn, [row.id for row, _ in having]) if having else {}
    found = {}
    for row, customer in having:
        plan, timezone, started_at = known[row.plan_id], customer.applicable_timezone, row.started_at or now
        whole = fixed_charges_period(row, plan, timezone=timezone, now=now)
        coming = fixed_charges_period(row, plan, timezone=timezone, now=whole.to)
        part = Period(max(whole.from_, started_at), whole.to)
        running = FixedPeriod(whole=whole, part=part, timezone=timezone)
        following = FixedPeriod(whole=coming, part=coming, timezone=timezone)
        found[row.id] = sum(
            charge.next_fee(
                charge.changes(units.get(row.id, {}), since=started_at),
                running=running,
                following=following,
                currency=plan.amount_currency,
                subscription_id=row.id,
            ).amount_cents
            for charge in plan.fixed_charges
        )
    return found
