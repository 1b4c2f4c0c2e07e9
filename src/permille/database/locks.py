"""Locks that last until the transaction ends, for what no single row represents."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection


def change_catalogue(conn: Connection[Any], organization_id: UUID) -> None:
    """One change of an organization's metrics and plans at a time, and none while a subscription is made."""
    conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"catalogue {organization_id}"])


def use_catalogue(conn: Connection[Any], organization_id: UUID) -> None:
    """Nobody changes the organization's metrics and plans meanwhile; others may use them too."""
    conn.execute(
        "select pg_advisory_xact_lock_shared(hashtextextended(%s, 0))", [f"catalogue {organization_id}"]
    )


def change_customer(conn: Connection[Any], organization_id: UUID, external_id: str) -> None:
    """One making or change of the customer with an external id at a time."""
    conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
        [f"customer {organization_id} {external_id}"],
    )


def change_subscription(conn: Connection[Any], organization_id: UUID, external_id: str) -> None:
    """One change of the rows of an external id at a time."""
    conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
        [f"subscription {organization_id} {external_id}"],
    )


def change_webhook_endpoints(conn: Connection[Any], organization_id: UUID) -> None:
    """One change of an organization's webhook endpoints at a time."""
    conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"webhook endpoints {organization_id}"]
    )


def change_alerts_of_wallet(conn: Connection[Any], organization_id: UUID, wallet_id: UUID | None) -> None:
    """One change of the alerts of a wallet at a time."""
    conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
        [f"alerts {organization_id} {wallet_id}"],
    )


def keep_calls_aside(conn: Connection[Any], organization_id: UUID) -> None:
    """One request of an organization keeps calls aside at a time: others may keep the same in another order."""
    conn.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"calls kept aside {organization_id}"]
    )
