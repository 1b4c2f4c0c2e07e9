"""The due-work engine: whatever is due up to an instant is done, in the order in which it became due.

At one instant events that are wrong are told, then pending subscriptions start, then those that end do, then the
billing runs, then drafts become final. The worker's loop and the test clock are the same engine; only who says what
time it is differs.
Source: semantics-billing.md sections 3.2, 3.4, 3.10; docs/decisions/007.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.subscription import Subscription
from permille.core.errors import Invalid
from permille.core.organization import Organization
from permille.store import billing_holds, due as due_store, invoices, organizations
from permille.usecases import event_errors, fences, holds, subscriptions as life
from permille.usecases.invoices import advance, drafts, run

BATCH = 2_000
TASK = "Due work"


def run_due(conn: Connection[Any], *, organization: Organization, until: datetime) -> int:
    """Do everything that is due of one organization, in the caller's transaction; how many things that was.

    In test mode the organization's clock shows the instant of what is being done. Events that wait for their
    fee come first, as of before. What was held is tried again, once.
    """
    done, clock = 0, organization.test_now
    billing_holds.release(conn, organization.id, until=None)
    invoices.release_waiting(conn, organization.id, until=None)
    advance.bill_all(conn, organization.id, now=clock or until)
    while (at := due_store.next_instant(conn, organization.id, until=until)) is not None:
        if clock is not None and at > clock:
            clock = at
            organizations.set_clock(conn, organization_id=organization.id, now=at)
        done += _step(conn, organization.id, at, wait=True, now=max(at, clock or until))
    return done


def move_clock(conn: Connection[Any], *, organization: Organization, until: datetime) -> None:
    """Move a test clock and do all that becomes due on the way; the same instant again does what is due.

    Raises Invalid when the clock would go back.
    """
    clock = organizations.lock_clock(conn, organization.id)
    if clock is None or until < clock:
        raise Invalid({"now": ["cannot_go_back"]})
    run_due(conn, organization=replace(organization, test_now=clock), until=until)
    organizations.set_clock(conn, organization_id=organization.id, now=until)


def _never() -> bool:
    return False


def run_live(
    pool: ConnectionPool[Connection[Any]], now: datetime, stopping: Callable[[], bool] = _never
) -> int:
    """Do everything that is due of the live organizations, a transaction a batch; how many things that was.

    Once `stopping` says so, no further batch is begun.

    Several processes may run at once: each leaves alone what another is at. What fails in one organization holds up
    no other, and a customer that cannot be billed none but itself.
    """
    with pool.connection() as conn:
        waiting = due_store.live_organizations(conn, until=now)

    def run_one(organization_id: UUID) -> int:
        return _run_organization(pool, organization_id, now, stopping)

    return fences.for_each(pool, TASK, waiting, run_one, now=now)


def _run_organization(
    pool: ConnectionPool[Connection[Any]], organization_id: UUID, now: datetime, stopping: Callable[[], bool]
) -> int:
    """Batch after batch until nothing is left; how many things that was."""
    done = 0
    with pool.connection() as conn:
        billing_holds.release(conn, organization_id, until=now)
        invoices.release_waiting(conn, organization_id, until=now)
    while not stopping() and (step := _live_step(pool, organization_id, now)):
        done += step
    return done


def _live_step(pool: ConnectionPool[Connection[Any]], organization_id: UUID, now: datetime) -> int:
    """One batch; 0 when nothing is left, or others are at it: what is due later must wait for them."""
    with pool.connection() as conn:
        at = due_store.next_instant(conn, organization_id, until=now)
        return 0 if at is None else _step(conn, organization_id, at, wait=False, now=now)


def _step(conn: Connection[Any], organization_id: UUID, at: datetime, *, wait: bool, now: datetime) -> int:
    """A batch of what is due at the instant: of hours of events, else of starts, ends, bills, drafts.

    What cannot be done is held, by the organization's clock `now`.
    """
    if told := event_errors.tell_due(conn, organization_id, until=at, wait=wait):
        return told
    starts = due_store.claim_starts(conn, organization_id, until=at, limit=BATCH, wait=wait)
    if starts:
        _each(conn, starts, lambda some: life.start_all(conn, some, now=at), at=at, now=now)
        return len(starts)
    ends = due_store.claim_ends(conn, organization_id, until=at, limit=BATCH, wait=wait)
    if ends:
        _each(conn, ends, lambda some: life.terminate_all(conn, some, at=at), at=at, now=now)
        return len(ends)
    billed = run.bill_due(conn, organization_id=organization_id, until=at, limit=BATCH, wait=wait, now=now)
    return billed or drafts.finalize_due(conn, organization_id, until=at, limit=BATCH, wait=wait, now=now)


def _each(
    conn: Connection[Any],
    rows: Sequence[Subscription],
    act: Callable[[Sequence[Subscription]], None],
    *,
    at: datetime,
    now: datetime,
) -> None:
    """Do it with all, but for those of customers that cannot be billed."""
    failures = holds.do_apart(conn, rows, act, customer_of=lambda row: row.customer_id)
    holds.hold(
        conn,
        rows[0].organization_id,
        failures,
        due_at=lambda _: at,
        named=lambda row: {"external_subscription_id": row.external_id},
        now=now,
    )
