"""An invoice was paid, or its payment failed: what follows from it, whatever the payment came by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from permille.store import invoices, webhooks
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices import opened
from permille.usecases.wallets import transactions


class Follower(Protocol):
    """Does what follows when the payment status of invoices has become another."""

    def __call__(
        self,
        conn: Connection[Any],
        found: Sequence[StoredInvoice],
        payment_status: str,
        /,
        *,
        now: datetime,
    ) -> None: ...


FOLLOWERS: tuple[Follower, ...] = (opened.payment_changed, transactions.payment_changed)
"""In their order. Each is called once for a change, in its transaction."""


def set_payment_status(
    conn: Connection[Any], found: Sequence[StoredInvoice], payment_status: str, *, now: datetime
) -> None:
    """Set the payment status of invoices of one organization, whose customers are locked, and do what follows from it."""
    changed = [each for each in found if each.payment_status != payment_status]
    if not changed:
        return
    ids: list[UUID] = [each.id for each in changed]
    invoices.set_payment_status(conn, ids, payment_status, now=now)
    for follow in FOLLOWERS:
        follow(conn, changed, payment_status, now=now)
    webhooks.enqueue_of(conn, "invoice.payment_status_updated", changed[0].organization_id, ids, now=now)
