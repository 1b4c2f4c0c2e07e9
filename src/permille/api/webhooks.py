"""Webhooks: the public key that receivers verify with, and how each kind of object is shown to them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET
from psycopg import Connection

from permille.api.activation_rules import show_rules
from permille.api.alerts import render_triggered_alerts
from permille.api.billable_metrics import render_billable_metric
from permille.api.credit_notes import render_whole_credit_note
from permille.api.custom_sections import show_choices
from permille.api.customers import render_customer, render_vies_check
from permille.api.events import render_events
from permille.api.features import render_features
from permille.api.fees import render_fee, surroundings
from permille.api.http import Call, Raw
from permille.api.invoices import render_whole_invoices
from permille.api.late_usage import whole_late_usage
from permille.api.objects.base import Answer
from permille.api.objects.event_error import EventError
from permille.api.objects.subscription import Subscription
from permille.api.objects.webhook_endpoint import WebhookKey
from permille.api.payment_requests import whole_payment_request
from permille.api.payments import whole_payment, whole_receipt
from permille.api.plans import render_plans
from permille.api.subscriptions import show_entitlements, whole_subscription
from permille.api.usage_thresholds import render_threshold
from permille.api.wallet_transactions import render_whole_transactions
from permille.api.wallets import render_whole_wallets
from permille.clock import system_now
from permille.events.engine import event_log
from permille.out.kind import Renderer, Renderers
from permille.out.signing import draw_private_key, public_pem
from permille.store import (
    billable_metrics,
    customers,
    fees as fee_store,
    organizations,
    plans,
    progressive,
    subscriptions,
    vat_checks,
)
from permille.store.subscriptions import ALONE
from permille.usecases.webhook_endpoints import signing_key

Shown = Answer | None


def show_public_key(call: Call) -> dict[str, Any]:
    """GET /webhooks/json_public_key: Base64 of the PEM."""
    return {"webhook": WebhookKey(public_key=_public_key(call).decode())}


def plain_public_key(call: Call) -> Raw:
    """GET /webhooks/public_key: the same as plain text."""
    return Raw(content=_public_key(call), media_type="text/plain", headers={})


def _public_key(call: Call) -> bytes:
    pem = public_pem(signing_key(call.conn, draw=draw_private_key, now=call.now))
    return base64.b64encode(pem.encode())


def _billable_metric(conn: Connection[Any], object_id: UUID) -> Shown:
    found = billable_metrics.by_ids(conn, [object_id]).get(object_id)
    return render_billable_metric(found) if found else None


def _clock(conn: Connection[Any], organization_id: UUID) -> datetime:
    organization = organizations.by_id(conn, organization_id)
    assert organization is not None, organization_id
    return organization.now(system_now())


def _plan(conn: Connection[Any], object_id: UUID) -> Shown:
    found = plans.plans_by_ids(conn, [object_id]).get(object_id)
    if found is None:
        return None
    (shown,) = render_plans(conn, [found], now=_clock(conn, found.organization_id))
    shown.fixed_charges = UNSET  # as in Lago's
    return shown


def _customer(conn: Connection[Any], object_id: UUID) -> Shown:
    found = customers.by_ids(conn, [object_id]).get(object_id)
    return render_customer(found) if found else None


def _vies_check(conn: Connection[Any], check_id: UUID) -> Shown:
    """The customer with what came of looking up its VAT number."""
    check = vat_checks.by_id(conn, check_id)
    if check is None:
        return None
    customer = customers.by_ids(conn, [check.customer_id])[check.customer_id]
    return render_vies_check(customer, check)


def _subscription(conn: Connection[Any], object_id: UUID) -> Shown:
    row = subscriptions.by_ids(conn, [object_id]).get(object_id)
    if row is None:
        return None
    plan = plans.plans_by_ids(conn, [row.plan_id])[row.plan_id]
    around = subscriptions.neighbours(conn, [row.id]).get(row.id, ALONE)
    shown = whole_subscription(conn, row, plan, now=_clock(conn, row.organization_id), around=around)
    show_entitlements(conn, [row], {plan.id: plan}, [shown])
    show_choices(conn, [shown])
    show_rules(conn, [shown])
    return shown


def _threshold_reached(conn: Connection[Any], applied_id: UUID) -> Shown:
    """The subscription with the threshold that it has reached."""
    applied = progressive.applied_by_ids(conn, [applied_id]).get(applied_id)
    shown = _subscription(conn, applied.subscription_id) if applied else None
    if applied is not None and isinstance(shown, Subscription):
        shown.usage_threshold = render_threshold(applied.threshold)
    return shown


def _fee(conn: Connection[Any], object_id: UUID) -> Shown:
    fee = fee_store.by_ids(conn, [object_id]).get(object_id)
    return render_fee(fee, surroundings(conn, [fee])) if fee else None


def _event_error(conn: Connection[Any], identity: UUID) -> Shown:
    """An event that names a wallet that its customer does not have."""
    found = event_log.by_identities(conn, [identity]).get(identity)
    if found is None:
        return None
    (event,) = render_events(conn, [found])
    return EventError(
        status=422,
        error="Unprocessable entity",
        message='{"target_wallet_code":["target_wallet_code_not_found"]}',
        event=event,
    )


def _one_by_one(render: Callable[[Connection[Any], UUID], Shown]) -> Renderer:
    """A renderer of many objects from that of one."""

    def each(conn: Connection[Any], object_ids: Sequence[UUID]) -> dict[UUID, Answer]:
        found = {object_id: render(conn, object_id) for object_id in object_ids}
        return {object_id: shown for object_id, shown in found.items() if shown is not None}

    return each


RENDERERS: Renderers = {
    "billable_metric": _one_by_one(_billable_metric),
    "credit_note": _one_by_one(render_whole_credit_note),
    "customer": _one_by_one(_customer),
    "customer.vies_check": _one_by_one(_vies_check),
    "event_error": _one_by_one(_event_error),
    "feature": render_features,
    "fee": _one_by_one(_fee),
    "invoice": render_whole_invoices,
    "late_usage": _one_by_one(whole_late_usage),
    "payment": _one_by_one(whole_payment),
    "payment_receipt": _one_by_one(whole_receipt),
    "payment_request": _one_by_one(whole_payment_request),
    "plan": _one_by_one(_plan),
    "subscription": _one_by_one(_subscription),
    "wallet": render_whole_wallets,
    "wallet_transaction": render_whole_transactions,
    "subscription.usage_threshold_reached": _one_by_one(_threshold_reached),
    "triggered_alert": render_triggered_alerts,
}
