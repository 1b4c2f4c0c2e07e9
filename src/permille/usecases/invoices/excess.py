"""What invoices at thresholds have billed beyond what their period came to is given back by credit notes.

Source: semantics-billing.md section 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

from psycopg import Connection

from permille.core.invoice.credit_note import Item, credit_amounts
from permille.core.invoice.crediting import CreditSplit
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus
from permille.core.invoice.progressive import ProgressiveCredit
from permille.core.money import exact
from permille.core.period import local_date
from permille.store import fees as fee_store, invoices
from permille.store.credit_notes import NewCreditNote
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices.credit_notes import credited_fee, issue

_FIVE_DECIMALS = Decimal("0.00001")


def credit_excess(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Credit what final invoices of this batch could not take off, on the invoices that billed it; set-based."""
    owed = [
        (draft, credit)
        for draft in drafts
        if draft.status is not InvoiceStatus.DRAFT
        for credit in draft.progressive_credits
        if credit.excess_cents
    ]
    if not owed:
        return
    ids = [credit.invoice_id for _, credit in owed]
    billed_on, fees = invoices.invoices_by_ids(conn, ids), fee_store.of_invoices(conn, ids)
    notes = [
        _note(draft, credit, billed_on[credit.invoice_id], fees[credit.invoice_id]) for draft, credit in owed
    ]
    issue(conn, notes)


def _note(
    draft: InvoiceDraft, credit: ProgressiveCredit, invoice: StoredInvoice, fees: Sequence[StoredFee]
) -> NewCreditNote:
    amounts = credit_amounts(_items(credit.excess_cents, invoice, fees))
    return NewCreditNote(
        organization_id=invoice.organization_id,
        billing_entity_id=invoice.billing_entity_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        invoice_number=invoice.number,
        issuing_date=local_date(draft.made_at, draft.timezone),
        reason="other",
        currency=invoice.currency,
        amounts=amounts,
        split=CreditSplit(credit_cents=amounts.total_amount_cents),
        at=draft.made_at,
    )


def _items(excess_cents: int, invoice: StoredInvoice, fees: Sequence[StoredFee]) -> list[Item]:
    """The excess, and the coupons that go with it, by what the fees come to."""
    paid = invoice.fees_amount_cents - invoice.coupons_amount_cents
    with exact():
        shares = [
            (Decimal(excess_cents * fee.amount_cents) / paid).quantize(_FIVE_DECIMALS, ROUND_DOWN)
            for fee in fees
        ]
    return [
        Item(fee=credited_fee(fee), precise_amount_cents=share)
        for fee, share in zip(fees, shares, strict=True)
        if share
    ]
