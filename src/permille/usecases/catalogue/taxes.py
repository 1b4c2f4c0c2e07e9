"""Taxes are added, changed and removed; invoices that are made keep the taxes they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid
from permille.core.record import replace
from permille.core.tax import Tax
from permille.database import locks
from permille.store import taxes
from permille.usecases.by_code import ByCode
from permille.usecases.price_change import taxes_changed

_BY_CODE = ByCode("tax", taxes.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def add(conn: Connection[Any], organization_id: UUID, *, columns: Mapping[str, Any], now: datetime) -> Tax:
    """Raises Invalid when the code is taken."""
    locks.change_catalogue(conn, organization_id)
    made = taxes.add(conn, organization_id=organization_id, columns=columns, now=now)
    if made is None:
        raise Invalid({"code": ["value_already_exist"]})
    if made.applied_to_organization:
        taxes.apply_to_default(conn, organization_id, made)
        taxes_changed(conn, organization_id, now=now)
    return made


def change(
    conn: Connection[Any], organization_id: UUID, before: Tax, *, changes: Mapping[str, Any], now: datetime
) -> Tax:
    """Raises Invalid when another tax has the code."""
    after = replace(before, **changes)
    other = taxes.by_code(conn, organization_id, after.code)
    if other is not None and other.id != before.id:
        raise Invalid({"code": ["value_already_exist"]})
    taxes.replace(conn, after, now=now)
    if "applied_to_organization" in changes:
        taxes.apply_to_default(conn, organization_id, after)
    taxes_changed(conn, organization_id, now=now)
    return after


def remove(conn: Connection[Any], organization_id: UUID, tax: Tax, *, now: datetime) -> None:
    """The tax applies to nothing any more."""
    taxes.delete(conn, tax.id, now=now)
    taxes_changed(conn, organization_id, now=now)
