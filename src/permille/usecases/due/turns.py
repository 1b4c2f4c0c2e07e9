"""Starts and ends of subscriptions: what is done at an instant of theirs, for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription
from permille.store import due
from permille.store.due import Instant
from permille.usecases import holds
from permille.usecases.due.kind import DueKind


def kind_of(
    instant: Instant, do: Callable[[Connection[Any], Sequence[Subscription], datetime], None]
) -> DueKind:
    """The kind of work that is due at an instant of subscriptions; customers that cannot be billed are held."""

    def step(
        conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
    ) -> int:
        rows = due.claim(conn, organization_id, instant, until=at, limit=limit, wait=wait)
        return holds.do_due(
            conn,
            organization_id,
            rows,
            lambda some: do(conn, some, at),
            customer_of=lambda row: row.customer_id,
            named=lambda row: {"external_subscription_id": row.external_id},
            at=at,
            now=now,
        )

    return DueKind(
        first=lambda conn, organization_id, until: due.first_of_subscriptions(
            conn, organization_id, instant, until=until
        ),
        live=lambda conn, until: due.live_of_subscriptions(conn, instant, until=until),
        do=step,
    )
