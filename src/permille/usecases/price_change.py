"""What follows once usage comes to something else without an event: prices or taxes are others, or a period began."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription
from permille.store import alerts, billing_holds, late_usage, progressive, unpriced, wallets


def prices_changed(
    conn: Connection[Any], organization_id: UUID, *, plan_ids: Collection[UUID], now: datetime
) -> None:
    """Try held customers again, look again for usage without a price, and price late usage again.

    What usage on these plans comes to is looked at again: for alerts, usage thresholds and ongoing balances.
    """
    billing_holds.retry_soon(conn, organization_id, now=now)
    unpriced.recheck(conn, [organization_id])
    late_usage.price_again(conn, organization_id)
    for mark in (alerts.mark_of_plans, progressive.mark_of_plans, wallets.mark_of_plans):
        mark(conn, plan_ids)


def amounts_changed(conn: Connection[Any], rows: Iterable[Subscription]) -> None:
    """What the usage of subscriptions comes to is looked at again: it has other prices, or was there before a period began."""
    of = {(row.organization_id, row.external_id) for row in rows}
    for mark in (alerts.mark, progressive.mark, wallets.mark) if of else ():
        mark(conn, of)


def taxes_changed(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    customer_ids: Collection[UUID] | None = None,
    now: datetime,
) -> None:
    """Try held customers again, and reckon the ongoing balances of these customers, None: of all, with the new taxes."""
    billing_holds.retry_soon(conn, organization_id, now=now)
    if customer_ids is None:
        wallets.mark_all(conn, organization_id)
    else:
        wallets.mark_customers(conn, organization_id, customer_ids)
