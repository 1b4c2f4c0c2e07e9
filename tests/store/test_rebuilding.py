"""A history is moved chunk after chunk, and the roll-up goes on beside it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from permille.events.postgres import rebuilding, rollup
from permille.usecases import metering
from tests.rebuilding import rebuild_some

from .test_usage import Feed


@pytest.fixture
def feed(dsn: str, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> Feed:
    """300 rolled-up events of a metric that is then given another dimension."""
    monkeypatch.setattr(rebuilding, "REENCODED_IN_PLACE_MAX", 10)
    monkeypatch.setattr(rebuilding, "CHUNK", 5)
    feed = Feed(dsn, db, seed=9)
    feed.metric("sum", "sum_agg", ("model",))
    feed.send(300)
    with psycopg.connect(dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
    db.execute(
        "insert into billable_metric_filter (billable_metric_id, key, values, position)"
        " select id, 'operation_type', '{add}', 1 from billable_metric where code = 'sum'"
    )
    metering.refresh(db, organization_id=feed.organization, code="sum")
    db.commit()
    return feed


def is_rebuilding(conn: psycopg.Connection[Any]) -> bool:
    return bool(rebuilding.organizations_waiting(conn))


def test_the_last_chunk_ends_it_and_all_series_are_new(dsn: str, feed: Feed) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert is_rebuilding(conn)
        steps = 0
        while rebuild_some(conn):
            steps += 1
        assert steps > 100 / 5
        assert not is_rebuilding(conn)
        assert not rebuild_some(conn)
        assert rollup.verify(conn) == []
        stale = "select count(*) from series s join metering m using (organization_id, code) where metering_version < m.version"
        assert conn.execute(stale).fetchone() == (0,)


def test_the_roll_up_gets_its_turn_while_a_history_is_moved(dsn: str, feed: Feed) -> None:
    feed.send(50)
    moved = threading.Event()

    def move() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while rebuild_some(conn):
                pass
        moved.set()

    mover = threading.Thread(target=move)
    mover.start()
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert rollup.roll_up(conn) > 0
        assert not moved.is_set(), "it waited for the whole history"
    mover.join(60)
    with psycopg.connect(dsn) as conn:
        assert rollup.verify(conn) == []
