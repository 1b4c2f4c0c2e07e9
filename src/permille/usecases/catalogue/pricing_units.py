"""Pricing units are added, changed and removed; fees that are made keep the units they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotAllowed
from permille.core.rating.pricing_unit import PricingUnit
from permille.core.record import replace
from permille.database import locks
from permille.store import pricing_units
from permille.usecases.by_code import ByCode

_BY_CODE = ByCode("pricing_unit", pricing_units.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def add(
    conn: Connection[Any], organization_id: UUID, *, columns: Mapping[str, Any], now: datetime
) -> PricingUnit:
    """Raises Invalid when the code is taken."""
    locks.change_catalogue(conn, organization_id)
    made = pricing_units.add(conn, organization_id=organization_id, columns=columns, now=now)
    if made is None:
        raise Invalid({"code": ["value_already_exist"]})
    return made


def change(
    conn: Connection[Any],
    organization_id: UUID,
    before: PricingUnit,
    *,
    changes: Mapping[str, Any],
    now: datetime,
) -> PricingUnit:
    """Raises Invalid when another unit has the code."""
    after = replace(before, **changes)
    other = pricing_units.by_codes(conn, organization_id, [after.code]).get(after.code)
    if other is not None and other.id != before.id:
        raise Invalid({"code": ["value_already_exist"]})
    pricing_units.replace(conn, after, now=now)
    return after


def remove(conn: Connection[Any], unit: PricingUnit, *, now: datetime) -> None:
    """Raises NotAllowed while a plan's charge is priced in the unit."""
    if pricing_units.is_used(conn, unit.id):
        raise NotAllowed("attached_to_charges")
    pricing_units.delete(conn, unit.id, now=now)
