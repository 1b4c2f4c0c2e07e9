"""Lifetime usage: what a subscription has used since its start, whatever its plan was meanwhile.

It is reckoned at each read, from the invoices and the current usage, so that voided invoices, late events and
negative ones need nobody to put it right. Source: semantics-billing.md sections 6.6 and 6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription, life_of, thresholds_on
from permille.core.contract.threshold import Completion, completions
from permille.core.record import Record, replace
from permille.store import customers, lifetime_usage as store, plans, progressive, subscriptions
from permille.store.lifetime_usage import Life
from permille.usecases.usage.usage import PeriodUsage, UsageSearch, running_usage


class ThresholdProgress(Record, kw_only=True):
    """How far lifetime usage has come towards a threshold, and when an invoice was made of it."""

    completion: Completion
    reached_at: datetime | None


class LifetimeUsage(Record, kw_only=True):
    """Amounts without taxes, in [from_, to); `from_` is None before the start. `id` is that of the first row."""

    id: UUID
    subscription_id: UUID
    external_subscription_id: str
    historical_amount_cents: int
    invoiced_amount_cents: int
    current_amount_cents: int
    from_: datetime | None
    to: datetime
    thresholds: Sequence[ThresholdProgress] = ()

    @property
    def total_amount_cents(self) -> int:
        return self.historical_amount_cents + self.invoiced_amount_cents + self.current_amount_cents


def lifetime_usage(
    conn: Connection[Any], row: Subscription, rows: Sequence[Subscription], *, now: datetime
) -> LifetimeUsage:
    """The lifetime usage of the life that a row belongs to; `rows` are all of its external id."""
    life = life_of(row, rows)
    current = _current(conn, row, now=now)
    found = LifetimeUsage(
        id=life[0].id,
        subscription_id=row.id,
        external_subscription_id=row.external_id,
        historical_amount_cents=life[0].historical_usage_amount_cents,
        invoiced_amount_cents=store.invoiced_cents(conn, [_rows_of(life, row, current)])[0],
        current_amount_cents=current.amount_cents if current else 0,
        from_=life[0].started_at,
        to=row.terminated_at or now,
    )
    return replace(found, thresholds=_thresholds(conn, row, life, found.total_amount_cents))


def _thresholds(
    conn: Connection[Any], row: Subscription, life: Sequence[Subscription], total_cents: int
) -> list[ThresholdProgress]:
    known = thresholds_on(row, plans.plan_by_id(conn, row.plan_id))
    if not known:
        return []
    applied = progressive.applied_of(conn, [each.id for each in life])

    def reached_at(amount_cents: int) -> datetime | None:
        return next(
            (each.created_at for each in applied if each.lifetime_usage_amount_cents >= amount_cents), None
        )

    return [
        ThresholdProgress(completion=each, reached_at=reached_at(each.amount_cents))
        for each in completions(known, total_cents)
    ]


def _rows_of(life: Iterable[Subscription], row: Subscription, current: PeriodUsage | None) -> Life:
    """The rows of a life, with the start of the period that is running of this one."""
    return {each.id: current.period.from_ if current and each.id == row.id else None for each in life}


def lifetime_cents(conn: Connection[Any], running: Sequence[tuple[Subscription, PeriodUsage]]) -> list[int]:
    """The amounts of `lifetimes`."""
    return [each.amount_cents for each in lifetimes(conn, running)]


class Lifetime(Record, kw_only=True):
    """What the rows of a life have used together, in cents."""

    row_ids: tuple[UUID, ...]
    amount_cents: int


def lifetimes(conn: Connection[Any], running: Sequence[tuple[Subscription, PeriodUsage]]) -> list[Lifetime]:
    """The lifetime usage of active rows of an organization, of which the current usage is known; set-based."""
    if not running:
        return []
    histories = subscriptions.histories(
        conn, running[0][0].organization_id, {row.external_id for row, _ in running}
    )
    lives = [life_of(row, histories[row.external_id]) for row, _ in running]
    invoiced = store.invoiced_cents(
        conn, [_rows_of(life, row, current) for life, (row, current) in zip(lives, running, strict=True)]
    )
    return [
        Lifetime(
            row_ids=tuple(each.id for each in life),
            amount_cents=life[0].historical_usage_amount_cents + cents + current.amount_cents,
        )
        for life, cents, (_, current) in zip(lives, invoiced, running, strict=True)
    ]


def set_historical_usage(
    conn: Connection[Any],
    row: Subscription,
    rows: Sequence[Subscription],
    *,
    amount_cents: int | None,
    now: datetime,
) -> None:
    """Set what was used before Permille knew of it, of the life that a row belongs to."""
    columns = {"historical_usage_amount_cents": amount_cents}
    subscriptions.update(conn, subscription_id=life_of(row, rows)[0].id, columns=columns, now=now)
    progressive.mark(conn, {(row.organization_id, row.external_id)})


def _current(conn: Connection[Any], row: Subscription, *, now: datetime) -> PeriodUsage | None:
    if row.status != "active":
        return None
    customer = customers.by_ids(conn, [row.customer_id])[row.customer_id]
    return running_usage(conn, row, customer, search=UsageSearch(with_taxes=False), now=now)
