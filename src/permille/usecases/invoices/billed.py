"""What was billed, paid and given back of invoices.

Source: semantics-billing.md sections 7.2 and 7.3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.invoice.credit_note import CreditedFee, CreditLeft
from permille.core.invoice.crediting import BilledFee, BilledInvoice
from permille.core.invoice.draft import InvoiceStatus
from permille.store import credit_notes, fees as fee_store, wallet_transactions
from permille.store.credit_notes import CreditedAmounts
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice


def billed_invoice(conn: Connection[Any], invoice: StoredInvoice) -> BilledInvoice:
    """What was billed, paid and given back of an invoice."""
    return billed_invoices(conn, [invoice])[invoice.id]


def billed_invoices(conn: Connection[Any], invoices: Collection[StoredInvoice]) -> dict[UUID, BilledInvoice]:
    """Invoice -> what was billed, paid and given back of it; set-based."""
    fees = fee_store.of_invoices(conn, [each.id for each in invoices])
    credited = credit_notes.credited_of_fees(conn, [row.id for rows in fees.values() for row in rows])
    earlier = credit_notes.credited_of_invoices(conn, fees.keys())
    voided = [each.id for each in invoices if each.status is InvoiceStatus.VOIDED]
    given_back = wallet_transactions.given_back(conn, voided) if voided else {}
    return {
        each.id: _billed(
            each,
            fees[each.id],
            credited,
            earlier.get(each.id, CreditedAmounts()),
            given_back.get(each.id, 0),
        )
        for each in invoices
    }


def _billed(
    invoice: StoredInvoice,
    rows: Sequence[StoredFee],
    credited: Mapping[UUID, int],
    earlier: CreditedAmounts,
    given_back_cents: int,
) -> BilledInvoice:
    return BilledInvoice(
        fees=[BilledFee(fee=credited_fee(row), credited_cents=credited.get(row.id, 0)) for row in rows],
        is_prepaid=invoice.invoice_type == "credit",
        is_voided=invoice.status is InvoiceStatus.VOIDED,
        payment_status=invoice.payment_status,
        total_cents=invoice.total_amount_cents,
        paid_cents=invoice.total_paid_amount_cents if invoice.payment_dispute_lost_at is None else 0,
        balances_cents=invoice.credit_notes_amount_cents + invoice.prepaid_credit_amount_cents,
        due_cents=invoice.due_amount_cents,
        credited_cents=earlier.credit_amount_cents,
        given_up_cents=earlier.given_up_cents,
        refunded_cents=earlier.refund_amount_cents,
        offset_cents=invoice.offset_amount_cents,
        given_back_cents=given_back_cents,
        left=CreditLeft(
            sub_total_cents=invoice.sub_total_excluding_taxes_amount_cents - earlier.sub_totals_cents,
            taxes_cents=invoice.taxes_amount_cents - earlier.taxes_cents,
            rounded_up=earlier.rounded_up,
        ),
    )


def credited_fee(fee: StoredFee) -> CreditedFee:
    """A fee as a credit note takes it."""
    return CreditedFee(
        fee_id=fee.id,
        amount_cents=fee.amount_cents,
        precise_coupons_amount_cents=fee.precise_coupons_amount_cents,
        taxes=[each.tax for each in fee.taxed.applied],
    )
