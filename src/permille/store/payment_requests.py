"""Requests to pay several invoices of a customer together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.invoice.payment import PaymentStatus
from permille.core.record import Record
from permille.database.bulk import columns_of, int_array, uuid_array
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.store import page_sizes


class StoredRequest(Record, kw_only=True):
    """A row of payment_request. The amount is in the currency's smallest unit."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    billing_entity_id: UUID
    email: str | None
    amount_cents: int
    currency: str
    payment_status: PaymentStatus
    created_at: datetime
    updated_at: datetime
    dunning_campaign_id: UUID | None
    """The campaign that made it."""


class RequestSearch(Record, kw_only=True):
    """What a list is narrowed to; None and an empty sequence narrow nothing."""

    external_customer_id: str | None = None
    payment_status: str | None = None
    currency: str | None = None
    billing_entity_codes: Sequence[str] = ()


_COLUMNS = columns_of(StoredRequest)


def add(conn: Connection[Any], request: StoredRequest, dues: Mapping[UUID, int]) -> None:
    """Insert a request with what is due of each of its invoices."""
    conn.execute(
        "insert into payment_request select * from jsonb_populate_recordset(null::payment_request, %s::jsonb)",
        [exact_json([request])],
    )
    conn.execute(
        "insert into payment_request_invoice (payment_request_id, invoice_id, amount_cents)"
        " select %s, * from unnest(%s::uuid[], %s::bigint[])",
        [request.id, uuid_array(dues), int_array(dues.values())],
    )


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredRequest]:
    with conn.cursor(row_factory=typed_row(StoredRequest)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from payment_request where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def invoice_ids(conn: Connection[Any], request_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Request -> its invoices, the oldest first."""
    rows = conn.execute(
        "select r.payment_request_id, r.invoice_id from payment_request_invoice r join invoice i on i.id = r.invoice_id"
        " where r.payment_request_id = any(%s) order by i.created_at, i.id",
        [list(request_ids)],
    ).fetchall()
    found: dict[UUID, list[UUID]] = defaultdict(list)
    for request_id, invoice_id in rows:
        found[request_id].append(invoice_id)
    return found


_COUNT_INVOICES = (
    "select count(*) from (select from payment_request_invoice where payment_request_id = any(%(ids)s::uuid[])"
    " limit %(most)s) found"
)


def listing(
    conn: Connection[Any], organization_id: UUID, search: RequestSearch, *, limit: int, offset: int
) -> tuple[list[StoredRequest], int]:
    """Requests, newest first, and how many there are. Raises Invalid for a page too large."""
    conditions = {
        "customer_id in (select id from customer where organization_id = %(organization)s"
        " and external_id = %(external_customer_id)s)": search.external_customer_id,
        "payment_status = %(payment_status)s": search.payment_status,
        "currency = %(currency)s": search.currency,
        "billing_entity_id in (select id from billing_entity where organization_id = %(organization)s"
        " and code = any(%(codes)s))": search.billing_entity_codes or None,
    }
    chosen = [condition for condition, value in conditions.items() if value is not None]
    where = " and ".join(["organization_id = %(organization)s", *chosen])
    values = {
        "organization": organization_id,
        "external_customer_id": search.external_customer_id,
        "payment_status": search.payment_status,
        "currency": search.currency,
        "codes": list(search.billing_entity_codes),
        "limit": limit,
        "offset": offset,
    }
    with conn.cursor(row_factory=typed_row(StoredRequest)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from payment_request where {where}"
            " order by created_at desc, id limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    page_sizes.refuse_large(conn, _COUNT_INVOICES, [row.id for row in rows])
    row = conn.execute(f"select count(*) from payment_request where {where}", values).fetchone()
    return rows, row[0] if row else 0


def pay_settled(
    conn: Connection[Any], settled_invoice_ids: Collection[UUID], *, now: datetime
) -> list[StoredRequest]:
    """Those of the pending requests with any of these invoices of which all invoices that are not void are paid: they have
    succeeded.
    """
    with conn.cursor(row_factory=typed_row(StoredRequest)) as cursor:
        return cursor.execute(
            "update payment_request r set payment_status = 'succeeded', updated_at = %(now)s"
            " where payment_status <> 'succeeded' and id in"
            " (select payment_request_id from payment_request_invoice where invoice_id = any(%(ids)s))"
            " and not exists (select from payment_request_invoice o join invoice i on i.id = o.invoice_id"
            " where o.payment_request_id = r.id and i.payment_status <> 'succeeded' and i.status <> 'voided')"
            " and exists (select from payment_request_invoice o join invoice i on i.id = o.invoice_id"
            " where o.payment_request_id = r.id and i.status <> 'voided')"
            f" returning {_COLUMNS}",
            {"ids": list(settled_invoice_ids), "now": now},
        ).fetchall()
