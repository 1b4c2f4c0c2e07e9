"""Customers, with their billing entity loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.record import Record, field, names_of
from permille.database.bulk import uuid_array
from permille.ids import new_id
from permille.store import billing_entities, custom_sections, taxes

_COLUMNS = ", ".join(
    [
        *(
            f"c.{name}"
            for name in names_of(Customer)
            if name not in ("billing_entity", "taxes", "custom_sections")
        ),
        "c.billing_entity_id",
        taxes.column("c"),
        custom_sections.column("c"),
    ]
)
_JSON = frozenset({"shipping_address", "billing_configuration", "metadata"})


class CustomerSearch(Record, kw_only=True):
    """What a list of customers is narrowed to; an empty sequence and None narrow nothing."""

    account_types: Sequence[str] = ()
    billing_entity_codes: Sequence[str] = ()
    countries: Sequence[str] = ()
    currencies: Sequence[str] = ()
    states: Sequence[str] = ()
    zipcodes: Sequence[str] = ()
    customer_type: str | None = None
    has_customer_type: bool | None = None
    has_tax_identification_number: bool | None = None
    search_term: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def _loaded(conn: Connection[Any], rows: Sequence[dict[str, Any]]) -> list[Customer]:
    entity_ids = [row.pop("billing_entity_id") for row in rows]
    entities = billing_entities.by_ids(conn, set(entity_ids))
    for row, entity_id in zip(rows, entity_ids, strict=True):
        row["taxes"] = taxes.of_json(row["taxes"])
        row["custom_sections"] = custom_sections.of_json(row["custom_sections"])
        row["billing_entity"] = entities[entity_id]
    return [Customer(**row) for row in rows]


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[Customer]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from customer c where {condition}", values).fetchall()
    return _loaded(conn, rows)


def by_external_id(conn: Connection[Any], organization_id: UUID, external_id: str) -> Customer | None:
    """The customer that is not deleted."""
    found = _select(
        conn,
        "c.organization_id = %s and c.external_id = %s and c.deleted_at is null",
        [organization_id, external_id],
    )
    return found[0] if found else None


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Customer]:
    """Customers by id, deleted ones too: their invoices live on."""
    return {customer.id: customer for customer in _select(conn, "c.id = any(%s)", [uuid_array(ids)])}


def of_subscriptions(
    conn: Connection[Any], rows: Collection[Subscription], known: Mapping[UUID, Customer] | None = None
) -> dict[UUID, Customer]:
    """Subscription -> its customer, as the billing entity of the subscription bills it; `known` has the customers."""
    known = by_ids(conn, {row.customer_id for row in rows}) if known is None else known
    own = {row.billing_entity_id for row in rows if row.billing_entity_id}
    entities = billing_entities.by_ids(conn, own) if own else {}
    return {
        row.id: known[row.customer_id].billed_by(entities[row.billing_entity_id])
        if row.billing_entity_id
        else known[row.customer_id]
        for row in rows
    }


def of_timezone(conn: Connection[Any], billing_entity_id: UUID) -> list[UUID]:
    """The customers who inherit the billing entity's timezone."""
    rows = conn.execute(
        "select id from customer where billing_entity_id = %s and timezone is null and deleted_at is null",
        [billing_entity_id],
    ).fetchall()
    return [customer_id for (customer_id,) in rows]


def listing(
    conn: Connection[Any], organization_id: UUID, search: CustomerSearch, *, limit: int, offset: int
) -> tuple[list[Customer], int]:
    """Customers, newest first, and how many there are."""
    condition, values = _conditions(organization_id, search)
    rows = _select(
        conn, f"{condition} order by c.created_at desc, c.id limit %s offset %s", [*values, limit, offset]
    )
    row = conn.execute(f"select count(*) from customer c where {condition}", values).fetchone()
    return rows, row[0] if row else 0


def _conditions(organization_id: UUID, search: CustomerSearch) -> tuple[str, list[Any]]:
    parts = ["c.organization_id = %s", "c.deleted_at is null"]
    values: list[Any] = [organization_id]
    for column, wanted in (
        ("account_type", search.account_types),
        ("country", search.countries),
        ("currency", search.currencies),
        ("state", search.states),
        ("zipcode", search.zipcodes),
    ):
        if wanted:
            parts.append(f"c.{column} = any(%s)")
            values.append(list(wanted))
    if search.billing_entity_codes:
        parts.append("c.billing_entity_id in (select id from billing_entity where code = any(%s))")
        values.append(list(search.billing_entity_codes))
    for column, present in (
        ("customer_type", search.has_customer_type),
        ("tax_identification_number", search.has_tax_identification_number),
    ):
        if present is not None:
            parts.append(f"c.{column} is {'not ' if present else ''}null")
    if search.customer_type is not None:
        parts.append("c.customer_type = %s")
        values.append(search.customer_type)
    if search.search_term:
        searched = ("name", "firstname", "lastname", "legal_name", "external_id", "email")
        parts.append(f"strpos(lower(concat_ws(' ', {', '.join(f'c.{name}' for name in searched)})), %s) > 0")
        values.append(search.search_term.lower())
    for key, value in search.metadata.items():
        parts.append(f"{'' if value else 'not '}c.metadata @> %s")
        values.append(Jsonb([{"key": key, "value": value} if value else {"key": key}]))
    return " and ".join(parts), values


def _stored(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Jsonb(value) if name in _JSON else value for name, value in columns.items()}


def add(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_id: str,
    slug_prefix: str,
    columns: Mapping[str, Any],
    now: datetime,
) -> UUID:
    """A new customer with the next number of its organization. Call it under locks.change_customer.

    `columns` has at least billing_entity_id; the names come from code, never from a request. The organization's row is locked until the transaction ends, so that numbers have no gap.
    """
    row = conn.execute(
        "update organization set last_customer_sequential_id = last_customer_sequential_id + 1"
        " where id = %s returning last_customer_sequential_id",
        [organization_id],
    ).fetchone()
    assert row is not None, organization_id
    customer_id = new_id(now)
    inserted: dict[str, Any] = {
        "id": customer_id,
        "organization_id": organization_id,
        "external_id": external_id,
        "sequential_id": row[0],
        "slug": f"{slug_prefix}-{row[0]:03}",
        "created_at": now,
        "updated_at": now,
        **_stored(columns),
    }
    names = ", ".join(inserted)
    places = ", ".join(f"%({name})s" for name in inserted)
    conn.execute(f"insert into customer ({names}) values ({places})", inserted)
    return customer_id


def update(conn: Connection[Any], *, customer_id: UUID, columns: Mapping[str, Any], now: datetime) -> None:
    """Set the given columns; the names come from code, never from a request."""
    changed = {**_stored(columns), "updated_at": now}
    changes = ", ".join(f"{name} = %({name})s" for name in changed)
    conn.execute(
        f"update customer set {changes} where id = %(where_id)s", {**changed, "where_id": customer_id}
    )


def delete(conn: Connection[Any], *, customer_id: UUID, now: datetime) -> None:
    """Soft: invoices keep their customer, and the external id is free again."""
    conn.execute(
        "update customer set deleted_at = %s, updated_at = %s where id = %s", [now, now, customer_id]
    )


def is_billed(conn: Connection[Any], customer_id: UUID) -> bool:
    """Whether the customer has a subscription or an invoice."""
    row = conn.execute(
        "select exists (select from subscription where customer_id = %(id)s)"
        " or exists (select from invoice where customer_id = %(id)s)",
        {"id": customer_id},
    ).fetchone()
    return bool(row and row[0])


def lock(conn: Connection[Any], customer_id: UUID) -> None:
    """Wait until nobody else bills the customer, and keep others from it until the transaction ends."""
    conn.execute("select from customer where id = %s for no key update", [customer_id])


def lock_all(conn: Connection[Any], customer_ids: Collection[UUID]) -> None:
    """As lock, for many, always in the same order."""
    conn.execute(
        "select from customer where id = any(%s) order by id for no key update", [list(customer_ids)]
    )
