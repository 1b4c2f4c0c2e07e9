"""The price sheet: every charge model's terms as fields of a form, for each filter of a charge and for everything else.

Where one price a cell says it all there is the price grid. Texts are passed on as they were typed: the API's own
rules say what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from permille.core import pricing
from permille.core.billable_metric import BillableMetric
from permille.core.custom_aggregation import aggregator_of, fold
from permille.core.event import numeric_value, property_text
from permille.core.explanation import Step, charge_steps, conversion_steps
from permille.core.instants import EPOCH
from permille.core.money import ZERO, exact, subunits
from permille.core.plan import Charge
from permille.core.pricing import ChargeModel
from permille.core.pricing.custom import CUSTOM_PROPERTIES
from permille.core.pricing.group_keys import PRESENTATION, PRICING
from permille.core.pricing.percentage import running_totals
from permille.core.pricing_unit import AppliedPricingUnit, owed
from permille.store.db import exact_json
from permille.web.price_grid import places_of
from permille.web.shown import shown_in_unit
from permille.web.visit import Form

MODELS = (
    (ChargeModel.PACKAGE.value, "By the package, like 1,000 tokens"),
    (ChargeModel.STANDARD.value, "By the unit"),
    (ChargeModel.GRADUATED.value, "Graduated: each tier has its own price"),
    (ChargeModel.VOLUME.value, "By volume: all units at the price of their tier"),
    (ChargeModel.PERCENTAGE.value, "A percentage of the units"),
    (ChargeModel.GRADUATED_PERCENTAGE.value, "Graduated percentage"),
    (ChargeModel.DYNAMIC.value, "Dynamic: each event brings its own price"),
    (ChargeModel.CUSTOM.value, "Custom: by the metric's own rules"),
)
SPARE_TIERS = 2
SAMPLES_MAX = 1_000

Field = tuple[str, str, str]
"""Name of the property, its label, its hint."""

_FIELDS: Mapping[str, Sequence[Field]] = {
    ChargeModel.STANDARD: (("amount", "Price of a unit", ""),),
    ChargeModel.PACKAGE: (
        ("amount", "Price of a package", ""),
        ("package_size", "Units in a package", "Each package begun is paid whole."),
        ("free_units", "Free units", ""),
    ),
    ChargeModel.PERCENTAGE: (
        ("rate", "Percent of the units", ""),
        ("fixed_amount", "Fixed price of an event", ""),
        ("free_units_per_events", "Free events", ""),
        ("free_units_per_total_aggregation", "Free units", ""),
        ("per_transaction_min_amount", "Least price of an event", ""),
        ("per_transaction_max_amount", "Greatest price of an event", ""),
    ),
    ChargeModel.CUSTOM: (
        (CUSTOM_PROPERTIES, "Properties that the rules look at", 'As JSON, like {"price": "0.12"}.'),
    ),
}
_WHOLE = ("package_size", "free_units", "free_units_per_events")
_TIERS: Mapping[str, tuple[str, str, str]] = {
    ChargeModel.GRADUATED: ("graduated_ranges", "per_unit_amount", "Price of a unit"),
    ChargeModel.VOLUME: ("volume_ranges", "per_unit_amount", "Price of a unit"),
    ChargeModel.GRADUATED_PERCENTAGE: ("graduated_percentage_ranges", "rate", "Percent"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A row of a table of tiers, as typed. An empty `to` is the last."""

    from_: str
    to: str
    price: str
    flat: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculated:
    """What the units that were typed cost by these terms, and how."""

    cents: int
    steps: Sequence[Step]
    in_unit: Mapping[str, Any] | None
    """As the API tells it of usage, where prices are in a pricing unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The terms of one filter, or of everything else. `prefix` begins the names of its fields."""

    prefix: str
    title: str
    values: str
    """The filter's values as JSON, empty for everything else."""
    fields: Sequence[tuple[Field, str]]
    """Each with what was typed."""
    tiers: Sequence[Tier]
    codes: Sequence[str]
    """What is wrong."""
    calculated: Calculated | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What the template draws."""

    price_label: str
    has_tiers: bool
    buckets: Sequence[Bucket]
    groups: str
    calculates: str
    """What is typed to see what it costs: units, events, or nothing."""


def fits(charge: Charge) -> bool:
    """Whether the sheet can show all that the charge's prices are."""
    return any(charge.charge_model == model for model, _ in MODELS)


def sheet_of(
    metric: BillableMetric, form: Form, *, currency: str, applied: AppliedPricingUnit | None
) -> Sheet:
    """The fields of the form's charge model, with what was typed."""
    model = ChargeModel(form.get("charge_model"))
    tiers = _TIERS.get(model)
    return Sheet(
        price_label=tiers[2] if tiers else "",
        has_tiers=tiers is not None,
        buckets=[
            _bucket(form, metric, prefix, values, currency=currency, applied=applied)
            for prefix, values in _buckets(form, metric)
        ],
        groups=form.get("pricing_group_keys"),
        calculates={ChargeModel.DYNAMIC: "", ChargeModel.CUSTOM: "events"}.get(model, "units"),
    )


def _buckets(form: Form, metric: BillableMetric) -> Iterator[tuple[str, dict[str, list[str]] | None]]:
    """The prefixes of the form, with the values that they are for; of a blank form those of the metric."""
    sent = [name.removesuffix("values") for name, _ in form.pairs if name.endswith(":values")]
    if sent:
        for prefix in dict.fromkeys(sent):
            values = _values(form.get(f"{prefix}values"))
            if values:
                yield prefix, values
    else:
        for number, values in enumerate(each for row in places_of(metric) for each in row):
            yield f"b{number}:", values
    yield "others:", None


def _values(text: str) -> dict[str, list[str]]:
    """Of a filter, from the hidden field; nothing of what is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _bucket(
    form: Form,
    metric: BillableMetric,
    prefix: str,
    values: dict[str, list[str]] | None,
    *,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> Bucket:
    model = ChargeModel(form.get("charge_model"))
    typed = _is_typed(form, model, prefix)
    properties = _properties(form, model, prefix)
    codes = pricing.validate(model, pricing.clean(model, properties)) if typed else []
    calculated = None
    if form.get("pricing_unit") and applied is None:
        calculated = None
    elif model is ChargeModel.CUSTOM and not codes:
        calculated = _calculated_events(form, metric, properties, currency=currency, applied=applied)
    elif typed and not codes:
        calculated = _calculated(form, model, properties, currency=currency, applied=applied)
    return Bucket(
        prefix=prefix,
        title=", ".join(", ".join(each) for each in values.values()) if values else "Everything else",
        values=json.dumps(values) if values else "",
        fields=[(field, form.get(f"{prefix}{field[0]}")) for field in _FIELDS.get(model, ())],
        tiers=_shown_tiers(form, model, prefix),
        codes=list(dict.fromkeys(codes)),
        calculated=calculated,
    )


def _names(model: ChargeModel) -> list[str]:
    own = [name for name, _, _ in _FIELDS.get(model, ())]
    return [*own, *(("to", "price", "flat") if model in _TIERS else ())]


def _is_typed(form: Form, model: ChargeModel, prefix: str) -> bool:
    return any(text for name in _names(model) for text in form.all(f"{prefix}{name}"))


def _typed_tiers(form: Form, prefix: str) -> list[tuple[str, str, str]]:
    rows = zip(form.all(f"{prefix}to"), form.all(f"{prefix}price"), form.all(f"{prefix}flat"), strict=False)
    return [row for row in rows if any(row)]


def _shown_tiers(form: Form, model: ChargeModel, prefix: str) -> list[Tier]:
    if model not in _TIERS:
        return []
    rows = [*_typed_tiers(form, prefix), *[("", "", "")] * SPARE_TIERS]
    shown, start = [], "0"
    for to, price, flat in rows:
        shown.append(Tier(from_=start, to=to, price=price, flat=flat))
        start = str(_after(to)) if to and start else ""
    return shown


def _after(to: str) -> Any:
    """Where the next tier begins: at the next whole unit."""
    value = numeric_value(to.replace(",", ""))
    return "" if value is None else value + 1


def _number(text: str) -> Any:
    """A JSON number where it is one; the API says what is wrong with another text."""
    value = numeric_value(text.replace(",", "").replace(" ", ""))
    if value is None:
        return text
    return int(value) if value == value.to_integral_value() else value


def _properties(form: Form, model: ChargeModel, prefix: str) -> dict[str, Any]:
    """The terms of a bucket as the API takes them; what is empty is left out."""
    found: dict[str, Any] = {}
    for name, _, _ in _FIELDS.get(model, ()):
        if text := form.get(f"{prefix}{name}"):
            found[name] = _number(text) if name in _WHOLE else text
    if CUSTOM_PROPERTIES in found:
        found[CUSTOM_PROPERTIES] = _json(found[CUSTOM_PROPERTIES])
    if model is ChargeModel.PACKAGE:
        found = {"package_size": 1000, "free_units": 0, **found}
    if model in _TIERS:
        key, price_name, _ = _TIERS[model]
        found[key] = _tiers(_typed_tiers(form, prefix), price_name)
    return found


def _json(text: str) -> Any:
    """JSON with exact numbers; the API says what is wrong with another text."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _tiers(rows: Sequence[tuple[str, str, str]], price_name: str) -> list[dict[str, Any]]:
    tiers: list[dict[str, Any]] = []
    start: Any = 0
    for to, price, flat in rows:
        to_value = _number(to) if to else None
        tiers.append(
            {"from_value": start, "to_value": to_value, price_name: price or "0", "flat_amount": flat or "0"}
        )
        start = to_value + 1 if isinstance(to_value, int | Decimal) else to_value
    return tiers


def _calculated_events(
    form: Form,
    metric: BillableMetric,
    properties: Mapping[str, Any],
    *,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> Calculated | None:
    """The price of the form's `sample_events`, one after the other: the properties of each, a JSON object a line."""
    rules = aggregator_of(metric)
    lines = form.get("sample_events").split("\n", SAMPLES_MAX)[:SAMPLES_MAX]
    samples = [sample for sample in map(_json, lines) if isinstance(sample, dict)]
    if rules is None or not samples:
        return None
    run = [
        (EPOCH, number, tuple(property_text(sample.get(name)) for name in rules.properties))
        for number, sample in enumerate(samples)
    ]
    partial = fold(rules, [run], properties)
    steps = charge_steps(
        ChargeModel.CUSTOM, units=partial.sum, unit_amount=ZERO, amount=partial.custom_amount, details={}
    )
    amount = max(partial.custom_amount, ZERO)
    return _in_money(amount, ZERO, steps, currency=currency, applied=applied)


def _calculated(
    form: Form,
    model: ChargeModel,
    properties: Mapping[str, Any],
    *,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> Calculated | None:
    """The price of the form's `units`, which so many `events` brought in equal parts."""
    units = numeric_value(form.get("units").replace(",", "").replace(" ", ""))
    if units is None or units < 0 or model is ChargeModel.DYNAMIC:
        return None
    events = max(int(numeric_value(form.get("events")) or 1), 1) if model is ChargeModel.PERCENTAGE else 1
    if events > 1_000_000:
        return None
    with exact():
        values = [units / events] * events if model is ChargeModel.PERCENTAGE else [units]
        totals = running_totals(values, properties) if model is ChargeModel.PERCENTAGE else []
    found = pricing.price(
        model,
        units=units,
        properties=properties,
        currency=currency,
        events_count=events,
        running_totals=totals,
        event_values=values,
    )
    steps = charge_steps(
        model, units=units, unit_amount=found.unit_amount, amount=found.amount, details=found.details
    )
    return _in_money(found.amount, found.unit_amount, steps, currency=currency, applied=applied)


def _in_money(
    amount: Decimal,
    unit_amount: Decimal,
    steps: Sequence[Step],
    *,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> Calculated:
    """What these amounts cost, converted where prices are in a pricing unit."""
    with exact():
        money, in_unit = owed(amount, unit_amount, per_unit=subunits(currency), applied=applied)
    if in_unit is not None:
        steps = conversion_steps(
            steps,
            amount_cents=in_unit.amounts.amount_cents,
            short_name=in_unit.applied.unit.short_name,
            conversion_rate=in_unit.applied.conversion_rate,
            currency=currency,
        )
    return Calculated(cents=money.amount_cents, steps=steps, in_unit=shown_in_unit(in_unit))


def read(form: Form, metric: BillableMetric, before: Charge | None = None) -> dict[str, Any]:
    """The charge that a form asks for, as the API takes it; of the one it changes, what the form does not show stays."""
    model = ChargeModel(form.get("charge_model"))
    kept = {_key(each.values): each for each in before.filters} if before else {}
    filters = []
    for prefix, values in _buckets(form, metric):
        known = kept.get(_key(values)) if values else None
        is_kept = known is not None and model is ChargeModel.DYNAMIC
        if values and (is_kept or _is_typed(form, model, prefix)):
            own = known.properties if known else {}
            filters.append(
                {
                    "values": values,
                    "properties": _with_groups(form, _properties(form, model, prefix), own),
                    "invoice_display_name": known.invoice_display_name if known else None,
                }
            )
    return {
        "billable_metric_id": str(metric.id),
        "charge_model": model.value,
        "invoice_display_name": form.get("charge_name") or None,
        "properties": _with_groups(form, _others(form, model), before.properties if before else {}),
        "filters": filters,
    }


def _others(form: Form, model: ChargeModel) -> dict[str, Any]:
    """The terms of everything else; nothing typed is the model's own beginning, which costs nothing."""
    return (
        _properties(form, model, "others:") if _is_typed(form, model, "others:") else pricing.defaults(model)
    )


def _with_groups(form: Form, properties: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    keys = [key.strip() for key in form.get("pricing_group_keys").split(",") if key.strip()]
    shown = form.get("charge_model") == ChargeModel.CUSTOM
    unseen = (PRESENTATION,) if shown else (PRESENTATION, CUSTOM_PROPERTIES)
    kept = {name: before[name] for name in unseen if name in before}
    return {**properties, **kept, **({PRICING: keys} if keys else {})}


def _key(values: Mapping[str, Sequence[str]]) -> str:
    return json.dumps({key: sorted(listed) for key, listed in values.items()}, sort_keys=True)


def filled(charge: Charge) -> Form:
    """The form with the terms of a charge."""
    model = ChargeModel(charge.charge_model)
    pairs = [
        ("charge_model", charge.charge_model),
        ("charge_name", charge.invoice_display_name or ""),
        ("pricing_group_keys", ", ".join(charge.properties.get(PRICING) or ())),
    ]
    known = [{key: list(listed) for key, listed in each.values.items()} for each in charge.filters]
    terms: list[tuple[dict[str, list[str]] | None, Mapping[str, Any]]] = [
        (values, each.properties) for values, each in zip(known, charge.filters, strict=True)
    ]
    missing = [each for row in places_of(charge.metric) for each in row if each not in known]
    terms += [(values, {}) for values in missing]
    for number, (values, properties) in enumerate(terms):
        pairs += [(f"b{number}:values", json.dumps(values)), *_typed(model, f"b{number}:", properties)]
    pairs += _typed(model, "others:", charge.properties)
    return Form(pairs=tuple(pairs))


def _typed(model: ChargeModel, prefix: str, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, _, _ in _FIELDS.get(model, ()):
        if properties.get(name) is not None:
            value = properties[name]
            yield f"{prefix}{name}", exact_json(value) if name == CUSTOM_PROPERTIES else str(value)
    if model in _TIERS:
        key, price_name, _ = _TIERS[model]
        for tier in properties.get(key) or ():
            to = tier.get("to_value")
            yield f"{prefix}to", "" if to is None else str(to)
            yield f"{prefix}price", str(tier.get(price_name, ""))
            yield f"{prefix}flat", str(tier.get("flat_amount", ""))
