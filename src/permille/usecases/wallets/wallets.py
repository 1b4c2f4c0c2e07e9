"""Wallets are opened, changed and terminated. Source: semantics-billing.md section 5.6."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import chain, count
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import Customer
from permille.core.errors import Invalid, NotAllowed, NotFound
from permille.core.money import ZERO
from permille.core.record import Record
from permille.core.wallet import ACTIVE_MAX, LOWEST_PRIORITY, Wallet
from permille.ids import new_id
from permille.store import customers, wallets, webhooks


class NewWallet(Record, kw_only=True):
    """A wallet that is to be opened."""

    currency: str
    rate_amount: Decimal
    code: str | None = None
    name: str | None = None
    priority: int = LOWEST_PRIORITY
    columns: Mapping[str, Any]
    """What else is set, by column."""


def by_id(conn: Connection[Any], organization_id: UUID, wallet_id: UUID | None) -> Wallet:
    """Raises NotFound."""
    found = wallets.by_ids(conn, [wallet_id]).get(wallet_id) if wallet_id else None
    if found is None or found.organization_id != organization_id:
        raise NotFound("wallet")
    return found


def by_code(conn: Connection[Any], customer: Customer, code: str) -> Wallet:
    """The customer's wallet with this code, the active one if there is one. Raises NotFound."""
    found = wallets.last_by_code(conn, customer.id, code)
    if found is None:
        raise NotFound("wallet")
    return found


def locked(conn: Connection[Any], wallet: Wallet) -> Wallet:
    """The wallet as it is now; nobody else fills, empties or changes any of its customer until the transaction ends."""
    customers.lock(conn, wallet.customer_id)
    return wallets.by_ids(conn, [wallet.id])[wallet.id]


def add(conn: Connection[Any], customer: Customer, wanted: NewWallet, *, now: datetime) -> Wallet:
    """An empty wallet. Raises Invalid when the customer has as many as it may, or one with that code."""
    customers.lock(conn, customer.id)
    active = wallets.active_of_customer(conn, customer.id)
    if len(active) >= ACTIVE_MAX:
        raise Invalid({"customer": ["wallet_limit_reached"]})
    taken = {each.code for each in active}
    if wanted.code in taken:
        raise Invalid({"code": ["value_already_exist"]})
    columns: dict[str, Any] = {
        "billing_entity_id": None,
        "purchase_order_number": None,
        "invoice_requires_successful_payment": False,
        "paid_top_up_min_amount_cents": None,
        "paid_top_up_max_amount_cents": None,
        "fee_types": (),
        "billable_metric_ids": (),
        "expiration_at": None,
        "metadata": None,
        **wanted.columns,
    }
    made = Wallet(
        id=new_id(now),
        organization_id=customer.organization_id,
        customer_id=customer.id,
        status="active",
        currency=wanted.currency,
        code=wanted.code or _free_code(wanted.name, taken, now),
        name=wanted.name,
        priority=wanted.priority,
        rate_amount=wanted.rate_amount,
        balance_cents=0,
        credits_balance=ZERO,
        consumed_amount_cents=0,
        consumed_credits=ZERO,
        ongoing_usage_balance_cents=0,
        is_depleted=False,
        last_balance_sync_at=None,
        last_consumed_credit_at=None,
        terminated_at=None,
        created_at=now,
        updated_at=now,
        **columns,
    )
    wallets.add(conn, made)
    wallets.set_out_of_date(conn, [customer.id], at=now)
    if customer.currency is None:
        customers.update(conn, customer_id=customer.id, columns={"currency": made.currency}, now=now)
    webhooks.enqueue_of(conn, "wallet.created", made.organization_id, [made.id], now=now)
    return made


def _free_code(name: str | None, taken: Collection[str], now: datetime) -> str:
    """A code that is made of the name: with the second where that is taken, and numbered where that is taken too."""
    code = re.sub(r"[^a-z0-9]+", "_", (name or "").lower()).strip("_") or "default"
    dated = f"{code}_{int(now.timestamp())}"
    numbered = (f"{dated}_{number}" for number in count(2))
    return next(each for each in chain([code, dated], numbered) if each not in taken)


def change(conn: Connection[Any], wallet: Wallet, columns: Mapping[str, Any], *, now: datetime) -> Wallet:
    """Set columns of a wallet that is locked. Raises NotAllowed when it is terminated, Invalid when its code is taken."""
    if not wallet.is_active:
        raise NotAllowed("wallet_is_terminated")
    if "code" in columns:
        other = wallets.active_by_code(conn, wallet.customer_id, columns["code"])
        if other is not None and other.id != wallet.id:
            raise Invalid({"code": ["value_already_exist"]})
    wallets.update(conn, wallet.id, columns, now=now)
    wallets.set_out_of_date(conn, [wallet.customer_id], at=now)
    webhooks.enqueue_of(conn, "wallet.updated", wallet.organization_id, [wallet.id], now=now)
    return wallets.by_ids(conn, [wallet.id])[wallet.id]


def terminate(conn: Connection[Any], found: Collection[Wallet], *, now: datetime) -> None:
    """End wallets: their balances stay as they are, and pay for nothing any more. Terminated ones stay as they are."""
    ended = [each for each in found if each.is_active]
    if not ended:
        return
    wallets.terminate(conn, [each.id for each in ended], now=now)
    wallets.set_shares_out_of_date(conn, [each.id for each in ended], at=now)
    for organization_id in {each.organization_id for each in ended}:
        own = [each.id for each in ended if each.organization_id == organization_id]
        webhooks.enqueue_of(conn, "wallet.terminated", organization_id, own, now=now)
