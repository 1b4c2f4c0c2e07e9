"""Billing entities: who issues the invoices. Every organization has a default one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.customer import BillingEntity
from permille.core.record import names_of
from permille.ids import new_id
from permille.store import custom_sections, taxes

_LISTS = ("taxes", "custom_sections")
_COLUMNS = ", ".join(
    [
        *(f"b.{name}" for name in names_of(BillingEntity) if name not in _LISTS),
        taxes.column("b"),
        custom_sections.column("b"),
    ]
)


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[BillingEntity]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from billing_entity b where {condition}", values).fetchall()
    return [
        BillingEntity(
            **{
                **row,
                "taxes": taxes.of_json(row["taxes"]),
                "custom_sections": custom_sections.of_json(row["custom_sections"]),
            }
        )
        for row in rows
    ]


def default(conn: Connection[Any], organization_id: UUID) -> BillingEntity:
    """The entity that customers get when they name none; made together with the organization."""
    return _select(conn, "organization_id = %s and is_default", [organization_id])[0]


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> BillingEntity | None:
    found = _select(conn, "organization_id = %s and code = %s", [organization_id, code])
    return found[0] if found else None


def all_of(conn: Connection[Any], organization_id: UUID) -> list[BillingEntity]:
    """Every entity of the organization, the default one first."""
    return _select(conn, "organization_id = %s order by is_default desc, created_at, id", [organization_id])


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, BillingEntity]:
    return {row.id: row for row in _select(conn, "id = any(%s)", [list(ids)])}


def add(
    conn: Connection[Any], *, organization_id: UUID, columns: Mapping[str, Any], now: datetime
) -> UUID | None:
    """A new entity, None where its code is taken; `columns` has at least its code and its name.

    The names of columns come from code, never from a request.
    """
    entity_id = new_id(now)
    inserted: dict[str, Any] = {
        "id": entity_id,
        "organization_id": organization_id,
        "document_number_prefix": default_prefix(columns["name"], entity_id),
        "created_at": now,
        "updated_at": now,
        **columns,
    }
    names = ", ".join(inserted)
    places = ", ".join(f"%({name})s" for name in inserted)
    row = conn.execute(
        f"insert into billing_entity ({names}) values ({places}) on conflict (organization_id, code) do nothing"
        " returning id",
        inserted,
    ).fetchone()
    return entity_id if row else None


def default_prefix(name: str, entity_id: UUID) -> str:
    """Lago's default document prefix: three letters of the name, a dash, the last four of the id."""
    letters = "".join(letter for letter in name if letter.isascii() and letter.isalnum()).upper()[:3] or "INV"
    return f"{letters}-{str(entity_id)[-4:].upper()}"


def count_on(conn: Connection[Any], billing_entity_id: UUID) -> None:
    """Let the numbers of an entity go on from the number of its final invoices, but for those of partners."""
    conn.execute(
        "update billing_entity b set last_invoice_sequential_id = greatest(last_invoice_sequential_id,"
        " (select count(*) from invoice i join customer c on c.id = i.customer_id where i.billing_entity_id = b.id"
        " and i.sequential_id is not null and c.account_type <> 'partner')) where id = %s",
        [billing_entity_id],
    )


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
