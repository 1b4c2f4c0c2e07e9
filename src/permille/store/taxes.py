"""Taxes, and which of them apply to what: billing entities, customers, plans and charges hold their ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.eu_tax import EuTax
from permille.core.record import names_of
from permille.core.tax import Tax
from permille.ids import new_id

_COLUMNS = ", ".join(names_of(Tax))


def column(owner: str) -> str:
    """The taxes of a row, for a select from a table with tax_ids; `of_json` reads it."""
    return (
        f"case when {owner}.tax_ids = '{{}}' then '[]'::jsonb else (select coalesce(jsonb_agg("
        "jsonb_build_array(t.id, t.code, t.name, t.description, t.rate::text, t.applied_to_organization,"
        " t.created_at) order by t.code), '[]') from tax t"
        f" where t.id = any({owner}.tax_ids) and t.deleted_at is null) end as taxes"
    )


def of_json(found: Sequence[Sequence[Any]]) -> tuple[Tax, ...]:
    """What `column` selects."""
    return tuple(
        Tax(
            id=UUID(tax_id),
            code=code,
            name=name,
            description=description,
            rate=Decimal(rate),
            applied_to_organization=applied,
            created_at=datetime.fromisoformat(created_at),
        )
        for tax_id, code, name, description, rate, applied, created_at in found
    )


def ids(taxes: Sequence[Tax]) -> list[UUID]:
    """How a row holds them."""
    return [tax.id for tax in taxes]


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[Tax]:
    with conn.cursor(row_factory=class_row(Tax)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from tax where deleted_at is null and {condition}", values
        ).fetchall()


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> Tax | None:
    found = _select(conn, "organization_id = %s and code = %s", [organization_id, code])
    return found[0] if found else None


def by_codes(conn: Connection[Any], organization_id: UUID, wanted: Collection[str]) -> dict[str, Tax]:
    """The taxes with these codes, as far as there are such."""
    rows = _select(
        conn, "organization_id = %s and code = any(%s) order by code", [organization_id, list(wanted)]
    )
    return {tax.code: tax for tax in rows}


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[Tax], int]:
    """Newest first, and how many there are."""
    rows = _select(
        conn,
        "organization_id = %s order by created_at desc, id limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(
        "select count(*) from tax where organization_id = %s and deleted_at is null", [organization_id]
    ).fetchone()
    return rows, row[0] if row else 0


def billing_entity_codes(conn: Connection[Any], organization_id: UUID) -> dict[UUID, list[str]]:
    """Tax -> the codes of the billing entities that it applies to."""
    found: dict[UUID, list[str]] = defaultdict(list)
    for tax_id, code in conn.execute(
        "select tax_id, code from billing_entity, unnest(tax_ids) as tax_id"
        " where organization_id = %s order by code",
        [organization_id],
    ):
        found[tax_id].append(code)
    return found


def add(
    conn: Connection[Any], *, organization_id: UUID, columns: Mapping[str, Any], now: datetime
) -> Tax | None:
    """A new tax, None when its code is taken."""
    row = conn.execute(
        "insert into tax (id, organization_id, name, code, rate, description, applied_to_organization,"
        " created_at, updated_at) values (%(id)s, %(organization_id)s, %(name)s, %(code)s, %(rate)s,"
        " %(description)s, %(applied_to_organization)s, %(now)s, %(now)s)"
        " on conflict (organization_id, code) where deleted_at is null do nothing returning code",
        {"id": new_id(now), "organization_id": organization_id, "now": now, **columns},
    ).fetchone()
    return None if row is None else by_code(conn, organization_id, row[0])


def add_missing(
    conn: Connection[Any], organization_id: UUID, wanted: Collection[EuTax], *, now: datetime
) -> None:
    """Add those of the European Union's taxes of whose codes there is no tax."""
    rows = list(wanted)
    conn.execute(
        "insert into tax (id, organization_id, name, code, rate, description, applied_to_organization,"
        " created_at, updated_at) select id, %(organization_id)s, name, code, rate, description, false, %(now)s, %(now)s"
        " from unnest(%(ids)s::uuid[], %(names)s::text[], %(codes)s::text[], %(rates)s::numeric[], %(descriptions)s::text[])"
        " as wanted (id, name, code, rate, description)"
        " on conflict (organization_id, code) where deleted_at is null do nothing",
        {
            "organization_id": organization_id,
            "now": now,
            "ids": [new_id(now) for _ in rows],
            "names": [row.name for row in rows],
            "codes": [row.code for row in rows],
            "rates": [row.rate for row in rows],
            "descriptions": [row.description for row in rows],
        },
    )


def replace(conn: Connection[Any], after: Tax, *, now: datetime) -> None:
    """Write every field of an existing tax."""
    changed = [after.name, after.code, after.rate, after.description, after.applied_to_organization]
    conn.execute(
        "update tax set name = %s, code = %s, rate = %s, description = %s, applied_to_organization = %s,"
        " updated_at = %s where id = %s",
        [*changed, now, after.id],
    )


def delete(conn: Connection[Any], tax_id: UUID, *, now: datetime) -> None:
    """Soft: it applies to nothing any more, and stays on the invoices that have it."""
    conn.execute("update tax set deleted_at = %s, updated_at = %s where id = %s", [now, now, tax_id])


def apply_to_default(conn: Connection[Any], organization_id: UUID, tax: Tax) -> None:
    """Put the tax on the organization's default billing entity, or take it away, as the tax itself says."""
    conn.execute(
        "update billing_entity set tax_ids = array_remove(tax_ids, %(id)s)"
        " || case when %(applies)s then array[%(id)s] else '{}'::uuid[] end"
        " where organization_id = %(organization_id)s and is_default",
        {"id": tax.id, "applies": tax.applied_to_organization, "organization_id": organization_id},
    )
