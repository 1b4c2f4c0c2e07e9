"""Margin: revenue, cost and what is left, by model, provider, type, customer, plan or day, with a chart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

from starlette.datastructures import QueryParams

from permille.api.http import Raw
from permille.api.margin import margin_file, read_search
from permille.core.llm.margin import USD, GroupBy, Margin, totals
from permille.core.money import CURRENCIES, exact, subunits
from permille.core.record import Record
from permille.store.catalogue_versions import catalogue_of
from permille.usecases.margin import MarginSearch, margin_of
from permille.web import chart
from permille.web.chart import Chart, Figures
from permille.web.typed_number import plain_number
from permille.web.visit import HtmlPage, Visit

CHOICES = (
    (GroupBy.MODEL,),
    (GroupBy.PROVIDER,),
    (GroupBy.TYPE,),
    (GroupBy.CUSTOMER,),
    (GroupBy.PLAN,),
    (GroupBy.DAY,),
    (GroupBy.MODEL, GroupBy.TYPE),
    (GroupBy.CUSTOMER, GroupBy.MODEL),
    (GroupBy.PLAN, GroupBy.MODEL),
    (GroupBy.DAY, GroupBy.MODEL),
)
"""What the menu offers to group by; the address takes any."""
KINDS = ("Revenue", "Cost", "Margin")
ROWS_DRAWN = 7
DAYS_DRAWN = 62
"""Where there are more, months are drawn."""
RATES = "usd_exchange_rates["


class Drawn(Record, kw_only=True):
    """What all groups in a currency come to, and its chart: over time, or the largest groups in rows."""

    total: Margin
    chart: Chart


def show(visit: Visit) -> HtmlPage:
    """GET /app/margin."""
    search, found = _found(visit)
    page = visit.page()
    typed = {name: visit.query[name] for name in visit.query if name.startswith(RATES)}
    rates = {f"{RATES}{each.currency}]": "" for each in found if each.currency != USD} | typed
    address = {
        "from": search.since.isoformat(),
        "to": search.until.isoformat(),
        "group_by": ",".join(search.by),
        **rates,
    }
    context = {
        "drawn": [_drawn(each, found, search) for each in totals(found)],
        "margins": [
            (_named(each, search), each) for each in found[page.offset : page.offset + page.per_page]
        ],
        "meta": page.meta(len(found)),
        "by": search.by,
        "is_of_time": GroupBy.DAY in search.by,
        "choices": [(",".join(by), " and ".join(by)) for by in dict.fromkeys((*CHOICES, search.by))],
        "address": address,
        "rates": [(name, name[len(RATES) : -1], text) for name, text in rates.items()],
    }
    return HtmlPage(template="margin.html", context=context)


def as_csv(visit: Visit) -> Raw:
    """GET /app/margin.csv: all groups, with every digit."""
    search, found = _found(visit)
    return margin_file(found, search)


def _found(visit: Visit) -> tuple[MarginSearch, list[Margin]]:
    """What the address asks for. Raises Invalid."""
    query = [
        (name, plain_number(text) if name.startswith(RATES) else text)
        for name, text in visit.query.multi_items()
        if text.strip()
    ]
    search = read_search(QueryParams(query), now=visit.now)
    prices = catalogue_of(visit.conn, visit.here.id)
    return search, margin_of(visit.conn, visit.here, search, prices, now=visit.now)


def _named(each: Margin, search: MarginSearch) -> list[str]:
    return [text or f"no {by}" for by, text in zip(search.by, each.group, strict=True)]


def _drawn(total: Margin, found: Sequence[Margin], search: MarginSearch) -> Drawn:
    own = [each for each in found if each.currency == total.currency]
    if GroupBy.DAY in search.by:
        return Drawn(total=total, chart=chart.side_by_side(list(_over_time(own, search)), KINDS))
    groups = [(", ".join(_named(each, search)), [each]) for each in own]
    shown, rest = groups[:ROWS_DRAWN], groups[ROWS_DRAWN:]
    if rest:
        shown.append((f"{len(rest)} more", [each for _, [each] in rest]))
    return Drawn(total=total, chart=chart.in_rows(_figures(shown), KINDS))


def _over_time(own: Sequence[Margin], search: MarginSearch) -> Iterator[tuple[str, Mapping[str, Decimal]]]:
    """The days of the search, or its months."""
    place = search.by.index(GroupBy.DAY)
    days = [search.since + timedelta(days=n) for n in range((search.until - search.since).days + 1)]
    name = _month if len(days) > DAYS_DRAWN else _day
    on: dict[str, list[Margin]] = defaultdict(list)
    for each in own:
        on[name(date.fromisoformat(each.group[place] or ""))].append(each)
    yield from _figures([(each, on[each]) for each in dict.fromkeys(map(name, days))])


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _month(day: date) -> str:
    return f"{day:%b %Y}"


def _figures(groups: Sequence[tuple[str, Sequence[Margin]]]) -> Figures:
    """The figures of each group in major units, as far as they are known."""
    return [
        (name, {kind: value for total in totals(own) for kind, value in _amounts(total)})
        for name, own in groups
    ]


def _amounts(total: Margin) -> Iterator[tuple[str, Decimal]]:
    unit, places = subunits(total.currency), Decimal(1).scaleb(-CURRENCIES[total.currency])
    cents = (total.revenue_cents, total.cost_cents, total.margin_cents)
    with exact():
        for kind, value in zip(KINDS, cents, strict=True):
            if value is not None:
                yield kind, (Decimal(value) / unit).quantize(places, ROUND_HALF_UP)
