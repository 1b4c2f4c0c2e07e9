"""Reading charges and their filters out of a request. semantics-metering.md sections 4.1 and 5.1.

Problems gather in the fields that are read; what is returned then is not to be used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.pricing_units import known_pricing_units, read_pricing_unit
from permille.api.taxes import known_taxes, read_taxes
from permille.api.validation import (
    FIXED,
    INVALID,
    MANDATORY,
    Fields,
    plain_texts,
    storable,
)
from permille.core.contract.override import FilterKey, filter_key
from permille.core.contract.plan import Charge, Plan, PlanFilter, incompatibilities
from permille.core.errors import Invalid, NotFound
from permille.core.metering.aggregations import CUSTOM
from permille.core.metering.billable_metric import BillableMetric
from permille.core.rating import models as pricing
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import PricingUnit
from permille.core.rating.rounding import Rounding
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import Record, field, replace
from permille.core.tax import Tax
from permille.ids import new_id
from permille.store import billable_metrics, plans

MODELS = tuple(ChargeModel)
CATALOGUE_CURRENCY = "USD"
FLAGS = ("pay_in_advance", "prorated", "invoiceable")


class ChargesOfPlan(Record, kw_only=True):
    """What the charges of a request are read against."""

    plan_id: UUID
    existing: Sequence[Charge]
    metrics: Mapping[UUID, BillableMetric]
    is_subscribed: bool
    now: datetime
    taxes: Mapping[str, Tax] = field(default_factory=dict)
    """Those that the request names, by code."""
    pricing_units: Mapping[str, PricingUnit] = field(default_factory=dict)
    """Likewise, as far as there are such."""
    currency: str


def read_charges(entries: Sequence[Fields], plan: ChargesOfPlan) -> tuple[Charge, ...]:
    """The whole list of a plan's charges: with the id of an existing one it is changed, else it is new."""
    known = {charge.id: charge for charge in plan.existing}
    charges: list[Charge] = []
    for entry in entries:
        charge_id = entry.uuid("id")
        found = known.pop(charge_id, None) if charge_id else None
        before = found or _new_charge(entry, plan, [*charges, *known.values()])
        fixed = found is not None and plan.is_subscribed
        charges.append(
            read_charge(
                entry,
                before,
                is_subscribed=fixed,
                now=plan.now,
                taxes=plan.taxes,
                pricing_units=plan.pricing_units,
            )
        )
        refuse_unknown_rate(entry, charges[-1], plan.currency)
    _refuse_equal_codes(entries, charges)
    return tuple(charges)


def read_added_charge(
    conn: Connection[Any], entry: Fields, plan: Plan, *, now: datetime
) -> tuple[Charge, ...]:
    """The plan's charges with one more, whose code is mandatory. Raises NotFound and Invalid."""
    metric_id = entry.uuid("billable_metric_id")
    metrics = billable_metrics.to_price(conn, plan.organization_id, [metric_id] if metric_id else [])
    if not metrics:
        raise NotFound("billable_metric")
    entry.text("code", mandatory=True)
    kept = [Fields({"id": str(charge.id)}, entry) for charge in plan.charges]
    fresh = Fields({name: value for name, value in entry.given.items() if name != "id"}, entry)
    context = ChargesOfPlan(
        plan_id=plan.id,
        existing=plan.charges,
        metrics=metrics,
        is_subscribed=True,
        now=now,
        taxes=known_taxes(conn, plan.organization_id, [entry]),
        pricing_units=known_pricing_units(conn, plan.organization_id, [entry]),
        currency=plan.amount_currency,
    )
    charges = read_charges([*kept, fresh], context)
    entry.check()
    return charges


def read_changed_charge(
    conn: Connection[Any], entry: Fields, plan: Plan, before: Charge, *, now: datetime
) -> Charge:
    """The charge as the entry wants it, of a plan or of a subscription's own plan. Raises NotFound and Invalid."""
    taxes = known_taxes(conn, plan.organization_id, [entry])
    if plan.parent_id is not None:
        after = read_overridden_charge(entry, before, now=now, taxes=taxes)
    else:
        after = read_charge(
            entry,
            before,
            is_subscribed=plans.is_subscribed(conn, plan.id),
            now=now,
            taxes=taxes,
            pricing_units=known_pricing_units(conn, plan.organization_id, [entry]),
        )
    refuse_unknown_rate(entry, after, plan.amount_currency)
    entry.check()
    if any(charge.code == after.code for charge in plan.charges if charge.id != after.id):
        raise Invalid({"code": ["value_already_exist"]})
    return after


def _refuse_equal_codes(entries: Sequence[Fields], charges: Sequence[Charge]) -> None:
    codes = [charge.code for charge in charges]
    if entries and len(set(codes)) < len(codes):
        entries[0].refuse("code", "value_already_exist")


def _new_charge(entry: Fields, plan: ChargesOfPlan, others: Sequence[Charge]) -> Charge:
    """A charge with Lago's defaults, of the entry's model, on the metric that it names: it exists."""
    metric = plan.metrics[entry.uuid("billable_metric_id") or UUID(int=0)]
    model = _model(entry) or ChargeModel.STANDARD
    return Charge(
        id=new_id(plan.now),
        plan_id=plan.plan_id,
        parent_id=None,
        metric=metric,
        code=next_code(metric.code, {charge.code for charge in others}),
        invoice_display_name=None,
        charge_model=model,
        pay_in_advance=False,
        prorated=False,
        invoiceable=True,
        regroup_paid_fees=None,
        min_amount_cents=0,
        accepts_target_wallet=False,
        properties={},
        filters=(),
        created_at=plan.now,
        rounding=Rounding.PER_CHARGE if pricing.model_of(model).dated_by else Rounding.PER_FEE,
    )


def _model(entry: Fields) -> ChargeModel | None:
    """The model that the entry names, None where it names none that there is."""
    name = entry.choice("charge_model", MODELS, mandatory=True)
    return None if name is None else ChargeModel(name)


def next_code(metric_code: str, taken: set[str]) -> str:
    """The metric's code, or `<code>_<n>` with n one more than the highest that is taken, from 2."""
    if metric_code not in taken:
        return metric_code
    prefix = f"{metric_code}_"
    suffixes = [code.removeprefix(prefix) for code in taken if code.startswith(prefix)]
    numbers = [int(suffix) for suffix in suffixes if suffix.isascii() and suffix.isdigit()]
    return f"{prefix}{max([1, *numbers]) + 1}"


def read_charge(
    entry: Fields,
    before: Charge,
    *,
    is_subscribed: bool,
    now: datetime,
    taxes: Mapping[str, Tax],
    pricing_units: Mapping[str, PricingUnit],
) -> Charge:
    """The charge as the entry wants it; of a plan with subscriptions, only names and what usage costs change."""
    if not is_subscribed:
        entry.refuse_changed(billable_metric_id=str(before.metric.id))
    charge = before if is_subscribed else _restructured(entry, before)
    if entry.has("invoice_display_name"):
        charge = replace(charge, invoice_display_name=entry.text("invoice_display_name"))
    if (own := read_taxes(entry, taxes)) is not None:
        charge = replace(charge, taxes=own)
    applied = read_pricing_unit(entry, before.applied_pricing_unit, pricing_units, is_fixed=is_subscribed)
    charge = replace(charge, applied_pricing_unit=applied)
    if (choice := entry.choice("unlisted_values", tuple(UnlistedValues))) is not None:
        charge = replace(charge, unlisted_values=UnlistedValues(choice))
    if (rounding := entry.choice("rounding", tuple(Rounding))) is not None:
        charge = replace(charge, rounding=Rounding(rounding))
    if (accepts := entry.flag("accepts_target_wallet")) is not None:
        charge = replace(charge, accepts_target_wallet=accepts)
    if "charge_model" in entry.errors:
        return charge
    charge = replace(charge, properties=_properties(entry, before, charge))
    filters = _filters(entry, charge, now)
    if filters is None and charge.charge_model != before.charge_model:
        filters = _under_model(entry, charge)
    if filters is not None:
        charge = replace(charge, filters=filters)
    refuse_incompatibilities(entry, charge)
    return charge


def refuse_incompatibilities(entry: Fields, charge: Charge) -> None:
    """What does not go together in the charge, with all its filters."""
    for name, code in incompatibilities(charge):
        entry.refuse(name, code)


def refuse_unknown_rate(entry: Fields, charge: Charge, currency: str) -> None:
    """Prices of the catalogue are in US dollars: in another currency the charge has to say what one is worth."""
    dollars = currency == CATALOGUE_CURRENCY or charge.applied_pricing_unit is not None
    if charge.charge_model is ChargeModel.CATALOGUE and not dollars:
        priced = [charge.properties, *(each.properties for each in charge.filters)]
        if not all(each.get("exchange_rate") for each in priced):
            entry.refuse("properties", "exchange_rate_is_mandatory")


def read_overridden_charge(
    entry: Fields, before: Charge, *, now: datetime, taxes: Mapping[str, Tax]
) -> Charge:
    """The charge as it is to be for one subscription: its prices, names, minimum charge, rate and taxes."""
    entry.refuse_changed(
        billable_metric_id=str(before.metric.id), code=before.code, charge_model=before.charge_model
    )
    for name in FLAGS:
        if entry.flag(name) not in (None, getattr(before, name)):
            entry.refuse(name, FIXED)
    charge = before
    if (least := entry.whole("min_amount_cents", minimum=0)) is not None:
        charge = replace(charge, min_amount_cents=least)
    return read_charge(entry, charge, is_subscribed=True, now=now, taxes=taxes, pricing_units={})


def _restructured(entry: Fields, charge: Charge) -> Charge:
    """The changes that are allowed while nobody is subscribed."""
    if entry.has("charge_model") and "charge_model" not in entry.errors:
        charge = replace(charge, charge_model=_model(entry) or charge.charge_model)
    if entry.given.get("code") is not None:
        charge = replace(charge, code=entry.text("code", mandatory=True) or "")
    flags = {name: entry.flag(name) for name in FLAGS}
    given: dict[str, Any] = {name: flag for name, flag in flags.items() if flag is not None}
    charge = replace(charge, **given)
    if entry.has("regroup_paid_fees"):
        charge = replace(charge, regroup_paid_fees=entry.choice("regroup_paid_fees", ("invoice",)))
    if (least := entry.whole("min_amount_cents", minimum=0)) is not None:
        charge = replace(charge, min_amount_cents=least)
    return charge


def _properties(entry: Fields, before: Charge, charge: Charge) -> Mapping[str, Any]:
    """What is sent, cleaned; nothing sent keeps what there is, and gives the defaults to a new model."""
    model = charge.charge_model
    if not entry.given.get("properties"):
        keeps = (
            before.charge_model == charge.charge_model and before.properties and not entry.has("properties")
        )
        return before.properties if keeps else pricing.defaults(model)
    return _checked(entry, charge)


def _checked(entry: Fields, charge: Charge) -> dict[str, Any]:
    properties = entry.given.get("properties") or {}
    if not isinstance(properties, dict) or not storable(properties):
        entry.refuse("properties", INVALID)
        return {}
    return _fitting(entry, charge, properties)


def _fitting(entry: Fields, charge: Charge, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that belong to the charge's model; what is wrong with them is refused."""
    model, is_custom = charge.charge_model, charge.metric.aggregation is CUSTOM
    cleaned = pricing.clean(model, properties, of_custom_metric=is_custom)
    for code in pricing.validate(model, cleaned):
        entry.refuse("properties", code)
    return cleaned


def _filters(entry: Fields, charge: Charge, now: datetime) -> tuple[PlanFilter, ...] | None:
    """The whole list of a charge's filters, None when the entry does not speak of them.

    A filter with the values of an existing one is that one, changed. The same values twice are two filters only
    where there are two already, as an edit of the metric may leave them; else the last wins.
    """
    entries = entry.objects("filters")
    if entries is None:
        return None
    known: dict[FilterKey, list[PlanFilter]] = defaultdict(list)
    for existing in charge.filters:
        known[filter_key(existing.values)].append(existing)
    found: dict[tuple[FilterKey, int], PlanFilter] = {}
    seen: Counter[FilterKey] = Counter()
    for given in entries:
        fresh = read_filter(given, charge, now=now)
        key = filter_key(fresh.values)
        same = known[key]
        nth = min(seen[key], max(len(same) - 1, 0))
        seen[key] += 1
        found[key, nth] = replace(fresh, id=same[nth].id) if same else fresh
    return tuple(found.values())


def _under_model(entry: Fields, charge: Charge) -> tuple[PlanFilter, ...]:
    """The filters as they are, under another model: where their prices don't fit it, they have to be sent too."""
    return tuple(
        replace(known, properties=_fitting(entry, charge, known.properties)) for known in charge.filters
    )


def read_filter(entry: Fields, charge: Charge, *, now: datetime) -> PlanFilter:
    """A new filter of the charge."""
    return PlanFilter(
        id=new_id(now),
        invoice_display_name=entry.text("invoice_display_name"),
        values=_values(entry, charge.metric),
        properties=filter_properties(entry, charge),
    )


def filter_properties(entry: Fields, charge: Charge) -> dict[str, Any]:
    """The prices of a filter: a whole set of the model's; presentation keys are the charge's alone."""
    properties = _checked(entry, charge)
    return {key: value for key, value in properties.items() if key != "presentation_group_keys"}


def refuse_other_values(entry: Fields, known: PlanFilter) -> None:
    """A filter's values never change: another list of them is another filter."""
    given = entry.given.get("values")
    if not given:
        return
    listed = {key: plain_texts(value) for key, value in given.items()} if isinstance(given, dict) else {}
    texts = {key: value for key, value in listed.items() if value is not None}
    if len(texts) < len(listed) or filter_key(texts) != filter_key(known.values):
        entry.refuse("values", FIXED)


def _values(entry: Fields, metric: BillableMetric) -> dict[str, tuple[str, ...]]:
    values = entry.given.get("values")
    if not values:
        entry.refuse("values", MANDATORY)
        return {}
    if not isinstance(values, dict):
        entry.refuse("values", INVALID)
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for key, listed in values.items():
        texts = plain_texts(listed)
        if key not in metric.filters:
            entry.refuse("billable_metric_filter", "relation_must_exist")
            entry.refuse("values", INVALID)
        elif texts == []:
            entry.refuse("values", MANDATORY)
        elif texts is None or not (texts == [ALL_FILTER_VALUES] or set(texts) <= set(metric.filters[key])):
            entry.refuse("values", INVALID, allowed=metric.filters[key])
        else:
            found[key] = tuple(texts)
            entry.refuse_repeated("values", texts)
    return found
