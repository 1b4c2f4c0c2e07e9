"""The price grid: a price for each pair of dimension values, rows and columns of a form, as a charge's filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from permille.core.contract.plan import Charge, PlanFilter
from permille.core.metering.billable_metric import BillableMetric
from permille.core.rating import models as pricing
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.group_keys import PRICING
from permille.core.record import Record
from permille.web.typed_number import json_number, plain_number
from permille.web.visit import Form, Problems

MODELS = (ChargeModel.PACKAGE, ChargeModel.STANDARD)
PACKAGE_SIZE = "1000"
NO_KEY = ""
TERMS = {"package_size", "free_units", PRICING}
FIELDS = {
    "amount_cents": "amount",
    "invoice_display_name": "charge_name",
    "min_amount_cents": "min_amount",
    "applied_pricing_unit": "pricing_unit",
    "values": "filters",
    "billable_metric_filter": "filters",
    "pay_in_advance": "billed",
    "invoiceable": "billed",
    "regroup_paid_fees": "billed",
}
FIELDS_OF_CODES = {
    "invalid_amount": "prices",
    "invalid_package_size": "package_size",
    "invalid_free_units": "free_units",
}


class Cell(Record, kw_only=True):
    """A price to type; `name` is its field."""

    name: str
    label: str
    text: str
    code: str | None
    """What is wrong with it."""


class Grid(Record, kw_only=True):
    """Rows of cells under columns. A metric with one dimension has one column, without one a single cell."""

    row_key: str
    column_key: str
    rows: Sequence[tuple[str, Sequence[Cell]]]
    columns: Sequence[str]
    others: Cell
    """The price of what is in no cell."""


def keys_of(metric: BillableMetric) -> tuple[str, str]:
    """The dimensions of rows and columns: the model down, the type across, where there are such."""
    keys = list(metric.filters)
    rows = next((key for key in ("model", *keys) if key in keys), NO_KEY)
    rest = [key for key in keys if key != rows]
    return rows, next((key for key in ("type", *rest) if key in rest), NO_KEY)


def places_of(metric: BillableMetric) -> list[list[dict[str, list[str]]]]:
    """The dimension values of each cell, row by row."""
    row_key, column_key = keys_of(metric)
    if row_key == NO_KEY:
        return []
    columns = metric.filters[column_key] if column_key else (NO_KEY,)
    return [
        [{row_key: [row], **({column_key: [column]} if column_key else {})} for column in columns]
        for row in metric.filters[row_key]
    ]


def _values(entry: PlanFilter) -> dict[str, list[str]]:
    return {key: list(listed) for key, listed in entry.values.items()}


def read(form: Form, metric: BillableMetric, before: Charge | None = None) -> dict[str, Any]:
    """The charge that a form asks for, as the API takes it.

    Of the charge that it changes, the filters keep their order and their names on the invoice.
    """
    model = form.get("charge_model", ChargeModel.PACKAGE)
    places = [
        (f"price:{r}:{c}", values) for r, row in enumerate(places_of(metric)) for c, values in enumerate(row)
    ]
    kept = [(_values(each), each.invoice_display_name) for each in before.filters] if before else []
    filters = [
        {
            "values": values,
            "properties": _properties(form, form.get(name)),
            "invoice_display_name": next((text for known, text in kept if known == values), None),
        }
        for name, values in places
        if form.get(name)
    ]
    order = [known for known, _ in kept]
    filters.sort(key=lambda each: order.index(each["values"]) if each["values"] in order else len(order))
    return {
        "billable_metric_id": str(metric.id),
        "charge_model": model,
        "invoice_display_name": form.get("charge_name") or None,
        "properties": _properties(form, form.get("price:others") or "0"),
        "filters": filters,
    }


def _properties(form: Form, price: str) -> dict[str, Any]:
    keys = [key.strip() for key in form.get(PRICING).split(",") if key.strip()]
    return {**_priced(form, price), **({PRICING: keys} if keys else {})}


def _priced(form: Form, price: str) -> dict[str, Any]:
    if form.get("charge_model", ChargeModel.PACKAGE) != ChargeModel.PACKAGE:
        return {"amount": plain_number(price)}
    return {
        "amount": plain_number(price),
        "package_size": json_number(form.get("package_size", PACKAGE_SIZE), whole=True),
        "free_units": json_number(form.get("free_units", "0") or "0", whole=True),
    }


def fits(charge: Charge) -> bool:
    """Whether the grid can show all that the charge's prices are, and so change them without a loss."""
    places = [values for row in places_of(charge.metric) for values in row]
    known = [_values(each) for each in charge.filters]
    terms = _terms(charge.properties)
    return (
        charge.charge_model in MODELS
        and terms.keys() <= TERMS
        and all(values in places for values in known)
        and all(_terms(each.properties) == terms for each in charge.filters)
    )


def cells_of(charge: Charge) -> Sequence[tuple[str, Sequence[int | None]]]:
    """Rows of a charge that fits: in each cell the number of its filter, None where there is no own price."""
    row_key, _ = keys_of(charge.metric)
    numbered = [_values(each) for each in charge.filters]
    return [
        (row[0][row_key][0], [numbered.index(each) if each in numbered else None for each in row])
        for row in places_of(charge.metric)
    ]


def _terms(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key != "amount"}


def filled(charge: Charge) -> Form:
    """The form with the prices of a charge that fits."""
    prices = [(_values(each), str(each.properties["amount"])) for each in charge.filters]
    pairs = [
        ("charge_model", charge.charge_model),
        ("charge_name", charge.invoice_display_name or ""),
        ("package_size", str(charge.properties.get("package_size", PACKAGE_SIZE))),
        ("free_units", str(charge.properties.get("free_units", 0))),
        ("price:others", str(charge.properties["amount"])),
        (PRICING, ", ".join(charge.properties.get(PRICING) or ())),
    ]
    for r, row in enumerate(places_of(charge.metric)):
        for c, values in enumerate(row):
            pairs += [(f"price:{r}:{c}", price) for known, price in prices if known == values]
    return Form(pairs=tuple(pairs))


def grid_of(metric: BillableMetric, form: Form) -> Grid:
    """What the template draws, with what was typed."""
    row_key, column_key = keys_of(metric)
    rows = metric.filters[row_key] if row_key else ()
    columns = metric.filters[column_key] if column_key else ("price",)
    return Grid(
        row_key=row_key,
        column_key=column_key,
        columns=columns if rows else (),
        rows=[
            (row, [_cell(form, f"price:{r}:{c}", f"{row}, {column}") for c, column in enumerate(columns)])
            for r, row in enumerate(rows)
        ],
        others=_cell(form, "price:others", "anything else" if rows else "price"),
    )


def _cell(form: Form, name: str, label: str) -> Cell:
    text = form.get(name)
    codes = pricing.validate(ChargeModel.STANDARD, {"amount": plain_number(text)}) if text else []
    return Cell(name=name, label=label, text=text, code=codes[0] if codes else None)


def beside(problems: Problems, fields: Mapping[str, str] = FIELDS) -> Problems:
    """The problems under the names of the form's fields, each shown once.

    The API names the properties of the charge and of all its filters alike; `fields` are its other names.
    """
    placed: dict[str, list[str]] = {}
    for name, codes in problems.items():
        for code in codes:
            own = FIELDS_OF_CODES.get(code) if name == "properties" else None
            listed = placed.setdefault(own or fields.get(name, name), [])
            if code not in listed:
                listed.append(code)
    return placed
