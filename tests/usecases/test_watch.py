"""A wrong clock or a newer schema stops a process before it does anything, and an outage is no wrong clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from permille.clock import system_now
from permille.database.migrate import UnableToMigrateError
from permille.store import billing_holds, clock_seen
from permille.usecases import watch
from permille.usecases.watch import MustStopError, Watch

from .world import make_world

DAY = timedelta(days=1)


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    monkeypatch.setattr(watch, "system_now", lambda: system_now() + ahead)


def last_seen(conn: psycopg.Connection[Any], before: timedelta) -> None:
    conn.execute("update clock_seen set at = now() - %s, doubted = false", [before])


def owed(conn: psycopg.Connection[Any], *, interval: str, since: timedelta, **world: Any) -> Any:
    """A live subscription whose next bill has been due for so long."""
    made = make_world(conn, **{"test_now": None, **world})
    plan = made.plan(interval=interval, amount_cents=100)
    made.subscribe(made.customer(), plan)
    conn.execute("update subscription set next_billing_at = now() - %s", [since])
    return made


@pytest.mark.parametrize("ahead", [timedelta(days=1096), timedelta(minutes=2), -timedelta(minutes=2)])
def test_a_clock_that_is_not_the_databases_stops_workers_and_servers(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    last_seen(db, timedelta(0))
    before = clock_seen.sight(db).seen_at
    set_clock(monkeypatch, ahead)
    for look in (watch.check, Watch().now):
        with pytest.raises(MustStopError, match="This machine's clock shows"):
            look(db)
    assert clock_seen.sight(db).seen_at == before


def test_a_slow_answer_is_no_wrong_clock(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = iter([system_now() - timedelta(minutes=5), system_now() + timedelta(minutes=5)])
    monkeypatch.setattr(watch, "system_now", lambda: next(clocks))
    assert watch.check(db)


def test_what_is_seen_is_kept(db: psycopg.Connection[Any]) -> None:
    last_seen(db, timedelta(minutes=10))
    now = Watch().now(db)
    assert clock_seen.sight(db).seen_at == now
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_clock_behind_the_last_instant_seen_stops_it_until_somebody_confirms(
    db: psycopg.Connection[Any],
) -> None:
    last_seen(db, -timedelta(minutes=2))
    with pytest.raises(MustStopError, match="it is behind") as stopped:
        Watch().now(db)
    assert watch.CONFIRM in str(stopped.value)
    watch.confirm(db)
    Watch().now(db)


@pytest.mark.parametrize(
    ("outage", "interval", "since", "stops"),
    [
        (7 * DAY, "weekly", 6 * DAY, False),  # one period is owed
        (20 * DAY, "monthly", 10 * DAY, False),
        (16 * DAY, "weekly", 15 * DAY, True),  # three are
        (1096 * DAY, "monthly", 1090 * DAY, True),
        (0.5 * DAY, "weekly", 30 * DAY, False),  # it was seen all the time: something else is the reason
    ],
)
def test_more_than_one_period_after_a_time_unseen_needs_a_word(
    db: psycopg.Connection[Any], outage: timedelta, interval: str, since: timedelta, stops: bool
) -> None:
    owed(db, interval=interval, since=since)
    last_seen(db, outage)
    if not stops:
        Watch().now(db)
        return
    with pytest.raises(MustStopError, match=r"1 subscriptions .* several periods at once"):
        Watch().now(db)
    watch.confirm(db)
    Watch().now(db)


def test_who_has_a_test_clock_or_is_held_says_nothing_of_ours(db: psycopg.Connection[Any]) -> None:
    owed(db, interval="weekly", since=50 * DAY, name="test", test_now=datetime(2024, 1, 1, tzinfo=UTC))
    held = owed(db, interval="weekly", since=50 * DAY, name="held")
    (customer,) = held.rows("select id from customer where organization_id = %s", held.id)
    now = system_now()
    billing_holds.hold(
        db, organization_id=held.id, customer_id=customer[0], due_at=now, reason="a bug", now=now
    )
    last_seen(db, 49 * DAY)
    Watch().now(db)


def test_a_clock_that_is_set_while_a_worker_runs_is_doubted(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Watch()
    running.now(db)
    assert clock_seen.sight(db).seen_at
    set_clock(monkeypatch, 20 * DAY)
    with pytest.raises(MustStopError, match="was set by 20 days"):
        running.now(db)
    monkeypatch.undo()
    db.execute("update clock_seen set at = at - interval '20 days'")  # so does the database's clock show it
    with pytest.raises(MustStopError, match="while a worker ran"):
        Watch().now(db)
    db.execute("update clock_seen set at = now() - interval '1 minute'")  # it was set back
    Watch().now(db)
    assert not clock_seen.sight(db).doubted


def test_a_newer_schema_stops_both(db: psycopg.Connection[Any]) -> None:
    db.execute("insert into schema_migration values (9999, 'of_tomorrow', '', now())")
    for look in (watch.check, Watch().now):
        with pytest.raises(UnableToMigrateError, match="9999"):
            look(db)
