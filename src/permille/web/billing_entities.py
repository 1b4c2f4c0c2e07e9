"""Billing entities: the list, and one to make or to change. Settings has what else there is of the default one."""

from __future__ import annotations

from typing import Any

from permille.api.billing_entities import read_entity
from permille.api.validation import Fields
from permille.core.customer import BillingEntity
from permille.store import billing_entities, dunning
from permille.usecases.catalogue import billing_entities as catalogue
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/billing-entities"
CAMPAIGNS_MAX = 200
TEXTS = ("name", "document_numbering", "document_number_prefix", "timezone")


def listing(visit: Visit) -> HtmlPage:
    """GET /app/billing-entities."""
    found = billing_entities.all_of(visit.conn, visit.here.id)
    return HtmlPage(template="billing_entities.html", context={"entities": found})


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-billing-entity."""
    return _form(visit, None)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-billing-entity/{code}."""
    return _form(visit, catalogue.by_code(visit.conn, visit.here.id, visit.path["code"]))


def _form(visit: Visit, known: BillingEntity | None) -> HtmlPage:
    campaigns, _ = dunning.listing(visit.conn, visit.here.id, limit=CAMPAIGNS_MAX, offset=0)
    own = known.dunning_campaign_id if known else None
    context = {
        "before": known,
        "campaigns": [("", "None"), *((one.code, one.name) for one in campaigns)],
        "campaign": next((one.code for one in campaigns if one.id == own), ""),
        "numberings": [("per_customer", "For each customer"), ("per_billing_entity", "For the entity")],
    }
    return HtmlPage(template="billing_entity_form.html", context=context)


def _body(form: Form) -> dict[str, Any]:
    return {
        **{name: form.get(name) for name in TEXTS if form.get(name)},
        "name": form.get("name"),
        **({"brand_color": form.get("brand_color") or None} if form.has("brand_color") else {}),
        "net_payment_term": form.get("net_payment_term") or None,
        "dunning_campaign_code": form.get("dunning_campaign_code") or None,
    }


def create(visit: Visit) -> Done:
    """POST /app/new-billing-entity."""
    fields = Fields({**_body(visit.form), "code": visit.form.get("code")})
    code = fields.text("code", mandatory=True)
    settings = read_entity(visit.conn, visit.here.id, fields)
    made = catalogue.add(visit.conn, visit.here.id, settings={**settings, "code": code}, now=visit.now)
    return Done(action="created billing entity", subject=made.code, to=f"{LISTING}?said=created")


def update(visit: Visit) -> Done:
    """POST /app/edit-billing-entity/{code}."""
    known = catalogue.by_code(visit.conn, visit.here.id, visit.path["code"])
    settings = read_entity(visit.conn, visit.here.id, Fields(_body(visit.form)))
    catalogue.change(visit.conn, visit.here.id, known, settings=settings, now=visit.now)
    return Done(action="changed billing entity", subject=known.code, to=f"{LISTING}?said=saved")
