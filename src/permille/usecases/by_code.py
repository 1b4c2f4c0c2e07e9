"""Objects of an organization by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from psycopg import Connection

from permille.core.errors import NotFound
from permille.core.record import Record
from permille.database import locks

T = TypeVar("T")


class ByCode(Record, Generic[T]):
    """How objects of one kind are found; `kind` is their name in a 404."""

    kind: str
    find: Callable[[Connection[Any], UUID, str], T | None]

    def one(self, conn: Connection[Any], organization_id: UUID, code: str) -> T:
        """Raises NotFound."""
        found = self.find(conn, organization_id, code)
        if found is None:
            raise NotFound(self.kind)
        return found

    def to_change(self, conn: Connection[Any], organization_id: UUID, code: str) -> T:
        """One, with the catalogue locked until the transaction ends. Raises NotFound."""
        locks.change_catalogue(conn, organization_id)
        return self.one(conn, organization_id, code)
