"""Rules about who pays for calls of language models: what waits for one is counted as soon as it is there."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotFound
from permille.core.llm.payer import PayerRule
from permille.store import customers, payer_rules as store, subscriptions
from permille.usecases import llm_usages


def to_change(conn: Connection[Any], organization_id: UUID, rule_id: UUID | None) -> PayerRule:
    """A rule, locked until the transaction ends. Raises NotFound."""
    found = None if rule_id is None else store.by_id(conn, organization_id, rule_id)
    if found is None:
        raise NotFound("payer_rule")
    return found


def add(conn: Connection[Any], rule: PayerRule, *, now: datetime) -> int:
    """How many held usages it counts. Raises NotFound, and Invalid where there is one about the same name."""
    _require_payer(conn, rule)
    if not store.add(conn, rule):
        raise Invalid({"value": ["value_already_exist"]})
    return llm_usages.attribute_by_rule(conn, rule, now=now)


def change(conn: Connection[Any], rule: PayerRule, *, now: datetime) -> int:
    """How many held usages it counts; what was counted before stays where it is. Raises NotFound."""
    _require_payer(conn, rule)
    store.replace(conn, rule, now=now)
    return llm_usages.attribute_by_rule(conn, rule, now=now)


def _require_payer(conn: Connection[Any], rule: PayerRule) -> None:
    if rule.external_customer_id is not None:
        if customers.by_external_id(conn, rule.organization_id, rule.external_customer_id) is None:
            raise NotFound("customer")
    elif not subscriptions.histories(conn, rule.organization_id, {rule.external_subscription_id or ""}):
        raise NotFound("subscription")


def remove(conn: Connection[Any], rule: PayerRule) -> None:
    """Calls from now on are no longer paid by it."""
    store.delete(conn, rule.id)
