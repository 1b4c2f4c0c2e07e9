"""Invoices that wait, unseen, for their payment: paid, they are numbered and final."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, InvoiceStatus
from permille.core.invoice.facts import Facts
from permille.core.invoice.payment import PaymentStatus
from permille.core.invoice.steps.dates import dates
from permille.store import billing_entities, customers, invoices
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices.save import FINAL_WEBHOOKS, queue_webhooks, with_numbers

_KINDS = {"credit": InvoiceKind.CREDIT, "subscription": InvoiceKind.ACTIVATION}


def payment_changed(conn: Connection[Any], changed: Sequence[StoredInvoice], now: datetime) -> None:
    """Number those that were open and are paid now."""
    opened = [
        each
        for each in changed
        if each.status is InvoiceStatus.OPEN and each.payment_status is PaymentStatus.SUCCEEDED
    ]
    if not opened:
        return
    payers = customers.by_ids(conn, {each.customer_id for each in opened})
    entities = billing_entities.by_ids(conn, {each.billing_entity_id for each in opened})
    drafts = [
        dates(
            InvoiceDraft(
                id=each.id,
                kind=_KINDS[each.invoice_type],
                customer=payers[each.customer_id].billed_by(entities[each.billing_entity_id]),
                currency=each.currency,
                at=now,
                made_at=now,
            ),
            Facts(),
        )
        for each in opened
    ]
    numbered = with_numbers(conn, drafts)
    invoices.finalize_opened(conn, numbered)
    for draft in numbered:
        webhook_type = FINAL_WEBHOOKS.get(draft.kind, "invoice.created")
        queue_webhooks(conn, webhook_type, draft.customer.organization_id, [(now, draft.id)])
