"""Usage of a customer's subscription: the running period, what it may come to, and the periods that are billed.

semantics-metering.md sections 6.2, 6.4 and 6.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import UNSET
from starlette.datastructures import QueryParams

from permille.api.http import PER_PAGE_MAX, Call, Page, decode_json
from permille.api.objects import usage as objects
from permille.api.objects.fee import PresentationBreakdown
from permille.api.objects.pricing_unit import UsageInPricingUnit
from permille.api.render import breakdowns, instant, last_instant
from permille.api.validation import storable
from permille.api.written_groups import written_groups
from permille.core.errors import BadRequest, Invalid, NotFound
from permille.core.metering.event import property_text
from permille.core.money import ZERO, decimal_text, exact
from permille.core.rating.projection import Projection
from permille.http.query import query_flag
from permille.store import billable_metrics
from permille.usecases.usage import usage
from permille.usecases.usage.usage import (
    ChargeUsage,
    PeriodUsage,
    ShownBreakdown,
    UsageLine,
    UsageSearch,
    UsedFilter,
)

GROUP_PARAMETERS = ("group", "filter_by_group")

_NO_UNITS = decimal_text(ZERO)


def show_current_usage(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/current_usage."""
    return {
        "customer_usage": render_usage(_current(call, read_search(call.query)), groups=written_or_rendered)
    }


def show_projected_usage(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/projected_usage: the current usage, and what it may come to."""
    search = UsageSearch(with_taxes=query_flag(call.query, "apply_taxes") is not False, projected=True)
    return {"customer_projected_usage": render_usage(_current(call, search), projected=True)}


def _current(call: Call, search: UsageSearch) -> PeriodUsage:
    return usage.current_usage(
        call.conn,
        organization_id=call.organization.id,
        external_customer_id=call.path["external_id"],
        external_subscription_id=call.query.get("external_subscription_id", ""),
        search=search,
        now=call.now,
    )


def read_search(query: QueryParams) -> UsageSearch:
    """What a query narrows usage to; the names that Lago has given up are understood."""
    return UsageSearch(
        charge_id=_first(query, "charge_id", "filter_by_charge_id"),
        charge_code=_first(query, "charge_code", "filter_by_charge_code"),
        billable_metric_code=_first(query, "billable_metric_code", "filter_by_metric_code"),
        groups=_groups(query),
        skip_grouping=query_flag(query, "skip_grouping") or False,
        presentation=_presentation(query),
        full_usage=query_flag(query, "full_usage") or False,
        with_taxes=query_flag(query, "apply_taxes") is not False,
    )


def _first(query: QueryParams, *names: str) -> str | None:
    return next((query[name] for name in names if query.get(name)), None)


def _groups(query: QueryParams) -> dict[str, tuple[str, ...]]:
    """`group[key]=value`, `group[key][]=value` for several, or `group=` with a JSON object."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in GROUP_PARAMETERS:
        for key, values in _json_object(query.get(name)).items():
            listed = values if isinstance(values, list) else [values]
            groups[key] = tuple(property_text(value) or "" for value in listed)
        for parameter, value in query.multi_items():
            if parameter.startswith(f"{name}[") and parameter.removesuffix("[]").endswith("]"):
                key = parameter.removesuffix("[]")[len(name) + 1 : -1]
                groups[key] = (*groups.get(key, ()), value)
        if groups:
            break
    return groups


def _json_object(text: str | None) -> Mapping[str, Any]:
    found = _json(text)
    return found if isinstance(found, dict) else {}


def _json(text: str | None) -> Any:
    try:
        found = decode_json(text.encode()) if text else None
    except BadRequest:
        return None
    return found if storable(found) else None


def _presentation(query: QueryParams) -> tuple[str, ...] | None:
    found = _json(query.get("filter_by_presentation"))
    return tuple(property_text(value) or "" for value in found) if isinstance(found, list) else None


def written_or_rendered(found: ChargeUsage, projected: bool) -> Any:
    """The usage by group of a charge, as JSON at once where there are only sums to say."""
    return written_groups(found) or _render_groups(found, projected)


def _render_groups(found: ChargeUsage, projected: bool) -> list[objects.GroupUsage]:
    """An item for each pricing group, whatever filters it is of; none when nothing is grouped."""
    if not any(line.grouped_by for line in found.lines):
        return []
    split: dict[Any, list[UsageLine]] = {}
    for line in found.lines:
        group = line.grouped_by.items()
        split.setdefault(tuple(group if len(group) < 2 else sorted(group)), []).append(line)
    return [
        objects.GroupUsage(
            **_sums(lines, projected),
            grouped_by=lines[0].grouped_by,
            filters=_render_filters(lines, projected) if found.has_filters else [],
            **_breakdowns([line for line in lines if line.filter is None and line.grouped_by], projected),
        )
        for lines in split.values()
    ]


def render_usage(
    found: PeriodUsage,
    *,
    projected: bool = False,
    groups: Callable[[ChargeUsage, bool], Any] = _render_groups,
) -> objects.Usage:
    """The object, or with projections the one that has these and not all of the rest.

    `groups` makes the usage by group of a charge: objects, or JSON for an answer that is written at once.
    """
    return objects.Usage(
        from_datetime=instant(found.period.from_),
        to_datetime=last_instant(found.period.to),
        issuing_date=found.issuing_date,
        currency=found.currency,
        amount_cents=found.amount_cents,
        projected_amount_cents=found.projected_amount_cents if projected else UNSET,
        taxes_amount_cents=found.taxes_amount_cents,
        total_amount_cents=found.amount_cents + found.taxes_amount_cents,
        lago_invoice_id=found.invoice_id,
        charges_usage=[_render_charge(each, found.currency, projected, groups) for each in found.charges],
    )


def _render_charge(
    found: ChargeUsage, currency: str, projected: bool, groups: Callable[[ChargeUsage, bool], Any]
) -> objects.ChargeUsage:
    plain = [line for line in found.lines if line.filter is None and not line.grouped_by]
    return objects.ChargeUsage(
        **_sums(found.lines, projected),
        amount_currency=currency,
        charge=objects.UsedCharge(
            lago_id=found.charge_id,
            code=UNSET if projected else found.charge_code,
            charge_model=found.charge_model,
            invoice_display_name=found.invoice_display_name,
        ),
        billable_metric=objects.UsedMetric(
            lago_id=found.metric_id,
            name=found.metric_name,
            code=found.metric_code,
            aggregation_type=found.aggregation_type,
        ),
        filters=_render_filters(found.lines, projected) if found.has_filters else [],
        grouped_usage=groups(found, projected),
        **_breakdowns(plain, projected),
    )


def _sums(lines: Sequence[UsageLine], projected: bool) -> dict[str, Any]:
    if len(lines) == 1 and not projected:
        return _sums_of_one(lines[0])
    with exact():
        units = sum((line.units for line in lines), ZERO)
        total_aggregated_units = sum((line.total_aggregated_units for line in lines), ZERO)
        unpriced_units = sum((line.units for line in lines if line.is_unpriced), ZERO)
    more: dict[str, Any] = {"total_aggregated_units": decimal_text(total_aggregated_units)}
    projections = [line.projection for line in lines if line.projection is not None]
    if projected:
        with exact():
            more = {
                "projected_units": decimal_text(sum((each.units for each in projections), ZERO)),
                "projected_amount_cents": sum(each.amount_cents for each in projections),
            }
    return {
        "units": decimal_text(units),
        **more,
        "events_count": sum(line.events_count for line in lines),
        "amount_cents": sum(line.amount_cents for line in lines),
        "pricing_unit_details": _in_unit(lines, projections if projected else None),
        "unpriced_units": decimal_text(unpriced_units),
    }


def _sums_of_one(line: UsageLine) -> dict[str, Any]:
    """As of several: a charge may have thousands of groups, and most have one line."""
    units = decimal_text(line.units)
    total = line.total_aggregated_units
    return {
        "units": units,
        "total_aggregated_units": units if total is line.units else decimal_text(total),
        "events_count": line.events_count,
        "amount_cents": line.amount_cents,
        "pricing_unit_details": _in_unit([line], None) if line.in_unit else None,
        "unpriced_units": units if line.is_unpriced else _NO_UNITS,
    }


def _in_unit(
    lines: Sequence[UsageLine], projections: Sequence[Projection] | None
) -> UsageInPricingUnit | None:
    """What the lines, all of one charge, came to in its pricing unit."""
    found = [line.in_unit for line in lines if line.in_unit is not None]
    if not found:
        return None
    return UsageInPricingUnit(
        amount_cents=sum(each.amount_cents for each in found),
        short_name=found[-1].short_name,
        conversion_rate=decimal_text(found[-1].conversion_rate),
        projected_amount_cents=UNSET
        if projections is None
        else sum(each.in_unit_cents for each in projections),
    )


def _render_filters(lines: Iterable[UsageLine], projected: bool) -> list[objects.FilterUsage]:
    """An item for each filter that the lines have, in their order: the one of the charge's own price is last."""
    split: dict[Any, tuple[UsedFilter | None, list[UsageLine]]] = {}
    for line in lines:
        split.setdefault(line.filter and line.filter.id, (line.filter, []))[1].append(line)
    return [
        objects.FilterUsage(
            **_sums(own, projected),
            invoice_display_name=each.invoice_display_name if each else None,
            values=_values(each, projected),
            **_breakdowns(own, projected),
        )
        for each, own in split.values()
    ]


def _values(used: UsedFilter | None, projected: bool) -> dict[str, list[str]] | None:
    """The charge's own price has none: null in usage, and an empty object in projections, as Lago's clients read it."""
    if used is None:
        return {} if projected else None
    return {key: list(values) for key, values in used.values.items()}


def _breakdowns(lines: Sequence[UsageLine], projected: bool) -> dict[str, Any]:
    shown = {"presentation_breakdowns": _render_breakdowns(lines, lambda each: each.units)}
    if projected:
        shown["projected_presentation_breakdowns"] = _render_breakdowns(
            lines, lambda each: each.projected_units or ZERO
        )
    return shown


def _render_breakdowns(
    lines: Iterable[UsageLine], units_of: Callable[[ShownBreakdown], Decimal]
) -> list[PresentationBreakdown]:
    """Units by the values that only show, those of several groups added up."""
    shown = [(each.presentation_by, units_of(each)) for line in lines for each in line.breakdowns]
    return breakdowns(shown) if shown else []


def list_past_usage(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/past_usage: the billed periods, newest first."""
    external_subscription_id = call.query.get("external_subscription_id")
    if not external_subscription_id:
        raise Invalid({"external_subscription_id": ["value_is_mandatory"]})
    code = call.query.get("billable_metric_code")
    if code and billable_metrics.by_code(call.conn, call.organization.id, code) is None:
        raise NotFound("billable_metric")
    page = _past_page(call)
    found, total = usage.past_usage(
        call.conn,
        organization_id=call.organization.id,
        external_customer_id=call.path["external_id"],
        external_subscription_id=external_subscription_id,
        billable_metric_code=code or None,
        limit=page.per_page,
        offset=page.offset,
    )
    return {"usage_periods": [render_usage(each) for each in found], "meta": page.meta(total)}


def _past_page(call: Call) -> Page:
    """The page asked for; `periods_count` is its size where it is given."""
    page, count = call.page(), call.query.get("periods_count", "")
    if not (count.isascii() and count.isdigit() and len(count) <= 9 and int(count)):
        return page
    return Page(number=page.number, per_page=min(int(count), PER_PAGE_MAX))
