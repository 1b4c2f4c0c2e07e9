"""Lifetime usage of a subscription. semantics-billing.md sections 6.7 and 11.3."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import usage as objects
from permille.api.objects.threshold import LifetimeUsageThreshold
from permille.api.render import instant
from permille.api.subscriptions import asked_row
from permille.api.validation import MANDATORY, Fields
from permille.database import locks
from permille.usecases.usage import lifetime_usage as lifetime
from permille.usecases.usage.lifetime_usage import LifetimeUsage


def show_lifetime_usage(call: Call) -> dict[str, Any]:
    """GET /subscriptions/{external_id}/lifetime_usage."""
    row, rows = asked_row(call)
    found = lifetime.lifetime_usage(call.conn, row, rows, now=call.now)
    return {"lifetime_usage": render_lifetime_usage(found)}


def update_lifetime_usage(call: Call) -> dict[str, Any]:
    """PUT /subscriptions/{external_id}/lifetime_usage: what was used before Permille knew of it."""
    name = "external_historical_usage_amount_cents"
    locks.change_subscription(call.conn, call.organization.id, call.path["external_id"])
    row, rows = asked_row(call)
    fields = Fields(call.root("lifetime_usage"))
    cents = fields.whole(name, minimum=0)
    if fields.given.get(name) is None:
        fields.refuse(name, MANDATORY)
    fields.check()
    lifetime.set_historical_usage(call.conn, row, rows, amount_cents=cents, now=call.now)
    return show_lifetime_usage(call)


def render_lifetime_usage(found: LifetimeUsage) -> objects.LifetimeUsage:
    return objects.LifetimeUsage(
        lago_id=found.id,
        lago_subscription_id=found.subscription_id,
        external_subscription_id=found.external_subscription_id,
        external_historical_usage_amount_cents=found.historical_amount_cents,
        invoiced_usage_amount_cents=found.invoiced_amount_cents,
        current_usage_amount_cents=found.current_amount_cents,
        from_datetime=instant(found.from_),
        to_datetime=instant(found.to),
        usage_thresholds=[
            LifetimeUsageThreshold(
                amount_cents=each.completion.amount_cents,
                completion_ratio=float(each.completion.ratio),
                reached_at=instant(each.reached_at),
            )
            for each in found.thresholds
        ],
    )
