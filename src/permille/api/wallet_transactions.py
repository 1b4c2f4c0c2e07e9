"""What fills and empties wallets, over the Lago API. Source: semantics-billing.md 5.6, 11.8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec.structs import asdict
from psycopg import Connection

from permille.api.custom_sections import read_choice, show_choices
from permille.api.http import Call
from permille.api.objects import wallet as objects
from permille.api.payment_method import PAYMENT_METHOD, refuse_other_payment_method
from permille.api.render import instant
from permille.api.validation import Fields, parse_uuid
from permille.api.wallet_values import read_credits, read_notes
from permille.api.wallets import render_wallets, wallet_of
from permille.core.errors import Invalid, NotFound
from permille.core.money import decimal_text, exact, subunits
from permille.core.record import replace
from permille.core.wallet import LOWEST_PRIORITY, Wallet, credits_of
from permille.store import wallet_transactions, wallets
from permille.store.wallet_transactions import Consumption, TransactionSearch, WalletTransaction
from permille.usecases.top_ups import TopUp, top_up
from permille.usecases.wallets import transactions, wallets as wallet_usecase

NOTES_MAX = 15


def create_wallet_transactions(call: Call) -> dict[str, Any]:
    """POST /wallet_transactions: buy, give and void credits."""
    fields = Fields(call.root("wallet_transaction"))
    wallet = _wallet(call, fields)
    wanted = replace(
        read_top_up(fields, wallet),
        section_choice=read_choice(call.conn, call.organization.id, fields, now=call.now),
    )
    made = top_up(call.conn, wallet, wanted, now=call.now)
    return {"wallet_transactions": render_transactions(call.conn, made)}


def _wallet(call: Call, fields: Fields) -> Wallet:
    try:
        found = wallet_usecase.by_id(call.conn, call.organization.id, fields.uuid("wallet_id"))
    except NotFound as error:
        raise Invalid({"wallet_id": ["wallet_not_found"]}) from error
    return wallet_usecase.locked(call.conn, found)


def read_top_up(fields: Fields, wallet: Wallet) -> TopUp:
    """What is wanted of a wallet. Raises Invalid."""
    refuse_other_payment_method(fields)
    requires = fields.flag("invoice_requires_successful_payment")
    voided_id = fields.uuid("voided_transaction_id")
    if fields.given.get("voided_transaction_id") is not None and voided_id is None:
        fields.refuse("voided_transaction_id", "wallet_transaction_not_found")
    wanted = TopUp(
        paid_credits=read_credits(fields, "paid_credits"),
        granted_credits=read_credits(fields, "granted_credits"),
        voided_credits=read_credits(fields, "voided_credits"),
        voided_transaction_id=voided_id,
        requires_payment=wallet.invoice_requires_successful_payment if requires is None else requires,
        ignores_limits=fields.flag("ignore_paid_top_up_limits") or False,
        priority=fields.whole("priority", minimum=1, maximum=LOWEST_PRIORITY) or LOWEST_PRIORITY,
        name=fields.text("name") or None,
        purchase_order_number=fields.text("purchase_order_number") or wallet.purchase_order_number,
        metadata=read_notes(fields, "metadata", most=NOTES_MAX),
    )
    fields.check()
    return wanted


def show_wallet_transaction(call: Call) -> dict[str, Any]:
    """GET /wallet_transactions/{lago_id}."""
    return {"wallet_transaction": render_transactions(call.conn, [_transaction(call)])[0]}


def payment_url(call: Call) -> dict[str, Any]:
    """POST /wallet_transactions/{lago_id}/payment_url: always refused, as no payment provider is built yet."""
    _transaction(call)
    raise Invalid({"base": ["no_linked_payment_provider"]})


def _transaction(call: Call) -> WalletTransaction:
    return transactions.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def list_wallet_transactions(call: Call) -> dict[str, Any]:
    """GET /wallets/{lago_id}/wallet_transactions, newest first."""
    wallet, page = wallet_of(call), call.page()
    search = TransactionSearch(
        status=call.query.get("status") or None,
        transaction_status=call.query.get("transaction_status") or None,
        transaction_type=call.query.get("transaction_type") or None,
    )
    rows, total = wallet_transactions.listing(
        call.conn, wallet.id, search, limit=page.per_page, offset=page.offset
    )
    return {"wallet_transactions": render_transactions(call.conn, rows), "meta": page.meta(total)}


def list_consumptions(call: Call) -> dict[str, Any]:
    """GET /wallet_transactions/{lago_id}/consumptions: what took of it, the oldest first."""
    return _parts(call, "wallet_transaction_consumptions", wallet_transactions.consumptions, "inbound")


def list_fundings(call: Call) -> dict[str, Any]:
    """GET /wallet_transactions/{lago_id}/fundings: what it took of."""
    return _parts(call, "wallet_transaction_fundings", wallet_transactions.fundings, "outbound")


def _parts(
    call: Call,
    root: str,
    load: Callable[..., tuple[list[Consumption], int]],
    transaction_type: str,
) -> dict[str, Any]:
    row, page = _transaction(call), call.page()
    if row.transaction_type != transaction_type:
        raise Invalid({"transaction_type": [f"not_{transaction_type}"]})
    found, total = load(call.conn, row.id, limit=page.per_page, offset=page.offset)
    return {root: render_parts(call.conn, found), "meta": page.meta(total)}


def render_parts(conn: Connection[Any], found: Sequence[Consumption]) -> list[objects.WalletTransactionPart]:
    """How much of transactions went into others, with these."""
    others = wallet_transactions.by_ids(conn, {each.transaction_id for each in found})
    shown = dict(zip(others, render_transactions(conn, list(others.values())), strict=True))
    return [
        objects.WalletTransactionPart(
            lago_id=each.id,
            amount_cents=each.amount_cents,
            credit_amount=decimal_text(each.credit_amount),
            created_at=instant(each.created_at),
            wallet_transaction=shown[each.transaction_id],
        )
        for each in found
    ]


def render_transactions(
    conn: Connection[Any], rows: Sequence[WalletTransaction]
) -> list[objects.WalletTransaction]:
    """Transactions as the API shows them."""
    found = wallets.by_ids(conn, {row.wallet_id for row in rows})
    shown = dict(zip(found, render_wallets(conn, list(found.values())), strict=True))
    rendered = [_render(row, found[row.wallet_id], shown[row.wallet_id].billing_entity_code) for row in rows]
    show_choices(conn, rendered)
    return rendered


def render_whole_transactions(
    conn: Connection[Any], ids: Sequence[UUID]
) -> dict[UUID, objects.WalletTransactionDetails]:
    """Transactions with their wallets, as webhooks carry them; those that there are."""
    rows = list(wallet_transactions.by_ids(conn, ids).values())
    found = wallets.by_ids(conn, {row.wallet_id for row in rows})
    shown = dict(zip(found, render_wallets(conn, list(found.values())), strict=True))
    details = {
        row.id: objects.WalletTransactionDetails(
            **asdict(_render(row, found[row.wallet_id], shown[row.wallet_id].billing_entity_code)),
            wallet=shown[row.wallet_id],
        )
        for row in rows
    }
    show_choices(conn, details.values())
    return details


def _render(row: WalletTransaction, wallet: Wallet, entity_code: str) -> objects.WalletTransaction:
    with exact():
        amount = Decimal(row.amount_cents) / subunits(wallet.currency)
    left = row.remaining_amount_cents
    left_credits = None if left is None else credits_of(left, wallet.rate_amount, wallet.currency)
    return objects.WalletTransaction(
        lago_id=row.id,
        lago_wallet_id=row.wallet_id,
        lago_invoice_id=row.invoice_id,
        lago_credit_note_id=row.credit_note_id,
        lago_voided_invoice_id=row.voided_invoice_id,
        billing_entity_code=entity_code,
        status=row.status,
        source=row.source,
        transaction_status=row.transaction_status,
        transaction_type=row.transaction_type,
        amount=decimal_text(amount),
        credit_amount=decimal_text(row.credit_amount),
        remaining_amount_cents=left,
        remaining_credit_amount=None if left_credits is None else decimal_text(left_credits),
        priority=row.priority,
        purchase_order_number=row.purchase_order_number,
        settled_at=instant(row.settled_at),
        failed_at=instant(row.failed_at),
        created_at=instant(row.created_at),
        invoice_requires_successful_payment=row.invoice_requires_successful_payment,
        metadata=[objects.TransactionNote(**each) for each in row.metadata],
        name=row.name,
        applied_invoice_custom_sections=[],
        payment_method=PAYMENT_METHOD,
    )
