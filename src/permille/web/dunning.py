"""Dunning campaigns: the list, and one to make, to change or to delete."""

from __future__ import annotations

from typing import Any

from permille.api.dunning_campaigns import read_campaign_columns
from permille.api.validation import Fields
from permille.core.invoice.dunning import DunningCampaign
from permille.store import dunning as store
from permille.usecases import dunning
from permille.web import price_grid
from permille.web.charge_form import amount_text, to_cents
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/dunning"


def listing(visit: Visit) -> HtmlPage:
    """GET /app/dunning."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    return HtmlPage(template="dunning.html", context={"campaigns": found, "meta": page.meta(total)})


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-dunning-campaign."""
    return _form(visit, None)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-dunning-campaign/{code}."""
    return _form(visit, dunning.by_code(visit.conn, visit.here.id, visit.path["code"]))


def _form(visit: Visit, known: DunningCampaign | None) -> HtmlPage:
    lines = (
        [f"{each} {amount_text(cents, each)}" for each, cents in known.thresholds.items()] if known else []
    )
    problems = price_grid.beside(visit.problems, {"currency": "thresholds", "amount_cents": "thresholds"})
    context = {"before": known, "thresholds": "\n".join(lines), "problems": problems}
    return HtmlPage(template="dunning_form.html", context=context)


def _body(form: Form) -> dict[str, Any]:
    lines = [line.split(maxsplit=1) for line in form.get("thresholds").splitlines() if line.strip()]
    return {
        "name": form.get("name"),
        "description": form.get("description") or None,
        "days_between_attempts": form.get("days_between_attempts"),
        "max_attempts": form.get("max_attempts"),
        "bcc_emails": [each.strip() for each in form.get("bcc_emails").split(",") if each.strip()],
        "thresholds": [
            {"currency": words[0].upper(), "amount_cents": to_cents(words[-1], words[0].upper())}
            for words in lines
        ],
    }


def create(visit: Visit) -> Done:
    """POST /app/new-dunning-campaign."""
    fields = Fields({**_body(visit.form), "code": visit.form.get("code")})
    code = fields.text("code", mandatory=True)
    columns = read_campaign_columns(fields, is_new=True)
    made = dunning.add(visit.conn, visit.here.id, {**columns, "code": code}, now=visit.now)
    return Done(action="created dunning campaign", subject=made.code, to=f"{LISTING}?said=created")


def update(visit: Visit) -> Done:
    """POST /app/edit-dunning-campaign/{code}."""
    known = dunning.by_code(visit.conn, visit.here.id, visit.path["code"])
    columns = read_campaign_columns(Fields(_body(visit.form)), is_new=True)
    dunning.change(visit.conn, known, columns, now=visit.now)
    return Done(action="changed dunning campaign", subject=known.code, to=f"{LISTING}?said=saved")


def delete(visit: Visit) -> Done:
    """POST /app/delete-dunning-campaign/{code}."""
    gone = dunning.by_code(visit.conn, visit.here.id, visit.path["code"])
    dunning.remove(visit.conn, gone, now=visit.now)
    return Done(action="deleted dunning campaign", subject=gone.code, to=f"{LISTING}?said=deleted")
