"""The events of custom aggregations: every property as it was sent, wherever it is stored, of the right events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.core.metering.event import property_text
from permille.core.metering.rule import TEXT_MAX
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.custom_usage import CustomWindow, custom_events
from permille.events.postgres.usage import usage_of_many
from permille.events.postgres.writer import store
from permille.events.usage import UsageQuery
from tests.core.given import merge_all
from tests.store.test_usage import NOW, START, Feed

NAMES = ("absent", "model", "note", "operation_type", "tokens")
CODES = ("sum", "distinct")


def expected(feed: Feed, code: str, subscription: str, bounds: list[datetime]) -> list[tuple[Any, ...]]:
    low, high = map(microseconds, bounds)
    return [
        (draft.at, tuple(property_text(draft.properties.get(name)) for name in NAMES))
        for _, draft in feed.sent
        if (draft.code, draft.external_subscription_id) == (code, subscription) and low <= draft.at < high
    ]


@pytest.mark.parametrize("seed", range(4))
def test_every_property_of_every_event(dsn: str, db: psycopg.Connection[Any], seed: int) -> None:
    feed = Feed(dsn, db, seed)
    feed.send(100)  # before there is any metric
    feed.metric("sum", "sum_agg", ("model", "note"))
    feed.metric("distinct", "unique_count_agg", ())
    feed.send(200)
    rollup.roll_up(db, limit=120)
    wanted = [
        (
            code,
            subscription,
            sorted(START + timedelta(seconds=feed.chance.randrange(8 * 86_400)) for _ in range(2)),
        )
        for code in CODES
        for subscription in ("s1", "s2", "nobody")
        for _ in range(3)
    ]
    windows = [
        CustomWindow(
            key=key,
            organization_id=feed.organization,
            external_subscription_id=subscription,
            code=code,
            names=NAMES,
            from_=bounds[0],
            to=bounds[1],
        )
        for key, (code, subscription, bounds) in enumerate(wanted)
    ]
    found: dict[int, list[Any]] = {key: [] for key in range(len(windows))}
    for (key, _), events in custom_events(db, windows).items():
        found[key] += [(microseconds(at), texts) for at, _, texts in events]
    for key, (code, subscription, bounds) in enumerate(wanted):
        assert sorted(found[key], key=str) == sorted(expected(feed, code, subscription, bounds), key=str)


def test_events_come_with_the_usage_of_their_series(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Feed(dsn, db, seed=5)
    feed.metric("sum", "custom_agg", ("model",))
    feed.send(80)
    window = UsageQuery(
        organization_id=feed.organization,
        external_subscription_id="s1",
        codes=CODES,
        from_=None,
        to=datetime(2027, 1, 1, tzinfo=UTC),
        custom=(("sum", ("tokens",)),),
    )
    (found,) = usage_of_many(db, [window])
    for series in found:
        events = [event for run in series.partial.custom_events for event in run]
        assert len(events) == (series.partial.events_count if series.code == "sum" else 0)
    whole = merge_all(series.partial for series in found if series.code == "sum")
    in_order = [texts for _, _, texts in sorted(event for run in whole.custom_events for event in run)]
    sent = sorted(
        (draft.at, seq, property_text(draft.properties.get("tokens")))
        for seq, draft in feed.sent
        if (draft.code, draft.external_subscription_id) == ("sum", "s1")
    )
    assert in_order == [(text,) for _, _, text in sent]


def test_a_text_that_no_rule_takes_is_cut(dsn: str, db: psycopg.Connection[Any]) -> None:
    feed = Feed(dsn, db, seed=1)
    feed.metric("sum", "custom_agg", ())
    draft = Draft("long", "sum", "s1", microseconds(START), None, {"note": "x" * 50_000, "tokens": 1})
    store(feed.conn, feed.memory, [Request(feed.organization, [draft], microseconds(NOW))])
    window = CustomWindow(
        key=0,
        organization_id=feed.organization,
        external_subscription_id="s1",
        code="sum",
        names=("note", "tokens"),
        from_=START,
        to=NOW,
    )
    (events,) = custom_events(db, [window]).values()
    assert [texts for _, _, texts in events] == [("x" * (TEXT_MAX + 1), "1")]
