"""Custom sections are added, changed and removed; invoices keep those that they were made with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.custom_section import CustomSection
from permille.core.errors import Invalid
from permille.database import locks
from permille.ids import new_id
from permille.store import custom_sections
from permille.usecases.by_code import ByCode

_BY_CODE = ByCode("invoice_custom_section", custom_sections.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def blank(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> CustomSection:
    """A section to fill and to add, with the catalogue locked until the transaction ends."""
    locks.change_catalogue(conn, organization_id)
    return CustomSection(
        id=new_id(now),
        organization_id=organization_id,
        code="",
        name="",
        description=None,
        display_name=None,
        details=None,
        created_at=now,
    )


def add(conn: Connection[Any], made: CustomSection) -> None:
    """Raises Invalid when the code is taken."""
    if not custom_sections.add(conn, made):
        raise Invalid({"code": ["value_already_exist"]})


def change(conn: Connection[Any], after: CustomSection, *, now: datetime) -> None:
    """Store a changed section. Raises Invalid when another one has the code."""
    other = custom_sections.by_code(conn, after.organization_id, after.code)
    if other is not None and other.id != after.id:
        raise Invalid({"code": ["value_already_exist"]})
    custom_sections.replace(conn, after, now=now)


def remove(conn: Connection[Any], gone: CustomSection, *, now: datetime) -> None:
    """Billing entities and customers for which it was chosen have it no more."""
    custom_sections.delete(conn, gone.id, now=now)
