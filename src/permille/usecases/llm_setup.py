"""The metrics of language models, and a plan that prices chosen models by kinds of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection

from permille.core.errors import Invalid
from permille.core.llm.catalogue.prices import PriceSource
from permille.core.llm.current_models import PRICE_OF, PricedModel, token_prices
from permille.core.llm.fold import PARENTS
from permille.core.llm.model_name import name_model
from permille.core.llm.parts import CallType, Metric, TokenType
from permille.core.metering.aggregations import SUM
from permille.core.metering.billable_metric import BillableMetric
from permille.core.money import decimal_text, exact
from permille.core.organization import Organization
from permille.core.period import Interval
from permille.core.rating.models import ChargeModel
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import Record, replace
from permille.database import locks
from permille.store import billable_metrics
from permille.usecases.catalogue import metrics as catalogue
from permille.usecases.catalogue.price_lists import (
    Applied,
    ChargeOfList,
    FilterOfList,
    MetricOfList,
    PlanOfList,
    PriceList,
    apply_list,
)

CATALOGUE_CURRENCY = "USD"


class Setup(Record, kw_only=True):
    """What is to be made. A model without prices has those of the catalogue."""

    plan_code: str
    plan_name: str
    currency: str
    interval: Interval
    models: Sequence[PricedModel]
    calls: Mapping[CallType, Decimal]
    """What a search or the like costs."""
    markup: Decimal
    """What every price is multiplied by."""
    unlisted_values: UnlistedValues
    include_deprecated: bool = False
    """Whether models that their providers no longer offer may be sold at the catalogue's prices."""


def set_up(
    conn: Connection[Any], organization: Organization, wanted: Setup, prices: PriceSource, *, now: datetime
) -> Applied:
    """Make the metrics and the plan, as far as they are not there. Raises Invalid."""
    models = [_priced(each, wanted, prices, index, now.date()) for index, each in enumerate(wanted.models)]
    price_list = _price_list(replace(wanted, models=models))
    locks.change_catalogue(conn, organization.id)
    for metric in price_list.billable_metrics:
        found = billable_metrics.by_code(conn, organization.id, metric.code)
        if found is not None:
            _extend(conn, found, metric, now=now)
    return apply_list(
        conn, organization=organization, wanted=price_list, now=now, unlisted_values=wanted.unlisted_values
    )


def _extend(conn: Connection[Any], found: BillableMetric, wanted: MetricOfList, *, now: datetime) -> None:
    """List values that a metric does not list yet. A dimension that it doesn't have would say less of what was counted."""
    if missing := wanted.filters.keys() - found.filters.keys():
        raise Invalid({"billable_metrics": [f"{found.code}_has_no_dimension_{min(missing)}"]})
    filters = {
        key: tuple(dict.fromkeys([*values, *wanted.filters.get(key, ())]))
        for key, values in found.filters.items()
    }
    if filters != dict(found.filters):
        catalogue.change(conn, found, replace(found, filters=filters, updated_at=now))


def _priced(wanted: PricedModel, setup: Setup, prices: PriceSource, index: int, on: date) -> PricedModel:
    """The model as usage names it, with its prices."""
    name = name_model(wanted.provider, wanted.model)
    found = PricedModel(
        provider=name.provider,
        model=name.model or wanted.model,
        prices=wanted.prices or token_prices(prices, name.provider, wanted.model, on=on),
    )
    if not found.prices:
        if not prices.has_provider(name.provider, on=on):
            raise Invalid({f"models.{index}.provider": ["provider_not_found"]})
        raise Invalid({f"models.{index}.model": ["price_not_found"]})
    if (
        not wanted.prices
        and not setup.include_deprecated
        and prices.is_deprecated(name.provider, wanted.model, on=on)
    ):
        raise Invalid({f"models.{index}.model": ["model_is_deprecated"]})
    if not wanted.prices and setup.currency != CATALOGUE_CURRENCY:
        raise Invalid({"currency": ["catalogue_is_in_usd"]})
    return found


def _price_list(setup: Setup) -> PriceList:
    types = [kind for kind in TokenType if _is_listed(kind, setup.models)]
    tokens = MetricOfList(
        name="Tokens of language models",
        code=str(Metric.TOKENS),
        description="Tokens by provider, model and type, made of providers' answers.",
        aggregation_type=SUM.name,
        field_name="quantity",
        filters={
            "provider": tuple(dict.fromkeys(each.provider for each in setup.models)),
            "model": tuple(dict.fromkeys(each.model for each in setup.models)),
            "type": tuple(str(kind) for kind in types),
        },
    )
    calls = MetricOfList(
        name="Calls of language models' tools",
        code=str(Metric.CALLS),
        description="Searches and other things that are billed by the call.",
        aggregation_type=SUM.name,
        field_name="quantity",
        filters={"type": tuple(str(kind) for kind in setup.calls)} if setup.calls else {},
    )
    charges = [_charge(tokens, "Tokens", _token_filters(setup, types))]
    if setup.calls:
        charges.append(_charge(calls, "Calls", _call_filters(setup)))
    return PriceList(
        slug=setup.plan_code,
        description=f"{len(setup.models)} models by kinds of tokens.",
        billable_metrics=(tokens, calls),
        plan=PlanOfList(
            name=setup.plan_name,
            interval=setup.interval,
            amount_currency=setup.currency,
            charges=tuple(charges),
        ),
    )


def _is_listed(kind: TokenType, models: Sequence[PricedModel]) -> bool:
    """Whether any model prices the type; input and output are always listed."""
    return kind in (TokenType.INPUT, TokenType.OUTPUT) or any(kind in each.prices for each in models)


def _charge(metric: MetricOfList, name: str, filters: Sequence[FilterOfList]) -> ChargeOfList:
    return ChargeOfList(
        billable_metric_code=metric.code,
        invoice_display_name=name,
        charge_model=ChargeModel.STANDARD,
        properties={"amount": "0"},
        filters=tuple(filters),
    )


def _token_filters(setup: Setup, types: Sequence[TokenType]) -> list[FilterOfList]:
    """A price for each type that the metric lists: where a model has none of its own, that of what the type is a part of."""
    found = []
    for each in setup.models:
        for kind in types:
            price = _price(each.prices, kind)
            if price is not None:
                with exact():
                    amount = price * setup.markup / PRICE_OF
                values = {"provider": (each.provider,), "model": (each.model,), "type": (str(kind),)}
                found.append(_filter(f"{each.model} {kind}", values, amount))
    return found


def _price(prices: Mapping[TokenType, Decimal], kind: TokenType) -> Decimal | None:
    while kind not in prices and kind in PARENTS:
        kind = PARENTS[kind]
    return prices.get(kind)


def _call_filters(setup: Setup) -> list[FilterOfList]:
    with exact():
        return [
            _filter(str(kind).replace("_", " "), {"type": (str(kind),)}, price * setup.markup)
            for kind, price in setup.calls.items()
        ]


def _filter(name: str, values: Mapping[str, tuple[str, ...]], amount: Decimal) -> FilterOfList:
    return FilterOfList(invoice_display_name=name, values=values, properties={"amount": decimal_text(amount)})
