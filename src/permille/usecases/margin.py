"""Margin: what customers pay against what providers bill for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from psycopg import Connection

from permille.core.llm.call import METRICS
from permille.core.llm.catalogue.prices import PriceSource
from permille.core.llm.cost import COSTED_BY, Costing, costing_of
from permille.core.llm.margin import (
    USD,
    CostedUsage,
    GroupBy,
    GroupTexts,
    Margin,
    Revenue,
    in_order,
    margins,
    text_of,
)
from permille.core.organization import Organization
from permille.core.period import local_date, midnight
from permille.core.record import Record
from permille.events.engine import usage
from permille.events.usage import UsageQuery
from permille.store import customers, margin as store, subscriptions
from permille.store.margin import FeeSearch, Payer
from permille.store.subscriptions import SubscriptionSearch
from permille.usecases.usage.open_amounts import open_amounts

RUNNING_AT_ONCE = 5_000
_DAY = timedelta(days=1)
_OF_USAGE = (GroupBy.MODEL, GroupBy.PROVIDER, GroupBy.TYPE)


class MarginSearch(Record, kw_only=True):
    """Which days, in the timezone of each customer, and what revenue and cost are grouped by."""

    since: date
    until: date
    """The last day."""
    by: tuple[GroupBy, ...]
    rates: Mapping[str, Decimal]
    """Currency -> what one US dollar is in it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The properties of usage that it groups by."""
        return tuple(str(each) for each in self.by if each in _OF_USAGE)

    def group(self, texts: Mapping[str, str | None]) -> GroupTexts:
        """The group of these texts by what they are of."""
        return tuple(texts.get(each) for each in self.by)


class _Owner(NamedTuple):
    """What open usage belongs to: as far as it is asked for, whom it is charged to, and on which day it counts."""

    customer: str | None
    plan: str | None
    day: str | None


class _Place(NamedTuple):
    """What usage of some time belongs to: whom it is charged to, on which day, and since when its prices hold."""

    customer: str | None
    plan: str | None
    day: str | None
    currency: str
    on: date


class _Stretch(NamedTuple):
    """A time of a subscription in which no price changes."""

    external_subscription_id: str
    place: _Place
    from_: datetime
    to: datetime


def margin_of(
    conn: Connection[Any],
    organization: Organization,
    search: MarginSearch,
    prices: PriceSource,
    *,
    now: datetime,
) -> list[Margin]:
    """Revenue, cost and margin by group and currency."""
    found = margins(
        [*_billed(conn, organization, search), *_running(conn, organization, search, now=now)],
        _costs(conn, organization, search, prices),
        search.rates,
    )
    return in_order(found, search.by)


def _billed(conn: Connection[Any], organization: Organization, search: MarginSearch) -> Iterator[Revenue]:
    fees = FeeSearch(
        organization_id=organization.id,
        since=search.since,
        until=search.until,
        costed=METRICS,
        names=search.names,
        by_customer=GroupBy.CUSTOMER in search.by,
        by_plan=GroupBy.PLAN in search.by,
        by_day=GroupBy.DAY in search.by,
    )
    for each in store.fee_sums(conn, fees):
        texts = {name: text_of(name, each.grouped_by, each.filter_values) for name in search.names}
        day = each.day.isoformat() if each.day else None
        yield Revenue(
            group=search.group({**texts, "customer": each.customer, "plan": each.plan, "day": day}),
            currency=each.currency,
            billed_cents=each.billed_cents,
            unbilled_cents=each.unbilled_cents,
            without_cost_cents=each.without_cost_cents,
        )


def _running(
    conn: Connection[Any], organization: Organization, search: MarginSearch, *, now: datetime
) -> Iterator[Revenue]:
    """Usage of the periods that are open, as it would be billed now: it counts on the present day."""
    if not search.since - _DAY <= now.date() <= search.until + _DAY:
        return
    offset = 0
    active = SubscriptionSearch(statuses=("active",))
    while rows := subscriptions.listing(conn, organization.id, active, limit=RUNNING_AT_ONCE, offset=offset)[
        0
    ]:
        offset += len(rows)
        payers = {
            each.external_subscription_id: each
            for each in store.payers(conn, organization.id, [row.external_id for row in rows])
        }
        of = customers.by_ids(conn, {row.customer_id for row in rows})
        chosen = [
            (row, of[row.customer_id])
            for row in rows
            if search.since <= local_date(now, payers[row.external_id].timezone) <= search.until
            and not of[row.customer_id].is_self_billed
        ]
        numbers: dict[_Owner, int] = {}
        owners = [
            numbers.setdefault(_owner(search, payers[row.external_id], now), len(numbers))
            for row, _ in chosen
        ]
        by_number = list(numbers)
        for each in open_amounts(conn, chosen, owners, now=now):
            texts = {name: text_of(name, each.grouped_by, each.filter_values) for name in search.names}
            yield Revenue(
                group=search.group({**texts, **by_number[each.owner]._asdict()}),
                currency=each.currency,
                billed_cents=0,
                unbilled_cents=each.amount_cents,
                without_cost_cents=0 if each.metric_code in METRICS else each.amount_cents,
            )


def _owner(search: MarginSearch, payer: Payer, now: datetime) -> _Owner:
    return _Owner(
        customer=payer.customer if GroupBy.CUSTOMER in search.by else None,
        plan=payer.plan if GroupBy.PLAN in search.by else None,
        day=local_date(now, payer.timezone).isoformat() if GroupBy.DAY in search.by else None,
    )


def _costs(
    conn: Connection[Any], organization: Organization, search: MarginSearch, prices: PriceSource
) -> list[CostedUsage]:
    in_use = usage.texts_in_use(conn, organization.id, METRICS, ("provider", "model"))
    dates = _price_dates(prices, {(provider, model) for _, provider, model in in_use})
    stretches = list(_stretches(conn, organization, search, {name for name, *_ in in_use if name}, dates))
    places = {place: number for number, place in enumerate(dict.fromkeys(each.place for each in stretches))}
    by_number = list(places)
    windows = [
        UsageQuery(
            organization_id=organization.id,
            external_subscription_id=each.external_subscription_id,
            codes=METRICS,
            from_=each.from_,
            to=each.to,
        )
        for each in stretches
    ]
    found = []
    for kind in usage.usage_of_kinds(conn, windows, [places[each.place] for each in stretches], COSTED_BY):
        costings: dict[date, Costing] = {}
        for number, quantity, events_count, values_count in zip(
            kind.groups, kind.sums, kind.events_counts, kind.values_counts, strict=True
        ):
            place = by_number[number]
            costing = costings.get(place.on)
            if costing is None:
                costing = costings[place.on] = costing_of(kind.code, kind.dimensions, place.on, prices)
            found.append(
                CostedUsage(
                    group=search.group({**kind.dimensions, **place._asdict()}),
                    currency=place.currency,
                    metric=kind.code,
                    cost=costing.of(quantity, events_count, values_count),
                )
            )
    return found


def _price_dates(prices: PriceSource, models: Iterable[tuple[str | None, str | None]]) -> set[date]:
    """The UTC dates at which a price of these models changes; any price, where events are kept without their model."""
    found: set[date] = set()
    for provider, model in models:
        if model is None:
            return set(prices.price_dates)
        found |= prices.dates_of(provider or "", model)
    return found


def _stretches(
    conn: Connection[Any],
    organization: Organization,
    search: MarginSearch,
    external_ids: set[str],
    dates: set[date],
) -> Iterator[_Stretch]:
    """The days of each subscription, cut where a price changes. Each row of it has what was used from its start on,
    the first one what was used before, too: so the rows together have all.
    """
    rows: dict[str, list[Payer]] = defaultdict(list)
    for each in store.payers(conn, organization.id, external_ids):
        rows[each.external_subscription_id].append(each)
    changes = [datetime.combine(each, time(), UTC) for each in sorted(dates)]
    for name in sorted(external_ids):
        own: Sequence[Payer | None] = rows.get(name) or (None,)
        for number, payer in enumerate(own):
            after = own[number + 1] if number + 1 < len(own) else None
            starts = payer.started_at if payer and number else datetime.min.replace(tzinfo=UTC)
            ends = after.started_at if after else datetime.max.replace(tzinfo=UTC)
            for day, from_, to in _days(search, payer.timezone if payer else "UTC"):
                for start, end in _between(changes, max(from_, starts), min(to, ends)):
                    yield _Stretch(name, _place(search, payer, day, start), start, end)


def _days(search: MarginSearch, timezone: str) -> Iterator[tuple[str | None, datetime, datetime]]:
    """The days one by one where they are grouped by, else all in one."""
    if GroupBy.DAY not in search.by:
        yield None, midnight(search.since, timezone), midnight(search.until + _DAY, timezone)
        return
    day = search.since
    while day <= search.until:
        yield day.isoformat(), midnight(day, timezone), midnight(day + _DAY, timezone)
        day += _DAY


def _between(
    changes: Sequence[datetime], from_: datetime, to: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """A time, cut at these instants."""
    if from_ < to:
        yield from pairwise([from_, *(at for at in changes if from_ < at < to), to])


def _place(search: MarginSearch, payer: Payer | None, day: str | None, start: datetime) -> _Place:
    return _Place(
        customer=payer.customer if payer and GroupBy.CUSTOMER in search.by else None,
        plan=payer.plan if payer and GroupBy.PLAN in search.by else None,
        day=day,
        currency=payer.currency if payer else USD,
        on=start.astimezone(UTC).date(),
    )
