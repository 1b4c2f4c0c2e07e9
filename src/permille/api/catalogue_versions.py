"""Versions of the price catalogue: imported, compared, approved or withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import msgspec

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import INVALID, MANDATORY, Fields, parse_uuid
from permille.core.llm.catalogue.diff import PriceChange
from permille.core.llm.catalogue.outlier import is_outlier
from permille.core.llm.catalogue.rows import Rate
from permille.core.llm.catalogue.sources import DEFAULT, SOURCES
from permille.core.money import decimal_text, exact
from permille.store import catalogue_versions as store
from permille.store.catalogue_versions import CatalogueVersion
from permille.store.credit_notes import CreditNote
from permille.store.price_files import PriceFile
from permille.usecases import price_catalogue, price_corrections
from permille.usecases.price_corrections import InvoiceCorrection

MODELS_NAMED_MAX = 10_000
_SHARE = Decimal("0.0001")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def import_version(call: Call) -> dict[str, Any]:
    """POST /llm/catalogue_versions: the version is pending."""
    fields = Fields(call.root("catalogue_version"))
    prices = fields.given.get("prices")
    if not isinstance(prices, list | dict) or not prices:
        fields.refuse("prices", MANDATORY if prices in (None, [], {}) else INVALID)
    given = read_import(fields)
    made = price_catalogue.import_file(
        call.conn,
        call.organization.id,
        PriceFile(given.source, _encode(prices)),
        label=given.label,
        who=_who(call),
        now=call.now,
    )
    return {"catalogue_version": render_version(made)}


class Import(NamedTuple):
    """What is said about a price file: what the version is called, and whose file it is."""

    label: str
    source: str


def read_import(fields: Fields) -> Import:
    """What is said about a price file. Raises Invalid, with what was refused of the fields before."""
    label = fields.text("label", mandatory=True) or ""
    source = fields.text("source") or DEFAULT
    if source not in SOURCES:
        fields.refuse("source", INVALID, allowed=SOURCES)
    fields.check()
    return Import(label, source)


def list_versions(call: Call) -> dict[str, Any]:
    """GET /llm/catalogue_versions."""
    page = call.page()
    found, total = store.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"catalogue_versions": [render_version(each) for each in found], "meta": page.meta(total)}


def show_version(call: Call) -> dict[str, Any]:
    """GET /llm/catalogue_versions/{lago_id}."""
    found = price_catalogue.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return {"catalogue_version": render_version(found)}


def list_changes(call: Call) -> dict[str, Any]:
    """GET /llm/catalogue_versions/{lago_id}/changes: of the prices of a date, outliers first."""
    page = call.page()
    version = price_catalogue.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    fields = Fields(dict(call.query))
    on = read_date(fields, "on") or call.now.date()
    fields.check()
    found = price_catalogue.changes_of(call.conn, version, on=on)
    shown = found[page.offset : page.offset + page.per_page]
    return {"changes": [render_change(each) for each in shown], "meta": page.meta(len(found))}


def list_unread(call: Call) -> dict[str, Any]:
    """GET /llm/catalogue_versions/{lago_id}/unread_prices: what its file says that is not understood."""
    page = call.page()
    version = price_catalogue.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    found = price_catalogue.unread_of(call.conn, version)
    shown = found[page.offset : page.offset + page.per_page]
    return {
        "unread_prices": [objects.UnreadPrices(**each._asdict()) for each in shown],
        "meta": page.meta(len(found)),
    }


def approve_version(call: Call) -> dict[str, Any]:
    """POST /llm/catalogue_versions/{lago_id}/approve."""
    given = read_approval(Fields(call.optional_root("catalogue_version")))
    approved = price_catalogue.approve(
        call.conn,
        call.organization.id,
        parse_uuid(call.path["lago_id"]),
        accept_outliers=given.accept_outliers,
        valid_from=given.valid_from,
        who=_who(call),
        now=call.now,
    )
    return {"catalogue_version": render_version(approved)}


def list_corrections(call: Call) -> dict[str, Any]:
    """GET /llm/catalogue_versions/{lago_id}/corrections."""
    page = call.page()
    version = price_catalogue.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    found, total = price_corrections.listing(call.conn, version, limit=page.per_page, offset=page.offset)
    return {"corrections": [render_correction(each) for each in found], "meta": page.meta(total)}


def credit_corrections(call: Call) -> dict[str, Any]:
    """POST /llm/catalogue_versions/{lago_id}/corrections/credit: of one invoice, or of all, as it says."""
    version = price_catalogue.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    fields = Fields(call.root("correction"))
    invoice_id, of_all = fields.text("invoice_id"), fields.flag("all")
    if not invoice_id and not of_all:
        fields.refuse("invoice_id", MANDATORY)
    if invoice_id and of_all:
        fields.refuse("all", INVALID)
    fields.check()
    if not invoice_id:
        notes = price_corrections.credit_all(call.conn, version, now=call.now)
    else:
        notes = [price_corrections.credit(call.conn, version, parse_uuid(invoice_id), now=call.now)]
    return {"credit_notes": [_render_note(each) for each in notes]}


class Approval(NamedTuple):
    """From which UTC date on a version holds, None: today, and the models whose outliers are accepted."""

    valid_from: date | None
    accept_outliers: Sequence[str]


def read_approval(fields: Fields) -> Approval:
    """How a version is approved. Raises Invalid."""
    valid_from = read_date(fields, "valid_from")
    accepted = fields.texts("accept_outliers", limit=MODELS_NAMED_MAX) or []
    fields.check()
    return Approval(valid_from, accepted)


def withdraw_version(call: Call) -> dict[str, Any]:
    """DELETE /llm/catalogue_versions/{lago_id}, while it is pending."""
    gone = price_catalogue.withdraw(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    return {"catalogue_version": render_version(gone)}


def read_date(fields: Fields, name: str) -> date | None:
    """A UTC date, None where none is said."""
    text = fields.text(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        fields.refuse(name, "invalid_date")
        return None


def _who(call: Call) -> str:
    return f"API key {call.key_id}"


def render_version(version: CatalogueVersion) -> objects.CatalogueVersion:
    """A version as it is answered."""
    return objects.CatalogueVersion(
        lago_id=version.id,
        label=version.label,
        source=version.source,
        status="pending" if version.approval is None else "approved",
        digest=version.digest.hex(),
        imported_by=version.imported_by,
        approved_by=version.approved_by,
        approved_at=None if version.approved_at is None else instant(version.approved_at),
        valid_from=None if version.valid_from is None else version.valid_from.isoformat(),
        accepted_outliers=list(version.accepted_outliers),
        created_at=instant(version.created_at),
    )


def render_correction(found: InvoiceCorrection) -> objects.PriceCorrection:
    """A correction as it is answered."""
    invoice, correction = found.invoice, found.correction
    is_said = correction.is_priced
    return objects.PriceCorrection(
        lago_invoice_id=invoice.id,
        invoice_number=invoice.number,
        lago_customer_id=invoice.customer_id,
        currency=invoice.currency,
        billed_amount_cents=correction.billed_cents,
        corrected_amount_cents=correction.corrected_cents if is_said else None,
        credited_amount_cents=correction.credited_cents,
        difference_amount_cents=correction.difference_cents if is_said else None,
        creditable_amount_cents=sum(correction.items.values()),
        status=correction.status,
        problem=correction.problem,
    )


def _render_note(note: CreditNote) -> objects.CorrectionNote:
    return objects.CorrectionNote(
        lago_credit_note_id=note.id,
        number=note.number,
        lago_invoice_id=note.invoice_id,
        total_amount_cents=note.total_amount_cents,
        currency=note.currency,
    )


def render_change(change: PriceChange) -> objects.PriceChange:
    """A change as it is answered."""
    of = change.of
    return objects.PriceChange(
        provider=of.provider,
        model=of.model,
        price_of=of.text,
        before=_amount(change.before),
        before_per=None if change.before is None else change.before.per,
        after=_amount(change.after),
        after_per=None if change.after is None else change.after.per,
        share=_share(change.share),
        is_outlier=is_outlier(change),
    )


def _amount(rate: Rate | None) -> str | None:
    return None if rate is None else decimal_text(rate.amount)


def _share(share: Decimal | None) -> str | None:
    if share is None:
        return None
    with exact():
        return decimal_text(share.quantize(_SHARE, ROUND_HALF_UP))
