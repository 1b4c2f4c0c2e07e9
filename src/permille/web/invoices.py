"""Invoices: the list with its filters and its CSV, one with its lines, the PDF, and what is done with drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec.structs import asdict

from permille.api import http
from permille.api.csv_file import ROWS_MAX, csv_file, left_out
from permille.api.explanations import read_cursor, render_explanation
from permille.api.fees import render_fee, surroundings
from permille.api.invoices import read_search, render_invoices, render_pdf, render_whole
from permille.api.objects.fee import Fee
from permille.api.objects.invoice import Invoice
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import Invalid
from permille.core.invoice.crediting import CreditSplit
from permille.core.invoice.draft import InvoiceStatus
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.rating.models.price import is_average
from permille.out.pdf import fonts
from permille.out.pdf.assembly import invoice_document
from permille.store import billing_entities, credit_notes, customers, invoice_search, invoices, logos
from permille.store.invoices import StoredInvoice
from permille.store.logos import StoredLogo
from permille.usecases import voiding
from permille.usecases.invoices import single
from permille.usecases.invoices.explanation import explain
from permille.web.charge_form import to_cents
from permille.web.visit import PER_PAGE, Done, HtmlPage, Visit

FILTERS = (
    "search_term",
    "status",
    "payment_status",
    "payment_overdue",
    "issuing_date_from",
    "issuing_date_to",
    "external_customer_id",
)
STATUSES = ("draft", "finalized", "voided")
PAYMENT_STATUSES = ("pending", "succeeded", "failed")
COLUMNS = ("number", "issuing_date", "payment_due_date", "status", "payment_status", "currency")


def _found(visit: Visit, page: http.Page) -> tuple[list[Invoice], int]:
    """A page of the invoices that fit the filters in the address, and how many fit."""
    search = read_search(visit.query)
    rows, total = invoice_search.invoices(
        visit.conn, visit.here.id, search, limit=page.per_page, offset=page.offset
    )
    return render_invoices(visit.conn, rows), total


def listing(visit: Visit) -> HtmlPage:
    """GET /app/invoices."""
    page = visit.page()
    found, total = _found(visit, page)
    context = {
        "invoices": found,
        "meta": page.meta(total),
        "filters": {name: visit.query[name] for name in FILTERS if visit.query.get(name)},
        "statuses": STATUSES,
        "payment_statuses": PAYMENT_STATUSES,
        "csv_max": ROWS_MAX,
    }
    return HtmlPage(template="invoices.html", context=context)


def as_csv(visit: Visit) -> http.Raw:
    """GET /app/invoices.csv: the list with the same filters, amounts in major units; its last row says what was left out."""
    columns = [*COLUMNS, "customer_id", "customer_name", "total", "paid", "due", "lago_id"]
    return csv_file("invoices.csv", columns, _rows(visit))


def _rows(visit: Visit) -> Iterator[list[str | Decimal]]:
    for number in range(1, ROWS_MAX // http.PER_PAGE_MAX + 1):
        page = http.Page(number=number, per_page=http.PER_PAGE_MAX)
        found, total = _found(visit, page)
        yield from map(_row, found)
        if page.meta(total).next_page is None:
            return
    yield [left_out(ROWS_MAX, "invoices")]


def _row(invoice: Invoice) -> list[str | Decimal]:
    unit = subunits(invoice.currency)
    places = Decimal(1).scaleb(-CURRENCIES[invoice.currency])
    with exact():
        amounts = [
            (Decimal(getattr(invoice, name)) / unit).quantize(places)
            for name in ("total_amount_cents", "total_paid_amount_cents", "total_due_amount_cents")
        ]
    customer = invoice.customer
    return [
        *(str(getattr(invoice, name)) for name in COLUMNS),
        customer.external_id,
        customer.name or "",
        *amounts,
        str(invoice.lago_id),
    ]


def detail(visit: Visit) -> HtmlPage:
    """GET /app/invoices/{lago_id}."""
    row = _named(visit)
    invoice = render_whole(visit.conn, row)
    context = {
        "invoice": invoice,
        "groups": _groups(invoice.fees),
        "issuer": billing_entities.by_ids(visit.conn, [row.billing_entity_id])[row.billing_entity_id].name,
        "logo": _logo_problem(visit, row),
        "boxes": _boxes(visit, row.id),
        "replaces": _linked(visit, row.voided_invoice_id),
        "replaced_by": _linked(visit, invoices.replacement_of(visit.conn, row.id)),
        "notes": credit_notes.of_invoice(visit.conn, row.id),
    }
    return HtmlPage(template="invoice.html", context=context)


def _linked(visit: Visit, invoice_id: UUID | None) -> StoredInvoice | None:
    return invoices.invoices_by_ids(visit.conn, [invoice_id])[invoice_id] if invoice_id else None


def _named(visit: Visit) -> StoredInvoice:
    return single.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def refresh(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/refresh."""
    return _done_with_draft(visit, single.refresh, "refreshed")


def finalize(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/finalize."""
    return _done_with_draft(visit, single.finalize, "finalized")


def void(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/void."""
    before = _named(visit)
    fields = Fields(
        {name: to_cents(visit.form.get(name) or "0", before.currency) for name in ("credit", "refund")}
    )
    parts = CreditSplit(
        credit_cents=fields.whole("credit", minimum=0) or 0,
        refund_cents=fields.whole("refund", minimum=0) or 0,
    )
    fields.check()
    with_note = visit.form.get("choice") == "note"
    after = voiding.void(visit.conn, before, parts=parts if with_note else None, now=visit.now)
    return Done(
        action="voided invoice",
        subject=after.number,
        to=f"/app/invoices/{after.id}?said=saved",
        details={"credit_cents": parts.credit_cents, "refund_cents": parts.refund_cents} if with_note else {},
    )


def _done_with_draft(visit: Visit, change: Callable[..., StoredInvoice], what: str) -> Done:
    """Change the invoice of the address. Raises Invalid when it is no draft."""
    before = _named(visit)
    if before.status is not InvoiceStatus.DRAFT:
        raise Invalid({"base": ["invoice_is_no_draft"]})
    after = change(visit.conn, before, now=visit.now)
    names = ("number", "total_amount_cents", "currency")
    return Done(
        action=f"{what} invoice",
        subject=str(after.id),
        to=f"/app/invoices/{after.id}?said={what}",
        details={name: getattr(after, name) for name in names},
    )


def _boxes(visit: Visit, invoice_id: UUID) -> str:
    """The characters that the PDF may print as boxes, with their names."""
    document = invoice_document(visit.conn, invoice_id)
    return fonts.described(fonts.unprintable("".join(document.texts)))


def _logo_problem(visit: Visit, invoice: StoredInvoice) -> StoredLogo | None:
    """The logo that could not be fetched for this invoice's PDF when it was last tried."""
    entity_id = invoice.billing_entity_id
    url = billing_entities.by_ids(visit.conn, [entity_id])[entity_id].logo_url
    kept = logos.of_entity(visit.conn, entity_id, url) if url else None
    return kept if kept is not None and kept.problem is not None else None


def _groups(fees: Sequence[Fee]) -> list[dict[str, Any]]:
    """The lines by subscription and item, in the invoice's order, without the fee of a plan that has none."""
    groups: dict[tuple[Any, Any, Any], dict[str, Any]] = {}
    for fee in fees:
        if fee.item.type == "subscription" and not fee.amount_cents:
            continue
        key = (fee.lago_subscription_id, fee.item.type, fee.item.lago_item_id)
        group = groups.setdefault(key, {"name": fee.item.invoice_display_name, "fees": [], "cents": 0})
        group["subscription"] = fee.external_subscription_id
        group["fees"].append({**asdict(fee), "is_average": _is_average(fee)})
        group["has_filters"] = group.get("has_filters", False) or bool(fee.lago_charge_filter_id)
        group["cents"] += fee.amount_cents
    return list(groups.values())


def _is_average(fee: Fee) -> bool:
    """Whether the price of a unit is none of the plan's, but what the units came to on average."""
    return fee.item.type == "charge" and is_average(
        units=Decimal(fee.units),
        unit_amount=Decimal(fee.precise_unit_amount),
        amount=Decimal(fee.precise_amount),
        details=fee.amount_details,
    )


def fee(visit: Visit) -> HtmlPage:
    """GET /app/fees/{lago_id}: where a line of an invoice comes from."""
    found = single.fee_by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))
    explained = explain(visit.conn, found, after=read_cursor(visit.query), limit=PER_PAGE)
    context = {
        "fee": render_fee(found, surroundings(visit.conn, [found])),
        "found": render_explanation(visit.conn, found, explained),
        "customer": customers.by_ids(visit.conn, [found.customer_id])[found.customer_id],
    }
    return HtmlPage(template="fee.html", context=context)


def pdf(visit: Visit) -> http.Raw:
    """GET /app/invoices/{lago_id}/pdf."""
    return render_pdf(visit.engine, visit.conn, visit.here, _named(visit))
