"""Billable metrics: the list, one with its API call and a tester for events, and the forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from permille.api.billable_metrics import read_changed_metric, read_metric, render_billable_metric
from permille.api.estimates import read_event, render_estimate
from permille.api.objects.billable_metric import BillableMetric as ShownMetric
from permille.api.objects.fee import Fee
from permille.api.validation import Fields
from permille.core.contract.price_versions import in_force
from permille.core.errors import BadRequest, Invalid, Refusal
from permille.core.instants import EPOCH
from permille.core.metering.aggregations import AGGREGATIONS, CUSTOM, WEIGHTED_SUM
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    ExpressionError,
    read_expression,
    value_text,
)
from permille.events.engine import upkeep
from permille.ingest.decoders.lago import read_one
from permille.store import billable_metrics, late_usage, plans
from permille.usecases.catalogue import metrics as catalogue
from permille.usecases.usage.estimates import estimate
from permille.web.matching import verdict
from permille.web.price_grid import beside
from permille.web.shown import in_path
from permille.web.typed_number import json_number
from permille.web.visit import Done, Form, HtmlPage, Visit

AGGREGATION_TITLES = [(each.name, each.title) for each in AGGREGATIONS]
ROUNDINGS = (("", "None"), ("round", "To the nearest"), ("ceil", "Up"), ("floor", "Down"))
RULES = ("total_units", "amount")
FIELDS = {"values": "filters", "key": "filters"}
PROPERTY = re.compile(r"event\.properties\.(\w+)", re.ASCII)
DIMENSION_ROWS = 2


def listing(visit: Visit) -> HtmlPage:
    """GET /app/billable-metrics."""
    page = visit.page()
    found, total = billable_metrics.listing(
        visit.conn, visit.here.id, limit=page.per_page, offset=page.offset
    )
    context = {
        "metrics": [render_billable_metric(metric) for metric in found],
        "meta": page.meta(total),
        "aggregations": dict(AGGREGATION_TITLES),
    }
    return HtmlPage(template="metrics.html", context=context)


def metric_url(code: str) -> str:
    return f"/app/billable-metrics/{in_path(code)}"


def blank(visit: Visit) -> HtmlPage:
    """GET /app/new-billable-metric."""
    return _form_page(visit, before=None, dimensions=_typed(visit.form), is_priced=False)


def _form_page(
    visit: Visit, *, before: ShownMetric | None, dimensions: list[tuple[str, str]], is_priced: bool
) -> HtmlPage:
    problems = dict(beside(visit.problems, FIELDS))
    if "invalid_expression" in problems.get("expression", ()):
        try:
            read_expression(visit.form.get("expression"))
        except ExpressionError as error:
            problems["expression"] = ["invalid_expression", str(error)]
    context = {
        "before": before,
        "aggregations": AGGREGATION_TITLES,
        "roundings": ROUNDINGS,
        "dimensions": dimensions,
        "is_priced": is_priced,
        "problems": problems,
    }
    return HtmlPage(template="metric_form.html", context=context)


def _typed(form: Form, known: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    """(key, values) of each row for dimensions, and empty rows to fill."""
    rows = list(zip(form.all("key"), form.all("values"), strict=False)) if form.pairs else known or []
    rows = [row for row in rows if any(row)]
    return rows + [("", "")] * max(1, DIMENSION_ROWS - len(rows))


def _filters(form: Form) -> list[dict[str, Any]]:
    rows = zip(form.all("key"), form.all("values"), strict=False)
    return [
        {"key": key, "values": [value.strip() for value in values.split(",") if value.strip()]}
        for key, values in rows
        if key or values
    ]


def create(visit: Visit) -> Done:
    """POST /app/new-billable-metric."""
    body = {**_always(visit.form), **_measure(visit.form), "code": visit.form.get("code")}
    made = read_metric(visit.conn, visit.here.id, Fields(body), now=visit.now)
    catalogue.add(visit.conn, made)
    to = f"{metric_url(made.code)}?said=created"
    return Done(action="created metric", subject=made.code, to=to, details=body)


def _always(form: Form) -> dict[str, Any]:
    """What may change at any time."""
    return {
        "name": form.get("name"),
        "description": form.get("description") or None,
        "filters": _filters(form),
    }


def _measure(form: Form) -> dict[str, Any]:
    """What is fixed as soon as a plan prices the metric."""
    kind = form.get("aggregation_type")
    is_custom = kind == CUSTOM.name
    digits = form.get("rounding_precision")
    return {
        "aggregation_type": kind,
        "field_name": form.get("field_name") or None,
        "rounding_function": form.get("rounding_function") or None,
        "rounding_precision": json_number(digits, whole=True) if digits else None,
        "expression": form.get("expression") or None,
        "recurring": form.has("recurring"),
        "weighted_interval": "seconds" if kind == WEIGHTED_SUM.name else None,
        "custom_aggregator": {name: form.get(name) for name in RULES} if is_custom else None,
    }


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-billable-metric/{code}."""
    metric = _named(visit)
    known = [(key, ", ".join(values)) for key, values in metric.filters.items()]
    return _form_page(
        visit,
        before=render_billable_metric(metric),
        dimensions=_typed(visit.form, known),
        is_priced=billable_metrics.is_priced(visit.conn, metric.id),
    )


def _named(visit: Visit) -> BillableMetric:
    return catalogue.by_code(visit.conn, visit.here.id, visit.path["code"])


def update(visit: Visit) -> Done:
    """POST /app/edit-billable-metric/{code}."""
    form, code = visit.form, visit.path["code"]
    body = {**_always(form), **(_measure(form) if form.has("aggregation_type") else {})}
    known = catalogue.to_change(visit.conn, visit.here.id, code)
    after = read_changed_metric(visit.conn, Fields(body), known, now=visit.now)
    catalogue.change(visit.conn, known, after)
    to = f"{metric_url(code)}?said=saved"
    return Done(action="changed metric", subject=code, to=to, details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-billable-metric/{code}."""
    gone = catalogue.to_change(visit.conn, visit.here.id, visit.path["code"])
    catalogue.remove(visit.conn, gone, now=visit.now)
    to = "/app/billable-metrics?said=deleted"
    return Done(action="deleted metric", subject=visit.path["code"], to=to)


def detail(visit: Visit) -> HtmlPage:
    """GET /app/billable-metrics/{code}; with `event` in the query, what that event would count as."""
    metric = _named(visit)
    example = _example(metric, visit)
    text = visit.query.get("event", "")
    context: dict[str, Any] = {
        "metric": render_billable_metric(metric),
        "aggregations": dict(AGGREGATION_TITLES),
        "roundings": dict(ROUNDINGS),
        "is_priced": billable_metrics.is_priced(visit.conn, metric.id),
        "example": example,
        "text": text or example,
        "base_url": visit.engine.config.base_url,
        "verdict": None,
        "bad": None,
        "estimates": [],
        "is_being_rebuilt": upkeep.is_being_rebuilt(visit.conn, visit.here.id, metric.code),
    }
    if text:
        context |= _tested(visit, text)
    return HtmlPage(template="metric.html", context=context)


def _example(metric: BillableMetric, visit: Visit) -> str:
    """An event that counts, as JSON."""
    properties: dict[str, Any] = {key: values[0] for key, values in metric.filters.items()}
    rules = [metric.expression or "", *(metric.custom_aggregator or {}).values()]
    looked_at = [name for text in rules for name in PROPERTY.findall(text)]
    own = [metric.field_name] if metric.field_name and not metric.expression else []
    properties |= {name: 1250 for name in (*own, *looked_at) if name not in properties}
    event = {
        "transaction_id": "request-1",
        "external_subscription_id": "acme-1",
        "code": metric.code,
        "timestamp": int(visit.now.timestamp()),
        "properties": properties,
    }
    return msgspec.json.format(msgspec.json.encode({"event": event}), indent=2).decode()


def _tested(visit: Visit, text: str) -> dict[str, Any]:
    """The verdict on an event that was pasted, read as ingestion reads it; or what is wrong with it."""
    try:
        (draft,) = read_one(text.encode(), now=visit.now)
    except BadRequest as refusal:
        return {"bad": [refusal.reason]}
    except Invalid as refusal:
        return {"bad": [f"{field}: {', '.join(codes)}" for field, codes in refusal.errors.items()]}
    metric = billable_metrics.by_code(visit.conn, visit.here.id, draft.code)
    properties = draft.properties
    if metric and metric.expression and metric.field_name:
        try:
            value = read_expression(metric.expression).evaluate(
                Event(draft.code, draft.at // 1_000_000, properties)
            )
        except EvaluationError as error:
            return {"bad": [f"its expression has no value: {error}"]}
        properties = {**properties, metric.field_name: value_text(value)}
    priced = plans.plans_of_metric(visit.conn, metric.id) if metric else []
    chosen = [in_force(plan, visit.now) for plan in priced if plan.parent_id is None]
    return {
        "verdict": verdict(metric, draft.code, properties, chosen),
        "estimates": _estimates(visit, draft.code, draft.external_subscription_id, draft.properties),
        "too_late": late_usage.if_sent_now(
            visit.conn,
            visit.here.id,
            [(draft.external_subscription_id, draft.code, EPOCH + timedelta(microseconds=draft.at))],
        ).get(0)
        if draft.external_subscription_id
        else None,
    }


def _estimates(visit: Visit, code: str, external_id: str | None, properties: Mapping[str, Any]) -> list[Fee]:
    """What the event would make its subscription pay at once, on top of what it has used."""
    event = {"code": code, "external_subscription_id": external_id, "properties": properties}
    try:
        found = estimate(visit.conn, visit.here.id, read_event(event), now=visit.now)
    except Refusal:
        return []
    return [render_estimate(each, now=visit.now) for each in found]
