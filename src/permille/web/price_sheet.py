"""The price sheet: every charge model's terms as fields of a form, for each filter of a charge and for everything else.

Where one price a cell says it all there is the price grid. Texts are passed on as they were typed: the API's own
rules say what is wrong with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

from permille.api.validation import plain_texts
from permille.core.contract.plan import Charge
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import CUSTOM_PROPERTIES, aggregator_of, fold_samples
from permille.core.money import ZERO, exact, subunits
from permille.core.rating import models as pricing
from permille.core.rating.explanation import Step, charge_steps, conversion_steps
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.group_keys import PRESENTATION, PRICING
from permille.core.rating.pricing_unit import AppliedPricingUnit, owed
from permille.core.record import Record
from permille.database.connections import exact_json
from permille.web import calculator, price_grid
from permille.web.calculator import typed_events
from permille.web.forms import read_json
from permille.web.price_grid import places_of
from permille.web.shown import shown_in_unit, values_text
from permille.web.typed_number import json_number, number_or_none, plain_number
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
    (ChargeModel.CATALOGUE.value, "Catalogue: what the provider asks for, times a markup"),
)
OWN_GROUPS = "own_groups"
OTHERS = "others:"
_GRID = ("package_size", "free_units")
ADD, ADDED = "add", "added:"
EVERY_VALUE = "*"
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
    ChargeModel.CATALOGUE: (
        ("markup", "Markup", "1.2 adds a fifth to what the provider asks for."),
        ("markup_by", "Other markups", 'As JSON, like [{"provider": "openai", "markup": "1.35"}].'),
        ("prices", "Own prices", "As JSON; they win over the catalogue."),
        ("unpriced", "Usage without a price", "hold keeps its invoice a draft, free bills it with 0."),
        ("as_of", "Prices of", "event: of the day of the usage; or a date, like 2026-11-01."),
        ("exchange_rate", "A US dollar in the plan's currency", ""),
    ),
}
_AS_JSON = (CUSTOM_PROPERTIES, "markup_by", "prices")
_AS_TEXT = ("unpriced", "as_of")
WHOLE = ("package_size", "free_units", "free_units_per_events")
_TIERS: Mapping[str, tuple[str, str, str]] = {
    ChargeModel.GRADUATED: ("graduated_ranges", "per_unit_amount", "Price of a unit"),
    ChargeModel.VOLUME: ("volume_ranges", "per_unit_amount", "Price of a unit"),
    ChargeModel.GRADUATED_PERCENTAGE: ("graduated_percentage_ranges", "rate", "Percent"),
}


class Tier(Record, kw_only=True):
    """A row of a table of tiers, as typed. An empty `to` is the last."""

    from_: str
    to: str
    price: str
    flat: str


class Calculated(Record, kw_only=True):
    """What the units that were typed cost by these terms, and how."""

    cents: int
    steps: Sequence[Step]
    in_unit: Mapping[str, Any] | None
    """As the API shows it of usage, where prices are in a pricing unit."""


class FilterSection(Record, kw_only=True):
    """The terms of one filter, or of everything else. `prefix` begins the names of its fields."""

    prefix: str
    title: str
    values: str
    """The filter's values as JSON, empty for everything else."""
    name: str
    """On the invoice."""
    groups: str
    is_kept: bool
    """A filter that is there without any terms: it was there before, or was added by hand."""
    is_dropped: bool
    is_adjacent: bool
    """Whether a tier begins where the one before ends, not a unit later."""
    fields: Sequence[tuple[Field, str]]
    """Each with what was typed."""
    tiers: Sequence[Tier]
    codes: Sequence[str]
    """What is wrong."""
    calculated: Calculated | None


class Sheet(Record, kw_only=True):
    """What the template draws."""

    price_label: str
    has_tiers: bool
    buckets: Sequence[FilterSection]
    has_own_groups: bool
    """Whether filters are grouped each by its own properties."""
    dimensions: Mapping[str, str]
    """The dimensions of the metric, each with what was typed for one more filter."""
    whole: Sequence[str]
    """The fields whose numbers are whole."""
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
        has_own_groups=form.has(OWN_GROUPS),
        dimensions={key: form.get(f"{ADDED}{key}") for key in metric.filters},
        whole=WHOLE,
        calculates={ChargeModel.DYNAMIC: "", ChargeModel.CATALOGUE: "", ChargeModel.CUSTOM: "events"}.get(
            model, "units"
        ),
    )


def _buckets(form: Form, metric: BillableMetric) -> Iterator[tuple[str, dict[str, list[str]] | None]]:
    """The prefixes of the form, with the values that they are for; of a blank form those of the metric."""
    sent = _prefixes(form)
    is_dynamic = form.get("charge_model") == ChargeModel.DYNAMIC
    if sent or is_dynamic:
        for prefix in sent:
            values = _values(form.get(f"{prefix}values"))
            if values and (form.has(f"{prefix}kept") or not is_dynamic):
                yield prefix, values
    else:
        for number, values in enumerate(each for row in places_of(metric) for each in row):
            yield f"b{number}:", values
    yield OTHERS, None


def _prefixes(form: Form) -> list[str]:
    """Those of the filters that were sent."""
    sent = [name.removesuffix("values") for name, _ in form.pairs if name.endswith(":values")]
    return list(dict.fromkeys(sent))


def is_of_places(form: Form, metric: BillableMetric) -> bool:
    """Whether the filters that were sent all have a place in the price grid."""
    places = [each for row in places_of(metric) for each in row]
    return all(_values(form.get(f"{prefix}values")) in places for prefix in _prefixes(form))


def with_added(form: Form, metric: BillableMetric) -> tuple[Form, str | None]:
    """The form with the filter that was asked for, or what is wrong with it."""
    values = {}
    for key, known in metric.filters.items():
        listed = _listed(form.get(f"{ADDED}{key}"))
        if listed == [EVERY_VALUE]:
            values[key] = [ALL_FILTER_VALUES]
        elif not set(listed) <= set(known):
            return form, "value_is_not_listed"
        elif again := next((value for value in listed if listed.count(value) > 1), None):
            return form, f"“{again}” is there twice: give each value once"
        elif listed:
            values[key] = listed
    if not values:
        return form, "value_is_mandatory"
    shown = dict(_buckets(form, metric))
    if any(each is not None and _key(each) == _key(values) for each in shown.values()):
        return form, "value_already_exist"
    number = next(number for number in count() if f"b{number}:" not in shown)
    kept = [(name, text) for name, text in form.pairs if not name.startswith(ADDED) and name != ADD]
    if not _prefixes(form):
        kept += [(f"{prefix}values", json.dumps(each)) for prefix, each in shown.items() if each]
    added = [(f"b{number}:values", json.dumps(values)), (f"b{number}:kept", "yes")]
    return Form(pairs=(*kept, *added)), None


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def from_grid(form: Form, metric: BillableMetric) -> Form:
    """A form of the price grid with the same prices as one of the sheet."""
    charge = price_grid.read(form, metric)
    model = ChargeModel(charge["charge_model"])
    kept = [(name, text) for name, text in form.pairs if name not in _GRID and not name.startswith("price:")]
    terms = [(each["values"], None, each["properties"]) for each in charge["filters"]]
    typed = _bucket_pairs(metric, model, terms)
    if form.get("price:others"):
        typed += _typed(model, OTHERS, charge["properties"])
    more = [("charge_model", model.value), (f"{OTHERS}amount", form.get("price:others"))]
    return Form(pairs=(*kept, *typed, *more))


def _values(text: str) -> dict[str, list[str]]:
    """The values of a filter, from the hidden field; none where it holds none."""
    found = read_json(text)
    fits = isinstance(found, dict) and all(plain_texts(each) is not None for each in found.values())
    return found if fits else {}


def _bucket(
    form: Form,
    metric: BillableMetric,
    prefix: str,
    values: dict[str, list[str]] | None,
    *,
    currency: str,
    applied: AppliedPricingUnit | None,
) -> FilterSection:
    model = ChargeModel(form.get("charge_model"))
    typed = _is_typed(form, model, prefix)
    properties = _properties(form, model, prefix)
    codes = pricing.validate(model, pricing.clean(model, properties)) if typed else []
    calculated = None
    if (form.get("pricing_unit") and applied is None) or model is ChargeModel.CATALOGUE:
        calculated = None
    elif model is ChargeModel.CUSTOM and not codes:
        calculated = _calculated_events(form, metric, properties, currency=currency, applied=applied)
    elif typed and not codes:
        calculated = _calculated(form, model, properties, currency=currency, applied=applied)
    return FilterSection(
        prefix=prefix,
        title=values_text(values) if values else "Everything else",
        values=json.dumps(values) if values else "",
        name=form.get(f"{prefix}name"),
        groups=form.get(f"{prefix}groups"),
        is_kept=form.has(f"{prefix}kept"),
        is_dropped=form.has(f"{prefix}drop"),
        is_adjacent=form.has(f"{prefix}adjacent"),
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
        start = str(_after(to, adjacent=form.has(f"{prefix}adjacent"))) if to and start else ""
    return shown


def _after(to: str, *, adjacent: bool) -> Any:
    """Where the next tier begins: at the next whole unit, or at once."""
    value = number_or_none(to)
    return "" if value is None else value + (0 if adjacent else 1)


def _properties(form: Form, model: ChargeModel, prefix: str) -> dict[str, Any]:
    """The terms of a bucket as the API takes them; what is empty is left out."""
    found: dict[str, Any] = {}
    for name, _, _ in _FIELDS.get(model, ()):
        if text := form.get(f"{prefix}{name}"):
            found[name] = _term(name, text)
    if model is ChargeModel.PACKAGE:
        found = {"package_size": 1000, "free_units": 0, **found}
    if model in _TIERS:
        key, price_name, _ = _TIERS[model]
        adjacent = form.has(f"{prefix}adjacent")
        found[key] = _tiers(_typed_tiers(form, prefix), price_name, adjacent=adjacent)
    return found


def _term(name: str, text: str) -> Any:
    if name in _AS_JSON:
        return read_json(text)
    if name in _AS_TEXT:
        return text.strip()
    return json_number(text, whole=True) if name in WHOLE else plain_number(text)


def _tiers(rows: Sequence[tuple[str, str, str]], price_name: str, *, adjacent: bool) -> list[dict[str, Any]]:
    tiers: list[dict[str, Any]] = []
    start: Any = 0
    for to, price, flat in rows:
        to_value = json_number(to) if to else None
        prices = {price_name: plain_number(price or "0"), "flat_amount": plain_number(flat or "0")}
        tiers.append({"from_value": start, "to_value": to_value, **prices})
        start = to_value
        if isinstance(to_value, int | Decimal) and not adjacent:
            start = to_value + 1
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
    samples = [sample for sample in map(read_json, lines) if isinstance(sample, dict)]
    if rules is None or not samples:
        return None
    partial = fold_samples(rules, samples, properties)
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
    units = number_or_none(form.get("units"))
    events = typed_events(form.get("events")) if model is ChargeModel.PERCENTAGE else 1
    if units is None or units < 0 or events is None or model not in calculator.MODELS:
        return None
    found = calculator.priced(model, properties, units=units, events=events, currency=currency)
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
        is_there = _is_typed(form, model, prefix) or (
            model is ChargeModel.DYNAMIC and form.has(f"{prefix}kept")
        )
        if values and is_there and not form.has(f"{prefix}drop"):
            known = kept.get(_key(values))
            own = known.properties if known else {}
            filters.append(
                {
                    "values": values,
                    "properties": _with_groups(form, prefix, _properties(form, model, prefix), own),
                    "invoice_display_name": form.get(f"{prefix}name") or None,
                }
            )
    return {
        "billable_metric_id": str(metric.id),
        "charge_model": model.value,
        "invoice_display_name": form.get("charge_name") or None,
        "properties": _with_groups(form, OTHERS, _others(form, model), before.properties if before else {}),
        "filters": filters,
    }


def _others(form: Form, model: ChargeModel) -> dict[str, Any]:
    """The terms of everything else; nothing typed is the model's own beginning, which costs nothing."""
    return _properties(form, model, OTHERS) if _is_typed(form, model, OTHERS) else pricing.defaults(model)


def _with_groups(
    form: Form, prefix: str, properties: dict[str, Any], before: Mapping[str, Any]
) -> dict[str, Any]:
    keys = _listed(form.get(f"{prefix}groups" if form.has(OWN_GROUPS) else PRICING))
    shown = form.get("charge_model") == ChargeModel.CUSTOM
    unseen = (PRESENTATION,) if shown else (PRESENTATION, CUSTOM_PROPERTIES)
    kept = {name: before[name] for name in unseen if name in before}
    return {**properties, **kept, **({PRICING: keys} if keys else {})}


def _key(values: Mapping[str, Sequence[str]]) -> str:
    return json.dumps({key: sorted(listed) for key, listed in values.items()}, sort_keys=True)


def filled(charge: Charge) -> Form:
    """The form with the terms of a charge."""
    model = charge.charge_model
    pairs = [
        ("charge_model", charge.charge_model),
        ("charge_name", charge.invoice_display_name or ""),
        (PRICING, _groups(charge.properties)),
    ]
    terms = [
        (
            {key: list(listed) for key, listed in each.values.items()},
            each.invoice_display_name,
            each.properties,
        )
        for each in charge.filters
    ]
    pairs += _bucket_pairs(charge.metric, model, terms)
    pairs += _typed(model, OTHERS, charge.properties)
    if any(_groups(each.properties) != _groups(charge.properties) for each in charge.filters):
        pairs += [(OWN_GROUPS, "yes"), (f"{OTHERS}groups", _groups(charge.properties))]
        pairs += [
            (f"b{number}:groups", _groups(each.properties)) for number, each in enumerate(charge.filters)
        ]
    return Form(pairs=tuple(pairs))


def _groups(properties: Mapping[str, Any]) -> str:
    return ", ".join(properties.get(PRICING) or ())


FilterTerms = tuple[dict[str, list[str]], str | None, Mapping[str, Any]]
"""The fields of a filter: values, name on the invoice, properties."""


def _bucket_pairs(
    metric: BillableMetric, model: ChargeModel, filters: Sequence[FilterTerms]
) -> list[tuple[str, str]]:
    """The fields of filters, and empty ones for the places of the price grid that have none."""
    pairs = []
    for number, (values, name, properties) in enumerate(filters):
        prefix = f"b{number}:"
        pairs += [(f"{prefix}values", json.dumps(values)), (f"{prefix}kept", "yes")]
        pairs += [(f"{prefix}name", name or ""), *_typed(model, prefix, properties)]
    known = [values for values, _, _ in filters]
    missing = [each for row in places_of(metric) for each in row if each not in known]
    return pairs + [
        (f"b{number}:values", json.dumps(values)) for number, values in enumerate(missing, start=len(known))
    ]


def _typed(model: ChargeModel, prefix: str, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, _, _ in _FIELDS.get(model, ()):
        if properties.get(name) is not None:
            value = properties[name]
            yield f"{prefix}{name}", exact_json(value) if name in _AS_JSON else str(value)
    if model in _TIERS:
        key, price_name, _ = _TIERS[model]
        tiers = properties.get(key) or ()
        pairs = list(pairwise(tiers))
        if pairs and all(later.get("from_value") == earlier.get("to_value") for earlier, later in pairs):
            yield f"{prefix}adjacent", "yes"
        for tier in tiers:
            to = tier.get("to_value")
            yield f"{prefix}to", "" if to is None else str(to)
            yield f"{prefix}price", str(tier.get(price_name, ""))
            yield f"{prefix}flat", str(tier.get("flat_amount", ""))
