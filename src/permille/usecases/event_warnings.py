"""For those who ask with `strict`: what of the events that were just taken will not count, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.event_warning import EventWarning, TakenEvent, event_warnings
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, running_at
from permille.core.instants import EPOCH
from permille.core.record import replace
from permille.events.draft import Draft
from permille.store import billable_metrics, customers, late_usage, plans, subscriptions
from permille.usecases.usage.windows import running_plan

WARNINGS_MAX = 1_000


def warnings_of(
    conn: Connection[Any], organization_id: UUID, drafts: Sequence[Draft]
) -> list[tuple[int, EventWarning]]:
    """The index of an event, and a warning about it: the first WARNINGS_MAX."""
    metrics = billable_metrics.by_codes(conn, organization_id, {draft.code for draft in drafts})
    names = {draft.external_subscription_id for draft in drafts if draft.external_subscription_id}
    histories = subscriptions.histories(conn, organization_id, names)
    events = [
        TakenEvent(
            external_subscription_id=draft.external_subscription_id,
            at=EPOCH + timedelta(microseconds=draft.at),
            properties=draft.properties,
        )
        for draft in drafts
    ]
    rows = [histories.get(event.external_subscription_id or "", []) for event in events]
    takers = [running_at(history, event.at) for history, event in zip(rows, events, strict=True)]
    priced = prices_at(
        conn, [(taker, event.at) for taker, event in zip(takers, events, strict=True) if taker]
    )
    timed = [
        (event.external_subscription_id or "", draft.code, event.at)
        for event, draft in zip(events, drafts, strict=True)
    ]
    too_late = late_usage.if_sent_now(conn, organization_id, timed)
    found = (
        (index, warning)
        for index, (draft, event, history, taker) in enumerate(zip(drafts, events, rows, takers, strict=True))
        for warning in event_warnings(
            event,
            metric=metrics.get(draft.code),
            history=history,
            plan=priced[taker.id, event.at] if taker else None,
            is_too_late=index in too_late,
        )
    )
    return [warning for warning, _ in zip(found, range(WARNINGS_MAX), strict=False)]


def prices_at(
    conn: Connection[Any], running: Sequence[tuple[Subscription, datetime]]
) -> dict[tuple[UUID, datetime], Plan]:
    """Subscription and instant -> its plan with the prices of the period that it was then in."""
    known = plans.plans_by_ids(conn, {row.plan_id for row, _ in running})
    versioned = {row.customer_id for row, _ in running if known[row.plan_id].price_versions}
    owners = customers.by_ids(conn, versioned)
    return {
        (row.id, at): running_plan(
            replace(row, status="active"), known[row.plan_id], owners[row.customer_id], at=at
        )
        if row.customer_id in owners
        else known[row.plan_id]
        for row, at in running
    }
