"""Receivables: what was paid and requested, a payment to record, and what is overdue to request."""

from __future__ import annotations

from permille.api.http import Raw
from permille.api.payment_requests import render_requests
from permille.api.payments import read_payment, render_payments, render_receipt_pdf
from permille.api.validation import Fields, parse_uuid
from permille.store import customers, payment_requests, payments
from permille.store.payment_requests import RequestSearch
from permille.store.payments import PaymentSearch
from permille.usecases import payment_requests as requesting, payments as usecase
from permille.usecases.invoices import single
from permille.web import price_grid
from permille.web.charge_form import amount_text, to_cents
from permille.web.visit import PER_PAGE, Done, HtmlPage, Visit


def listing(visit: Visit) -> HtmlPage:
    """GET /app/payments: payments by page, and the newest requests."""
    page = visit.page()
    rows, total = payments.listing(
        visit.conn, visit.here.id, PaymentSearch(), limit=page.per_page, offset=page.offset
    )
    asked, _ = payment_requests.listing(visit.conn, visit.here.id, RequestSearch(), limit=PER_PAGE, offset=0)
    context = {
        "payments": render_payments(visit.conn, rows),
        "receipts": payments.receipts_of(visit.conn, [row.id for row in rows]),
        "meta": page.meta(total),
        "requests": render_requests(visit.conn, asked),
    }
    return HtmlPage(template="payments.html", context=context)


def receipt_pdf(visit: Visit) -> Raw:
    """GET /app/receipts/{lago_id}/pdf."""
    receipt = usecase.receipt_by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    return render_receipt_pdf(visit.engine, visit.conn, visit.here, receipt)


def blank(visit: Visit) -> HtmlPage:
    """GET /app/record-payment/{lago_id}."""
    invoice = usecase.payable(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    context = {
        "invoice": invoice,
        "amount": amount_text(invoice.due_amount_cents, invoice.currency),
        "today": visit.now.date(),
        "problems": price_grid.beside(visit.problems, {"amount_cents": "amount"}),
    }
    return HtmlPage(template="payment_form.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/record-payment/{lago_id}."""
    invoice = usecase.payable(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    body = {
        "invoice_id": str(invoice.id),
        "amount_cents": to_cents(visit.form.get("amount"), invoice.currency),
        "reference": visit.form.get("reference"),
        "paid_at": visit.form.get("paid_at"),
    }
    usecase.pay(visit.conn, visit.here.id, read_payment(Fields(body)), now=visit.now)
    return Done(
        action="recorded payment of",
        subject=invoice.number,
        to="/app/payments?said=saved"
        if invoice.status == "open"
        else f"/app/invoices/{invoice.id}?said=saved",
        details=body,
    )


def request(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/request: ask the customer to pay an overdue invoice."""
    invoice = single.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    customer = customers.by_ids(visit.conn, [invoice.customer_id])[invoice.customer_id]
    requesting.request(visit.conn, customer, [invoice.id], email=None, now=visit.now)
    return Done(
        action="requested payment of", subject=invoice.number, to=f"/app/invoices/{invoice.id}?said=saved"
    )
