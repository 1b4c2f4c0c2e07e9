"""Save invoices: number them, insert them in bulk, save what they took of balances, and queue their webhooks.

Source: semantics-billing.md sections 3.10, 4.2 to 4.7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.invoice import numbering
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, InvoiceStatus, changed
from permille.core.mail import MailKind
from permille.store import invoices, late_usage, webhooks
from permille.usecases.invoices import balances
from permille.usecases.invoices.excess import credit_excess
from permille.usecases.mail import mail_new

FINAL_WEBHOOKS = {
    InvoiceKind.ONE_OFF: "invoice.one_off_created",
    InvoiceKind.CREDIT: "invoice.paid_credit_added",
}
"""Kind of invoice -> webhook for a final one, where that is not invoice.created."""


def save(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Insert the invoices and fees of a batch, one statement a table, and queue their webhooks and mails."""
    if not drafts:
        return
    numbered = with_numbers(conn, drafts)
    fee_ids = invoices.add(conn, numbered)
    late_usage.set_billed(conn, {late_id: draft.id for draft in numbered for late_id in draft.late_usage_ids})
    balances.take(conn, numbered)
    credit_excess(conn, numbered)
    organization_id = numbered[0].customer.organization_id
    of_events, alone = [], []
    shown: dict[str, list[tuple[datetime, UUID]]] = defaultdict(list)
    for draft, ids in zip(numbered, fee_ids, strict=True):
        if not draft.is_on_invoice:
            alone += [(draft.at, UUID(fee_id)) for fee_id in ids]
            continue
        if draft.status is InvoiceStatus.FINALIZED:
            shown[FINAL_WEBHOOKS.get(draft.kind, "invoice.created")].append((draft.at, draft.id))
        elif draft.status is InvoiceStatus.DRAFT:
            shown["invoice.drafted"].append((draft.at, draft.id))
            if not draft.waits_for_price:
                shown["invoice.ready_to_finalize"].append((draft.at, draft.id))
        if draft.kind is InvoiceKind.IN_ADVANCE:
            of_events += [(draft.at, UUID(fee_id)) for fee_id in ids]
    queue_webhooks(conn, "fee.created", organization_id, of_events)
    for webhook_type, made in shown.items():
        queue_webhooks(conn, webhook_type, organization_id, made)
    final = [draft for draft in numbered if draft.is_on_invoice and draft.status is InvoiceStatus.FINALIZED]
    mail_new(conn, organization_id, MailKind.INVOICE, [draft.id for draft in final], now=numbered[0].at)
    queue_webhooks(conn, "fee.created", organization_id, alone)


def with_numbers(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> list[InvoiceDraft]:
    """The drafts, numbered in their order as far as they are final.

    The rows of the sequences stay locked, so that a transaction that is rolled back leaves no gap.
    """
    final = [draft for draft in drafts if draft.is_on_invoice and draft.status is InvoiceStatus.FINALIZED]
    payers = [draft.customer for draft in final]
    of_customer, of_entity = numbering.counts(payers)
    numbers = numbering.next_numbers(
        payers,
        invoices.take_customer_numbers(conn, of_customer) if of_customer else {},
        invoices.take_entity_numbers(conn, of_entity) if of_entity else {},
    )
    number_of = {id(draft): number for draft, number in zip(final, numbers, strict=True)}
    return [
        changed(draft, number=number_of[id(draft)]) if id(draft) in number_of else draft for draft in drafts
    ]


def queue_webhooks(
    conn: Connection[Any],
    webhook_type: str,
    organization_id: UUID,
    made: Iterable[tuple[datetime, UUID]],
) -> None:
    """Queue a webhook for each object, as of the instant beside it."""
    by_instant: dict[datetime, list[UUID]] = defaultdict(list)
    for at, object_id in made:
        by_instant[at].append(object_id)
    for at, ids in by_instant.items():
        webhooks.enqueue_of(conn, webhook_type, organization_id, ids, now=at)
