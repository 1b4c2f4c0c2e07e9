"""Invoices over the Lago API. Source: semantics-billing.md 11.1, 4.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from msgspec.structs import asdict
from psycopg import Connection
from starlette.datastructures import QueryParams

from permille.api.custom_sections import render_applied_sections
from permille.api.customers import customer_of, render_customer
from permille.api.fees import Surroundings, render_fee, surroundings
from permille.api.http import Call, Engine, Raw
from permille.api.objects import invoice as objects
from permille.api.objects.subscription import Subscription as ShownSubscription
from permille.api.pdf import pdf_answer, printer_of
from permille.api.render import instant, last_instant
from permille.api.subscriptions import render_subscription
from permille.api.taxes import render_invoice_taxes
from permille.api.usage_thresholds import render_applied
from permille.api.validation import Fields, parse_uuid, query_texts
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.errors import Invalid, NotAllowed
from permille.core.instants import parse_instant
from permille.core.invoice.billing import InvoicingReason
from permille.core.invoice.credit import BEFORE_TAXES, InvoiceCredit
from permille.core.invoice.crediting import CreditSplit
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.payment import PaymentStatus
from permille.core.organization import Organization
from permille.core.record import replace
from permille.http.query import query_flag
from permille.ids import new_id
from permille.out.pdf.assembly import invoice_document
from permille.store import (
    billing_entities,
    customers,
    fees as fee_store,
    invoice_search,
    invoices,
    progressive,
)
from permille.store.credit_notes import CreditNote
from permille.store.fees import StoredFee
from permille.store.invoice_search import InvoiceSearch
from permille.store.invoices import InvoiceSubscription, StoredInvoice
from permille.store.progressive import AppliedThreshold
from permille.usecases import documents, payments, voiding
from permille.usecases.invoices import balances, single

METADATA_MAX = 5
METADATA_KEY_MAX = 20
METADATA_VALUE_MAX = 255
VERSION = 4
_CENTS_MAX = 2**63 - 1


def list_invoices(call: Call) -> dict[str, Any]:
    """GET /invoices."""
    return _listing(call, read_search(call.query))


def list_customer_invoices(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/invoices."""
    customer = customer_of(call)
    return _listing(call, replace(read_search(call.query), external_customer_id=customer.external_id))


def read_search(query: QueryParams) -> InvoiceSearch:
    """The filters that an address's query names. Raises Invalid."""
    errors: dict[str, list[str]] = {}

    def on(name: str) -> date | None:
        value = query.get(name)
        found = parse_instant(value) if value else None
        if value and found is None:
            errors[name] = ["invalid_date"]
        return found.date() if found else None

    def cents(name: str) -> int | None:
        value = query.get(name)
        if not value:
            return None
        if not value.isascii() or not value.isdigit() or int(value[:20]) > _CENTS_MAX:
            errors[name] = ["value_is_invalid"]
            return None
        return int(value)

    search = InvoiceSearch(
        external_customer_id=_text(query, "external_customer_id"),
        statuses=[*query_texts(query, "status"), *query_texts(query, "statuses")],
        payment_statuses=[*query_texts(query, "payment_status"), *query_texts(query, "payment_statuses")],
        invoice_types=[*query_texts(query, "invoice_type"), *query_texts(query, "invoice_types")],
        billing_entity_codes=query_texts(query, "billing_entity_codes"),
        currency=_text(query, "currency"),
        payment_overdue=query_flag(query, "payment_overdue"),
        payment_dispute_lost=query_flag(query, "payment_dispute_lost"),
        self_billed=query_flag(query, "self_billed"),
        issuing_date_from=on("issuing_date_from"),
        issuing_date_to=on("issuing_date_to"),
        amount_from=cents("amount_from"),
        amount_to=cents("amount_to"),
        search_term=_text(query, "search_term"),
        metadata={
            name.removeprefix("metadata[").removesuffix("]"): value
            for name, value in query.items()
            if name.startswith("metadata[") and name.endswith("]")
        },
    )
    if errors:
        raise Invalid(errors)
    return search


def _text(query: QueryParams, name: str) -> str | None:
    return (query.get(name) or "").replace("\0", "") or None


def _listing(call: Call, search: InvoiceSearch) -> dict[str, Any]:
    page = call.page()
    rows, total = invoice_search.invoices(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"invoices": render_invoices(call.conn, rows), "meta": page.meta(total)}


def render_invoices(conn: Connection[Any], rows: Sequence[StoredInvoice]) -> list[objects.Invoice]:
    """Invoices as lists show them."""
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    codes = issuers(conn, rows)
    return [render_invoice(row, payers[row.customer_id], issuer=codes[row.billing_entity_id]) for row in rows]


def issuers(conn: Connection[Any], rows: Sequence[StoredInvoice | CreditNote]) -> dict[UUID, str]:
    """The codes of the billing entities that issued these: that of a customer may be another one now."""
    found = billing_entities.by_ids(conn, {row.billing_entity_id for row in rows})
    return {entity.id: entity.code for entity in found.values()}


def show_invoice(call: Call) -> dict[str, Any]:
    """GET /invoices/{lago_id}."""
    return {"invoice": render_whole(call.conn, _invoice_of(call))}


def _invoice_of(call: Call) -> StoredInvoice:
    return single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def update_invoice(call: Call) -> dict[str, Any]:
    """PUT /invoices/{lago_id}: the payment status and the metadata; nothing else of an invoice changes."""
    invoice = _invoice_of(call)
    fields = Fields(call.root("invoice"))
    status = fields.choice("payment_status", objects.PAYMENT_STATUSES)
    metadata = _metadata(call, fields, invoice)
    fields.check()
    changed = payments.update(
        call.conn,
        invoice,
        payment_status=PaymentStatus(status) if status else None,
        metadata=metadata,
        now=call.now,
    )
    return {"invoice": render_whole(call.conn, changed)}


def refresh_invoice(call: Call) -> dict[str, Any]:
    """PUT /invoices/{lago_id}/refresh: a draft is priced again; any other invoice stays as it is."""
    return {"invoice": render_whole(call.conn, single.refresh(call.conn, _invoice_of(call), now=call.now))}


def finalize_invoice(call: Call) -> dict[str, Any]:
    """PUT /invoices/{lago_id}/finalize: a draft becomes final before its day."""
    return {"invoice": render_whole(call.conn, single.finalize(call.conn, _invoice_of(call), now=call.now))}


def void_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/void: with generate_credit_note, what was billed is credited or refunded."""
    invoice = _invoice_of(call)
    fields = Fields(call.body if isinstance(call.body, dict) else {})
    with_note = fields.flag("generate_credit_note")
    refund = fields.whole("refund_amount", minimum=0)
    credit = fields.whole("credit_amount", minimum=0)
    fields.check()
    parts = CreditSplit(credit_cents=credit or 0, refund_cents=refund or 0) if with_note else None
    return {"invoice": render_whole(call.conn, voiding.void(call.conn, invoice, parts=parts, now=call.now))}


def delete_invoice(call: Call) -> dict[str, Any]:
    """DELETE /invoices/{lago_id}: a draft, as it was."""
    invoice = _invoice_of(call)
    shown = render_whole(call.conn, invoice)
    single.delete(call.conn, invoice, now=call.now)
    return {"invoice": shown}


def lose_dispute(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/lose_dispute."""
    return {
        "invoice": render_whole(call.conn, voiding.lose_dispute(call.conn, _invoice_of(call), now=call.now))
    }


def retry_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/retry: always refused, as no invoice of ours fails: what cannot be billed is held."""
    _invoice_of(call)
    raise NotAllowed("invalid_status")


def _metadata(call: Call, fields: Fields, invoice: StoredInvoice) -> list[Mapping[str, Any]] | None:
    """The whole list: what has an id of before keeps it, what is not named is gone."""
    entries = fields.objects("metadata")
    if entries is None:
        return None
    if len(entries) > METADATA_MAX:
        fields.refuse("metadata", "invalid_count")
    known = {entry["lago_id"]: entry for entry in invoice.metadata}
    kept: list[Mapping[str, Any]] = []
    for entry in entries:
        before = known.get(str(entry.uuid("id")))
        key = entry.text("key", mandatory=True, limit=METADATA_KEY_MAX)
        value = entry.text("value", mandatory=True, limit=METADATA_VALUE_MAX)
        kept.append(
            {
                "lago_id": before["lago_id"] if before else str(new_id(call.now)),
                "key": key,
                "value": value,
                "created_at": before["created_at"] if before else instant(call.now),
            }
        )
    return kept


def download_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/download: where the PDF is; it is made when it is fetched."""
    invoice = _invoice_of(call)
    if invoice.status != InvoiceStatus.DRAFT:
        documents.announce(call.conn, call.organization.id, "invoice", invoice.id, now=call.now)
    return {"invoice": render_whole(call.conn, invoice, file_url=pdf_url(call, invoice))}


def pdf_url(call: Call, invoice: StoredInvoice) -> str:
    return f"{call.engine.config.base_url}/api/v1/invoices/{invoice.id}/pdf"


def invoice_pdf(call: Call) -> Raw:
    """GET /invoices/{lago_id}/pdf."""
    return render_pdf(call.engine, call.conn, call.organization, _invoice_of(call))


def render_pdf(
    engine: Engine, conn: Connection[Any], organization: Organization, invoice: StoredInvoice
) -> Raw:
    """The invoice as a document; it is typeset when the database is free for others again."""
    document = invoice_document(conn, invoice.id)
    printer = printer_of(engine, conn, organization, invoice.billing_entity_id)
    return pdf_answer(lambda: printer.invoice(invoice, document), invoice.number)


def render_whole_invoices(
    conn: Connection[Any], invoice_ids: Sequence[UUID]
) -> dict[UUID, objects.InvoiceDetails]:
    """Invoices with all that is on them, as webhooks carry them; those that there are."""
    return _wholes(conn, list(invoices.invoices_by_ids(conn, invoice_ids).values()))


def render_whole(
    conn: Connection[Any], invoice: StoredInvoice, *, file_url: str | None = None
) -> objects.InvoiceDetails:
    """The invoice with all that is on it."""
    return _wholes(conn, [invoice], file_url=file_url)[invoice.id]


def _wholes(
    conn: Connection[Any], found: Sequence[StoredInvoice], *, file_url: str | None = None
) -> dict[UUID, objects.InvoiceDetails]:
    ids = [invoice.id for invoice in found]
    fees, billed = fee_store.of_invoices(conn, ids), invoices.subscriptions_of(conn, ids)
    credits_ = balances.credits_of(conn, ids)
    applied = progressive.applied_on(conn, ids)
    around = surroundings(
        conn,
        [fee for own in fees.values() for fee in own],
        customer_ids=[invoice.customer_id for invoice in found],
        subscription_ids=[each.subscription_id for own in billed.values() for each in own],
    )
    codes = issuers(conn, found)
    return {
        invoice.id: render_with_lines(
            invoice,
            billed.get(invoice.id, []),
            fees[invoice.id],
            credits_[invoice.id],
            around,
            issuer=codes[invoice.billing_entity_id],
            applied=applied.get(invoice.id, ()),
            file_url=file_url,
        )
        for invoice in found
    }


def render_with_lines(
    invoice: StoredInvoice,
    billed: Sequence[InvoiceSubscription],
    fees: Sequence[StoredFee],
    credits_: Sequence[InvoiceCredit],
    around: Surroundings,
    *,
    issuer: str,
    applied: Sequence[AppliedThreshold] = (),
    file_url: str | None = None,
) -> objects.InvoiceDetails:
    """The invoice with all that is on it."""
    customer, rows = around.customers[invoice.customer_id], around.subscriptions
    shown = [rows[each.subscription_id] for each in billed]
    return objects.InvoiceDetails(
        **asdict(render_invoice(invoice, customer, issuer=issuer, file_url=file_url)),
        subscriptions=_subscriptions(invoice, shown, around),
        billing_periods=[_billing_period(each, rows[each.subscription_id]) for each in billed],
        fees=[render_fee(fee, around) for fee in fees],
        credits=[render_credit(each, invoice) for each in credits_],
        error_details=[],
        applied_usage_thresholds=[render_applied(each) for each in applied],
        applied_invoice_custom_sections=render_applied_sections(invoice),
    )


def render_credit(credit: InvoiceCredit, invoice: StoredInvoice) -> objects.InvoiceCredit:
    """A credit of an invoice."""
    return objects.InvoiceCredit(
        lago_id=credit.id,
        amount_cents=credit.amount_cents,
        amount_currency=invoice.currency,
        before_taxes=credit.kind in BEFORE_TAXES,
        item=objects.CreditItem(
            lago_item_id=credit.item_id,
            type=credit.kind,
            code=credit.code,
            name=credit.name,
            description=credit.description,
        ),
        invoice=objects.CreditedInvoice(lago_id=invoice.id, payment_status=invoice.payment_status),
    )


def _subscriptions(
    invoice: StoredInvoice, rows: Sequence[Subscription], around: Surroundings
) -> list[ShownSubscription]:
    named = sorted(rows, key=lambda row: (row.name or around.plans[row.plan_id].name, str(row.id)))
    return [
        render_subscription(row, around.payers[row.id], around.plans[row.plan_id], now=invoice.created_at)
        for row in named
    ]


def _billing_period(billed: InvoiceSubscription, subscription: Subscription) -> objects.BillingPeriod:
    charges_from, charges_to = instant(billed.charges_from_at), last_instant(billed.charges_to_at)
    if charges_from is None and billed.invoicing_reason == InvoicingReason.STARTING:
        # The invoice at a start has no usage yet: an empty window, as in Lago, whose clients expect one.
        charges_from = charges_to = instant(subscription.started_at)
    return objects.BillingPeriod(
        lago_subscription_id=billed.subscription_id,
        external_subscription_id=subscription.external_id,
        lago_plan_id=subscription.plan_id,
        subscription_from_datetime=instant(billed.from_at),
        subscription_to_datetime=last_instant(billed.to_at),
        charges_from_datetime=charges_from,
        charges_to_datetime=charges_to,
        fixed_charges_from_datetime=instant(billed.fixed_charges_from_at),
        fixed_charges_to_datetime=last_instant(billed.fixed_charges_to_at),
        invoicing_reason=billed.invoicing_reason,
    )


def render_invoice(
    invoice: StoredInvoice, customer: Customer, *, issuer: str, file_url: str | None = None
) -> objects.Invoice:
    """The invoice as lists show it: with its customer and metadata, without its fees."""
    return objects.Invoice(
        lago_id=invoice.id,
        billing_entity_code=issuer,
        sequential_id=invoice.sequential_id,
        number=invoice.number,
        purchase_order_number=invoice.purchase_order_number,
        issuing_date=invoice.issuing_date,
        payment_due_date=invoice.payment_due_date,
        net_payment_term=invoice.net_payment_term,
        invoice_type=invoice.invoice_type,
        status=invoice.status,
        waits_for_price=invoice.waits_for_price,
        payment_status=invoice.payment_status,
        payment_dispute_lost_at=instant(invoice.payment_dispute_lost_at),
        payment_overdue=invoice.payment_overdue,
        currency=invoice.currency,
        fees_amount_cents=invoice.fees_amount_cents,
        taxes_amount_cents=invoice.taxes_amount_cents,
        progressive_billing_credit_amount_cents=invoice.progressive_billing_credit_amount_cents,
        coupons_amount_cents=invoice.coupons_amount_cents,
        credit_notes_amount_cents=invoice.credit_notes_amount_cents,
        sub_total_excluding_taxes_amount_cents=invoice.sub_total_excluding_taxes_amount_cents,
        sub_total_including_taxes_amount_cents=invoice.sub_total_including_taxes_amount_cents,
        total_amount_cents=invoice.total_amount_cents,
        total_due_amount_cents=invoice.due_amount_cents,
        total_paid_amount_cents=invoice.total_paid_amount_cents,
        total_offsetted_credit_note_amount_cents=invoice.offset_amount_cents,
        prepaid_credit_amount_cents=invoice.prepaid_credit_amount_cents,
        prepaid_granted_credit_amount_cents=invoice.prepaid_granted_credit_amount_cents,
        prepaid_purchased_credit_amount_cents=invoice.prepaid_purchased_credit_amount_cents,
        file_url=file_url,
        xml_url=None,
        web_url=None,
        version_number=VERSION,
        self_billed=customer.is_self_billed,
        created_at=instant(invoice.created_at),
        updated_at=instant(invoice.updated_at),
        voided_at=instant(invoice.voided_at),
        lago_voided_invoice_id=invoice.voided_invoice_id,
        customer=render_customer(customer),
        metadata=[objects.InvoiceMetadata(**entry) for entry in invoice.metadata],
        applied_taxes=render_invoice_taxes(invoice),
    )
