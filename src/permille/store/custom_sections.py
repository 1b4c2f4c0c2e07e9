"""Custom sections, and which of them are chosen: billing entities and customers hold their ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.custom_section import CustomSection
from permille.core.record import names_of

_NAMES = names_of(CustomSection)
_COLUMNS = ", ".join(_NAMES)


def column(owner: str) -> str:
    """The sections of a row, for a select from a table with custom_section_ids; `of_json` reads it."""
    return (
        f"case when {owner}.custom_section_ids = '{{}}' then '[]'::jsonb else (select coalesce(jsonb_agg("
        f"jsonb_build_array({', '.join(f's.{name}' for name in _NAMES)}) order by s.code), '[]')"
        f" from invoice_custom_section s where s.id = any({owner}.custom_section_ids) and s.deleted_at is null)"
        " end as custom_sections"
    )


def of_json(found: Sequence[Sequence[Any]]) -> tuple[CustomSection, ...]:
    """What `column` selects."""
    return tuple(
        CustomSection(
            id=UUID(section_id),
            organization_id=UUID(organization_id),
            code=code,
            name=name,
            description=description,
            display_name=display_name,
            details=details,
            created_at=datetime.fromisoformat(created_at),
        )
        for section_id, organization_id, code, name, description, display_name, details, created_at in found
    )


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[CustomSection]:
    with conn.cursor(row_factory=class_row(CustomSection)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from invoice_custom_section where deleted_at is null and {condition}", values
        ).fetchall()


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> CustomSection | None:
    found = by_codes(conn, organization_id, [code])
    return found[0] if found else None


def by_codes(conn: Connection[Any], organization_id: UUID, wanted: Collection[str]) -> list[CustomSection]:
    """Those with these codes, as far as there are such."""
    return _select(conn, "organization_id = %s and code = any(%s)", [organization_id, list(wanted)])


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[CustomSection], int]:
    """Newest first, and how many there are."""
    rows = _select(
        conn,
        "organization_id = %s order by created_at desc, id limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(
        "select count(*) from invoice_custom_section where organization_id = %s and deleted_at is null",
        [organization_id],
    ).fetchone()
    return rows, row[0] if row else 0


def add(conn: Connection[Any], made: CustomSection) -> bool:
    """Whether the code was free."""
    return bool(
        conn.execute(
            f"insert into invoice_custom_section ({_COLUMNS}, updated_at)"
            f" values ({', '.join('%s' for _ in _NAMES)}, %s)"
            " on conflict (organization_id, code) where deleted_at is null do nothing",
            [*(getattr(made, name) for name in _NAMES), made.created_at],
        ).rowcount
    )


def replace(conn: Connection[Any], after: CustomSection, *, now: datetime) -> None:
    """Write what can change of an existing section."""
    conn.execute(
        "update invoice_custom_section set code = %s, name = %s, description = %s, display_name = %s, details = %s,"
        " updated_at = %s where id = %s",
        [after.code, after.name, after.description, after.display_name, after.details, now, after.id],
    )


def delete(conn: Connection[Any], section_id: UUID, *, now: datetime) -> None:
    """Soft: it is on no further invoice."""
    conn.execute(
        "update invoice_custom_section set deleted_at = %s, updated_at = %s where id = %s",
        [now, now, section_id],
    )
