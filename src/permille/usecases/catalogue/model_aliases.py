"""An organization's own names of models are added, changed and removed. They count for calls that come from then on."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid
from permille.core.llm.model_alias import ALIASES_MAX, ModelAlias
from permille.database import locks
from permille.ids import new_id
from permille.store import model_aliases, unknown_models
from permille.usecases.by_code import ByCode

_BY_NAME = ByCode("model_alias", model_aliases.by_name)
by_name, to_change = _BY_NAME.one, _BY_NAME.to_change


def blank(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> ModelAlias:
    """An alias to fill and to add, with the catalogue locked until the transaction ends."""
    locks.change_catalogue(conn, organization_id)
    return ModelAlias(
        id=new_id(now), organization_id=organization_id, name="", model="", created_at=now, updated_at=now
    )


def add(conn: Connection[Any], made: ModelAlias) -> None:
    """Raises Invalid when the name has an alias, or there are too many."""
    if not model_aliases.add(conn, made):
        raise Invalid({"name": ["value_already_exist"]})
    if model_aliases.count(conn, made.organization_id) > ALIASES_MAX:
        raise Invalid({"name": ["exceeded_limit"]})
    unknown_models.wait_again(conn, made)


def change(conn: Connection[Any], after: ModelAlias) -> None:
    """Raises Invalid when another one has the name."""
    other = model_aliases.by_name(conn, after.organization_id, after.name)
    if other is not None and other.id != after.id:
        raise Invalid({"name": ["value_already_exist"]})
    model_aliases.replace(conn, after)
    unknown_models.wait_again(conn, after)


def remove(conn: Connection[Any], gone: ModelAlias) -> None:
    """Calls from now on have the name that they are sent with."""
    model_aliases.delete(conn, gone.id)
