"""How large a page of a list gets: bounded by what its objects have in them, beside their number."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.bounds import PAGE_CHILDREN_MAX
from permille.core.errors import Invalid
from permille.database.bulk import uuid_array


def refuse_large(conn: Connection[Any], count: str, ids: Collection[UUID]) -> None:
    """Raises Invalid where the objects of a page have too much in them together. One alone is always shown.

    `count` is a statement that counts it, of `ids` and not much further than `most`.
    """
    if len(ids) < 2:
        return
    row = conn.execute(count, {"ids": uuid_array(ids), "most": PAGE_CHILDREN_MAX + 1}).fetchone()
    if row and row[0] and row[0] > PAGE_CHILDREN_MAX:
        raise Invalid({"per_page": ["page_is_too_large"]})
