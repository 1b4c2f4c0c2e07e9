"""Charges paid in advance: events that wait for their fee are priced and billed, a batch at a time.

The event is stored and answered before; its fee follows at once, from the queue that the same transaction has put
it into. The biller of a customer holds its lock, so that each event is priced after those that came before it.
Source: semantics-metering.md section 5.12, semantics-billing.md section 6.4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.errors import Unbillable
from permille.core.invoice.draft import InvoiceDraft
from permille.core.rating.fee import Fee
from permille.core.record import replace
from permille.events.engine import event_log, usage
from permille.store import (
    advance_levels,
    advance_queue,
    billing_holds,
    customers,
    organizations,
    plans,
    subscriptions,
)
from permille.store.advance_levels import KeptLevels, LevelKey
from permille.store.advance_queue import WaitingEvent
from permille.usecases import fences, holds
from permille.usecases.fences import Task
from permille.usecases.holds import Failure
from permille.usecases.invoices.run import advance_draft, bill_in_advance
from permille.usecases.usage.levels import LAST_SEQ, AdvanceTerms, Carried, price, read_histories, terms_of

BATCH = 1_000


@dataclass(slots=True, kw_only=True)
class _Work:
    """Events that are to be billed under the same terms, by seq."""

    terms: AdvanceTerms
    billed: dict[int, WaitingEvent] = field(default_factory=dict)


def bill_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Bill what waits in any organization, as of its own clock, a transaction a batch; how many events that was.

    What fails in one organization holds up no other.
    """
    with pool.connection() as conn:
        waiting = advance_queue.organizations_waiting(conn, now=now)

    def bill(organization_id: UUID) -> int:
        with pool.connection() as conn:
            if clock := organizations.hold_clock(conn, organization_id, system_now=now):
                billing_holds.release(conn, organization_id, until=clock)
                advance_queue.release_unpriced(conn, organization_id, until=clock)
        with pool.connection() as conn:
            clock = organizations.hold_clock(conn, organization_id, system_now=now)
            return bill_events(conn, organization_id, now=clock, wait=False) if clock else 0

    return fences.for_each(pool, Task.ADVANCE, waiting, bill, now=now)


def bill_customers(
    conn: Connection[Any], organization_id: UUID, customer_ids: Collection[UUID], *, now: datetime
) -> None:
    """Bill what waits of customers, whose subscriptions are about to change, and of others that are free.

    Raises Unbillable when any of theirs comes to an amount that does not fit into 64 bits.
    """
    if not advance_queue.is_any_waiting(conn, organization_id, customer_ids):
        return
    customers.lock_all(conn, customer_ids)
    billing_holds.release_customers(conn, customer_ids)
    taken = 1
    while taken:
        taken, failures = _bill_batch(conn, organization_id, now=now, wait=False)
        for failure in failures:
            if failure.customer_id in customer_ids:
                raise Unbillable(failure.reason, code=failure.code)


def bill_events(conn: Connection[Any], organization_id: UUID, *, now: datetime, wait: bool) -> int:
    """Bill the events that have waited the longest; how many were taken off the queue.

    An event of no running subscription, or of none of its charges, makes no fee. What is billed by someone else
    at the moment is skipped unless `wait` is set. An event whose fee is out of range is held,
    and what comes after it of the same customer.
    """
    taken, _ = _bill_batch(conn, organization_id, now=now, wait=wait)
    return taken


def _bill_batch(
    conn: Connection[Any], organization_id: UUID, *, now: datetime, wait: bool
) -> tuple[int, list[Failure[WaitingEvent]]]:
    """How many were taken off the queue, and those that cannot be billed."""
    if not advance_queue.is_any_waiting(conn, organization_id):
        return 0, []
    waiting = _claim(conn, organization_id, wait=wait)
    flagged = {each.customer_id for each in waiting if each.is_held and each.customer_id}
    held = billing_holds.still_held(conn, flagged) if flagged else set()
    failures = holds.do_apart(
        conn,
        [each for each in waiting if each.customer_id not in held],
        lambda some: _bill(conn, organization_id, some, now=now),
        customer_of=lambda each: each.customer_id,
        keeps_begun=True,
    )
    holds.hold(
        conn,
        organization_id,
        failures,
        due_at=lambda each: each.due_at or now,
        named=lambda each: {"event_transaction_id": each.transaction_id},
        now=now,
    )
    held_from = dict.fromkeys(held, 0) | {each.customer_id: each.item.seq for each in failures}
    if parked := [each for each in waiting if each.seq >= _held_from(held_from, each)]:
        advance_queue.park(conn, parked, now=now)
    return len(waiting), failures


def _claim(conn: Connection[Any], organization_id: UUID, *, wait: bool) -> list[WaitingEvent]:
    """Take the events that have waited the longest off the queue, in the order of arrival, with their customers locked."""
    queued = advance_queue.first(conn, organization_id, until=event_log.settled(conn), limit=BATCH)
    current = event_log.current(conn, [each.identity for each in queued])
    found = [current[each.identity] for each in queued]
    payers = advance_queue.payers(
        conn, organization_id, [(each.external_subscription_id or "", each.at) for each in found]
    )
    waiting = [
        WaitingEvent(
            seq=each.seq,
            identity=each.identity,
            due_at=each.due_at,
            is_held=bool(payer and payer.is_held),
            transaction_id=event.transaction_id,
            at=event.at,
            code=event.code,
            subscription_id=payer and payer.subscription_id,
            customer_id=payer and payer.customer_id,
            charge_ids=each.charge_ids,
        )
        for each, event, payer in zip(queued, found, map(payers.get, range(len(queued))), strict=True)
    ]
    return advance_queue.take(conn, organization_id, waiting, wait=wait)


def _held_from(held_from: Mapping[UUID, int], event: WaitingEvent) -> int:
    """From which event on those of its customer are held."""
    return LAST_SEQ if event.customer_id is None else held_from.get(event.customer_id, LAST_SEQ)


def _bill(
    conn: Connection[Any], organization_id: UUID, waiting: Sequence[WaitingEvent], *, now: datetime
) -> None:
    """Price events and write their fees, and what they have reached.

    Events without a price are put aside where their charge says that they wait for one: no other waits for them.
    """
    fees, reached = usage.under_one_metering(
        conn, [organization_id], lambda: _made(conn, _works(conn, waiting))
    )
    drafts: list[InvoiceDraft] = []
    unpriced: dict[int, tuple[WaitingEvent, list[UUID]]] = {}
    carried = Carried.read(conn, [work.terms for work, _, _ in fees])
    for work, event, fee in fees:
        if fee.is_held:
            unpriced.setdefault(event.seq, (event, []))[1].append(work.terms.charge.id)
            continue
        drafts.append(
            advance_draft(
                work.terms.row,
                work.terms.plan,
                work.terms.customer,
                carried.next(work.terms, fee),
                at=event.due_at or now,
                invoiceable=work.terms.charge.invoiceable,
            )
        )
    bill_in_advance(conn, drafts)
    carried.keep(conn)
    if unpriced:
        held = list(unpriced.values())
        advance_queue.hold_unpriced(conn, organization_id, held, now=now, retry_at=now + holds.PAUSE_MAX)
    if reached:
        advance_levels.keep(conn, reached)


def _works(conn: Connection[Any], waiting: Sequence[WaitingEvent]) -> list[_Work]:
    rows = subscriptions.by_ids(conn, {each.subscription_id for each in waiting if each.subscription_id})
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    payers = customers.of_subscriptions(conn, rows.values())
    works: dict[tuple[UUID, UUID, datetime], _Work] = {}
    for each in waiting:
        row = rows.get(each.subscription_id) if each.subscription_id else None
        if row is None or (row.status != "active" and each.charge_ids is None):
            continue
        plan, customer = known_plans[row.plan_id], payers[row.id]
        if row.status != "active":  # an event that waited for a price outlasts its subscription
            row = replace(row, status="active", charges_billed_until=None)
        for terms in terms_of(row, plan, customer, code=each.code, at=each.at):
            if not each.is_billed_by(terms.charge):
                continue
            key = (row.id, terms.charge.id, terms.period.from_)
            works.setdefault(key, _Work(terms=terms)).billed[each.seq] = each
    return list(works.values())


def _made(
    conn: Connection[Any], works: Sequence[_Work]
) -> tuple[list[tuple[_Work, WaitingEvent, Fee]], list[tuple[LevelKey, KeptLevels]]]:
    """The fees in the order in which their events arrived, and what is to be kept of the levels that these reached."""
    histories = read_histories(conn, [(work.terms, work.billed.keys()) for work in works])
    made: list[tuple[_Work, WaitingEvent, Fee]] = []
    to_keep: list[tuple[LevelKey, KeptLevels]] = []
    for work, history in zip(works, histories, strict=True):
        fees, reached = price(work.terms, history, billed=work.billed.keys())
        made += [(work, work.billed[seq], fee) for seq, fee in fees]
        if history.is_worth_keeping(reached):
            to_keep.append((history.key, history.after(reached, until_seq=max(work.billed))))
    billed = [
        (work, event, replace(fee, event_transaction_id=event.transaction_id)) for work, event, fee in made
    ]
    return sorted(billed, key=lambda each: each[1].seq), to_keep
