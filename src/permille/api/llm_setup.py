"""The models that the catalogue prices today, and POST /llm/setup: the metrics and a plan of chosen models, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.objects.price_list import AppliedObject
from permille.api.validation import INVALID, MANDATORY, Fields
from permille.core.llm.current_models import PricedModel, current_models
from permille.core.llm.parts import CallType, TokenType
from permille.core.money import decimal_text
from permille.core.period import Interval
from permille.core.rating.unlisted import UnlistedValues
from permille.http.query import query_flag
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.llm_setup import Setup, set_up

MODELS_MAX = 200
PRICE_MAX = 10**9
PLACES = 12
Kind = TypeVar("Kind", bound=StrEnum)


def set_up_models(call: Call) -> dict[str, Any]:
    """POST /llm/setup. The second time nothing changes, unless it is for another plan."""
    fields = Fields(call.root("setup"))
    wanted = read_setup(fields)
    fields.check()
    prices = catalogue_of(call.conn, call.organization.id)
    applied = set_up(call.conn, call.organization, wanted, prices, now=call.now)
    return {
        "setup": objects.ModelSetup(
            billable_metrics=[
                AppliedObject(code=code, created=created)
                for code, created in applied.billable_metrics.items()
            ],
            plan=AppliedObject(code=applied.plan_code, created=applied.plan_created),
        )
    }


def list_current_models(call: Call) -> dict[str, Any]:
    """GET /llm/current_models: by provider and name, as /llm/setup takes them."""
    page = call.page()
    prices = catalogue_of(call.conn, call.organization.id)
    found = current_models(
        prices,
        call.query.get("provider") or None,
        on=call.now.date(),
        include_deprecated=bool(query_flag(call.query, "include_deprecated")),
    )
    return {
        "models": [
            objects.CurrentModel(
                provider=each.provider,
                model=each.model,
                prices={str(kind): decimal_text(price) for kind, price in each.prices.items()},
                deprecated=each.is_deprecated,
            )
            for each in found[page.offset : page.offset + page.per_page]
        ],
        "meta": page.meta(len(found)),
    }


def read_setup(fields: Fields) -> Setup:
    """What is to be made. Problems gather in `fields`."""
    markup = fields.decimal("markup", minimum=0, maximum=1_000, places=PLACES)
    return Setup(
        plan_code=fields.text("plan_code", mandatory=True) or "",
        plan_name=fields.text("plan_name") or fields.text("plan_code") or "",
        currency=fields.currency("currency") or "USD",
        interval=Interval(fields.choice("interval", tuple(Interval)) or Interval.MONTHLY),
        models=_models(fields),
        calls=_prices(fields, "calls", CallType),
        markup=Decimal(1) if markup is None else markup,
        unlisted_values=UnlistedValues(
            fields.choice("unlisted_values", tuple(UnlistedValues)) or UnlistedValues.HELD
        ),
        include_deprecated=bool(fields.flag("include_deprecated")),
    )


def _models(fields: Fields) -> list[PricedModel]:
    sent = fields.given.get("models")
    if not isinstance(sent, list) or not sent:
        fields.refuse("models", MANDATORY)
        return []
    if len(sent) > MODELS_MAX:
        fields.refuse("models", "value_is_out_of_range")
        return []
    found = []
    for index, each in enumerate(sent):
        one = Fields(each if isinstance(each, Mapping) else {})
        found.append(
            PricedModel(
                provider=one.text("provider", mandatory=True) or "",
                model=one.text("model", mandatory=True) or "",
                prices=_prices(one, "prices", TokenType),
            )
        )
        for name, codes in one.errors.items():
            for code in codes:
                fields.refuse(f"models.{index}.{name}", code)
    return found


def _prices(fields: Fields, name: str, kinds: type[Kind]) -> dict[Kind, Decimal]:
    """Prices by kind; kinds that there are not are refused."""
    sent = fields.given.get(name)
    if sent is None:
        return {}
    if not isinstance(sent, Mapping):
        fields.refuse(name, INVALID)
        return {}
    inner = Fields(sent)
    found: dict[Kind, Decimal] = {}
    for key in sent:
        if key not in tuple(kinds):
            fields.refuse(f"{name}.{key}", INVALID, allowed=tuple(kinds))
            continue
        price = inner.decimal(key, minimum=0, maximum=PRICE_MAX, places=PLACES)
        if price is not None:
            found[kinds(key)] = price
    for key, codes in inner.errors.items():
        for code in codes:
            fields.refuse(f"{name}.{key}", code)
    return found
