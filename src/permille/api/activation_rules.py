"""Activation rules of subscriptions, in requests and answers. Source: semantics-billing.md section 3.7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from permille.api.objects import subscription as objects
from permille.api.render import instant
from permille.api.validation import Fields
from permille.core.contract.activation import PAYMENT, TIMEOUT_HOURS_MAX, ActivationRule
from permille.store import activation_rules

NAME = "activation_rules"


def read_payment_timeout(fields: Fields) -> int | None:
    """For how many hours the one rule of `activation_rules` waits for a payment, None where there is no rule."""
    entries = fields.objects(NAME) or []
    if len(entries) > 1:
        fields.refuse(NAME, "value_is_duplicated")
    for entry in entries[:1]:
        entry.choice("type", (PAYMENT,), mandatory=True)
        return entry.whole("timeout_hours", minimum=0, maximum=TIMEOUT_HOURS_MAX) or 0
    return None


def render_rule(rule: ActivationRule) -> objects.ActivationRule:
    """A rule as the API shows it."""
    return objects.ActivationRule(
        lago_id=rule.id,
        type=rule.type,
        timeout_hours=rule.timeout_hours,
        status=rule.status,
        expires_at=instant(rule.expires_at),
        lago_invoice_id=rule.invoice_id,
        created_at=instant(rule.created_at),
        updated_at=instant(rule.updated_at),
    )


def show_rules(conn: Connection[Any], shown: Sequence[objects.Subscription]) -> None:
    """Let subscriptions show what has to happen before they run."""
    found = activation_rules.of_subscriptions(conn, [each.lago_id for each in shown])
    for each in shown:
        each.activation_rules = [render_rule(found[each.lago_id])] if each.lago_id in found else []
