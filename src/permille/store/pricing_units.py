"""Pricing units, and those that charges are priced in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.core.record import names_of
from permille.ids import new_id

_COLUMNS = ", ".join(names_of(PricingUnit))

COLUMNS = (
    "c.conversion_rate, (select jsonb_build_array(u.id, u.code, u.name, u.short_name, u.description, u.created_at)"
    " from pricing_unit u where u.id = c.pricing_unit_id) as pricing_unit"
)
"""The unit of a charge, for a select from charge c; `of_row` reads it."""


def of_row(row: Mapping[str, Any]) -> AppliedPricingUnit | None:
    """What COLUMNS selects."""
    if row["pricing_unit"] is None:
        return None
    unit_id, code, name, short_name, description, created_at = row["pricing_unit"]
    unit = PricingUnit(
        id=UUID(unit_id),
        code=code,
        name=name,
        short_name=short_name,
        description=description,
        created_at=datetime.fromisoformat(created_at),
    )
    return AppliedPricingUnit(unit=unit, conversion_rate=row["conversion_rate"])


def columns(applied: AppliedPricingUnit | None) -> dict[str, Any]:
    """How a charge holds its unit."""
    return {
        "pricing_unit_id": applied.unit.id if applied else None,
        "conversion_rate": applied.conversion_rate if applied else None,
    }


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[PricingUnit]:
    with conn.cursor(row_factory=class_row(PricingUnit)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from pricing_unit where deleted_at is null and {condition}", values
        ).fetchall()


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> PricingUnit | None:
    return by_codes(conn, organization_id, [code]).get(code)


def by_codes(conn: Connection[Any], organization_id: UUID, wanted: Collection[str]) -> dict[str, PricingUnit]:
    """The units with these codes, as far as there are such."""
    rows = _select(conn, "organization_id = %s and code = any(%s)", [organization_id, list(wanted)])
    return {unit.code: unit for unit in rows}


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[PricingUnit], int]:
    """Newest first, and how many there are."""
    rows = _select(
        conn,
        "organization_id = %s order by created_at desc, id limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(
        "select count(*) from pricing_unit where organization_id = %s and deleted_at is null",
        [organization_id],
    ).fetchone()
    return rows, row[0] if row else 0


def add(
    conn: Connection[Any], *, organization_id: UUID, columns: Mapping[str, Any], now: datetime
) -> PricingUnit | None:
    """A new unit, None when its code is taken."""
    with conn.cursor(row_factory=class_row(PricingUnit)) as cursor:
        return cursor.execute(
            "insert into pricing_unit (id, organization_id, code, name, short_name, description, created_at,"
            " updated_at) values (%(id)s, %(organization_id)s, %(code)s, %(name)s, %(short_name)s,"
            " %(description)s, %(now)s, %(now)s)"
            f" on conflict (organization_id, code) where deleted_at is null do nothing returning {_COLUMNS}",
            {"id": new_id(now), "organization_id": organization_id, "now": now, **columns},
        ).fetchone()


def replace(conn: Connection[Any], after: PricingUnit, *, now: datetime) -> None:
    """Write every field of an existing unit."""
    changed = [after.code, after.name, after.short_name, after.description]
    conn.execute(
        "update pricing_unit set code = %s, name = %s, short_name = %s, description = %s, updated_at = %s"
        " where id = %s",
        [*changed, now, after.id],
    )


def is_used(conn: Connection[Any], unit_id: UUID) -> bool:
    """Whether a charge of a plan is priced in it."""
    row = conn.execute(
        "select exists (select from charge c join plan p on p.id = c.plan_id"
        " where c.pricing_unit_id = %s and c.deleted_at is null and p.deleted_at is null"
        " and not exists (select from plan o where o.id = p.version_of and o.deleted_at is not null))",
        [unit_id],
    ).fetchone()
    return row is not None and row[0]


def delete(conn: Connection[Any], unit_id: UUID, *, now: datetime) -> None:
    """Soft: fees and deleted charges still name it."""
    conn.execute(
        "update pricing_unit set deleted_at = %s, updated_at = %s where id = %s", [now, now, unit_id]
    )
