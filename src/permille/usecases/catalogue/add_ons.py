"""Add-ons are added, changed and removed; invoices and fixed charges that have them keep what they say."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.add_on import AddOn
from permille.core.errors import Invalid
from permille.database import locks
from permille.ids import new_id
from permille.store import add_ons
from permille.usecases.by_code import ByCode

_BY_CODE = ByCode("add_on", add_ons.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def blank(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> AddOn:
    """An add-on to fill and to add, with the catalogue locked until the transaction ends."""
    locks.change_catalogue(conn, organization_id)
    return AddOn(
        id=new_id(now),
        code="",
        name="",
        invoice_display_name=None,
        description=None,
        amount_cents=0,
        amount_currency="",
        taxes=(),
        created_at=now,
    )


def add(conn: Connection[Any], organization_id: UUID, made: AddOn) -> None:
    """Raises Invalid when the code is taken."""
    if not add_ons.add(conn, organization_id, made):
        raise Invalid({"code": ["value_already_exist"]})


def change(conn: Connection[Any], organization_id: UUID, after: AddOn, *, now: datetime) -> None:
    """Store a changed add-on. Raises Invalid when another one has the code."""
    other = add_ons.by_code(conn, organization_id, after.code)
    if other is not None and other.id != after.id:
        raise Invalid({"code": ["value_already_exist"]})
    add_ons.replace(conn, after, now=now)


def remove(conn: Connection[Any], gone: AddOn, *, now: datetime) -> None:
    """It can be billed no more; fixed charges of it stay."""
    add_ons.delete(conn, gone.id, now=now)
