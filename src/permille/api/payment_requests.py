"""Payment requests over the Lago API. Source: semantics-billing.md 8.4, 11.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.customers import customer_of, render_customer
from permille.api.http import Call
from permille.api.invoices import render_invoices
from permille.api.objects import payment as objects
from permille.api.render import instant
from permille.api.validation import MANDATORY, Fields, parse_uuid, query_texts
from permille.core.errors import NotFound
from permille.core.record import replace
from permille.store import customers, invoices, payment_requests
from permille.store.payment_requests import RequestSearch, StoredRequest
from permille.usecases import payment_requests as usecase
from permille.usecases.catalogue import customers as catalogue


def create_payment_request(call: Call) -> dict[str, Any]:
    """POST /payment_requests."""
    fields = Fields(call.root("payment_request"))
    external_id = fields.text("external_customer_id", mandatory=True)
    email = fields.email("email")
    given = fields.texts("lago_invoice_ids")
    if not given and "lago_invoice_ids" not in fields.errors:
        fields.refuse("lago_invoice_ids", MANDATORY)
    fields.refuse_unbuilt("payment_method")
    fields.check()
    customer = catalogue.by_external_id(call.conn, call.organization.id, external_id or "")
    ids = [parse_uuid(text) for text in given or ()]
    known = [each for each in ids if each is not None]
    if len(known) < len(ids):
        raise NotFound("invoice")
    made = usecase.request(call.conn, customer, known, email=email, now=call.now)
    return {"payment_request": render_requests(call.conn, [made])[0]}


def list_payment_requests(call: Call) -> dict[str, Any]:
    """GET /payment_requests."""
    return _listing(call, _search(call))


def list_customer_payment_requests(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/payment_requests."""
    customer = customer_of(call)
    return _listing(call, replace(_search(call), external_customer_id=customer.external_id))


def _search(call: Call) -> RequestSearch:
    def text(name: str) -> str | None:
        return (call.query.get(name) or "").replace("\0", "") or None

    return RequestSearch(
        external_customer_id=text("external_customer_id"),
        payment_status=text("payment_status"),
        currency=text("currency"),
        billing_entity_codes=query_texts(call.query, "billing_entity_codes"),
    )


def _listing(call: Call, search: RequestSearch) -> dict[str, Any]:
    page = call.page()
    rows, total = payment_requests.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"payment_requests": render_requests(call.conn, rows), "meta": page.meta(total)}


def show_payment_request(call: Call) -> dict[str, Any]:
    """GET /payment_requests/{lago_id}."""
    found = usecase.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return {"payment_request": render_requests(call.conn, [found])[0]}


def render_requests(conn: Connection[Any], rows: Sequence[StoredRequest]) -> list[objects.PaymentRequest]:
    """Requests with their customers and invoices."""
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    ids = payment_requests.invoice_ids(conn, [row.id for row in rows])
    found = list(invoices.invoices_by_ids(conn, {each for own in ids.values() for each in own}).values())
    shown = {each.lago_id: each for each in render_invoices(conn, found)}
    return [
        objects.PaymentRequest(
            lago_id=row.id,
            email=row.email,
            amount_cents=row.amount_cents,
            amount_currency=row.currency,
            payment_status=row.payment_status,
            created_at=instant(row.created_at),
            customer=render_customer(payers[row.customer_id]),
            invoices=[shown[each] for each in ids[row.id]],
        )
        for row in rows
    ]


def whole_payment_request(conn: Connection[Any], request_id: UUID) -> objects.PaymentRequest | None:
    """A request as its webhook carries it."""
    found = payment_requests.by_ids(conn, [request_id]).values()
    return next(iter(render_requests(conn, list(found))), None)
