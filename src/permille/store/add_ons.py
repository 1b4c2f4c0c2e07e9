"""Rows of add-ons."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.add_on import AddOn
from permille.store import taxes

_COLUMNS = (
    "a.id, a.code, a.name, a.invoice_display_name, a.description, a.amount_cents, a.amount_currency,"
    " a.created_at, " + taxes.column("a")
)


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[AddOn]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from add_on a where {condition}", values).fetchall()
    return [AddOn(**{**row, "taxes": taxes.of_json(row["taxes"])}) for row in rows]


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> AddOn | None:
    found = by_codes(conn, organization_id, [code])
    return found[0] if found else None


def by_codes(conn: Connection[Any], organization_id: UUID, wanted: Collection[str]) -> list[AddOn]:
    """Those with these codes, as far as there are such."""
    condition = "a.organization_id = %s and a.code = any(%s) and a.deleted_at is null"
    return _select(conn, condition, [organization_id, list(wanted)])


def by_ids(conn: Connection[Any], organization_id: UUID, wanted: Collection[UUID]) -> list[AddOn]:
    """Those with these ids, as far as there are such."""
    condition = "a.organization_id = %s and a.id = any(%s) and a.deleted_at is null"
    return _select(conn, condition, [organization_id, list(wanted)])


def of_any(conn: Connection[Any], wanted: Collection[UUID]) -> dict[UUID, AddOn]:
    """Add-ons by id, deleted ones too."""
    return {found.id: found for found in _select(conn, "a.id = any(%s)", [list(wanted)])}


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[AddOn], int]:
    """Newest first, and how many there are."""
    rows = _select(
        conn,
        "a.organization_id = %s and a.deleted_at is null order by a.created_at desc, a.id limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(
        "select count(*) from add_on where organization_id = %s and deleted_at is null", [organization_id]
    ).fetchone()
    return rows, row[0] if row else 0


def add(conn: Connection[Any], organization_id: UUID, made: AddOn) -> bool:
    """Whether the code was free."""
    return bool(
        conn.execute(
            "insert into add_on (id, organization_id, code, name, invoice_display_name, description,"
            " amount_cents, amount_currency, tax_ids, created_at, updated_at)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " on conflict (organization_id, code) where deleted_at is null do nothing",
            [
                made.id,
                organization_id,
                made.code,
                made.name,
                made.invoice_display_name,
                made.description,
                made.amount_cents,
                made.amount_currency,
                taxes.ids(made.taxes),
                made.created_at,
                made.created_at,
            ],
        ).rowcount
    )


def replace(conn: Connection[Any], after: AddOn, *, now: datetime) -> None:
    """Write every field of an existing add-on."""
    conn.execute(
        "update add_on set code = %s, name = %s, invoice_display_name = %s, description = %s,"
        " amount_cents = %s, amount_currency = %s, tax_ids = %s, updated_at = %s where id = %s",
        [
            after.code,
            after.name,
            after.invoice_display_name,
            after.description,
            after.amount_cents,
            after.amount_currency,
            taxes.ids(after.taxes),
            now,
            after.id,
        ],
    )


def delete(conn: Connection[Any], add_on_id: UUID, *, now: datetime) -> None:
    """Soft: fees and fixed charges still name it."""
    conn.execute("update add_on set deleted_at = %s, updated_at = %s where id = %s", [now, now, add_on_id])
