"""What fills and empties wallets: credits that are bought, given for nothing, voided, spent and given back.

Source: semantics-billing.md section 5.6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import NotFound
from permille.core.invoice.payment import PaymentStatus
from permille.core.money import AMOUNT_MAX
from permille.core.record import replace
from permille.core.wallet import (
    Direction,
    Settlement,
    TransactionStatus,
    credits_of_share,
)
from permille.ids import new_id
from permille.store import wallet_transactions, wallets
from permille.store.invoices import StoredInvoice
from permille.store.wallet_transactions import WalletTransaction
from permille.store.wallets import Movement
from permille.usecases.wallets.changes import announce, changed


def by_id(conn: Connection[Any], organization_id: UUID, transaction_id: UUID | None) -> WalletTransaction:
    """Raises NotFound."""
    found = wallet_transactions.by_ids(conn, [transaction_id]).get(transaction_id) if transaction_id else None
    if found is None or found.organization_id != organization_id:
        raise NotFound("wallet_transaction")
    return found


def payment_changed(conn: Connection[Any], paid: Sequence[StoredInvoice], now: datetime) -> None:
    """Credits that were bought are there once their invoice is paid; a payment that fails marks them, and may still succeed."""
    status_of = {each.id: each.payment_status for each in paid if each.invoice_type == "credit"}
    bought = wallet_transactions.purchases_of(conn, status_of) if status_of else []
    failed = [
        each for each in bought if each.invoice_id and status_of[each.invoice_id] is PaymentStatus.FAILED
    ]
    settled = [
        each for each in bought if each.invoice_id and status_of[each.invoice_id] is PaymentStatus.SUCCEEDED
    ]
    if failed:
        wallet_transactions.fail(conn, [each.id for each in failed], now=now)
    if settled:
        wallet_transactions.settle(conn, [each.id for each in settled], now=now)
        wallets.apply(conn, [Movement(transaction=replace(each, settled_at=now)) for each in settled])
        changed(conn, {each.wallet_id for each in settled}, now=now)
    announce(conn, "updated", [*failed, *settled], now)


def sale_voided(conn: Connection[Any], invoice_id: UUID, now: datetime) -> None:
    """Credits that a void invoice has sold, and that are not paid, are not to come any more."""
    unpaid = wallet_transactions.purchases_of(conn, [invoice_id])
    if unpaid:
        wallet_transactions.fail(conn, [each.id for each in unpaid], now=now)
        announce(conn, "updated", unpaid, now)


def give_back(
    conn: Connection[Any], invoice_ids: Collection[UUID], now: datetime, *, at_most: int = AMOUNT_MAX
) -> None:
    """Give what paid these invoices, which are voided, back to wallets that are still active, as granted credits.

    What an invoice took is given back once, however often it is asked for. `at_most` is cents of each invoice, which
    the wallets have back in the order in which they paid.
    """
    spent = wallet_transactions.spent_on(conn, invoice_ids)
    given = wallet_transactions.given_back(conn, invoice_ids)
    known = wallets.by_ids(conn, {each.wallet_id for each in spent})
    rows: list[WalletTransaction] = []
    left: dict[UUID | None, int] = dict.fromkeys(invoice_ids, at_most)
    for each in spent:
        if not known[each.wallet_id].is_active or each.invoice_id in given:
            continue
        cents = min(each.amount_cents, left[each.invoice_id])
        left[each.invoice_id] -= cents
        if cents:
            rows.append(_given_back(each, cents, now))
    if not rows:
        return
    wallet_transactions.add(conn, rows)
    wallets.apply(conn, [Movement(transaction=row) for row in rows])
    announce(conn, "created", rows, now)
    changed(conn, {row.wallet_id for row in rows}, now=now)


def _given_back(spent: WalletTransaction, cents: int, now: datetime) -> WalletTransaction:
    """So many cents of what was spent."""
    return WalletTransaction(
        id=new_id(now),
        organization_id=spent.organization_id,
        wallet_id=spent.wallet_id,
        transaction_type=Direction.INBOUND,
        transaction_status=TransactionStatus.GRANTED,
        status=Settlement.SETTLED,
        amount_cents=cents,
        credit_amount=credits_of_share(spent.credit_amount, cents, of_cents=spent.amount_cents),
        remaining_amount_cents=cents,
        voided_invoice_id=spent.invoice_id,
        settled_at=now,
        created_at=now,
    )
