"""The organization as its own key sees it: the settings are those of its default billing entity."""

from __future__ import annotations

from typing import Any

from permille.api.billing_entities import read_settings
from permille.api.http import Call
from permille.api.objects import organization as objects
from permille.api.render import instant
from permille.api.taxes import render_tax
from permille.api.validation import Fields
from permille.api.webhook_endpoints import read_url
from permille.core.customer import BillingEntity
from permille.core.record import replace
from permille.store import billing_entities, webhook_endpoints
from permille.usecases import organizations, webhook_endpoints as usecase
from permille.usecases.catalogue import billing_entities as catalogue
from permille.usecases.webhook_endpoints import ENDPOINTS_MAX

SAME_NAME = (
    "default_currency",
    "country",
    "address_line1",
    "address_line2",
    "state",
    "zipcode",
    "email",
    "city",
    "legal_name",
    "legal_number",
    "document_number_prefix",
    "net_payment_term",
    "tax_identification_number",
    "logo_url",
    "bank_details",
    "reverse_charge_note",
    "timezone",
    "finalize_zero_amount_invoice",
)


def show_organization(call: Call) -> dict[str, Any]:
    """GET /organizations."""
    return _shown(call, billing_entities.default(call.conn, call.organization.id))


def update_organization(call: Call) -> dict[str, Any]:
    """PUT /organizations. A `webhook_url` that there is not yet becomes the newest webhook endpoint."""
    fields = Fields(call.root("organization"))
    settings = read_settings(fields)
    auto_approves = fields.flag("auto_approve_prices")
    url = read_url(call.organization, fields) if fields.given.get("webhook_url") else None
    known = usecase.to_change(call.conn, call.organization.id)
    is_new = url is not None and all(endpoint.webhook_url != url for endpoint in known)
    if is_new and len(known) >= ENDPOINTS_MAX:
        fields.refuse("base", "exceeded_limit")
    fields.check()
    if is_new:
        usecase.add(call.conn, call.organization.id, {"webhook_url": url}, now=call.now)
    if auto_approves is not None:
        organizations.auto_approve_prices(call.conn, call.organization, is_on=auto_approves)
        call = replace(call, organization=replace(call.organization, auto_approve_prices=auto_approves))
    before = billing_entities.default(call.conn, call.organization.id)
    after = catalogue.change(call.conn, call.organization.id, before, settings=settings, now=call.now)
    return _shown(call, after)


def _shown(call: Call, entity: BillingEntity) -> dict[str, Any]:
    urls = [endpoint.webhook_url for endpoint in webhook_endpoints.all_of(call.conn, call.organization.id)]
    per_customer = entity.document_numbering == "per_customer"
    shown = objects.Organization(
        lago_id=call.organization.id,
        name=call.organization.name,
        created_at=instant(call.organization.created_at),
        webhook_url=urls[0] if urls else None,
        webhook_urls=urls,
        **{name: getattr(entity, name) for name in SAME_NAME},
        document_numbering="per_customer" if per_customer else "per_organization",
        email_settings=list(entity.email_settings),
        billing_configuration=objects.OrganizationBilling(
            invoice_footer=entity.invoice_footer,
            invoice_grace_period=entity.invoice_grace_period,
            document_locale=entity.document_locale,
            subscription_invoice_issuing_date_anchor=entity.subscription_invoice_issuing_date_anchor,
            subscription_invoice_issuing_date_adjustment=entity.subscription_invoice_issuing_date_adjustment,
        ),
        taxes=[render_tax(tax) for tax in entity.taxes],
        events_store="postgres",
        auto_approve_prices=call.organization.auto_approve_prices,
    )
    return {"organization": shown}
