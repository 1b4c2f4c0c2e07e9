"""What invoices use up, by who loads it for a batch and who saves what the invoices of the batch took.

A further credit is one entry here: bills, fees in advance, late usage and drafts that become final all save by this list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.invoice.credit import InvoiceCredit
from permille.core.invoice.draft import InvoiceDraft
from permille.core.record import Record
from permille.store import coupons, credit_notes, progressive, wallets
from permille.usecases.wallets import spending


class Balance(Record):
    """A kind of balance that customers have."""

    fact: str
    """The field of `Facts` that its step reads."""
    load: Callable[[Connection[Any], Collection[UUID]], Any]
    """What these customers have, locked."""
    take: Callable[[Connection[Any], Sequence[InvoiceDraft]], None]
    """Save what these invoices took of it."""
    credits_of: Callable[[Connection[Any], Collection[UUID]], Mapping[UUID, Sequence[InvoiceCredit]]] = (
        lambda _conn, _ids: {}
    )
    """Invoice -> what it took, as its `credits` show it, which leave prepaid credits out."""


BALANCES = (
    Balance("coupons", coupons.active, coupons.take, coupons.credits_of),
    Balance("balances", credit_notes.available, credit_notes.take, credit_notes.credits_of),
    Balance("wallets", wallets.filled, spending.take),
)


def load(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> dict[str, Any]:
    """The facts on balances of customers with an invoice that they may pay."""
    owing = {
        draft.customer.id
        for draft in drafts
        if draft.is_on_invoice and not draft.is_paid and not draft.has_grace_period
    }
    return {each.fact: each.load(conn, owing) for each in BALANCES} if owing else {}


def take(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Save what these invoices took of all balances; set-based."""
    for each in BALANCES:
        each.take(conn, drafts)


def credits_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[InvoiceCredit]]:
    """Invoice -> its credits, in the order in which they were taken."""
    billed_before = progressive.credits_of(conn, invoice_ids)
    found = {invoice_id: billed_before.get(invoice_id, []) for invoice_id in invoice_ids}
    for each in BALANCES:
        for invoice_id, credits_ in each.credits_of(conn, invoice_ids).items():
            found[invoice_id] += credits_
    return found
