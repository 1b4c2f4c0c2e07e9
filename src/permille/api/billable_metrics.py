"""Billable metrics: what is measured, and along which dimensions. semantics-metering.md section 2.1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType
from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import billable_metric as objects
from permille.api.objects.billable_metric import AGGREGATION_TYPES
from permille.api.render import instant
from permille.api.validation import INVALID, LONG_TEXT, MANDATORY, Fields, plain_texts
from permille.core.bounds import EXPRESSION_LENGTH_MAX, METRIC_VALUES_MAX
from permille.core.errors import Invalid
from permille.core.metering.aggregations import CUSTOM, SUM, Reads, aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.event import timestamp_microseconds
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    ExpressionError,
    read_expression,
    value_text,
)
from permille.core.metering.rule import read_rule
from permille.core.record import replace
from permille.events.draft import properties_errors
from permille.ids import new_id
from permille.store import billable_metrics
from permille.usecases.catalogue import metrics

ROUNDING_FUNCTIONS = ("round", "ceil", "floor")
ROUNDING_DIGITS_MAX = 15


def create_billable_metric(call: Call) -> dict[str, Any]:
    """POST /billable_metrics."""
    fields = Fields(call.root("billable_metric"))
    metric = read_metric(call.conn, call.organization.id, fields, now=call.now)
    metrics.add(call.conn, metric)
    return _answer(metric)


def read_metric(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> BillableMetric:
    """A new metric. Raises Invalid."""
    metric = BillableMetric(
        id=new_id(now),
        organization_id=organization_id,
        name=fields.text("name", mandatory=True) or "",
        code=fields.text("code", mandatory=True) or "",
        description=fields.text("description", limit=LONG_TEXT),
        **_measure(fields),
        filters=_filters(fields) or {},
        created_at=now,
        updated_at=now,
    )
    _check(conn, fields, metric)
    return metric


def read_changed_metric(
    conn: Connection[Any], fields: Fields, before: BillableMetric, *, now: datetime
) -> BillableMetric:
    """The changed metric: where a plan prices it, only name, description and filters change. Raises Invalid."""
    after = replace(_renamed(fields, before), updated_at=now)
    if not billable_metrics.is_priced(conn, before.id):
        after = _measured_again(fields, after)
    _check(conn, fields, after, before=before.code)
    return after


def _check(
    conn: Connection[Any], fields: Fields, metric: BillableMetric, *, before: str | None = None
) -> None:
    """Raises Invalid for what is wrong; a code that another has too, unless it was its own `before`."""
    is_new = metric.code != before and "code" not in fields.errors
    if is_new and metrics.is_code_taken(conn, metric.organization_id, metric.code):
        fields.refuse("code", "value_already_exist")
    fields.check()


def _measure(fields: Fields) -> dict[str, Any]:
    """The fields that say what is counted and how."""
    name = fields.choice("aggregation_type", AGGREGATION_TYPES, mandatory=True)
    aggregation = aggregation_of(name) if name else SUM
    counts, is_custom = aggregation.reads is Reads.NOTHING, aggregation.reads is Reads.RULES
    recurring = fields.flag("recurring") or False
    if recurring and not aggregation.can_recur:
        fields.refuse("recurring", "not_compatible_with_aggregation_type")
    return {
        "aggregation": aggregation,
        "field_name": None if counts else fields.text("field_name", mandatory=not is_custom) or None,
        "recurring": recurring,
        "rounding_function": fields.choice("rounding_function", ROUNDING_FUNCTIONS),
        "rounding_precision": fields.whole(
            "rounding_precision", minimum=-ROUNDING_DIGITS_MAX, maximum=ROUNDING_DIGITS_MAX
        ),
        "weighted_interval": fields.choice("weighted_interval", ("seconds",), mandatory=True)
        if aggregation.is_by_time
        else None,
        "expression": _expression(fields),
        "custom_aggregator": _custom_aggregator(fields, wanted=is_custom),
    }


def _expression(fields: Fields) -> str | None:
    text = fields.text("expression", limit=EXPRESSION_LENGTH_MAX)
    if not text:
        return None
    try:
        read_expression(text)
    except ExpressionError:
        fields.refuse("expression", "invalid_expression")
    return text


def _custom_aggregator(fields: Fields, *, wanted: bool) -> dict[str, str] | None:
    """The rules of a custom aggregation, each a text that reads as one (core.rule)."""
    if not wanted:
        if fields.given.get("custom_aggregator"):
            fields.refuse("custom_aggregator", "value_must_be_blank")
        return None
    given = fields.nested("custom_aggregator")
    if given is None or not given.given:
        fields.errors.setdefault("custom_aggregator", [MANDATORY])
        return None
    texts = {
        "total_units": given.text("total_units", mandatory=True, limit=EXPRESSION_LENGTH_MAX),
        "amount": given.text("amount", limit=EXPRESSION_LENGTH_MAX),
    }
    rules = {name: text for name, text in texts.items() if text}
    for name, text in rules.items():
        try:
            read_rule(text)
        except ExpressionError as error:
            fields.refuse(name, "invalid_expression")
            fields.refuse(name, str(error))
    return rules


def evaluate_expression(call: Call) -> dict[str, Any]:
    """POST /billable_metrics/evaluate_expression: what an expression yields for an event; there is no root key."""
    body = call.body if isinstance(call.body, dict) else {}
    text, event = body.get("expression"), body.get("event")
    if not isinstance(text, str) or not text.strip():
        raise Invalid({"expression": ["value_is_mandatory"]})
    try:
        expression = read_expression(text)
    except ExpressionError as error:
        raise Invalid({"expression": ["invalid_expression"]}) from error
    if not isinstance(event, dict):
        raise Invalid({"event": ["invalid_event"]})
    if errors := properties_errors(event.get("properties")):
        raise Invalid(errors)
    try:
        value = expression.evaluate(_event(event, call))
    except EvaluationError as error:
        raise Invalid({"event": ["invalid_event"]}) from error
    return {"expression_result": objects.ExpressionResult(value=value_text(value))}


def _event(given: Mapping[str, Any], call: Call) -> Event:
    at = timestamp_microseconds(given["timestamp"]) if given.get("timestamp") is not None else None
    seconds = at // 1_000_000 if at is not None else int(call.now.timestamp())
    properties = given.get("properties")
    return Event(str(given.get("code") or ""), seconds, properties if isinstance(properties, dict) else {})


def _filters(fields: Fields) -> dict[str, tuple[str, ...]] | None:
    """The dimensions, None when the request does not speak of them; keys and values keep the order in which they are given."""
    entries = fields.objects("filters")
    if entries is None:
        return None
    found: dict[str, tuple[str, ...]] = {}
    keys: list[str] = []
    for entry in entries:
        key = entry.text("key", mandatory=True)
        values = plain_texts(entry.given.get("values") or [])
        if values is None:
            fields.refuse("values", INVALID)
        elif not any(values):
            fields.refuse("values", MANDATORY)
        elif key:
            keys.append(key)
            found[key] = tuple(value for value in values if value)
            fields.refuse_repeated("values", found[key])
    fields.refuse_repeated("key", keys)
    if sum(map(len, found.values())) > METRIC_VALUES_MAX:
        fields.refuse("values", "too_many_values")
    return found


def list_billable_metrics(call: Call) -> dict[str, Any]:
    """GET /billable_metrics."""
    page = call.page()
    rows, total = billable_metrics.listing(
        call.conn, call.organization.id, limit=page.per_page, offset=page.offset
    )
    return {"billable_metrics": [_with_counts(row) for row in rows], "meta": page.meta(total)}


def show_billable_metric(call: Call) -> dict[str, Any]:
    """GET /billable_metrics/{code}."""
    found = metrics.by_code(call.conn, call.organization.id, call.path["code"])
    return {"billable_metric": render_billable_metric(found)}


def update_billable_metric(call: Call) -> dict[str, Any]:
    """PUT /billable_metrics/{code}: of a metric that a plan prices, only name, description and filters change."""
    before = metrics.to_change(call.conn, call.organization.id, call.path["code"])
    fields = Fields(call.root("billable_metric"))
    after = read_changed_metric(call.conn, fields, before, now=call.now)
    metrics.change(call.conn, before, after)
    return _answer(after)


def _renamed(fields: Fields, metric: BillableMetric) -> BillableMetric:
    """The changes that are always allowed."""
    if fields.has("name"):
        metric = replace(metric, name=fields.text("name", mandatory=True) or "")
    if fields.has("description"):
        metric = replace(metric, description=fields.text("description", limit=LONG_TEXT))
    filters = _filters(fields)
    return metric if filters is None else replace(metric, filters=filters)


def _measured_again(fields: Fields, metric: BillableMetric) -> BillableMetric:
    """The changes that are allowed while no plan prices the metric; what is not sent stays."""
    kept = {
        name: getattr(metric, name)
        for name in (
            "aggregation_type",
            "field_name",
            "recurring",
            "rounding_function",
            "rounding_precision",
            "weighted_interval",
            "expression",
            "custom_aggregator",
        )
    }
    if fields.given.get("aggregation_type", metric.aggregation_type) != CUSTOM.name:
        kept["custom_aggregator"] = None
    merged = Fields({**kept, **fields.given}, fields)
    if fields.has("code"):
        metric = replace(metric, code=fields.text("code", mandatory=True) or "")
    return replace(metric, **_measure(merged))


def delete_billable_metric(call: Call) -> dict[str, Any]:
    """DELETE /billable_metrics/{code}: its charges go at once, its events stay."""
    metric = metrics.to_change(call.conn, call.organization.id, call.path["code"])
    metrics.remove(call.conn, metric, now=call.now)
    return _answer(metric)


def render_billable_metric(
    metric: BillableMetric, *, counted: int | UnsetType = UNSET
) -> objects.BillableMetric:
    """The metric. `counted` is the value of Lago's deprecated counters, where an answer has them."""
    return objects.BillableMetric(
        lago_id=metric.id,
        name=metric.name,
        code=metric.code,
        description=metric.description,
        aggregation_type=metric.aggregation_type,
        weighted_interval=metric.weighted_interval,
        recurring=metric.recurring,
        rounding_function=metric.rounding_function,
        rounding_precision=metric.rounding_precision,
        created_at=instant(metric.created_at),
        field_name=metric.field_name,
        expression=metric.expression,
        custom_aggregator=metric.custom_aggregator or UNSET,
        filters=[objects.Dimension(key=key, values=list(values)) for key, values in metric.filters.items()],
        active_subscriptions_count=counted,
        draft_invoices_count=counted,
        plans_count=counted,
    )


def _answer(metric: BillableMetric) -> dict[str, Any]:
    return {"billable_metric": _with_counts(metric)}


def _with_counts(metric: BillableMetric) -> objects.BillableMetric:
    """With Lago's deprecated counters, which are always 0."""
    return render_billable_metric(metric, counted=0)
