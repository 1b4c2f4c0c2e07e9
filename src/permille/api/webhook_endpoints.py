"""Webhook endpoints. semantics-billing.md sections 9.1 and 11.10."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import webhook_endpoint as objects
from permille.api.render import instant
from permille.api.validation import INVALID, MANDATORY, Fields, parse_uuid
from permille.core.organization import Organization
from permille.store import webhook_endpoints
from permille.store.webhook_endpoints import WebhookEndpoint
from permille.usecases import webhook_endpoints as usecase

URL_MAX = 2_000
EVERYTHING = ["*"]
EVENT_TYPES = frozenset(
    [
        "usage.unpriced",
        "alert.triggered",
        "billable_metric.created",
        "billable_metric.updated",
        "billable_metric.deleted",
        "credit_note.created",
        "credit_note.generated",
        "credit_note.provider_refund_failure",
        "customer.created",
        "customer.updated",
        "customer.vies_check",
        "customer.payment_provider_created",
        "customer.payment_provider_error",
        "customer.checkout_url_generated",
        "customer.accounting_provider_created",
        "customer.crm_provider_created",
        "customer.accounting_provider_error",
        "customer.crm_provider_error",
        "customer.tax_provider_error",
        "dunning_campaign.finished",
        "event.error",
        "event.too_late",
        "events.errors",
        "feature.created",
        "feature.updated",
        "feature.deleted",
        "fee.created",
        "fee.tax_provider_error",
        "integration.provider_error",
        "invoice.created",
        "invoice.one_off_created",
        "invoice.paid_credit_added",
        "invoice.drafted",
        "invoice.ready_to_finalize",
        "invoice.generated",
        "invoice.generation_error",
        "invoice.voided",
        "invoice.deleted",
        "invoice.resynced",
        "invoice.payment_status_updated",
        "invoice.payment_overdue",
        "invoice.payment_dispute_lost",
        "invoice.payment_failure",
        "payment.succeeded",
        "payment.requires_action",
        "payment_provider.error",
        "payment_receipt.created",
        "payment_receipt.generated",
        "payment_request.created",
        "payment_request.payment_status_updated",
        "payment_request.payment_failure",
        "plan.created",
        "plan.updated",
        "plan.deleted",
        "subscription.started",
        "subscription.updated",
        "subscription.terminated",
        "subscription.canceled",
        "subscription.incomplete",
        "subscription.termination_alert",
        "subscription.trial_ended",
        "subscription.usage_threshold_reached",
        "wallet.created",
        "wallet.updated",
        "wallet.terminated",
        "wallet.depleted_ongoing_balance",
        "wallet_transaction.created",
        "wallet_transaction.updated",
        "wallet_transaction.payment_failure",
        "quote.created",
        "quote.approved",
        "quote.voided",
        "order_form.created",
        "order_form.signed",
        "order_form.expired",
        "order_form.voided",
        "order.created",
        "order.executed",
    ]
)


def create_webhook_endpoint(call: Call) -> dict[str, Any]:
    """POST /webhook_endpoints."""
    columns = read_endpoint(call.conn, call.organization, Fields(call.root("webhook_endpoint")))
    made = usecase.add(call.conn, call.organization.id, columns, now=call.now)
    return {"webhook_endpoint": render_webhook_endpoint(made)}


def read_endpoint(conn: Connection[Any], organization: Organization, fields: Fields) -> dict[str, Any]:
    """The columns of a new endpoint. Raises Invalid."""
    columns = _columns(organization, fields)
    if "webhook_url" not in columns:
        fields.refuse("webhook_url", MANDATORY)
    for name, code in usecase.problems(conn, organization.id, columns.get("webhook_url")):
        fields.refuse(name, code)
    fields.check()
    return columns


def _columns(organization: Organization, fields: Fields) -> dict[str, Any]:
    """The columns that the request sets, by name."""
    columns: dict[str, Any] = {}
    if fields.has("webhook_url"):
        columns["webhook_url"] = read_url(organization, fields)
    if (algorithm := fields.choice("signature_algo", objects.ALGORITHMS)) is not None:
        columns["signature_algo"] = algorithm
    if fields.has("name"):
        columns["name"] = fields.text("name")
    if fields.has("event_types"):
        types = fields.texts("event_types")
        columns["event_types"] = None if types == EVERYTHING else types
        if any(kind not in EVENT_TYPES for kind in columns["event_types"] or ()):
            fields.refuse("event_types", INVALID, allowed=sorted(EVENT_TYPES))
    return columns


def read_url(organization: Organization, fields: Fields) -> str:
    """An absolute http or https address in ASCII; of this very machine only in test mode."""
    url = fields.text("webhook_url", mandatory=True, limit=URL_MAX) or ""
    if url and not is_url(url):
        fields.refuse("webhook_url", "url_invalid")
    elif url and is_own_machine(url) and not organization.test_mode:
        fields.refuse("webhook_url", "loopback_only_in_test_mode")
    return url


def is_url(text: str) -> bool:
    """Whether it is an absolute http(s) address that can be sent on the wire as it is."""
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    printable = text.isascii() and text.isprintable() and " " not in text
    return printable and has_port and parts.scheme in ("http", "https") and bool(parts.hostname)


def is_own_machine(url: str) -> bool:
    """Whether the address says itself that it is the machine that would call it; names are not looked up."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_link_local or address.is_unspecified


def list_webhook_endpoints(call: Call) -> dict[str, Any]:
    """GET /webhook_endpoints, newest first."""
    rows = webhook_endpoints.all_of(call.conn, call.organization.id)
    page = call.page()
    shown = rows[page.offset : page.offset + page.per_page]
    return {
        "webhook_endpoints": [render_webhook_endpoint(row) for row in shown],
        "meta": page.meta(len(rows)),
    }


def show_webhook_endpoint(call: Call) -> dict[str, Any]:
    """GET /webhook_endpoints/{lago_id}."""
    return {"webhook_endpoint": render_webhook_endpoint(_endpoint(call))}


def update_webhook_endpoint(call: Call) -> dict[str, Any]:
    """PUT /webhook_endpoints/{lago_id}."""
    known = usecase.to_change(call.conn, call.organization.id)
    before = _endpoint(call)
    fields = Fields(call.root("webhook_endpoint"))
    columns = _columns(call.organization, fields)
    url = columns.get("webhook_url", before.webhook_url)
    if any(other.webhook_url == url for other in known if other.id != before.id):
        fields.refuse("webhook_url", "value_already_exist")
    fields.check()
    changed = usecase.update(call.conn, before, columns, now=call.now)
    return {"webhook_endpoint": render_webhook_endpoint(changed)}


def delete_webhook_endpoint(call: Call) -> dict[str, Any]:
    """DELETE /webhook_endpoints/{lago_id}."""
    gone = usecase.remove(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return {"webhook_endpoint": render_webhook_endpoint(gone)}


def _endpoint(call: Call) -> WebhookEndpoint:
    return usecase.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def render_webhook_endpoint(endpoint: WebhookEndpoint) -> objects.WebhookEndpoint:
    return objects.WebhookEndpoint(
        lago_id=endpoint.id,
        lago_organization_id=endpoint.organization_id,
        webhook_url=endpoint.webhook_url,
        signature_algo=endpoint.signature_algo,
        name=endpoint.name,
        event_types=endpoint.event_types,
        created_at=instant(endpoint.created_at),
    )
