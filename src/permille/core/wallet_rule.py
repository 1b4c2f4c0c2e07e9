"""The rule by which a wallet is topped up by itself: when, and by how much. Source: semantics-billing.md section 5.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from permille.core.money import AMOUNT_MAX, ZERO, exact
from permille.core.period import BillingTime, Interval, local_date, midnight, next_boundary, start_of_day
from permille.core.record import Record
from permille.core.wallet import Wallet, credits_of, worth_of


class Trigger(StrEnum):
    """What sets a rule off."""

    INTERVAL = "interval"
    THRESHOLD = "threshold"


class Method(StrEnum):
    """How a rule finds the credits: always the same, or what is lacking to a target."""

    FIXED = "fixed"
    TARGET = "target"


class RuleTerms(Record, kw_only=True):
    """What a rule does, as it was asked for."""

    trigger: Trigger
    method: Method
    interval: Interval | None
    threshold_credits: Decimal
    paid_credits: Decimal
    granted_credits: Decimal
    target_ongoing_balance: Decimal | None
    grants_target_top_up: bool
    started_at: datetime | None
    expiration_at: datetime | None
    invoice_requires_successful_payment: bool
    ignore_paid_top_up_limits: bool
    transaction_name: str | None
    transaction_metadata: Sequence[Mapping[str, Any]]
    purchase_order_number: str | None


class WalletRule(RuleTerms, kw_only=True):
    """A rule of a wallet; a wallet has one active rule at most."""

    id: UUID
    organization_id: UUID
    wallet_id: UUID
    status: str
    next_top_up_at: datetime | None
    """When an interval is over."""
    terminated_at: datetime | None
    created_at: datetime
    updated_at: datetime


class RuleCredits(NamedTuple):
    """What a rule tops up by."""

    paid: Decimal
    granted: Decimal


class Pending(NamedTuple):
    """Credits of a wallet that are bought and not paid yet."""

    credits: Decimal = ZERO
    by_threshold: Decimal = ZERO
    """Those of them that a rule has bought at its threshold."""


def is_below(rule: WalletRule, wallet: Wallet, pending: Pending) -> bool:
    """Whether a threshold is reached, also with the credits that are bought and not paid yet."""
    ongoing = ongoing_credits(wallet)
    return ongoing <= rule.threshold_credits and ongoing + pending.credits <= rule.threshold_credits


def ongoing_credits(wallet: Wallet) -> Decimal:
    """The credits that are left after usage and drafts."""
    with exact():
        return wallet.credits_balance - credits_of(
            wallet.ongoing_usage_balance_cents, wallet.rate_amount, wallet.currency
        )


def rule_credits(rule: WalletRule, wallet: Wallet, pending: Pending) -> RuleCredits:
    """By how much a rule that is set off tops the wallet up; by nothing where its target is reached, or will be once all is paid.

    At a threshold it is so much that another look buys and grants nothing, as long as nothing else changes.
    """
    with exact():
        ongoing = ongoing_credits(wallet) + pending.credits
        if rule.method is Method.TARGET:
            gap = max((rule.target_ongoing_balance or ZERO) - ongoing, ZERO)
            if rule.grants_target_top_up or not _kept(gap, wallet):
                return RuleCredits(ZERO, gap)
            return RuleCredits(max(gap, _least_credits(rule, wallet)), ZERO)
        if rule.trigger is not Trigger.THRESHOLD:
            return RuleCredits(rule.paid_credits, rule.granted_credits)
        gap = rule.threshold_credits - ongoing
        if _kept(rule.paid_credits, wallet):
            return _sold(rule, wallet, pending, gap - _kept(rule.granted_credits, wallet))
        return RuleCredits(ZERO, _multiple(rule.granted_credits, gap, wallet))


def is_possible(wallet: Wallet, wanted: RuleCredits) -> bool:
    """Whether the wallet can have that much more, for usage that an invoice can have."""
    with exact():
        worth = worth_of(wanted.paid + wanted.granted, wallet.rate_amount, wallet.currency).amount_cents
    return max(wallet.ongoing_usage_balance_cents, wallet.balance_cents + worth) < AMOUNT_MAX


def _least_credits(rule: WalletRule, wallet: Wallet) -> Decimal:
    least = wallet.paid_top_up_min_amount_cents
    if least is None or rule.ignore_paid_top_up_limits:
        return ZERO
    return credits_of(least, wallet.rate_amount, wallet.currency)


def _sold(rule: WalletRule, wallet: Wallet, pending: Pending, gap: Decimal) -> RuleCredits:
    """The credits that a rule sells so often that the gap is closed, as far as so much may wait for its payment at once."""
    wanted, most = _multiple(rule.paid_credits, gap, wallet), wallet.paid_top_up_max_amount_cents
    is_more = wanted > rule.paid_credits or pending.by_threshold
    if is_more and most is not None and not rule.ignore_paid_top_up_limits:
        room = credits_of(most, wallet.rate_amount, wallet.currency) - pending.by_threshold
        wanted = min(wanted, room)
        if room <= 0 or not _kept(wanted, wallet):
            return RuleCredits(ZERO, ZERO)
    return RuleCredits(wanted, rule.granted_credits)


def _multiple(amount: Decimal, gap: Decimal, wallet: Wallet) -> Decimal:
    """Credits so often that more than the gap is there, and once at least: however often one looks, once is enough."""
    if not _kept(amount, wallet):
        return amount
    wanted = amount * max((gap / amount).to_integral_value(ROUND_FLOOR) + 1, Decimal(1))
    return wanted if _kept(wanted, wallet) > gap else wanted + amount


def _kept(wanted: Decimal, wallet: Wallet) -> Decimal:
    """As many credits as there are of them in whole cents."""
    return worth_of(wanted, wallet.rate_amount, wallet.currency).credits


def next_top_up(rule: WalletRule, wallet: Wallet, *, after: datetime, timezone: str) -> datetime | None:
    """When an interval of the rule is over next: on its day, by the same rule as subscriptions' anniversaries.

    The day that is running has had its top-up, or is the one on which the wallet was filled first.
    """
    if rule.trigger is not Trigger.INTERVAL or rule.interval is None:
        return None
    anchor = rule.started_at or wallet.created_at
    if (start := start_of_day(anchor, timezone)) > after:
        return start
    return next_boundary(
        after,
        interval=rule.interval,
        billing_time=BillingTime.ANNIVERSARY,
        anchor=anchor,
        timezone=timezone,
    )


_SHIFT = timedelta(days=4)
"""By so much an anniversary can come earlier in another timezone: less than half a week, also at the end of February."""


def moved_top_up(
    rule: WalletRule, wallet: Wallet, *, due_at: datetime, before: str, after: str, now: datetime
) -> datetime | None:
    """When the interval that was over at `due_at` is over in another timezone, so that it tops up once; now where that has passed."""
    from_ = midnight(local_date(due_at, before), after) - _SHIFT
    moved = next_top_up(rule, wallet, after=from_, timezone=after)
    return max(moved, now) if moved else None
