"""Alerts are looked at once events are counted: set-based, and what they fire is kept with the figure that fired it.

The roll-up says which subscriptions have events. A look and its firing are one transaction, so that each threshold is
reported once. Source: semantics-billing.md section 9.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.alert import Alert, AlertType, Look
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.metering.billable_metric import BillableMetric
from permille.core.money import ZERO
from permille.core.record import Record
from permille.core.wallet import Wallet
from permille.ids import new_id
from permille.store import (
    alerts as store,
    billable_metrics,
    customers,
    subscriptions,
    wallets,
    webhooks,
)
from permille.store.alerts import TriggeredAlert
from permille.store.arrivals import Follows
from permille.usecases import arrivals, fences
from permille.usecases.arrivals import Follower
from permille.usecases.fences import Task
from permille.usecases.usage.lifetime_usage import lifetime_cents
from permille.usecases.usage.usage import PeriodUsage, UsageLine, UsageSearch, running_usages

BATCH = 500
WEBHOOK, OBJECT = "alert.triggered", "triggered_alert"


FOLLOWER = Follower(
    task=Task.ALERTS,
    who=Follows.ALERTS,
    is_any=store.is_any_on_usage,
    is_any_of=store.is_any,
    mark=store.mark,
    waiting=store.organizations_waiting,
)


class _Watched(Record, kw_only=True):
    """An alert that is to be looked at, what it looks at, and whose that is."""

    alert: Alert
    of: Subscription | Wallet
    customer: Customer


def look_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Look at the alerts that events came in for, in any organization; how many that was. `now` is the system's clock."""
    return arrivals.look_live(pool, FOLLOWER, look, now)


def detect(conn: Connection[Any]) -> bool:
    """Mark what has events that are counted by now; whether there is more to look through."""
    return arrivals.detect(conn, FOLLOWER)


def look_now(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Look at all that may have changed in an organization, counted or not: before its clock moves on."""
    arrivals.look_now(conn, FOLLOWER, look, organization_id, now=now)


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
