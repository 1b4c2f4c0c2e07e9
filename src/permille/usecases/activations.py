"""What becomes of subscriptions that wait for their first invoice to be paid. Source: semantics-billing.md section 3.7."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.contract.activation import RuleStatus
from permille.core.invoice.payment import PaymentStatus
from permille.store import activation_rules, subscriptions
from permille.store.invoices import StoredInvoice
from permille.usecases import subscriptions as lifecycle


def payment_changed(conn: Connection[Any], changed: Sequence[StoredInvoice], now: datetime) -> None:
    """Subscriptions whose first invoice is paid run; those of which the payment failed never do."""
    status_of = {each.id: each.payment_status for each in changed}
    rules = {
        rule.subscription_id: rule for rule in activation_rules.pending_of_invoices(conn, status_of.keys())
    }
    paid, failed = (
        [each for each in rules.values() if each.invoice_id and status_of[each.invoice_id] == status]
        for status in (PaymentStatus.SUCCEEDED, PaymentStatus.FAILED)
    )
    if paid:
        waiting = subscriptions.by_ids(conn, [rule.subscription_id for rule in paid]).values()
        before = {row.previous_subscription_id for row in waiting if row.previous_subscription_id}
        rows = subscriptions.for_update(conn, [*(row.id for row in waiting), *before])
        lifecycle.run_paid(conn, rows, paid, now=now)
    lifecycle.give_up(conn, failed, RuleStatus.FAILED, now=now)
