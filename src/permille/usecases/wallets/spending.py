"""Invoices are paid from wallets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from permille.core.invoice.draft import InvoiceDraft, InvoiceKind
from permille.store import wallets
from permille.usecases.wallets.changes import announce, ongoing_changed


def take(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Save what invoices took of wallets, and that the ongoing balances of their customers are out of date."""
    on_invoices = [draft for draft in drafts if draft.is_on_invoice and draft.kind is not InvoiceKind.CREDIT]
    if not on_invoices:
        return
    made = wallets.take(conn, on_invoices)
    if made:
        announce(conn, "created", made, made[0].created_at)
        ongoing_changed(conn, {each.wallet_id for each in made}, now=made[0].created_at)
    wallets.set_out_of_date(conn, {draft.customer.id for draft in on_invoices}, at=on_invoices[0].made_at)
