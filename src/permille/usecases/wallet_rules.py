"""Wallets are topped up by themselves: when an interval is over, or the ongoing balance falls to a threshold.

Source: semantics-billing.md section 5.6.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.custom_section import SectionChoice
from permille.core.money import ZERO
from permille.core.record import asdict
from permille.core.wallet import LOWEST_PRIORITY, Source, Wallet, worth_of
from permille.core.wallet_rule import (
    Pending,
    RuleCredits,
    RuleTerms,
    Trigger,
    WalletRule,
    is_below,
    is_possible,
    moved_top_up,
    next_top_up,
    rule_credits,
)
from permille.ids import new_id
from permille.store import customers, section_choices, wallet_rules, wallet_transactions, wallets
from permille.usecases.top_ups import TopUp, top_up

log = logging.getLogger(__name__)

PAUSE = timedelta(hours=1)
"""After an automatic payment that failed nothing is bought for so long, unless bought credits were paid since."""


def set_rule(
    conn: Connection[Any],
    wallet: Wallet,
    wanted: RuleTerms | None,
    *,
    keeps: bool = False,
    section_choice: SectionChoice | None = None,
    now: datetime,
) -> None:
    """Give a wallet, which is locked, this rule instead of the one that it has, if any; `keeps`: it is that one, changed.

    `section_choice` is what the rule's invoices print instead of the wallet's, None for what those of the one before did.
    """
    before = wallet_rules.active_of(conn, [wallet.id])
    kept = before.get(wallet.id) if keeps else None
    if kept is None:
        wallet_rules.end(conn, [each.id for each in before.values()], now=now)
    if wanted is None:
        return
    rule = WalletRule(
        id=kept.id if kept else new_id(now),
        organization_id=wallet.organization_id,
        wallet_id=wallet.id,
        status="active",
        next_top_up_at=None,
        terminated_at=None,
        created_at=kept.created_at if kept else now,
        updated_at=now,
        **asdict(wanted),
    )
    if kept:
        wallet_rules.change(conn, rule)
    else:
        wallet_rules.add(conn, rule)
    former = [each.id for each in before.values()]
    choice = section_choice or next(iter(section_choices.of(conn, former).values()), None)
    if choice is not None:
        section_choices.choose(conn, wallet.organization_id, rule.id, choice)
    wallet_rules.set_next(
        conn, rule.id, next_top_up(rule, wallet, after=now, timezone=_timezone(conn, wallet))
    )


def _timezone(conn: Connection[Any], wallet: Wallet) -> str:
    return customers.by_ids(conn, [wallet.customer_id])[wallet.customer_id].applicable_timezone


def move(
    conn: Connection[Any], customer_ids: Collection[UUID], *, before: str, after: str, now: datetime
) -> None:
    """Let the intervals of customers that have moved to another timezone end at the midnights there."""
    found = wallet_rules.waiting_of_customers(conn, customer_ids)
    known = wallets.by_ids(conn, [rule.wallet_id for rule in found])
    for rule in found:
        if rule.next_top_up_at:
            wallet = known[rule.wallet_id]
            moved = moved_top_up(
                rule, wallet, due_at=rule.next_top_up_at, before=before, after=after, now=now
            )
            wallet_rules.set_next(conn, rule.id, moved)


def top_up_below(conn: Connection[Any], found: Sequence[tuple[WalletRule, Wallet]], *, now: datetime) -> None:
    """Top up wallets that have fallen to the thresholds of their rules; their customers are locked."""
    pending = wallet_transactions.pending_credits(conn, [wallet.id for _, wallet in found])
    for rule, wallet in found:
        waiting = pending.get(wallet.id, Pending())
        is_over = rule.expiration_at is not None and rule.expiration_at <= now
        if not is_over and is_below(rule, wallet, waiting):
            _top_up(conn, rule, wallet, rule_credits(rule, wallet, waiting), now=now)


def top_up_due(conn: Connection[Any], rule: WalletRule, wallet: Wallet, *, now: datetime) -> None:
    """Top up a wallet, which is locked, as an interval of its rule is over, and say when the next one is."""
    wallet_rules.set_next(
        conn, rule.id, next_top_up(rule, wallet, after=now, timezone=_timezone(conn, wallet))
    )
    _top_up(conn, rule, wallet, rule_credits(rule, wallet, Pending()), now=now)


def _worth_something(wallet: Wallet, wanted: Decimal) -> Decimal:
    return wanted if worth_of(wanted, wallet.rate_amount, wallet.currency).amount_cents else ZERO


def _top_up(
    conn: Connection[Any], rule: WalletRule, wallet: Wallet, wanted: RuleCredits, *, now: datetime
) -> None:
    """Buy and give credits by a rule, but for what is worth nothing. A purchase waits for a while after one that was not paid,
    and at a threshold what comes with it: each look would give that again.

    Usage that no invoice can have tops nothing up: its customer is held once it is to be billed.
    """
    if not is_possible(wallet, wanted):
        log.warning(
            "wallet %s of customer %s: usage or credits come to more than an amount can be, so that its rule tops nothing up",
            wallet.id,
            wallet.customer_id,
        )
        return
    paid, granted = _worth_something(wallet, wanted.paid), _worth_something(wallet, wanted.granted)
    if paid and wallet_rules.failed_since(conn, wallet.id, after=now - PAUSE):
        paid, granted = ZERO, ZERO if rule.trigger is Trigger.THRESHOLD else granted
    if not (paid or granted):
        return
    top_up(
        conn,
        wallet,
        TopUp(
            paid_credits=paid or None,
            granted_credits=granted or None,
            requires_payment=rule.invoice_requires_successful_payment,
            ignores_limits=True,
            priority=LOWEST_PRIORITY,
            name=rule.transaction_name,
            purchase_order_number=rule.purchase_order_number or wallet.purchase_order_number,
            metadata=rule.transaction_metadata,
            section_choice=section_choices.of(conn, [rule.id]).get(rule.id),
            source=Source(rule.trigger),
        ),
        now=now,
    )
