"""What the home page draws of an organization's days, against a loop over the same events."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.core.metering.aggregations import aggregation_of
from permille.core.metering.event import numeric_value, property_text
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import overview, rollup
from permille.events.postgres.overview import KINDS_MAX, events_per_second, size_of_days, units_by_day
from permille.events.postgres.writer import store
from permille.events.usage import OTHERS, RATE_SECONDS, Shown, shown_of
from tests.store.test_usage import NOW, START, Feed

Kind = tuple[date, str]


def told(feed: Feed, code: str) -> dict[Kind, list[tuple[datetime, int, str | None, dict[str, Any]]]]:
    """Day and model -> (time, place, subscription, properties) of its events, in order."""
    found: dict[Kind, list[tuple[datetime, int, str | None, dict[str, Any]]]] = defaultdict(list)
    for seq, draft in feed.sent:
        if draft.code == code:
            at = datetime.fromtimestamp(draft.at / 1_000_000, START.tzinfo)
            model = draft.properties.get("model")
            kind = None if isinstance(model, list) else property_text(model)
            found[at.date(), kind or "other"].append(
                (at, seq, draft.external_subscription_id, draft.properties)
            )
    return {place: sorted(events, key=lambda each: each[:2]) for place, events in found.items()}


def expected(feed: Feed, code: str, shown: Shown) -> dict[Kind, Decimal]:
    found: dict[Kind, Decimal] = {}
    for place, events in told(feed, code).items():
        numbers = [
            n for *_, properties in events if (n := numeric_value(properties.get("tokens"))) is not None
        ]
        match shown:
            case Shown.UNITS:
                found[place] = sum(numbers, Decimal(0))
            case Shown.GREATEST:
                found |= {place: max(numbers)} if numbers else {}
            case Shown.EVENTS:
                found[place] = Decimal(len(events))
            case Shown.DISTINCT:
                there: dict[Any, bool] = {}
                for _, _, subscription, properties in events:
                    operation = properties.get("operation_type", "add")
                    if operation in ("add", "remove"):
                        value = subscription, property_text(properties.get("tokens"))
                        there[value] = operation == "add"
                if there:
                    found[place] = Decimal(sum(there.values()))
    return found


@pytest.mark.parametrize(
    ("aggregation", "shown"),
    [
        ("sum_agg", Shown.UNITS),
        ("max_agg", Shown.GREATEST),
        ("count_agg", Shown.EVENTS),
        ("latest_agg", Shown.EVENTS),
        ("unique_count_agg", Shown.DISTINCT),
    ],
)
def test_a_day_is_what_its_events_come_to(
    dsn: str, db: psycopg.Connection[Any], aggregation: str, shown: Shown
) -> None:
    assert shown_of(aggregation_of(aggregation)) is shown
    feed = Feed(dsn, db, seed=len(aggregation))
    code = "distinct" if shown is Shown.DISTINCT else "sum"
    feed.metric(code, aggregation, ("model",))
    feed.send(300)
    assert rollup.roll_up(db) == 300
    wanted = expected(feed, code, shown)
    for first, last in ((0, 9), (1, 5), (3, 4), (4, 4)):  # the month ends after the third day
        since, until = START + timedelta(days=first), START + timedelta(days=last)
        drawn = drawn_of(feed, code, shown, since=since, until=until)
        assert drawn == {
            place: units for place, units in wanted.items() if since.date() <= place[0] < until.date()
        }


def drawn_of(feed: Feed, code: str, shown: Shown, *, since: datetime, until: datetime) -> dict[Kind, Decimal]:
    found = units_by_day(
        feed.db, feed.organization, code=code, key="model", shown=shown, since=since, until=until
    )
    return {(day, kind): units for day, kinds in found.items() for kind, units in kinds.items()}


def test_only_series_of_the_month_are_looked_at_and_none_of_them_is_missed(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=3)
    feed.metric("sum", "sum_agg", ("model",))
    feed.send(200)
    rollup.roll_up(db)
    october = START + timedelta(days=3)
    assert rollup.verify(db) == []
    assert drawn_of(feed, "sum", Shown.EVENTS, since=START, until=october)
    forgotten = db.execute(
        "delete from series_month where starts_at < %s returning series_id, starts_at", [october]
    ).fetchall()
    assert drawn_of(feed, "sum", Shown.EVENTS, since=START, until=october) == {}
    assert set(rollup.verify(db, limit=1000)) == {(series_id, "m", at) for series_id, at in forgotten}


def test_the_smallest_kinds_are_one_and_their_units_are_all_there(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    feed = Feed(dsn, db, seed=5)
    feed.metric("sum", "sum_agg", ("model",))
    drafts = [
        Draft(f"x{n}", "sum", "s", microseconds(START), None, {"model": f"m{n}", "tokens": 1 + n // 2})
        for n in range(KINDS_MAX + 30)
    ]
    store(feed.conn, feed.memory, [Request(feed.organization, drafts, microseconds(NOW))])
    rollup.roll_up(db)
    until = START + timedelta(days=1)
    drawn = drawn_of(feed, "sum", Shown.UNITS, since=START, until=until)
    assert len(drawn) == KINDS_MAX + 1
    assert drawn[START.date(), OTHERS] == sum(1 + n // 2 for n in range(30))
    assert drawn[START.date(), "m30"] == 16
    assert sum(drawn.values()) == sum(1 + n // 2 for n in range(KINDS_MAX + 30))


@pytest.mark.parametrize("shown", list(Shown))
def test_the_size_of_days_is_what_is_added_up_of_their_months(
    dsn: str, db: psycopg.Connection[Any], shown: Shown
) -> None:
    feed = Feed(dsn, db, seed=6)
    code = "distinct" if shown is Shown.DISTINCT else "sum"
    feed.metric(code, "unique_count_agg" if shown is Shown.DISTINCT else "sum_agg", ("model",))
    feed.send(200)
    rollup.roll_up(db)
    table = "unique_cell" if shown is Shown.DISTINCT else "usage_cell"
    window = {"since": START + timedelta(days=2), "until": START + timedelta(days=4)}
    row = db.execute(
        f"select count(*) from {table} c join series s on s.id = c.series_id where s.organization_id = %s"
        " and s.code = %s and c.grain = 'd' and c.starts_at >= '2026-09-01' and c.starts_at < '2026-11-01'",
        [feed.organization, code],
    ).fetchone()
    assert row is not None
    assert row[0] > 10

    def size(most: int) -> int:
        return size_of_days(db, feed.organization, code=code, shown=shown, **window, most=most)

    assert (size(10_000), size(10)) == (row[0], 10)


def rate_of(feed: Feed, now: datetime) -> Decimal:
    return events_per_second(feed.db, feed.organization, since=now - timedelta(seconds=RATE_SECONDS))


def test_the_rate_is_that_of_the_last_minute_or_of_the_newest_events_where_more_came_in(
    dsn: str, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, other = Feed(dsn, db, seed=1), Feed(dsn, db, seed=2)
    assert rate_of(feed, NOW) == 0
    for second in range(0, 120, 4):  # two a second, and one of another organization
        at = microseconds(NOW + timedelta(seconds=second))
        for each, count in ((feed, 8), (other, 4)):
            store(each.conn, each.memory, [Request(each.organization, each.drafts(count), at)])
    now = NOW + timedelta(seconds=120)
    assert (
        rate_of(feed, now) == Decimal(14 * 8) / 60
    )  # what came in a minute ago to the second does not count
    assert rate_of(other, now) == Decimal(14 * 4) / 60
    monkeypatch.setattr(overview, "EVENTS_LOOKED_AT", 60)
    assert rate_of(feed, now) == 2  # 40 in the 20 seconds since the oldest of the 60
    assert rate_of(other, now) == 1
    assert rate_of(feed, now + timedelta(seconds=20)) == 1
    assert rate_of(feed, now + timedelta(seconds=60)) == 0
