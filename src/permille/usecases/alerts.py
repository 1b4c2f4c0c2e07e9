"""Alerts are looked at once events are counted: set-based, and what they fire is kept with the figure that fired it.

The roll-up says which subscriptions have events. A look and its firing are one transaction, so that each threshold is
reported once. Source: semantics-billing.md section 9.3.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.core.alert import Alert, AlertType, Look
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.event import Arrived
from permille.core.money import ZERO
from permille.core.wallet import Wallet
from permille.database.connections import is_passing
from permille.events.engine import event_log
from permille.ids import new_id
from permille.store import (
    alerts as store,
    billable_metrics,
    customers,
    organizations,
    subscriptions,
    wallets,
    webhooks,
)
from permille.store.alerts import TriggeredAlert
from permille.usecases import fences
from permille.usecases.fences import Task
from permille.usecases.usage.lifetime_usage import lifetime_cents
from permille.usecases.usage.usage import PeriodUsage, UsageLine, UsageSearch, running_usages

BATCH = 500
ARRIVALS_AT_ONCE = 200_000
WEBHOOK, OBJECT = "alert.triggered", "triggered_alert"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """An alert that is to be looked at, what it looks at, and whose that is."""

    alert: Alert
    of: Subscription | Wallet
    customer: Customer


def look_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Look at the alerts that events came in for, in any organization; how many that was. `now` is the system's clock."""
    more = _detected(pool)
    with pool.connection() as conn:
        waiting = store.organizations_waiting(conn)

    def look_one(organization_id: UUID) -> int:
        with pool.connection() as conn:
            organization = organizations.by_id(conn, organization_id)
            if organization is None:
                return 0
            return look(conn, organization_id, now=organization.now(now), system_now=now)

    return fences.for_each(pool, Task.ALERTS, waiting, look_one, now=now) + int(more)


def _detected(pool: ConnectionPool[Connection[Any]]) -> bool:
    """Whether there is more to look through. What was found before is looked at also where that fails."""
    try:
        with pool.connection() as conn:
            return detect(conn)
    except Exception as error:
        if is_passing(error):
            raise
        log.exception(
            "Events could not be looked through for alerts; those that were found before are looked at"
        )
        return False


def detect(conn: Connection[Any]) -> bool:
    """Mark the alerts whose subscriptions have events that are counted by now; whether there is more to look through."""
    after = store.claim_arrivals(conn)
    if after is None:
        return False
    counted_to = event_log.arrival(conn).counted_to
    if counted_to <= after:
        return False
    until = counted_to
    if store.is_any_on_usage(conn):
        until = min(counted_to, after + ARRIVALS_AT_ONCE)
        _mark(conn, event_log.arrived(conn, after=after, until=until))
    store.set_seen(conn, until)
    return until < counted_to


def look_now(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Look at all that may have changed in an organization, counted or not: before its clock moves on."""
    if not store.is_any(conn, organization_id):
        return
    arrived = event_log.arrived(conn, after=store.seen_to(conn), until=event_log.settled(conn))
    _mark(conn, (each for each in arrived if each.organization_id == organization_id))
    while look(conn, organization_id, now=now, system_now=system_now()):
        pass


def _mark(conn: Connection[Any], arrived: Iterable[Arrived]) -> None:
    store.mark(conn, {(each.organization_id, each.external_subscription_id) for each in arrived})


def look(conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime) -> int:
    """Look at a batch of the alerts that wait, as of the organization's clock `now`; how many marks that was.

    Customers of whom it fails are left alone for a while.
    """
    owners = store.take_marks(conn, organization_id, task=Task.ALERTS, now=system_now, limit=BATCH)
    watched = _watched(conn, organization_id, store.lock(conn, organization_id, owners)) if owners else []
    if not watched:
        return len(owners)
    failed = fences.for_each_customer(
        conn,
        Task.ALERTS,
        organization_id,
        watched,
        lambda some: _fire(conn, organization_id, some, now=now),
        customer_of=lambda each: each.customer.id,
        now=system_now,
    )
    if failed:
        store.mark_own(conn, [each.alert.id for each in watched if each.customer.id in failed])
    return len(owners)


def _watched(conn: Connection[Any], organization_id: UUID, taken: Sequence[Alert]) -> list[_Watched]:
    """Those whose subscription runs, or whose wallet there is, with it and its customer."""
    wanted = {each.external_subscription_id for each in taken if each.external_subscription_id}
    running = subscriptions.running(conn, organization_id, wanted)
    filled = wallets.by_ids(conn, {each.wallet_id for each in taken if each.wallet_id})
    found: list[tuple[Alert, Subscription | Wallet | None]] = [
        (
            each,
            filled.get(each.wallet_id)
            if each.wallet_id
            else running.get(each.external_subscription_id or ""),
        )
        for each in taken
    ]
    payers = customers.by_ids(conn, {of.customer_id for _, of in found if of})
    return [
        _Watched(alert=each, of=of, customer=payers[of.customer_id]) for each, of in found if of is not None
    ]


def _fire(
    conn: Connection[Any], organization_id: UUID, watched: Sequence[_Watched], *, now: datetime
) -> None:
    """Compare, keep what was seen, and notify of what was crossed."""
    looks = _looks(conn, watched, now=now)
    store.settle(conn, looks, now=now)
    fired = [(each, look) for each, look in zip(watched, looks, strict=True) if look.crossed]
    if not fired:
        return
    metrics = billable_metrics.by_ids(
        conn, {each.alert.billable_metric_id for each, _ in fired if each.alert.billable_metric_id}
    )
    firings = [_firing(each, look, metrics, now=now) for each, look in fired]
    store.add_firings(conn, firings)
    webhooks.enqueue(
        conn,
        organization_id=organization_id,
        webhook_type=WEBHOOK,
        object_type=OBJECT,
        object_ids=[each.id for each in firings],
        payload=None,
        now=now,
    )


def _looks(conn: Connection[Any], watched: Sequence[_Watched], *, now: datetime) -> list[Look]:
    """What each alert sees now."""
    rows = {each.of.id: (each.of, each.customer) for each in watched if isinstance(each.of, Subscription)}
    used = running_usages(conn, list(rows.values()), search=UsageSearch(with_taxes=False), now=now)
    usages = dict(zip(rows, used, strict=True))
    lifetimes = _lifetimes(conn, watched, usages)
    return [
        _look(each.alert, each.of, usages[each.of.id], lifetimes, now=now)
        if isinstance(each.of, Subscription)
        else Look(alert=each.alert, value=wallet_value(each.of, each.alert.alert_type))
        for each in watched
    ]


def _lifetimes(
    conn: Connection[Any], watched: Sequence[_Watched], usages: Mapping[UUID, PeriodUsage]
) -> dict[UUID, int]:
    """The lifetime usage of the subscriptions whose alerts look at it."""
    rows = [
        each.of
        for each in watched
        if each.alert.alert_type is AlertType.LIFETIME_AMOUNT and isinstance(each.of, Subscription)
    ]
    found = lifetime_cents(conn, [(row, usages[row.id]) for row in rows])
    return {row.id: cents for row, cents in zip(rows, found, strict=True)}


def _look(
    alert: Alert, row: Subscription, usage: PeriodUsage, lifetimes: Mapping[UUID, int], *, now: datetime
) -> Look:
    if alert.alert_type is AlertType.LIFETIME_AMOUNT:
        value = Decimal(lifetimes[row.id])
        if row.next_billing_at is not None and row.next_billing_at <= now:
            # The usage of a period that has ended is in neither figure until its invoice is made.
            value = max(value, alert.previous_value)
        return Look(alert=alert, value=value)
    return Look(alert=alert, value=_usage_value(alert, usage), period_from=usage.period.from_)


def wallet_value(wallet: Wallet, alert_type: AlertType) -> Decimal:
    """What an alert of a wallet looks at."""
    match alert_type:
        case AlertType.WALLET_AMOUNT:
            return Decimal(wallet.balance_cents)
        case AlertType.WALLET_ONGOING_AMOUNT:
            return Decimal(wallet.ongoing_balance_cents)
        case AlertType.WALLET_ONGOING_CREDITS:
            return wallet.ongoing_credits
        case _:
            return wallet.credits_balance


def _usage_value(alert: Alert, usage: PeriodUsage) -> Decimal:
    """An amount or units of the period. Of a metric it is the highest of its fees, as in Lago."""
    match alert.alert_type:
        case AlertType.METRIC_AMOUNT:
            return max((Decimal(each.amount_cents) for each in _lines(alert, usage)), default=ZERO)
        case AlertType.METRIC_UNITS:
            return max((each.units for each in _lines(alert, usage)), default=ZERO)
        case _:
            return Decimal(usage.amount_cents)


def _lines(alert: Alert, usage: PeriodUsage) -> Iterable[UsageLine]:
    return (
        line for each in usage.charges if each.metric_id == alert.billable_metric_id for line in each.lines
    )


def _firing(
    watched: _Watched, look: Look, metrics: Mapping[UUID, BillableMetric], *, now: datetime
) -> TriggeredAlert:
    alert = watched.alert
    metric = metrics.get(alert.billable_metric_id) if alert.billable_metric_id else None
    return TriggeredAlert(
        id=new_id(now),
        organization_id=alert.organization_id,
        alert_id=alert.id,
        alert_type=alert.alert_type,
        alert_code=alert.code,
        alert_name=alert.name,
        subscription_id=watched.of.id if isinstance(watched.of, Subscription) else None,
        external_subscription_id=alert.external_subscription_id,
        wallet_id=alert.wallet_id,
        external_customer_id=watched.customer.external_id,
        billable_metric_code=metric.code if metric else None,
        current_value=look.value,
        previous_value=look.before,
        crossed_thresholds=tuple(look.crossed),
        triggered_at=now,
    )
