"""Requests to pay several overdue invoices of a customer together.

Source: semantics-billing.md section 8.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import Customer
from permille.core.errors import NotAllowed, NotFound
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.dunning import DunningCampaign
from permille.core.invoice.payment import Due, PaymentStatus, request_problem
from permille.core.mail import MailKind
from permille.ids import new_id
from permille.store import customers, invoices, payment_requests, webhooks
from permille.store.invoices import StoredInvoice
from permille.store.payment_requests import StoredRequest
from permille.usecases.mail import mail_new


def by_id(conn: Connection[Any], organization_id: UUID, request_id: UUID | None) -> StoredRequest:
    """Raises NotFound."""
    found = payment_requests.by_ids(conn, [request_id]).get(request_id) if request_id else None
    if found is None or found.organization_id != organization_id:
        raise NotFound("payment_request")
    return found


def request(
    conn: Connection[Any],
    customer: Customer,
    invoice_ids: Sequence[UUID],
    *,
    email: str | None,
    now: datetime,
) -> StoredRequest:
    """Request the payment of these invoices of the customer. Raises NotFound, and NotAllowed where they don't go together."""
    customers.lock(conn, customer.id)
    found = invoices.invoices_by_ids(conn, invoice_ids)
    if not found or any(row.customer_id != customer.id for row in found.values()):
        raise NotFound("invoice")
    if len(found) < len(set(invoice_ids)):
        raise NotFound("invoice")
    dues = [due_of(row) for row in found.values()]
    if problem := request_problem(dues):
        raise NotAllowed(problem)
    return add(conn, customer, dues, email=email, now=now)


def due_of(invoice: StoredInvoice) -> Due:
    """What is due of an invoice."""
    return Due(
        invoice_id=invoice.id,
        amount_cents=invoice.due_amount_cents,
        currency=invoice.currency,
        billing_entity_id=invoice.billing_entity_id,
        is_overdue=invoice.payment_overdue,
    )


def add(
    conn: Connection[Any],
    customer: Customer,
    dues: Sequence[Due],
    *,
    email: str | None,
    campaign: DunningCampaign | None = None,
    now: datetime,
) -> StoredRequest:
    """Store a request for what is due of invoices that go together, and queue its webhook and its mail."""
    made = StoredRequest(
        id=new_id(now),
        organization_id=customer.organization_id,
        customer_id=customer.id,
        billing_entity_id=dues[0].billing_entity_id,
        email=email or customer.email,
        amount_cents=sum(due.amount_cents for due in dues),
        currency=dues[0].currency,
        payment_status=PaymentStatus.PENDING,
        created_at=now,
        updated_at=now,
        dunning_campaign_id=campaign.id if campaign else None,
    )
    payment_requests.add(conn, made, {due.invoice_id: due.amount_cents for due in dues})
    webhooks.enqueue_of(conn, "payment_request.created", customer.organization_id, [made.id], now=now)
    mail_new(
        conn,
        customer.organization_id,
        MailKind.PAYMENT_REQUEST,
        [made.id],
        bcc=campaign.bcc_emails if campaign else (),
        now=now,
    )
    return made


def settled_of(changed: Sequence[StoredInvoice]) -> list[UUID]:
    """Those of which nothing is requested any more: they are paid, or void."""
    return [
        row.id
        for row in changed
        if row.payment_status == PaymentStatus.SUCCEEDED or row.status is InvoiceStatus.VOIDED
    ]


def settle(conn: Connection[Any], changed: Sequence[StoredInvoice], now: datetime) -> None:
    """Requests have succeeded once all their invoices are paid, but for void ones."""
    done = settled_of(changed)
    if not done:
        return
    settled = payment_requests.pay_settled(conn, done, now=now)
    webhooks.enqueue_of(
        conn,
        "payment_request.payment_status_updated",
        changed[0].organization_id,
        [row.id for row in settled],
        now=now,
    )
