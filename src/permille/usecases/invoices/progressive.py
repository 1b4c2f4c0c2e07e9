"""Progressive billing: the usage of a period is invoiced as soon as it has reached a threshold.

Subscriptions with thresholds are looked at once their events are counted, and when thresholds change. A look and its
invoice are one transaction under the customer's lock, so that each threshold is reached once.
Source: semantics-billing.md section 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, thresholds_on
from permille.core.contract.threshold import UsageThreshold, reached
from permille.core.customer import Customer
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind
from permille.core.invoice.kinds import make
from permille.core.record import Record
from permille.events.engine import event_log, usage as usage_reader
from permille.ids import new_id
from permille.store import customers, plans, progressive as store, subscriptions, webhooks
from permille.store.arrivals import Follows
from permille.store.progressive import AppliedThreshold
from permille.usecases import arrivals, fences, holds
from permille.usecases.arrivals import Follower
from permille.usecases.fences import Task
from permille.usecases.invoices.facts import draft_of, load_facts
from permille.usecases.invoices.run import progressive_billing
from permille.usecases.invoices.save import save
from permille.usecases.usage.lifetime_usage import Lifetime, lifetimes
from permille.usecases.usage.usage import PeriodUsage, UsageSearch, running_usages

BATCH = 500
WEBHOOK = "subscription.usage_threshold_reached"


FOLLOWER = Follower(
    task=Task.THRESHOLDS,
    who=Follows.THRESHOLDS,
    is_any=store.is_any_threshold,
    is_any_of=store.is_any_threshold,
    mark=store.mark,
    waiting=store.organizations_waiting,
)


class _Watched(Record, kw_only=True):
    """A running subscription with its usage."""

    row: Subscription
    plan: Plan
    customer: Customer
    usage: PeriodUsage
    lifetime: Lifetime


class _Reached(Record, kw_only=True):
    """A subscription that has reached thresholds, with the invoice to be made."""

    of: _Watched
    thresholds: Sequence[UsageThreshold]
    draft: InvoiceDraft


def look_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Look at the subscriptions that events came in for, in any organization; how many. `now` is the system's clock."""
    return arrivals.look_live(pool, FOLLOWER, look, now)


def detect(conn: Connection[Any]) -> bool:
    """Mark what has events that are counted by now; whether there is more to look through."""
    return arrivals.detect(conn, FOLLOWER)


def look_now(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Look at all that may have changed in an organization, counted or not: before its clock moves on."""
    arrivals.look_now(conn, FOLLOWER, look, organization_id, now=now)


def look(conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime) -> int:
    """Look at a batch of subscriptions that wait, as of the organization's clock `now`; how many that was.

    Customers of whom it fails are left alone for a while.
    """
    names = store.take_marks(conn, organization_id, task=Task.THRESHOLDS, at=now, now=system_now, limit=BATCH)
    rows = list(subscriptions.running(conn, organization_id, names).values()) if names else []
    if not rows:
        return len(names)
    failed = fences.for_each_customer(
        conn,
        Task.THRESHOLDS,
        organization_id,
        rows,
        lambda some: bill_reached(conn, some, now=now),
        customer_of=lambda row: row.customer_id,
        now=system_now,
    )
    store.mark(conn, {(organization_id, row.external_id) for row in rows if row.customer_id in failed})
    return len(names)


def bill_reached(conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime) -> None:
    """Invoice the running period of those subscriptions whose usage has reached a threshold. Raises Unbillable."""
    customers.lock_all(conn, {row.customer_id for row in rows})
    again = subscriptions.by_ids(conn, [row.id for row in rows]).values()
    current = sorted(again, key=lambda row: (row.created_at, row.id))  # they share coupons, notes and wallets
    store.mark(
        conn, {(row.organization_id, row.external_id) for row in current if _is_between_periods(row, now)}
    )
    with holds.refusing_unbillable():
        found = _reached(conn, [row for row in current if _may_be_billed(row, now)], now=now)
        if not found:
            return
        drafts = [each.draft for each in found]
        organization_ids = {row.organization_id for row in rows}
        facts = usage_reader.under_one_metering(conn, organization_ids, lambda: load_facts(conn, drafts))
        made = {draft.id: draft for draft in make(drafts, facts)}
        save(conn, list(made.values()))
    _keep_applied(conn, [each for each in found if each.draft.id in made], now=now)


def _may_be_billed(row: Subscription, now: datetime) -> bool:
    """Whether its period runs: one that has ended is billed as a whole."""
    is_watched = row.status == "active" and not row.progressive_billing_disabled
    return is_watched and not _is_between_periods(row, now)


def _is_between_periods(row: Subscription, now: datetime) -> bool:
    """Whether its period has ended, or was billed by others since `now` was read: it is looked at in the next one."""
    has_ended = row.next_billing_at is not None and row.next_billing_at <= now
    is_billed = row.charges_billed_until is not None and row.charges_billed_until > now
    return row.status == "active" and (has_ended or is_billed)


def _reached(conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime) -> list[_Reached]:
    watched = _watched(conn, rows, now=now)
    if not watched:
        return []
    organization_id = watched[0].row.organization_id
    periods = {each.row.id: each.usage.period for each in watched}
    before = store.billed_before(conn, organization_id, periods)
    lives = {row_id for each in watched for row_id in each.lifetime.row_ids}
    highest: dict[UUID, int] = {}
    for applied in store.applied_of(conn, lives):
        cents = applied.lifetime_usage_amount_cents
        highest[applied.subscription_id] = max(cents, highest.get(applied.subscription_id, 0))
    arrival = event_log.arrival(conn)
    found = []
    for each in watched:
        billed = before[each.row.id].fees_amount_cents if each.row.id in before else 0
        passed = reached(
            thresholds_on(each.row, each.plan),
            before_cents=max(
                each.lifetime.amount_cents - each.usage.amount_cents + billed,
                *(highest.get(row_id, 0) for row_id in each.lifetime.row_ids),
            ),
            total_cents=each.lifetime.amount_cents,
        )
        if passed:
            billing = progressive_billing(
                each.row, each.plan, each.customer, each.usage.period, at=now, arrival=arrival
            )
            draft = draft_of((billing,), kind=InvoiceKind.PROGRESSIVE)
            found.append(_Reached(of=each, thresholds=passed, draft=draft))
    return found


def _watched(conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime) -> list[_Watched]:
    """Those that have thresholds, with what they have used."""
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    chosen = [row for row in rows if thresholds_on(row, known[row.plan_id])]
    if not chosen:
        return []
    payers = customers.of_subscriptions(conn, chosen)
    of = [(row, payers[row.id]) for row in chosen]
    used = running_usages(conn, of, search=UsageSearch(with_taxes=False), now=now)
    whole = lifetimes(conn, list(zip(chosen, used, strict=True)))
    return [
        _Watched(row=row, plan=known[row.plan_id], customer=customer, usage=usage, lifetime=lifetime)
        for (row, customer), usage, lifetime in zip(of, used, whole, strict=True)
    ]


def _keep_applied(conn: Connection[Any], found: Sequence[_Reached], *, now: datetime) -> None:
    """Keep which thresholds were reached, and notify of each."""
    applied = [
        AppliedThreshold(
            id=new_id(now),
            organization_id=each.of.row.organization_id,
            invoice_id=each.draft.id,
            subscription_id=each.of.row.id,
            threshold=threshold,
            lifetime_usage_amount_cents=each.of.lifetime.amount_cents,
            created_at=now,
        )
        for each in found
        for threshold in each.thresholds
    ]
    if applied:
        store.add_applied(conn, applied)
        ids = [each.id for each in applied]
        webhooks.enqueue_of(conn, WEBHOOK, applied[0].organization_id, ids, now=now)
