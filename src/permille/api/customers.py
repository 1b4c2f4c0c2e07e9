"""Customers: who pays. semantics-billing.md sections 1 and 11.4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.custom_sections import read_chosen, render_section
from permille.api.dunning_campaigns import read_campaign
from permille.api.http import Call
from permille.api.objects import customer as objects
from permille.api.render import instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import (
    DAYS_MAX,
    LONG_TEXT,
    TOO_LONG,
    Fields,
    query_texts,
)
from permille.core.customer import BillingEntity, Customer
from permille.core.errors import Forbidden, NotFound
from permille.core.eu_tax import read_vat_number
from permille.http.query import query_flag
from permille.ids import new_id
from permille.store import billing_entities, customers
from permille.store.customers import CustomerSearch
from permille.store.taxes import ids
from permille.store.vat_checks import VatCheck
from permille.usecases.catalogue import customers as catalogue
from permille.usecases.catalogue.customers import SavedCustomer

NAMES = (
    "name",
    "firstname",
    "lastname",
    "legal_name",
    "legal_number",
    "tax_identification_number",
    "phone",
    "address_line1",
    "address_line2",
    "city",
    "zipcode",
    "state",
    "external_salesforce_id",
)
LONG_NAMES = ("email", "url", "logo_url")
ADDRESS = ("address_line1", "address_line2", "city", "zipcode", "state")
CHOICES = {
    "subscription_invoice_issuing_date_anchor": ("current_period_end", "next_period_start"),
    "subscription_invoice_issuing_date_adjustment": ("keep_anchor", "align_with_finalization_date"),
}
ZERO_AMOUNT = ("inherit", "skip", "finalize")
METADATA_MAX = 5
METADATA_KEY_MAX = 20
METADATA_VALUE_MAX = 100
UNBUILT_BILLING = (
    "payment_provider",
    "payment_provider_code",
    "provider_customer_id",
    "provider_payment_methods",
    "sync",
    "sync_with_provider",
)
UNBUILT = ("integration_customers",)


def upsert_customer(call: Call) -> dict[str, Any]:
    """POST /customers: makes the customer, or changes what is sent of the one with that external id."""
    wanted = read_customer(call.conn, call.organization.id, Fields(call.root("customer")), now=call.now)
    return {"customer": render_customer(catalogue.save(call.conn, wanted, now=call.now))}


def read_customer(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> SavedCustomer:
    """The customer to make or to change, and its columns that are set. Raises Invalid and NotFound."""
    external_id = fields.text("external_id", mandatory=True) or ""
    before = catalogue.to_change(conn, organization_id, external_id)
    columns = read_columns(conn, organization_id, fields, before, now=now)
    fields.check()
    entity = _entity(conn, organization_id, fields)
    if entity is not None:
        columns["billing_entity_id"] = entity.id
    return SavedCustomer(
        organization_id=organization_id, external_id=external_id, before=before, columns=columns
    )


def read_columns(
    conn: Connection[Any],
    organization_id: UUID,
    fields: Fields,
    before: Customer | None,
    *,
    now: datetime,
) -> dict[str, Any]:
    """The columns that the request sets, by name."""
    fields.refuse_unbuilt(*UNBUILT)
    readers: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(NAMES, fields.text),
        **dict.fromkeys(LONG_NAMES, partial(fields.text, limit=LONG_TEXT)),
        "email": partial(fields.email, before=before.email if before else None),
        "country": fields.country,
        "currency": fields.currency,
        "timezone": fields.timezone,
        "customer_type": partial(fields.choice, allowed=("company", "individual")),
        "net_payment_term": partial(fields.whole, minimum=0, maximum=DAYS_MAX),
    }
    columns = {name: read(name) for name, read in readers.items() if fields.has(name)}
    account_type = fields.choice("account_type", ("customer", "partner"))
    if account_type and not (before and customers.is_billed(conn, before.id)):
        columns["account_type"] = account_type
    zero = fields.choice("finalize_zero_amount_invoice", ZERO_AMOUNT, code="invalid_value")
    if zero is not None:
        columns["finalize_zero_amount_invoice"] = zero
    if (skips := fields.flag("skip_invoice_custom_sections")) is not None:
        columns["skip_invoice_custom_sections"] = skips
    if (sections := read_chosen(conn, organization_id, fields)) is not None:
        columns["custom_section_ids"] = sections
    if fields.has("dunning_campaign_code"):
        columns["dunning_campaign_id"] = read_campaign(conn, organization_id, fields)
    if (excluded := fields.flag("exclude_from_dunning_campaign")) is not None:
        columns["exclude_from_dunning_campaign"] = excluded
    if (address := fields.nested("shipping_address")) is not None:
        kept = before.shipping_address if before else {}
        columns["shipping_address"] = {**kept, **_address(address)}
    billing = _billing_configuration(fields)
    if billing:
        columns["billing_configuration"] = {**(before.billing_configuration if before else {}), **billing}
    if (own := read_taxes(fields, known_taxes(conn, organization_id, [fields]))) is not None:
        columns |= {"tax_ids": ids(own), "taxes_are_chosen": bool(own)}
    if (entries := fields.objects("metadata")) is not None:
        columns["metadata"] = _metadata(fields, entries, before, now=now)
    return columns


def _address(fields: Fields) -> dict[str, Any]:
    found = {name: fields.text(name) for name in ADDRESS if fields.has(name)}
    return {**found, "country": fields.country("country")} if fields.has("country") else found


def _billing_configuration(fields: Fields) -> dict[str, Any]:
    """What is sent of it; the grace period may also be sent beside the customer's own fields."""
    given = fields.nested("billing_configuration") or Fields({}, fields)
    given.refuse_unbuilt(*UNBUILT_BILLING)
    found: dict[str, Any] = {
        name: given.choice(name, allowed) for name, allowed in CHOICES.items() if given.has(name)
    }
    if given.has("document_locale"):
        found["document_locale"] = given.document_locale("document_locale")
    for source in (fields, given):
        if source.has("invoice_grace_period"):
            found["invoice_grace_period"] = source.grace_period()
    return found


def _metadata(
    fields: Fields, entries: Sequence[Fields], before: Customer | None, *, now: datetime
) -> list[dict[str, Any]]:
    """The whole list: an entry with the id, or else the key, of an existing one is that one, changed."""
    if len(entries) > METADATA_MAX:
        fields.refuse("metadata", "invalid_count")
        return []
    known = list(before.metadata) if before else []
    found = []
    for entry in entries:
        key, value = entry.text("key", mandatory=True), entry.text("value", mandatory=True)
        if key and value and (len(key) > METADATA_KEY_MAX or len(value) > METADATA_VALUE_MAX):
            fields.refuse("metadata", TOO_LONG)
        wanted = str(entry.uuid("id"))
        same = next((old for old in known if wanted == old["lago_id"] or key == old["key"]), None)
        found.append(
            {
                "lago_id": same["lago_id"] if same else str(new_id(now)),
                "key": key,
                "value": value,
                "display_in_invoice": entry.flag("display_in_invoice") or False,
                "created_at": same["created_at"] if same else instant(now),
            }
        )
    return found


def _entity(conn: Connection[Any], organization_id: UUID, fields: Fields) -> BillingEntity | None:
    """The billing entity that the request names. Raises NotFound when there is none with that code."""
    code = fields.text("billing_entity_code")
    fields.check()
    if not code:
        return None
    found = billing_entities.by_code(conn, organization_id, code)
    if found is None:
        raise NotFound("billing_entity")
    return found


def list_customers(call: Call) -> dict[str, Any]:
    """GET /customers."""
    query = call.query
    search = CustomerSearch(
        account_types=query_texts(query, "account_type"),
        billing_entity_codes=query_texts(query, "billing_entity_codes"),
        countries=query_texts(query, "countries"),
        currencies=query_texts(query, "currencies"),
        states=query_texts(query, "states"),
        zipcodes=query_texts(query, "zipcodes"),
        customer_type=query.get("customer_type") or None,
        has_customer_type=query_flag(query, "has_customer_type"),
        has_tax_identification_number=query_flag(query, "has_tax_identification_number"),
        search_term=query.get("search_term"),
        metadata={
            name.removeprefix("metadata[").removesuffix("]"): value
            for name, value in query.items()
            if name.startswith("metadata[") and name.endswith("]")
        },
    )
    page = call.page()
    rows, total = customers.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"customers": [render_customer(row) for row in rows], "meta": page.meta(total)}


def show_customer(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}."""
    return {"customer": render_customer(customer_of(call))}


def delete_customer(call: Call) -> dict[str, Any]:
    """DELETE /customers/{external_id}: its subscriptions end now, and are billed; its invoices stay."""
    customer = catalogue.to_remove(call.conn, call.organization.id, call.path["external_id"])
    catalogue.remove(call.conn, customer, now=call.now)
    return {"customer": render_customer(customer)}


def portal_url(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/portal_url: always refused, as there is no portal yet."""
    customer_of(call)
    raise Forbidden("feature_unavailable")


def customer_of(call: Call) -> Customer:
    """The customer that the path names. Raises NotFound."""
    return catalogue.by_external_id(call.conn, call.organization.id, call.path["external_id"])


SAME_NAME = (
    "external_id",
    "account_type",
    *NAMES,
    *LONG_NAMES,
    "customer_type",
    "sequential_id",
    "slug",
    "country",
    "currency",
    "timezone",
    "applicable_timezone",
    "net_payment_term",
    "finalize_zero_amount_invoice",
    "skip_invoice_custom_sections",
)
BILLING_CONFIGURATION = (
    "invoice_grace_period",
    "payment_provider",
    "payment_provider_code",
    "document_locale",
    *CHOICES,
)


def render_customer(customer: Customer) -> objects.Customer:
    configuration, address = customer.billing_configuration, customer.shipping_address
    return objects.Customer(
        lago_id=customer.id,
        billing_entity_code=customer.billing_entity.code,
        **{name: getattr(customer, name) for name in SAME_NAME},
        created_at=instant(customer.created_at),
        updated_at=instant(customer.updated_at),
        billing_configuration=objects.CustomerBilling(
            **{name: configuration.get(name) for name in BILLING_CONFIGURATION}
        ),
        shipping_address=objects.Address(**{name: address.get(name) for name in (*ADDRESS, "country")}),
        metadata=[objects.CustomerMetadata(**entry) for entry in customer.metadata],
        taxes=[render_tax(tax) for tax in customer.taxes],
        integration_customers=[],
        applicable_invoice_custom_sections=[
            render_section(each) for each in customer.applicable_custom_sections
        ],
        lago_dunning_campaign_id=customer.dunning_campaign_id,
        exclude_from_dunning_campaign=customer.exclude_from_dunning_campaign,
    )


def render_vies_check(customer: Customer, check: VatCheck) -> objects.CheckedCustomer:
    """The customer with what VIES said."""
    shown = render_customer(customer)
    return objects.CheckedCustomer(
        **{name: getattr(shown, name) for name in shown.__struct_fields__},
        vies_check=objects.ViesCheck(
            valid=check.is_valid is True,
            valid_format=read_vat_number(check.number) is not None,
            vat_number=check.number,
            name=check.name,
            address=check.address,
        ),
    )
