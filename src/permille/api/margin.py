"""Margin: revenue against cost, as JSON by pages or as one CSV file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.datastructures import QueryParams

from permille.api.csv_file import Cell, csv_file
from permille.api.http import Call, Raw
from permille.api.objects import margin as objects
from permille.api.validation import INVALID, OUT_OF_RANGE, Fields, query_texts
from permille.core.llm.margin import USD, GroupBy, Margin, totals
from permille.core.money import CURRENCIES, decimal_text
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.margin import MarginSearch, margin_of

DAYS_MAX = 400
EASTERNMOST = timedelta(hours=14)
"""How far the clocks of the first timezone to see a day are ahead of UTC."""
RATE_MAX = 10**9
FIELDS = {
    GroupBy.DAY: "day",
    GroupBy.CUSTOMER: "external_customer_id",
    GroupBy.PLAN: "plan_code",
    GroupBy.PROVIDER: "provider",
    GroupBy.MODEL: "model",
    GroupBy.TYPE: "type",
}
"""What each group is called in answers."""
_FIGURES = (
    "currency",
    "billed_amount_cents",
    "unbilled_amount_cents",
    "revenue_amount_cents",
    "revenue_without_cost_amount_cents",
    "cost_usd",
    "usd_exchange_rate",
    "cost_amount_cents",
    "margin_amount_cents",
    "margin_share",
)
_RATE = re.compile(r"usd_exchange_rates\[(\w+)\]")


def margin(call: Call) -> dict[str, Any] | Raw:
    """GET /analytics/margin."""
    search = read_search(call.query, now=call.now)
    page = call.page()
    form = Fields(dict(call.query))
    is_file = form.choice("format", ("json", "csv")) == "csv"
    form.check()
    prices = catalogue_of(call.conn, call.organization.id)
    found = margin_of(call.conn, call.organization, search, prices, now=call.now)
    if is_file:
        return margin_file(found, search)
    shown = found[page.offset : page.offset + page.per_page]
    return {
        "margins": [_margin(each, search.by) for each in shown],
        "totals": [objects.MarginTotal(**_figures(each)) for each in totals(found)],
        "meta": page.meta(len(found)),
    }


def read_search(query: QueryParams, *, now: datetime) -> MarginSearch:
    """The days, this month up to today by default, the groups and the rates. Raises Invalid.

    Today is the day of the customers for whom it is latest, as open usage counts on each one's own.
    """
    today = (now + EASTERNMOST).date()
    fields = Fields(dict(query))
    since, until = fields.instant("from"), fields.instant("to")
    last = until.date() if until else max(today, since.date() if since else today)
    first = since.date() if since else (until or now).date().replace(day=1)
    if first > last or last - first >= timedelta(days=DAYS_MAX):
        fields.refuse("from", OUT_OF_RANGE)
    names = [name for text in query_texts(query, "group_by") for name in text.split(",")]
    if not set(names) <= {str(each) for each in GroupBy}:
        fields.refuse("group_by", INVALID, allowed=tuple(GroupBy))
    rates = _rates(query, fields)
    fields.check()
    by = tuple(dict.fromkeys(map(GroupBy, names))) or (GroupBy.MODEL,)
    return MarginSearch(since=first, until=last, by=by, rates=rates)


def _rates(query: QueryParams, fields: Fields) -> dict[str, Decimal]:
    """`usd_exchange_rates[EUR]=0.92` by currency."""
    found: dict[str, Decimal] = {}
    for name in query:
        named = _RATE.fullmatch(name)
        if named is None:
            continue
        if named[1] not in CURRENCIES or named[1] == USD:
            fields.refuse(name, INVALID)
            continue
        rate = fields.decimal(name, minimum=0, maximum=RATE_MAX, places=15)
        if rate is None or not rate:
            fields.refuse(name, INVALID)
        else:
            found[named[1]] = rate
    return found


def margin_file(found: Iterable[Margin], search: MarginSearch) -> Raw:
    """All groups in one file; its uncosted usage as one text."""
    names = [FIELDS[each] for each in search.by]
    rows = ([*_texts(each), *_cells(_figures(each)), _uncosted_text(each)] for each in found)
    name = f"margin-{search.since.isoformat()}-{search.until.isoformat()}.csv"
    return csv_file(name, [*names, *_FIGURES, "uncosted"], rows)


def _texts(each: Margin) -> list[Cell]:
    return [text or "" for text in each.group]


def _cells(figures: Mapping[str, Any]) -> list[Cell]:
    """Numbers as numbers: a margin below zero is no formula."""
    texts = [figures[name] for name in _FIGURES]
    numbers: list[Cell] = ["" if each is None else Decimal(each) for each in texts[1:]]
    return [texts[0], *numbers]


def _uncosted_text(each: Margin) -> str:
    return "; ".join(
        f"{used.metric} {decimal_text(used.quantity)} in {used.events_count} events" for used in each.uncosted
    )


def _margin(each: Margin, by: Iterable[GroupBy]) -> objects.Margin:
    own: dict[str, Any] = {FIELDS[name]: text for name, text in zip(by, each.group, strict=True)}
    return objects.Margin(**own, **_figures(each))


def _figures(each: Margin) -> dict[str, Any]:
    return {
        "currency": each.currency,
        "billed_amount_cents": each.billed_cents,
        "unbilled_amount_cents": each.unbilled_cents,
        "revenue_amount_cents": each.revenue_cents,
        "revenue_without_cost_amount_cents": each.without_cost_cents,
        "cost_usd": decimal_text(each.cost_usd),
        "usd_exchange_rate": _text(each.rate),
        "cost_amount_cents": _text(each.cost_cents),
        "margin_amount_cents": _text(each.margin_cents),
        "margin_share": _text(each.share),
        "uncosted": [
            objects.UncostedUsage(
                billable_metric_code=used.metric,
                quantity=decimal_text(used.quantity),
                events_count=used.events_count,
            )
            for used in each.uncosted
        ],
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)
