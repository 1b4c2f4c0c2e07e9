"""What follows when the balance of a wallet has changed, whatever changed it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from permille.store import alerts, wallets, webhooks
from permille.store.wallet_transactions import WalletTransaction


class Follower(Protocol):
    """Looks at wallets whose balance, or ongoing balance, has just changed."""

    def __call__(self, conn: Connection[Any], wallet_ids: Collection[UUID], *, now: datetime) -> None: ...


FOLLOWERS: tuple[Follower, ...] = (alerts.mark_wallets,)
"""In the order in which they look."""


def changed(conn: Connection[Any], wallet_ids: Collection[UUID], *, now: datetime) -> None:
    """Call it after every change of balances, in its transaction: a customer's wallets share its usage by what they have."""
    wallets.set_shares_out_of_date(conn, wallet_ids, at=now)
    ongoing_changed(conn, wallet_ids, now=now)


def ongoing_changed(conn: Connection[Any], wallet_ids: Collection[UUID], *, now: datetime) -> None:
    """Call it after every change of ongoing balances."""
    for follow in FOLLOWERS:
        follow(conn, wallet_ids, now=now)


def announce(conn: Connection[Any], what: str, rows: Sequence[WalletTransaction], now: datetime) -> None:
    """Queue webhooks about transactions of one organization that were `created` or `updated`."""
    if rows:
        ids = [row.id for row in rows]
        webhooks.enqueue_of(conn, f"wallet_transaction.{what}", rows[0].organization_id, ids, now=now)
