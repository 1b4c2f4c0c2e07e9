"""Subscriptions that have waited for their payment for long enough are canceled. Source: semantics-billing.md section 3.7."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.activation import RuleStatus
from permille.store import activation_rules
from permille.usecases import subscriptions
from permille.usecases.due.kind import DueKind


def _expire(
    conn: Connection[Any], organization_id: UUID, *, at: datetime, limit: int, wait: bool, now: datetime
) -> int:
    del now
    rules = activation_rules.claim_expired(conn, organization_id, until=at, limit=limit, wait=wait)
    subscriptions.give_up(conn, rules, RuleStatus.EXPIRED, now=at)
    return len(rules)


ACTIVATIONS = DueKind(
    first=lambda conn, organization_id, until: activation_rules.first_to_expire(
        conn, organization_id, until=until
    ),
    live=lambda conn, until: activation_rules.live_to_expire(conn, until=until),
    do=_expire,
)
