"""Wallets and their rules expire, and rules top up when an interval is over. Source: semantics-billing.md section 5.6."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.wallet_rule import Method, WalletRule
from permille.store import due, wallet_rules, wallets
from permille.usecases import holds
from permille.usecases.due.kind import DueKind
from permille.usecases.ongoing_balances import refresh_customers
from permille.usecases.wallet_rules import top_up_due
from permille.usecases.wallets.wallets import terminate


def _expire(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    ended = wallets.claim_expired(conn, organization_id, until=at, limit=limit, wait=wait)
    count = holds.do_due(
        conn,
        organization_id,
        ended,
        lambda some: terminate(conn, some, now=at),
        customer_of=lambda wallet: wallet.customer_id,
        at=at,
        now=now,
    )
    owners = wallet_rules.claim_expired(conn, organization_id, until=at, limit=limit, wait=wait)
    return count + holds.do_due(
        conn,
        organization_id,
        list(owners),
        lambda some: wallet_rules.end(conn, some, now=at),
        customer_of=owners.__getitem__,
        at=at,
        now=now,
    )


def _top_up(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    found = wallet_rules.claim_due(conn, organization_id, until=at, limit=limit, wait=wait)
    owners = wallets.by_ids(conn, {rule.wallet_id for rule in found})

    def fill(some: Sequence[WalletRule]) -> None:
        # What they lack to a target is known after the bills of this instant, which change both usage and balances.
        targeted = {owners[rule.wallet_id].customer_id for rule in some if rule.method is Method.TARGET}
        refresh_customers(conn, organization_id, targeted, now=at)
        known = wallets.by_ids(conn, {rule.wallet_id for rule in some})
        for rule in some:
            top_up_due(conn, rule, known[rule.wallet_id], now=at)

    return holds.do_due(
        conn,
        organization_id,
        found,
        fill,
        customer_of=lambda rule: owners[rule.wallet_id].customer_id,
        at=at,
        now=now,
    )


EXPIRY = DueKind(
    first=lambda conn, organization_id, until: due.first_to_expire(conn, organization_id, until=until),
    live=lambda conn, until: due.live_to_expire(conn, until=until),
    do=_expire,
)
TOP_UPS = DueKind(
    first=lambda conn, organization_id, until: due.first_top_up(conn, organization_id, until=until),
    live=lambda conn, until: due.live_with_top_up(conn, until=until),
    do=_top_up,
)
