"""Subscriptions that have waited for their payment for long enough are canceled. Source: semantics-billing.md section 3.7."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.activation import RuleStatus
from permille.store import activation_rules
from permille.store.subscriptions import by_ids as rows_by_ids
from permille.usecases import holds, subscriptions
from permille.usecases.due.kind import DueKind


def _expire(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    rules = activation_rules.claim_expired(conn, organization_id, until=at, limit=limit, wait=wait)
    waiting = rows_by_ids(conn, {rule.subscription_id for rule in rules})
    return holds.do_due(
        conn,
        organization_id,
        rules,
        lambda some: subscriptions.give_up(conn, some, RuleStatus.EXPIRED, now=at),
        customer_of=lambda rule: waiting[rule.subscription_id].customer_id,
        named=lambda rule: {"external_subscription_id": waiting[rule.subscription_id].external_id},
        at=at,
        now=now,
    )


ACTIVATIONS = DueKind(
    first=lambda conn, organization_id, until: activation_rules.first_to_expire(
        conn, organization_id, until=until
    ),
    live=lambda conn, until: activation_rules.live_to_expire(conn, until=until),
    do=_expire,
)
