"""Price lists of today: models of a provider with the catalogue's prices, and a plan of those that are chosen."""

from __future__ import annotations

from permille.api.llm_setup import read_setup
from permille.api.validation import Fields
from permille.core.errors import Invalid, NotFound
from permille.core.llm.current_models import PricedModel, current_models
from permille.core.llm.parts import TokenType
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.llm_setup import set_up
from permille.web.charge_form import UNLISTED
from permille.web.plans import plan_url
from permille.web.shown import day
from permille.web.typed_number import plain_number
from permille.web.visit import Done, HtmlPage, Visit

SHOWN_MAX = 200


def show(visit: Visit) -> HtmlPage:
    """GET /app/templates/{provider}. A part of the names that are wanted may be in the address."""
    found = _models(visit)
    term = visit.query.get("search_term", "").strip()
    chosen = set(visit.form.all("model"))
    fitting = [each for each in found if term.lower() in each.model.lower() or each.model in chosen]
    shown = fitting[:SHOWN_MAX]
    provider, today = visit.path["provider"], visit.now.date()
    context = {
        "provider": provider,
        "has_deprecated": _has_deprecated(visit),
        "today": today,
        "models": shown,
        "left_out": len(fitting) - len(shown),
        "kinds": [kind for kind in TokenType if any(kind in each.prices for each in shown)],
        "chosen": chosen,
        "term": term,
        "plan_name": f"{provider} models, {day(today.isoformat())}",
        "plan_code": f"{provider}-{today.isoformat()}",
        "unlisted_choices": UNLISTED,
    }
    return HtmlPage(template="current_prices.html", context=context)


def create(visit: Visit) -> Done:
    """POST /app/templates/{provider}: a plan of the models by the prices of this moment."""
    form, provider = visit.form, visit.path["provider"]
    body = {
        "plan_name": form.get("plan_name"),
        "plan_code": form.get("plan_code"),
        "markup": plain_number(form.get("markup")),
        "unlisted_values": form.get("unlisted_values"),
        "models": [{"provider": provider, "model": model} for model in form.all("model")],
        "include_deprecated": _has_deprecated(visit),
    }
    fields = Fields(body)
    wanted = read_setup(fields)
    if not form.get("unlisted_values"):
        fields.refuse("unlisted_values", "unlisted_values_not_chosen")
    fields.check()
    prices = catalogue_of(visit.conn, visit.here.id)
    applied = set_up(visit.conn, visit.here, wanted, prices, now=visit.now)
    if not applied.plan_created:
        raise Invalid({"plan_code": ["value_already_exist"]})
    return Done(
        action="made price list of today",
        subject=wanted.plan_code,
        to=f"{plan_url(wanted.plan_code)}?said=applied",
        details=body,
    )


def _models(visit: Visit) -> list[PricedModel]:
    """The provider's models. Raises NotFound where it has none."""
    prices = catalogue_of(visit.conn, visit.here.id)
    provider, on = visit.path["provider"], visit.now.date()
    found = current_models(prices, provider, on=on, include_deprecated=_has_deprecated(visit))
    if not found and not prices.has_provider(provider, on=on):
        raise NotFound("provider")
    return found


def _has_deprecated(visit: Visit) -> bool:
    """Whether models that their provider no longer offers are listed too; the address says so."""
    return bool(visit.query.get("deprecated"))
