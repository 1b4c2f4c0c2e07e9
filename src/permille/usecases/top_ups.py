"""Credits are bought, given for nothing and voided. Source: semantics-billing.md section 5.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.custom_section import SectionChoice
from permille.core.customer import Customer
from permille.core.errors import Invalid
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, Line
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.money import exact, subunits
from permille.core.rating.fee import Fee
from permille.core.record import Record, replace
from permille.core.wallet import (
    Direction,
    Lot,
    Settlement,
    Source,
    TransactionStatus,
    Wallet,
    Worth,
    credits_to_take,
    exact_worth,
    take,
    worth_of,
    worth_to_void,
)
from permille.ids import new_id
from permille.store import billing_entities, customers, section_choices, wallet_transactions, wallets
from permille.store.wallet_transactions import WalletTransaction
from permille.store.wallets import Movement
from permille.usecases.invoices.save import save
from permille.usecases.wallets.changes import announce, changed

ITEM = "Prepaid credits"
"""What an invoice for them is for, where the transaction has no name."""


class TopUp(Record, kw_only=True):
    """Credits that are to be bought, given and voided."""

    paid_credits: Decimal | None = None
    granted_credits: Decimal | None = None
    voided_credits: Decimal | None = None
    voided_transaction_id: UUID | None = None
    """The one transaction whose credits are voided; None for those that are spent first."""
    requires_payment: bool
    """Whether the invoice for them waits, unseen, until it is paid."""
    ignores_limits: bool = False
    priority: int
    name: str | None = None
    purchase_order_number: str | None = None
    metadata: Sequence[Mapping[str, Any]] = ()
    section_choice: SectionChoice | None = None
    """What its invoice prints instead of what the wallet has chosen."""
    source: Source = Source.MANUAL


def top_up(conn: Connection[Any], wallet: Wallet, wanted: TopUp, *, now: datetime) -> list[WalletTransaction]:
    """Do all that is wanted to a wallet that is locked: buy, give, void, in this order. Raises Invalid."""
    if not wallet.is_active:
        raise Invalid({"wallet_id": ["wallet_is_terminated"]})
    made = []
    if wanted.paid_credits:
        made.append(_buy(conn, wallet, wanted, wanted.paid_credits, now))
    if wanted.granted_credits:
        worth = _whole("granted_credits", wanted.granted_credits, wallet)
        made.append(_fill(conn, _inbound(wallet, wanted, worth, TransactionStatus.GRANTED, now), now))
    if wanted.section_choice is not None:
        for row in made:
            section_choices.choose(conn, wallet.organization_id, row.id, wanted.section_choice)
    if wanted.voided_credits:
        emptied = wallets.by_ids(conn, [wallet.id])[wallet.id]
        made.append(_void(conn, emptied, wanted, wanted.voided_credits, now))
    announce(conn, "created", made, now)
    changed(conn, [wallet.id], now=now)
    known = wallet_transactions.by_ids(conn, [each.id for each in made])
    return [known[each.id] for each in made]


def _whole(name: str, credits_: Decimal, wallet: Wallet) -> Worth:
    worth = worth_of(credits_, wallet.rate_amount, wallet.currency)
    if not worth.amount_cents:
        raise Invalid({name: ["amount_rounds_to_zero"]})
    return worth


def _inbound(
    wallet: Wallet, wanted: TopUp, worth: Worth, status: TransactionStatus, now: datetime
) -> WalletTransaction:
    """A transaction that will fill the wallet once it is settled."""
    return WalletTransaction(
        id=new_id(now),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        transaction_type=Direction.INBOUND,
        transaction_status=status,
        status=Settlement.PENDING,
        source=wanted.source,
        amount_cents=worth.amount_cents,
        credit_amount=worth.credits,
        priority=wanted.priority,
        name=wanted.name,
        purchase_order_number=wanted.purchase_order_number,
        metadata=wanted.metadata,
        invoice_requires_successful_payment=wanted.requires_payment,
        created_at=now,
    )


def _fill(conn: Connection[Any], row: WalletTransaction, now: datetime) -> WalletTransaction:
    """Save what fills its wallet at once."""
    filled = replace(row, status=Settlement.SETTLED, remaining_amount_cents=row.amount_cents, settled_at=now)
    wallet_transactions.add(conn, [filled])
    wallets.apply(conn, [Movement(transaction=filled)])
    return filled


def _buy(
    conn: Connection[Any], wallet: Wallet, wanted: TopUp, credits_: Decimal, now: datetime
) -> WalletTransaction:
    """Credits that are there once their invoice is paid."""
    worth = _whole("paid_credits", credits_, wallet)
    if not wanted.ignores_limits:
        _check_limits(wallet, worth.amount_cents)
    row = _inbound(wallet, wanted, worth, TransactionStatus.PURCHASED, now)
    draft = _invoice_of(conn, wallet, row, wanted.section_choice, now)
    bought = replace(row, invoice_id=draft.id)
    wallet_transactions.add(conn, [bought])
    save(conn, make([draft], Facts()))
    return bought


def _check_limits(wallet: Wallet, amount_cents: int) -> None:
    least, most = wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents
    if least is not None and amount_cents < least:
        raise Invalid({"paid_credits": ["amount_below_minimum"]})
    if most is not None and amount_cents > most:
        raise Invalid({"paid_credits": ["amount_above_maximum"]})


def _invoice_of(
    conn: Connection[Any], wallet: Wallet, row: WalletTransaction, choice: SectionChoice | None, now: datetime
) -> InvoiceDraft:
    """The invoice that sells the credits of a transaction."""
    if choice is None or choice.says_nothing:
        choice = section_choices.of(conn, [wallet.id]).get(wallet.id)
    payer = _payer(conn, wallet)
    with exact():
        precise_rate = wallet.rate_amount
        unit_cents = int(precise_rate * subunits(wallet.currency))
    fee = Fee(
        kind=FeeKind.CREDIT,
        subscription_id=None,
        charge_id=None,
        charge_filter_id=None,
        invoice_display_name=row.name or ITEM,
        units=row.credit_amount,
        events_count=None,
        total_aggregated_units=None,
        amount_cents=row.amount_cents,
        precise_amount_cents=Decimal(row.amount_cents),
        unit_amount_cents=unit_cents,
        precise_unit_amount=precise_rate,
        amount_details={},
        grouped_by={},
        from_=now,
        to=now,
        item_id=row.id,
    )
    return InvoiceDraft(
        id=new_id(now),
        kind=InvoiceKind.CREDIT,
        customer=payer,
        currency=wallet.currency,
        at=now,
        made_at=now,
        lines=(Line(fee),),
        awaits_payment=row.invoice_requires_successful_payment,
        custom_sections=payer.printed_sections([choice]),
    )


def _payer(conn: Connection[Any], wallet: Wallet) -> Customer:
    """The customer, as one of the billing entity that the wallet names."""
    customer = customers.by_ids(conn, [wallet.customer_id])[wallet.customer_id]
    if wallet.billing_entity_id is None:
        return customer
    entity = billing_entities.by_ids(conn, [wallet.billing_entity_id])[wallet.billing_entity_id]
    return customer.billed_by(entity)


def _void(
    conn: Connection[Any], wallet: Wallet, wanted: TopUp, credits_: Decimal, now: datetime
) -> WalletTransaction:
    """Take credits away for nothing."""
    if credits_ > wallet.credits_balance:
        raise Invalid({"voided_credits": ["insufficient_credits"]})
    lots: Sequence[Lot] = wallets.lots_of(conn, [wallet.id])[wallet.id]
    worth = worth_to_void(wallet, credits_)
    if wanted.voided_transaction_id is not None:
        lots = [_lot(conn, wallet, wanted.voided_transaction_id)]
        worth = exact_worth(credits_, wallet.rate_amount, wallet.currency)
        if worth.amount_cents > lots[0].remaining_amount_cents:
            raise Invalid({"voided_credits": ["exceeds_remaining_transaction_amount"]})
    row = WalletTransaction(
        id=new_id(now),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        transaction_type=Direction.OUTBOUND,
        transaction_status=TransactionStatus.VOIDED,
        status=Settlement.SETTLED,
        source=wanted.source,
        amount_cents=worth.amount_cents,
        credit_amount=worth.credits,
        priority=wanted.priority,
        name=wanted.name,
        metadata=wanted.metadata,
        settled_at=now,
        created_at=now,
    )
    wallet_transactions.add(conn, [row])
    wallets.apply(conn, [Movement(transaction=row, parts=take(lots, row.amount_cents))])
    return row


def void_refunded(
    conn: Connection[Any], wallet: Wallet, amount_cents: int, *, credit_note_id: UUID, now: datetime
) -> None:
    """Take away the credits of which a credit note pays the price back; the wallet is locked and has as much."""
    row = WalletTransaction(
        id=new_id(now),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        transaction_type=Direction.OUTBOUND,
        transaction_status=TransactionStatus.VOIDED,
        status=Settlement.SETTLED,
        amount_cents=amount_cents,
        credit_amount=credits_to_take(wallet, amount_cents),
        credit_note_id=credit_note_id,
        settled_at=now,
        created_at=now,
    )
    wallet_transactions.add(conn, [row])
    lots = wallets.lots_of(conn, [wallet.id])[wallet.id]
    wallets.apply(conn, [Movement(transaction=row, parts=take(lots, amount_cents))])
    announce(conn, "created", [row], now)
    changed(conn, [wallet.id], now=now)


def _lot(conn: Connection[Any], wallet: Wallet, transaction_id: UUID) -> Lot:
    """What is left of one transaction that filled the wallet. Raises Invalid."""
    row = wallet_transactions.by_ids(conn, [transaction_id]).get(transaction_id)
    if row is None or row.wallet_id != wallet.id or row.transaction_type is not Direction.INBOUND:
        raise Invalid({"voided_transaction_id": ["wallet_transaction_not_found"]})
    if not row.remaining_amount_cents:
        raise Invalid({"voided_transaction_id": ["no_remaining_amount"]})
    return Lot(
        id=row.id,
        wallet_id=wallet.id,
        remaining_amount_cents=row.remaining_amount_cents,
        is_granted=row.transaction_status == TransactionStatus.GRANTED,
    )
