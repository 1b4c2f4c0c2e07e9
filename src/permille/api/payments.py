"""Payments and receipts over the Lago API. Source: semantics-billing.md 8.1, 8.3, 11.10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection

from permille.api.customers import customer_of
from permille.api.http import Call, Engine, Raw
from permille.api.objects import payment as objects
from permille.api.pdf import pdf_answer, printer_of
from permille.api.render import instant
from permille.api.validation import MANDATORY, Fields, parse_uuid
from permille.core.errors import Invalid, NotFound
from permille.core.organization import Organization
from permille.core.record import replace
from permille.out.pdf.assembly import receipt_document
from permille.store import customers, payments
from permille.store.payments import PaymentSearch, Receipt, StoredPayment
from permille.usecases import payments as usecase
from permille.usecases.invoices import single
from permille.usecases.payments import NewPayment

REFERENCE_MAX = 40
NOWHERE = UUID(int=0)
"""No invoice has this id."""


def create_payment(call: Call) -> dict[str, Any]:
    """POST /payments."""
    wanted = read_payment(Fields(call.root("payment")))
    made = usecase.pay(call.conn, call.organization.id, wanted, now=call.now)
    return {"payment": render_payments(call.conn, [made])[0]}


def read_payment(fields: Fields) -> NewPayment:
    """A payment to record. Raises Invalid."""
    if not fields.given.get("invoice_id"):
        fields.refuse("invoice_id", MANDATORY)
    amount = fields.given.get("amount_cents")
    if isinstance(amount, bool) or not isinstance(amount, int) or amount <= 0:
        fields.refuse("amount_cents", "invalid_value")
        amount = 0
    reference = fields.text("reference", mandatory=True, limit=REFERENCE_MAX)
    paid_at = fields.instant("paid_at")
    fields.check()
    return NewPayment(
        invoice_id=fields.uuid("invoice_id"),
        amount_cents=amount,
        reference=reference or "",
        paid_at=paid_at,
    )


def list_payments(call: Call) -> dict[str, Any]:
    """GET /payments."""
    return _listing(call, _search(call))


def list_customer_payments(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/payments."""
    customer = customer_of(call)
    return _listing(call, replace(_search(call), external_customer_id=customer.external_id))


def list_invoice_payments(call: Call) -> dict[str, Any]:
    """GET /invoices/{lago_id}/payments."""
    invoice = single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return _listing(call, PaymentSearch(invoice_id=invoice.id))


def _search(call: Call) -> PaymentSearch:
    external_id = (call.query.get("external_customer_id") or "").replace("\0", "")
    return PaymentSearch(external_customer_id=external_id or None, invoice_id=_invoice_id(call))


def _invoice_id(call: Call) -> UUID | None:
    given = call.query.get("invoice_id")
    return (parse_uuid(given) or NOWHERE) if given else None


def _listing(call: Call, search: PaymentSearch) -> dict[str, Any]:
    page = call.page()
    rows, total = payments.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"payments": render_payments(call.conn, rows), "meta": page.meta(total)}


def show_payment(call: Call) -> dict[str, Any]:
    """GET /payments/{lago_id}."""
    found = usecase.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return {"payment": render_payments(call.conn, [found])[0]}


def list_receipts(call: Call) -> dict[str, Any]:
    """GET /payment_receipts."""
    page = call.page()
    rows, total = payments.receipts(
        call.conn,
        call.organization.id,
        invoice_id=_invoice_id(call),
        limit=page.per_page,
        offset=page.offset,
    )
    shown = [_with_file(call, each) for each in render_receipts(call.conn, rows)]
    return {"payment_receipts": shown, "meta": page.meta(total)}


def show_receipt(call: Call) -> dict[str, Any]:
    """GET /payment_receipts/{lago_id}."""
    (shown,) = render_receipts(call.conn, [_receipt_of(call)])
    return {"payment_receipt": _with_file(call, shown)}


def _receipt_of(call: Call) -> Receipt:
    return usecase.receipt_by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def _with_file(call: Call, shown: objects.PaymentReceipt) -> objects.PaymentReceipt:
    url = f"{call.engine.config.base_url}/api/v1/payment_receipts/{shown.lago_id}/pdf"
    return msgspec.structs.replace(shown, file_url=url)


def receipt_pdf(call: Call) -> Raw:
    """GET /payment_receipts/{lago_id}/pdf."""
    return render_receipt_pdf(call.engine, call.conn, call.organization, _receipt_of(call))


def render_receipt_pdf(
    engine: Engine, conn: Connection[Any], organization: Organization, receipt: Receipt
) -> Raw:
    """The receipt as a document; it is typeset when the database is free for others again."""
    document = receipt_document(conn, receipt)
    printer = printer_of(engine, conn, organization, payments.billing_entity_of(conn, receipt.payment_id))
    return pdf_answer(lambda: printer.receipt(document), receipt.number)


def retry_payment(call: Call) -> Raw:
    """POST /invoices/{lago_id}/retry_payment: without a provider a webhook says that there is none."""
    invoice = single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    usecase.retry(call.conn, invoice, now=call.now)
    return Raw(content=b"", media_type="text/plain", headers={})


def payment_url(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/payment_url: always refused, as no payment provider is built yet."""
    single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    raise Invalid({"base": ["no_linked_payment_provider"]})


def checkout_url(call: Call) -> dict[str, Any]:
    """POST /customers/{external_id}/checkout_url: always refused, as no payment provider is built yet."""
    customer_of(call)
    raise Invalid({"base": ["no_linked_payment_provider"]})


def list_payment_methods(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/payment_methods: none, as no payment provider is built yet."""
    customer_of(call)
    return {"payment_methods": [], "meta": call.page().meta(0)}


def change_payment_method(call: Call) -> dict[str, Any]:
    """Make a payment method the default one, or delete it: there is none yet."""
    customer_of(call)
    raise NotFound("payment_method")


def render_payments(conn: Connection[Any], rows: Sequence[StoredPayment]) -> list[objects.Payment]:
    """Payments with their invoices."""
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    paid = payments.invoices_of(conn, [row.id for row in rows])
    return [
        objects.Payment(
            lago_id=row.id,
            lago_customer_id=row.customer_id,
            external_customer_id=payers[row.customer_id].external_id,
            invoice_ids=[each.invoice_id for each in paid[row.id]],
            invoice_numbers=[each.number for each in paid[row.id]],
            lago_payable_id=row.payable_id,
            payable_type=row.payable_type,
            amount_cents=row.amount_cents,
            amount_currency=row.currency,
            status=row.status,
            payment_status=row.payment_status,
            type=row.payment_type,
            reference=row.reference,
            payment_provider_code=None,
            payment_provider_type=None,
            external_payment_id=None,
            provider_payment_id=None,
            provider_customer_id=None,
            payment_method_id=None,
            next_action=objects.NextAction(),
            created_at=instant(row.created_at),
        )
        for row in rows
    ]


def render_receipts(conn: Connection[Any], rows: Sequence[Receipt]) -> list[objects.PaymentReceipt]:
    """Receipts with their payments."""
    found = payments.by_ids(conn, [row.payment_id for row in rows])
    shown = render_payments(conn, [found[row.payment_id] for row in rows])
    return [
        objects.PaymentReceipt(
            lago_id=row.id,
            number=row.number,
            payment=payment,
            created_at=instant(row.created_at),
            file_url=None,
            xml_url=None,
        )
        for row, payment in zip(rows, shown, strict=True)
    ]


def whole_payment(conn: Connection[Any], payment_id: UUID) -> objects.Payment | None:
    """A payment as its webhook carries it."""
    found = payments.by_ids(conn, [payment_id]).values()
    return next(iter(render_payments(conn, list(found))), None)


def whole_receipt(conn: Connection[Any], receipt_id: UUID) -> objects.PaymentReceipt | None:
    """A receipt as its webhook carries it."""
    found = payments.receipt(conn, receipt_id)
    return render_receipts(conn, [found[1]])[0] if found else None
