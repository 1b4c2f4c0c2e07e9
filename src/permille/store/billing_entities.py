"""Billing entities: who issues the invoices. Every organization has a default one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.customer import BillingEntity

_COLUMNS = ", ".join(field.name for field in fields(BillingEntity))


def default(conn: Connection[Any], organization_id: UUID) -> BillingEntity:
    """The entity that customers get when they name none; made together with the organization."""
    with conn.cursor(row_factory=class_row(BillingEntity)) as cursor:
        found = cursor.execute(
            f"select {_COLUMNS} from billing_entity where organization_id = %s and is_default",
            [organization_id],
        ).fetchone()
    assert found is not None, organization_id
    return found


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> BillingEntity | None:
    with conn.cursor(row_factory=class_row(BillingEntity)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from billing_entity where organization_id = %s and code = %s",
            [organization_id, code],
        ).fetchone()


def all_of(conn: Connection[Any], organization_id: UUID) -> list[BillingEntity]:
    """Every entity of the organization, the default one first."""
    with conn.cursor(row_factory=class_row(BillingEntity)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from billing_entity where organization_id = %s"
            " order by is_default desc, created_at, id",
            [organization_id],
        ).fetchall()


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, BillingEntity]:
    with conn.cursor(row_factory=class_row(BillingEntity)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from billing_entity where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def update(
    conn: Connection[Any], *, billing_entity_id: UUID, settings: Mapping[str, Any], now: datetime
) -> None:
    """Set the given columns; the names come from code, never from a request."""
    columns = {**settings, "updated_at": now}
    changes = ", ".join(f"{name} = %({name})s" for name in columns)
    conn.execute(
        f"update billing_entity set {changes} where id = %(where_id)s",
        {**columns, "where_id": billing_entity_id},
    )
