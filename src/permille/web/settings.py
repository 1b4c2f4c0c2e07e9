"""Settings of the seller, the organization's default billing entity: its address, numbers, terms and documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from permille.api.billing_entities import read_entity, render_billing_entity
from permille.api.objects.billing_entity import BillingEntity
from permille.api.validation import Fields, timezones
from permille.core.errors import Invalid
from permille.core.record import Record
from permille.out.pdf.language import language_names
from permille.store import billing_entities
from permille.usecases.catalogue import billing_entities as catalogue
from permille.web.charge_form import known_taxes, read_taxes
from permille.web.custom_sections import known_sections, read_chosen
from permille.web.shown import countries, currencies
from permille.web.typed_number import json_number
from permille.web.visit import WRITERS, Done, Form, HtmlPage, Visit

ADDRESS = "/app/settings"

Options = Sequence[tuple[str, str]]


class Setting(Record, kw_only=True):
    """A field of the form. The name is the API's, and `kind` chooses its input."""

    name: str
    label: str
    kind: str = "text"
    hint: str = ""
    options: Options = ()
    required: bool = False


SECTIONS: Sequence[tuple[str, Sequence[Setting]]] = (
    (
        "Seller",
        (
            Setting(name="name", label="Name", required=True),
            Setting(name="legal_name", label="Legal name", hint="It is printed in place of the name."),
            Setting(name="legal_number", label="Legal number", hint="As in the company register."),
            Setting(name="tax_identification_number", label="Tax id", hint="Like DE123456789."),
            Setting(name="email", label="Email", kind="email"),
            Setting(name="address_line1", label="Address"),
            Setting(name="address_line2", label="Address, second line"),
            Setting(name="zipcode", label="Post code"),
            Setting(name="city", label="City"),
            Setting(name="state", label="State"),
            Setting(name="country", label="Country", kind="select"),
        ),
    ),
    (
        "Billing",
        (
            Setting(name="default_currency", label="Currency", kind="select"),
            Setting(
                name="timezone",
                label="Timezone",
                kind="select",
                hint="Days and months of customers without a timezone of their own begin by it.",
            ),
            Setting(
                name="net_payment_term",
                label="Payment term in days",
                kind="number",
                hint="From issue to due date; with 0 an invoice is due on receipt.",
            ),
            Setting(
                name="invoice_grace_period",
                label="Grace period in days",
                kind="number",
                hint="For so long an invoice stays a draft and takes in late events. A change moves the drafts that there are.",
            ),
            Setting(
                name="finalize_zero_amount_invoice",
                label="Invoices of zero",
                kind="select",
                options=(("true", "Issue them"), ("false", "Don't issue them")),
            ),
            Setting(
                name="eu_tax_management",
                label="European VAT",
                kind="select",
                hint="From the next change of a customer on, its VAT follows from its country, post code and VAT number.",
                options=(("false", "Chosen by hand"), ("true", "Chosen for each customer")),
            ),
            Setting(
                name="subscription_invoice_issuing_date_anchor",
                label="Invoices are dated",
                kind="select",
                options=(
                    ("next_period_start", "The day after the period"),
                    ("current_period_end", "The last day of the period"),
                ),
            ),
            Setting(
                name="subscription_invoice_issuing_date_adjustment",
                label="With a grace period",
                kind="select",
                options=(
                    ("align_with_finalization_date", "The day on which the draft becomes final"),
                    ("keep_anchor", "The same day as without one"),
                ),
            ),
        ),
    ),
    (
        "Documents",
        (
            Setting(
                name="document_number_prefix",
                label="Prefix of numbers",
                hint="Up to 10 characters, for invoices to come.",
                required=True,
            ),
            Setting(
                name="document_numbering",
                label="Numbers count",
                kind="select",
                options=(("per_customer", "For each customer"), ("per_billing_entity", "For the seller")),
            ),
            Setting(name="document_locale", label="Language", kind="select"),
            Setting(
                name="email_settings",
                label="By mail",
                kind="list",
                hint="Without being asked, to customers with an email. Payment requests always are. The log is under Mail.",
                options=(
                    ("invoice.finalized", "Invoices, when they are final"),
                    ("credit_note.created", "Credit notes"),
                    ("payment_receipt.created", "Receipts of payments"),
                ),
            ),
            Setting(
                name="logo_url",
                label="Address of the logo",
                hint="PNG, JPEG, GIF, WebP or SVG, at most 2 MB.",
            ),
            Setting(
                name="brand_color",
                label="Colour",
                hint="Of headings in documents and mails, like #1f4e79. Dark enough to be read on white.",
            ),
            Setting(name="bank_details", label="Bank details", kind="text_area", hint="How to pay."),
            Setting(
                name="reverse_charge_note",
                label="Reverse charge note",
                kind="text_area",
                hint="Printed where the customer in another country owes the tax.",
            ),
            Setting(name="invoice_footer", label="Footer", kind="text_area"),
        ),
    ),
)


def show(visit: Visit) -> HtmlPage:
    """GET /app/settings: a form, or the values alone for a reader."""
    entity = render_billing_entity(billing_entities.default(visit.conn, visit.here.id))
    menus: dict[str, Options] = {
        "default_currency": [(code, code) for code in currencies()],
        "country": countries(entity.country),
        "timezone": [(name, name) for name in sorted(timezones())],
        "document_locale": language_names(entity.document_locale),
    }
    sections = [
        (
            heading,
            [
                (one, menus.get(one.name, one.options), _input_value(getattr(entity, one.name)))
                for one in settings
            ],
        )
        for heading, settings in SECTIONS
    ]
    context = {
        "sections": sections,
        "taxes": known_taxes(visit),
        "chosen": [tax.code for tax in entity.taxes],
        "custom_sections": known_sections(visit),
        "chosen_sections": [each.code for each in entity.selected_invoice_custom_sections],
        "may_change": visit.may(WRITERS),
    }
    return HtmlPage(template="settings.html", context=context)


def update(visit: Visit) -> Done:
    """POST /app/settings: the audit log keeps what changed."""
    before = billing_entities.default(visit.conn, visit.here.id)
    settings = read_entity(visit.conn, visit.here.id, Fields(_read(visit.form)))
    after = catalogue.change(visit.conn, visit.here.id, before, settings=settings, now=visit.now)
    return Done(
        action="changed settings",
        subject=after.name,
        to=f"{ADDRESS}?said=saved",
        details=_changed(_shown(render_billing_entity(before)), _shown(render_billing_entity(after))),
    )


def _input_value(value: Any) -> str | list[str]:
    """The value as its input holds it."""
    if isinstance(value, list):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _read(form: Form) -> dict[str, Any]:
    """The body for the API, of the fields that were sent. Raises Invalid for an empty one that is required."""
    sent = [one for _, settings in SECTIONS for one in settings if form.has(one.name)]
    if empty := [one.name for one in sent if one.required and not form.get(one.name)]:
        raise Invalid({name: ["value_is_mandatory"] for name in empty})
    body = {one.name: _value(one, form) for one in sent}
    return {**body, **read_taxes(form, "tax"), **read_chosen(form)}


def _value(setting: Setting, form: Form) -> Any:
    if setting.kind == "list":
        return [each for each in form.all(setting.name) if each]
    text = form.get(setting.name)
    if setting.kind == "number":
        return json_number(text, whole=True)
    return text.replace("\r\n", "\n") or None


def _shown(entity: BillingEntity) -> dict[str, Any]:
    names = [one.name for _, settings in SECTIONS for one in settings]
    return {
        **{name: getattr(entity, name) for name in names},
        "tax_codes": [tax.code for tax in entity.taxes],
        "invoice_custom_section_codes": [each.code for each in entity.selected_invoice_custom_sections],
    }


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}
