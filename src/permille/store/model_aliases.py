"""An organization's own names of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.llm.model_alias import ModelAlias
from permille.core.record import names_of

_NAMES = names_of(ModelAlias)
_COLUMNS = ", ".join(_NAMES)


def of_organization(conn: Connection[Any], organization_id: UUID) -> dict[str, str]:
    """All of them, by the name as it is sent."""
    return dict(
        conn.execute("select name, model from model_alias where organization_id = %s", [organization_id])
    )


def by_name(conn: Connection[Any], organization_id: UUID, name: str) -> ModelAlias | None:
    found = _select(conn, "organization_id = %s and name = %s", [organization_id, name])
    return found[0] if found else None


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[ModelAlias], int]:
    """A page of them by name, and how many there are."""
    found = _select(
        conn, "organization_id = %s order by name limit %s offset %s", [organization_id, limit, offset]
    )
    return found, count(conn, organization_id)


def count(conn: Connection[Any], organization_id: UUID) -> int:
    row = conn.execute(
        "select count(*) from model_alias where organization_id = %s", [organization_id]
    ).fetchone()
    return row[0] if row else 0


def add(conn: Connection[Any], made: ModelAlias) -> bool:
    """Whether the name was free."""
    return bool(
        conn.execute(
            f"insert into model_alias ({_COLUMNS}) values ({', '.join('%s' for _ in _NAMES)})"
            " on conflict (organization_id, name) do nothing",
            [getattr(made, name) for name in _NAMES],
        ).rowcount
    )


def replace(conn: Connection[Any], after: ModelAlias) -> None:
    """Write what can change of an alias."""
    conn.execute(
        "update model_alias set name = %s, model = %s, updated_at = %s where id = %s",
        [after.name, after.model, after.updated_at, after.id],
    )


def delete(conn: Connection[Any], alias_id: UUID) -> None:
    """Calls from now on have the name that they are sent with."""
    conn.execute("delete from model_alias where id = %s", [alias_id])


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[ModelAlias]:
    with conn.cursor(row_factory=class_row(ModelAlias)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from model_alias where {condition}", values).fetchall()
