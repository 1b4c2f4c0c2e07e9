"""The price catalogue's versions: what a price file would change, and its approval."""

from __future__ import annotations

from datetime import date
from pathlib import PurePath
from typing import Any

from permille.api.catalogue_versions import (
    read_approval,
    read_date,
    read_import,
    render_change,
    render_correction,
    render_version,
)
from permille.api.validation import MANDATORY, Fields, parse_uuid
from permille.core.llm.catalogue import outlier
from permille.core.llm.catalogue.sources import SOURCES
from permille.store import catalogue_versions as store, customers
from permille.store.catalogue_versions import CatalogueVersion
from permille.store.price_files import PriceFile
from permille.usecases import organizations, price_catalogue, price_corrections
from permille.web.multipart import UploadedFile
from permille.web.visit import Done, HtmlPage, Visit

LISTING = "/app/catalogue-versions"
FILE = "prices"
NO_FILE = UploadedFile("", b"")


def listing(visit: Visit) -> HtmlPage:
    """GET /app/catalogue-versions."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    context = {
        "versions": [render_version(each) for each in found],
        "meta": page.meta(total),
        "sources": [(each.name, f"{each.name}: {each.file_name}") for each in SOURCES.values()],
    }
    return HtmlPage(template="catalogue_versions.html", context=context)


def import_file(visit: Visit) -> Done:
    """POST /app/catalogue-versions: a pending version of the file that was chosen."""
    file = visit.form.files.get(FILE, NO_FILE)
    label = visit.form.get("label") or PurePath(file.name).stem
    fields = Fields({"label": label, "source": visit.form.get("source")})
    if not file.content:
        fields.refuse(FILE, MANDATORY)
    given = read_import(fields)
    made = price_catalogue.import_file(
        visit.conn,
        visit.here.id,
        PriceFile(given.source, file.content),
        label=given.label,
        who=_who(visit),
        now=visit.now,
    )
    said = "imported" if made.approval is None else "approved"
    return Done(
        action="imported catalogue version",
        subject=made.label,
        to=f"{_address(made)}?said={said}",
        details={"source": made.source},
    )


def detail(visit: Visit) -> HtmlPage:
    """GET /app/catalogue-versions/{lago_id}: what it changes on a date, or what final invoices would come to by it."""
    version = _named(visit)
    shown = _pending(visit, version) if version.approval is None else _approved(visit, version)
    context = {
        "version": render_version(version),
        "left_out": price_catalogue.unread_of(visit.conn, version),
        **shown,
    }
    return HtmlPage(template="catalogue_version.html", context=context)


def _pending(visit: Visit, version: CatalogueVersion) -> dict[str, Any]:
    """What it changes on the date from which on it is to hold."""
    page, on = visit.page(), _on(visit)
    found = price_catalogue.changes_of(visit.conn, version, on=on)
    return {
        "on": on.isoformat(),
        "changes": [render_change(each) for each in found[page.offset : page.offset + page.per_page]],
        "outliers": outlier.models(found),
        "accepted": set(visit.form.all("accept_outliers")),
        "meta": page.meta(len(found)),
    }


def _approved(visit: Visit, version: CatalogueVersion) -> dict[str, Any]:
    """What final invoices would come to by it."""
    page = visit.page()
    found, total = price_corrections.listing(visit.conn, version, limit=page.per_page, offset=page.offset)
    payers = customers.by_ids(visit.conn, {each.invoice.customer_id for each in found})
    return {
        "corrections": [
            (render_correction(each), payers[each.invoice.customer_id].external_id) for each in found
        ],
        "meta": page.meta(total),
    }


def credit(visit: Visit) -> Done:
    """POST /app/credit-corrections/{lago_id}: of one invoice, or of all."""
    version, chosen = _named(visit), visit.form.get("invoice")
    if chosen:
        notes = [price_corrections.credit(visit.conn, version, parse_uuid(chosen), now=visit.now)]
    else:
        notes = price_corrections.credit_all(visit.conn, version, now=visit.now)
    return Done(
        action="credited corrected prices",
        subject=version.label,
        to=f"{_address(version)}?said=credited",
        details={"credit_notes": [each.number for each in notes]},
    )


def approve(visit: Visit) -> Done:
    """POST /app/catalogue-versions/{lago_id}."""
    accepted = visit.form.all("accept_outliers")
    given = read_approval(Fields({"valid_from": visit.form.get("valid_from"), "accept_outliers": accepted}))
    made = price_catalogue.approve(
        visit.conn,
        visit.here.id,
        _named(visit).id,
        accept_outliers=given.accept_outliers,
        valid_from=given.valid_from,
        who=_who(visit),
        now=visit.now,
    )
    return Done(
        action="approved catalogue version",
        subject=made.label,
        to=f"{_address(made)}?said=approved",
        details={"valid_from": str(made.valid_from), "accepted_outliers": list(made.accepted_outliers)},
    )


def auto_approve(visit: Visit) -> Done:
    """POST /app/auto-approve-prices: whether versions without outliers are approved as they come in."""
    is_on = visit.form.get("on") == "yes"
    organizations.auto_approve_prices(visit.conn, visit.here, is_on=is_on)
    action = "let prices be approved by themselves in" if is_on else "let prices wait for approval in"
    return Done(action=action, subject=visit.here.name, to=f"{LISTING}?said=saved")


def delete(visit: Visit) -> Done:
    """POST /app/delete-catalogue-version/{lago_id}."""
    gone = price_catalogue.withdraw(visit.conn, visit.here.id, _named(visit).id)
    return Done(action="deleted catalogue version", subject=gone.label, to=f"{LISTING}?said=deleted")


def _named(visit: Visit) -> CatalogueVersion:
    return price_catalogue.by_id(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def _address(version: CatalogueVersion) -> str:
    return f"{LISTING}/{version.id}"


def _on(visit: Visit) -> date:
    """The date that was typed, else today; one that is none is refused when the form is sent."""
    text = visit.form.get("valid_from") or visit.query.get("on", "")
    return read_date(Fields({"on": text}), "on") or visit.now.date()


def _who(visit: Visit) -> str:
    return visit.session.user.email
