"""Invoices: the list with its filters and its CSV, one with its lines, the PDF, and what is done with drafts."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec.structs import asdict

from permille.api import explanations, fees, invoices as api
from permille.api.http import PER_PAGE_MAX, Call, Raw
from permille.api.objects.fee import Fee
from permille.api.objects.invoice import Invoice
from permille.core.errors import Invalid
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.rating.models.price import is_average
from permille.out.pdf import fonts
from permille.out.pdf.assembly import invoice_document
from permille.store import billing_entities, customers, invoices as invoice_store, logos
from permille.store.logos import StoredLogo
from permille.web.visit import PER_PAGE, Done, Page, Visit

FILTERS = (
    "search_term",
    "status",
    "payment_status",
    "issuing_date_from",
    "issuing_date_to",
    "external_customer_id",
)
STATUSES = ("draft", "finalized", "voided")
PAYMENT_STATUSES = ("pending", "succeeded", "failed")
CSV_PAGES_MAX = 100
COLUMNS = ("number", "issuing_date", "payment_due_date", "status", "payment_status", "currency")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _filters(visit: Visit) -> dict[str, str]:
    return {name: visit.query[name] for name in FILTERS if visit.query.get(name)}


def listing(visit: Visit) -> Page:
    """GET /app/invoices."""
    filters = _filters(visit)
    found = api.list_invoices(visit.call(query=visit.page_query(**filters)))
    context = {
        "invoices": found["invoices"],
        "meta": found["meta"],
        "filters": filters,
        "statuses": STATUSES,
        "payment_statuses": PAYMENT_STATUSES,
    }
    return Page(template="invoices.html", context=context)


def as_csv(visit: Visit) -> Raw:
    """GET /app/invoices.csv: the whole list with the same filters, amounts in major units."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, "customer_id", "customer_name", "total", "paid", "due", "lago_id"])
    for number in range(1, CSV_PAGES_MAX + 1):
        query = {**_filters(visit), "page": str(number), "per_page": str(PER_PAGE_MAX)}
        found = api.list_invoices(visit.call(query=query))
        writer.writerows(_row(invoice) for invoice in found["invoices"])
        if found["meta"].next_page is None:
            break
    headers = {"content-disposition": 'attachment; filename="invoices.csv"'}
    return Raw(content=out.getvalue().encode(), media_type="text/csv; charset=utf-8", headers=headers)


def _row(invoice: Invoice) -> list[str]:
    unit = subunits(invoice.currency)
    with exact():
        amounts = [
            f"{Decimal(getattr(invoice, name)) / unit:.{CURRENCIES[invoice.currency]}f}"
            for name in ("total_amount_cents", "total_paid_amount_cents", "total_due_amount_cents")
        ]
    customer = invoice.customer
    texts = [customer.external_id, customer.name or ""]
    return [
        *(str(getattr(invoice, name)) for name in COLUMNS),
        *(_harmless(text) for text in texts),
        *amounts,
        str(invoice.lago_id),
    ]


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def detail(visit: Visit) -> Page:
    """GET /app/invoices/{lago_id}."""
    invoice = api.show_invoice(visit.call(path=visit.path))["invoice"]
    context = {
        "invoice": invoice,
        "groups": _groups(invoice.fees),
        "logo": _logo_problem(visit, invoice),
        "boxes": _boxes(visit, invoice.lago_id),
    }
    return Page(template="invoice.html", context=context)


def refresh(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/refresh."""
    return _done_with_draft(visit, api.refresh_invoice, "refreshed")


def finalize(visit: Visit) -> Done:
    """POST /app/invoices/{lago_id}/finalize."""
    return _done_with_draft(visit, api.finalize_invoice, "finalized")


def _done_with_draft(visit: Visit, change: Callable[[Call], dict[str, Any]], what: str) -> Done:
    """Change the invoice of the address. Raises Invalid when it is no draft."""
    before = api.show_invoice(visit.call(path=visit.path))["invoice"]
    if before.status != "draft":
        raise Invalid({"base": ["invoice_is_no_draft"]})
    after = change(visit.call(path=visit.path))["invoice"]
    names = ("number", "total_amount_cents", "currency")
    return Done(
        action=f"{what} invoice",
        subject=str(after.lago_id),
        to=f"/app/invoices/{after.lago_id}?said={what}",
        details={name: getattr(after, name) for name in names},
    )


def _boxes(visit: Visit, invoice_id: UUID) -> str:
    """The characters that the PDF may print as boxes, with their names."""
    document = invoice_document(visit.conn, invoice_id)
    return fonts.described(fonts.unprintable("".join(document.texts)))


def _logo_problem(visit: Visit, invoice: Invoice) -> StoredLogo | None:
    """The logo that could not be fetched for this invoice's PDF when it was last tried."""
    invoice_id = invoice.lago_id
    assert invoice_id is not None, "it is stored"
    entity_id = invoice_store.invoices_by_ids(visit.conn, [invoice_id])[invoice_id].billing_entity_id
    url = billing_entities.by_ids(visit.conn, [entity_id])[entity_id].logo_url
    kept = logos.of_entity(visit.conn, entity_id, url) if url else None
    return kept if kept is not None and kept.problem is not None else None


def _groups(fees: Sequence[Fee]) -> list[dict[str, Any]]:
    """The lines by subscription and item, in the invoice's order, without the fee of a plan that has none."""
    groups: dict[tuple[Any, Any], dict[str, Any]] = {}
    for fee in fees:
        if fee.item.type == "subscription" and not fee.amount_cents:
            continue
        key = (fee.lago_subscription_id, fee.item.lago_item_id)
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


def fee(visit: Visit) -> Page:
    """GET /app/fees/{lago_id}: where a line of an invoice comes from."""
    query = {"per_page": PER_PAGE, **({"cursor": visit.query["cursor"]} if visit.query.get("cursor") else {})}
    call = visit.call(path=visit.path, query=query)
    shown = fees.show_fee(call)["fee"]
    customer_id = shown.lago_customer_id
    customer = customers.by_ids(visit.conn, [customer_id])[customer_id]
    found = explanations.explain_fee(call)["fee_explanation"]
    return Page(template="fee.html", context={"fee": shown, "found": found, "customer": customer})


def pdf(visit: Visit) -> Raw:
    """GET /app/invoices/{lago_id}/pdf."""
    found = api.invoice_pdf(visit.call(path=visit.path))
    assert isinstance(found, Raw), "a PDF is no JSON"
    return found
