"""Billing entities: who issues the invoices. semantics-billing.md sections 1.1 and 1.2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.custom_sections import read_chosen, render_section
from permille.api.dunning_campaigns import read_campaign
from permille.api.http import Call
from permille.api.objects import billing_entity as objects
from permille.api.render import instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import DAYS_MAX, LONG_TEXT, Fields
from permille.core.color import color_of, is_readable
from permille.core.customer import BillingEntity
from permille.core.mail import EMAIL_SETTINGS
from permille.store import billing_entities
from permille.store.taxes import ids
from permille.usecases.catalogue import billing_entities as catalogue

TEXTS = (
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "address_line1",
    "address_line2",
    "city",
    "zipcode",
    "state",
)
LONG_TEXTS = ("email", "logo_url", "invoice_footer", "bank_details", "reverse_charge_note")
ISSUING = {
    "subscription_invoice_issuing_date_anchor": ("current_period_end", "next_period_start"),
    "subscription_invoice_issuing_date_adjustment": ("keep_anchor", "align_with_finalization_date"),
}
NUMBERING = {
    "per_customer": "per_customer",
    "per_billing_entity": "per_billing_entity",
    "per_organization": "per_billing_entity",
}
PREFIX_MAX = 10
NEVER_NULL = (
    "net_payment_term",
    "invoice_grace_period",
    *ISSUING,
    "document_locale",
    "finalize_zero_amount_invoice",
    "default_currency",
    "timezone",
    "email_settings",
    "eu_tax_management",
)


def read_settings(fields: Fields) -> dict[str, Any]:
    """The columns of a billing entity that a request sets, by name, its billing_configuration included.

    Null changes nothing where there is a default.
    """
    settings: dict[str, Any] = {}
    for source in (fields, fields.nested("billing_configuration")):
        if source is not None:
            settings |= _read(source)
    return {name: value for name, value in settings.items() if value is not None or name not in NEVER_NULL}


def _read(fields: Fields) -> dict[str, Any]:
    fields.refuse_unbuilt("logo")
    readers: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(TEXTS, fields.text),
        **dict.fromkeys(LONG_TEXTS, partial(fields.text, limit=LONG_TEXT)),
        "net_payment_term": partial(fields.whole, minimum=0, maximum=DAYS_MAX),
        "invoice_grace_period": lambda _: fields.grace_period(),
        **{name: partial(fields.choice, allowed=allowed) for name, allowed in ISSUING.items()},
        "finalize_zero_amount_invoice": fields.flag,
        "eu_tax_management": fields.flag,
        "default_currency": fields.currency,
        "timezone": fields.timezone,
        "country": fields.country,
        "email": fields.email,
        "document_locale": fields.document_locale,
        "email_settings": partial(fields.choices, allowed=EMAIL_SETTINGS),
        "brand_color": partial(_read_color, fields),
    }
    settings = {name: read(name) for name, read in readers.items() if fields.has(name)}
    if (numbering := fields.choice("document_numbering", NUMBERING)) is not None:
        settings["document_numbering"] = NUMBERING[numbering]
    if prefix := fields.text("document_number_prefix", limit=PREFIX_MAX):
        settings["document_number_prefix"] = prefix.upper()
    return settings


def _read_color(fields: Fields, name: str) -> str | None:
    text = fields.text(name)
    color = color_of(text) if text else None
    if text and color is None:
        fields.refuse(name, "invalid_color")
    elif color and not is_readable(color):
        fields.refuse(name, "color_is_too_light")
    return color


def list_billing_entities(call: Call) -> dict[str, Any]:
    """GET /billing_entities, the default one first."""
    rows = billing_entities.all_of(call.conn, call.organization.id)
    return {"billing_entities": [render_billing_entity(row) for row in rows]}


def show_billing_entity(call: Call) -> dict[str, Any]:
    """GET /billing_entities/{code}."""
    return {"billing_entity": render_billing_entity(_entity(call))}


def create_billing_entity(call: Call) -> dict[str, Any]:
    """POST /billing_entities."""
    fields = Fields(call.root("billing_entity"))
    code = fields.text("code", mandatory=True)
    fields.text("name", mandatory=True)
    settings = read_entity(call.conn, call.organization.id, fields)
    made = catalogue.add(call.conn, call.organization.id, settings={**settings, "code": code}, now=call.now)
    return {"billing_entity": render_billing_entity(made)}


def update_billing_entity(call: Call) -> dict[str, Any]:
    """PUT /billing_entities/{code}."""
    before = _entity(call)
    settings = read_entity(call.conn, call.organization.id, Fields(call.root("billing_entity")))
    after = catalogue.change(call.conn, call.organization.id, before, settings=settings, now=call.now)
    return {"billing_entity": render_billing_entity(after)}


def read_entity(conn: Connection[Any], organization_id: UUID, fields: Fields) -> dict[str, Any]:
    """As `read_settings`, with the name and the taxes. Raises Invalid and NotFound."""
    own = read_taxes(fields, known_taxes(conn, organization_id, [fields]))
    settings = read_settings(fields)
    if own is not None:
        settings["tax_ids"] = ids(own)
    if (sections := read_chosen(conn, organization_id, fields)) is not None:
        settings["custom_section_ids"] = sections
    if fields.has("dunning_campaign_code"):
        settings["dunning_campaign_id"] = read_campaign(conn, organization_id, fields)
    if fields.has("name"):
        settings["name"] = fields.text("name", mandatory=True)
    fields.check()
    return settings


def _entity(call: Call) -> BillingEntity:
    return catalogue.by_code(call.conn, call.organization.id, call.path["code"])


SAME_NAME = (
    "code",
    "name",
    "default_currency",
    "document_numbering",
    "document_number_prefix",
    "finalize_zero_amount_invoice",
    "net_payment_term",
    "invoice_grace_period",
    *ISSUING,
    *TEXTS,
    *LONG_TEXTS,
    "country",
    "document_locale",
    "timezone",
    "is_default",
    "email_settings",
    "eu_tax_management",
    "brand_color",
)


def render_billing_entity(entity: BillingEntity) -> objects.BillingEntity:
    return objects.BillingEntity(
        lago_id=entity.id,
        **{name: getattr(entity, name) for name in SAME_NAME},
        taxes=[render_tax(tax) for tax in entity.taxes],
        selected_invoice_custom_sections=[render_section(each) for each in entity.custom_sections],
        lago_dunning_campaign_id=entity.dunning_campaign_id,
        created_at=instant(entity.created_at),
        updated_at=instant(entity.updated_at),
    )
