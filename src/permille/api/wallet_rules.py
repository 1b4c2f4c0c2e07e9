"""Rules by which wallets are topped up by themselves, in requests and answers. Source: semantics-billing.md 5.6, 11.7."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from permille.api.objects import wallet as objects
from permille.api.payment_method import PAYMENT_METHOD, refuse_other_payment_method
from permille.api.render import instant
from permille.api.validation import Fields
from permille.api.wallet_values import NOTES_MAX, read_credits, read_notes
from permille.core.money import ZERO, decimal_text
from permille.core.period import Interval
from permille.core.wallet_rule import Method, RuleTerms, Trigger, WalletRule


def read_rule(
    fields: Fields,
    *,
    paid: Decimal | None,
    granted: Decimal | None,
    before: WalletRule | None = None,
    now: datetime,
) -> RuleTerms | None:
    """The one rule of `recurring_transaction_rules`, None for an empty list. A rule that names no credits has those given.

    What it leaves out of `before` stays as it is.
    """
    entries = fields.objects("recurring_transaction_rules") or []
    if len(entries) > 1:
        fields.refuse("recurring_transaction_rules", "invalid_number_of_recurring_rules")
    if not entries:
        return None
    entry = entries[0]
    if before is not None:
        entry = Fields({**_as_sent(before), **entry.given}, around=entry)
    return _rule(entry, paid, granted, now=now)


def names_rule(fields: Fields, rule: WalletRule) -> bool:
    """Whether `recurring_transaction_rules` changes this very rule, by its id."""
    given = fields.given.get("recurring_transaction_rules")
    first = given[0] if isinstance(given, list) and given else None
    return isinstance(first, dict) and first.get("lago_id") == str(rule.id)


def _as_sent(rule: WalletRule) -> dict[str, Any]:
    """The fields of a request that asks for this rule."""
    shown = render_rule(rule)
    return {name: getattr(shown, name) for name in _CHANGEABLE} | {
        "transaction_metadata": rule.transaction_metadata
    }


def _rule(entry: Fields, paid: Decimal | None, granted: Decimal | None, *, now: datetime) -> RuleTerms:
    refuse_other_payment_method(entry)
    trigger = entry.choice("trigger", list(Trigger), mandatory=True, code="invalid_recurring_rule")
    method = entry.choice("method", list(Method), code="invalid_recurring_rule") or Method.FIXED
    interval = entry.choice("interval", list(Interval), code="invalid_recurring_rule")
    own = {name: read_credits(entry, name) for name in ("paid_credits", "granted_credits")}
    if not any(own.values()):
        own = {"paid_credits": paid, "granted_credits": granted}
    threshold = read_credits(entry, "threshold_credits") or ZERO
    target = read_credits(entry, "target_ongoing_balance")
    lacks_interval = trigger == Trigger.INTERVAL and interval is None
    lacks_threshold = trigger == Trigger.THRESHOLD and entry.given.get("threshold_credits") is None
    lacks_target = method == Method.TARGET and (target is None or target < threshold)
    lacks_credits = method == Method.FIXED and not any(own.values())
    if lacks_interval or lacks_threshold or lacks_target or lacks_credits:
        entry.refuse("recurring_transaction_rules", "invalid_recurring_rule")
    expiration_at = entry.instant("expiration_at")
    if expiration_at is not None and expiration_at <= now:
        entry.refuse("expiration_at", "invalid_date")
    return RuleTerms(
        trigger=Trigger(trigger or Trigger.INTERVAL),
        method=Method(method),
        interval=Interval(interval) if interval and trigger == Trigger.INTERVAL else None,
        threshold_credits=threshold,
        paid_credits=own["paid_credits"] or ZERO,
        granted_credits=own["granted_credits"] or ZERO,
        target_ongoing_balance=target if method == Method.TARGET else None,
        grants_target_top_up=bool(entry.flag("grants_target_top_up")),
        started_at=entry.instant("started_at"),
        expiration_at=expiration_at,
        invoice_requires_successful_payment=bool(entry.flag("invoice_requires_successful_payment")),
        ignore_paid_top_up_limits=bool(entry.flag("ignore_paid_top_up_limits")),
        transaction_name=entry.text("transaction_name") or None,
        transaction_metadata=read_notes(entry, "transaction_metadata", most=NOTES_MAX),
        purchase_order_number=entry.text("purchase_order_number") or None,
    )


_CHANGEABLE = (
    "trigger",
    "method",
    "interval",
    "threshold_credits",
    "paid_credits",
    "granted_credits",
    "target_ongoing_balance",
    "grants_target_top_up",
    "started_at",
    "expiration_at",
    "invoice_requires_successful_payment",
    "ignore_paid_top_up_limits",
    "transaction_name",
    "purchase_order_number",
)


def render_rule(rule: WalletRule) -> objects.WalletRule:
    """The rule of a wallet."""
    target = rule.target_ongoing_balance
    return objects.WalletRule(
        lago_id=rule.id,
        trigger=rule.trigger,
        method=rule.method,
        interval=rule.interval,
        status=rule.status,
        threshold_credits=decimal_text(rule.threshold_credits),
        paid_credits=decimal_text(rule.paid_credits),
        granted_credits=decimal_text(rule.granted_credits),
        grants_target_top_up=rule.grants_target_top_up,
        target_ongoing_balance=None if target is None else decimal_text(target),
        started_at=instant(rule.started_at),
        expiration_at=instant(rule.expiration_at),
        created_at=instant(rule.created_at),
        invoice_requires_successful_payment=rule.invoice_requires_successful_payment,
        ignore_paid_top_up_limits=rule.ignore_paid_top_up_limits,
        transaction_name=rule.transaction_name,
        transaction_metadata=[objects.TransactionNote(**each) for each in rule.transaction_metadata],
        purchase_order_number=rule.purchase_order_number,
        applied_invoice_custom_sections=[],
        payment_method=PAYMENT_METHOD,
    )
