"""Codes of events that are usage of language models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.llm.intake import Intake, IntakeFormat
from permille.core.llm.payer import PayerName
from permille.core.record import names_of
from permille.database.bulk import text_array
from permille.store import api_keys

_NAMES = names_of(Intake)
_COLUMNS = ", ".join(_NAMES)


def of_organization(conn: Connection[Any], organization_id: UUID) -> list[Intake]:
    """All of them, by format: there is one of each at most."""
    return _select(conn, "organization_id = %s order by format", [organization_id])


def by_format(conn: Connection[Any], organization_id: UUID, name: str) -> Intake | None:
    found = _select(conn, "organization_id = %s and format = %s", [organization_id, name])
    return found[0] if found else None


def has_code(conn: Connection[Any], organization_id: UUID, codes: Collection[str]) -> bool:
    """Whether one of these codes is of an intake."""
    return bool(
        _select(conn, "organization_id = %s and codes && %s::text[]", [organization_id, text_array(codes)])
    )


def add(conn: Connection[Any], made: Intake) -> None:
    """Events of its codes are usage of language models from the commit on, on every server."""
    conn.execute(
        f"insert into llm_intake ({_COLUMNS}) values ({', '.join('%s' for _ in _NAMES)})",
        [list(made.codes) if name == "codes" else getattr(made, name) for name in _NAMES],
    )
    api_keys.look_up_again(conn)


def delete(conn: Connection[Any], intake_id: UUID) -> None:
    """Events of its codes are events as any from the commit on."""
    conn.execute("delete from llm_intake where id = %s", [intake_id])
    api_keys.look_up_again(conn)


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[Intake]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from llm_intake where {condition}", values)
        return [_intake(row) for row in rows]


def _intake(row: dict[str, Any]) -> Intake:
    return Intake(
        id=row["id"],
        organization_id=row["organization_id"],
        format=IntakeFormat(row["format"]),
        codes=tuple(row["codes"]),
        payer_kind=None if row["payer_kind"] is None else PayerName(row["payer_kind"]),
        created_at=row["created_at"],
    )
