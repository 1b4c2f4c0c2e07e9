"""The test clock moves in steps, each of which is kept: long moves go on by themselves, also after a crash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from permille.api import organizations as under_test
from permille.clock import system_now
from permille.database.connections import Pool, open_pool
from permille.events.engine import upkeep
from permille.store import organizations
from permille.usecases.due import due
from permille.usecases.invoices import advance, progressive
from tests.live import PATIENCE_SECONDS, wait_until

from .conftest import START, Api, Server, charge
from .test_amendments import Sender, send

__all__ = ["send"]

CLOCK = "/test_clock"
LATER = {"test_clock": {"now": "2025-03-05T10:00:00Z"}}
MONTHS = 12


@pytest.fixture
def pool(server: Server) -> Iterator[Pool]:
    with open_pool(server.dsn, size=2, name="clocks") as opened:
        yield opened


@pytest.fixture
def billed(api: Api) -> Api:
    """An organization with a monthly subscription."""
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe()
    return api


def clock(api: Api) -> tuple[str, str | None]:
    found = api.get(CLOCK)["test_clock"]
    return found["now"], found["moving_to"]


def bills(api: Api) -> int:
    row = api.row("select count(*) from invoice where organization_id = %(organization)s")
    return int(row[0])


def test_a_short_move_is_done_when_it_is_answered(billed: Api) -> None:
    answer = billed.put(CLOCK, LATER)
    assert answer == {"test_clock": {"now": "2025-03-05T10:00:00Z", "moving_to": None}}
    assert bills(billed) == MONTHS


def test_a_long_move_is_answered_with_where_it_is_and_goes_on(
    billed: Api, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "MOVE_SECONDS", 0.0)
    monkeypatch.setattr(due, "STEP_SECONDS", 0.0001)  # a thing a step
    answer = billed.call("PUT", CLOCK, LATER)
    assert answer.status_code == 202
    assert answer.json() == {
        "test_clock": {"now": "2024-03-05T10:00:00Z", "moving_to": "2025-03-05T10:00:00Z"}
    }
    other = {"test_clock": {"now": "2026-01-01T00:00:00Z"}}
    assert billed.details("PUT", CLOCK, other) == {"now": ["clock_is_moving"]}
    assert billed.call("PUT", CLOCK, LATER).status_code == 202, "the same again"
    seen = []
    while due.move_clocks(pool, system_now()):
        seen.append((*clock(billed), bills(billed)))
    assert len({now for now, _, _ in seen}) >= MONTHS
    assert {target for _, target, _ in seen} == {"2025-03-05T10:00:00Z"}
    assert seen == sorted(seen)
    assert clock(billed) == ("2025-03-05T10:00:00Z", None)
    assert bills(billed) == MONTHS
    assert billed.call("PUT", CLOCK, {"test_clock": {"now": "2025-03-06T10:00:00Z"}}).status_code == 202


def test_a_move_that_crashed_keeps_its_steps_and_goes_on(
    billed: Api, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "STEP_SECONDS", 0.0001)
    real, done = due._step, 0

    def crashing(*args: Any, **named: Any) -> int:
        nonlocal done
        done += 1
        if done > 6:
            raise psycopg.OperationalError("the server is gone")
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(due, "_step", crashing)
        assert billed.call("PUT", CLOCK, LATER).status_code in (500, 503)
    now, target = clock(billed)
    assert "2024-03-05" < now < "2025"
    assert target == "2025-03-05T10:00:00Z"
    assert 0 < bills(billed) < MONTHS
    while due.move_clocks(pool, system_now()):
        pass
    assert clock(billed) == ("2025-03-05T10:00:00Z", None)
    assert bills(billed) == MONTHS


def kinds(api: Api) -> list[tuple[str, str]]:
    """The kinds of all invoices and when they were made."""
    return [(each["invoice_type"], each["created_at"]) for each in api.get("/invoices")["invoices"]]


def test_a_move_waits_for_a_look_that_a_worker_is_at(
    api: Api, pool: Pool, send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usage has reached a threshold: that is invoiced when the move is answered, by whichever of the two."""
    api.plan(charges=[charge(api.metric())], usage_thresholds=[{"amount_cents": 500}])
    api.customer()
    api.subscribe()
    send(START, tokens=6)
    while upkeep.roll_up(send.conn):
        send.conn.commit()
    send.conn.commit()
    begun, go_on = threading.Event(), threading.Event()
    real = progressive.bill_reached

    def slow(conn: Any, rows: Any, **named: Any) -> None:
        if rows[0].organization_id == api.organization.id:
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)
        real(conn, rows, **named)

    def is_held_up() -> bool:
        return api.row("select exists (select from pg_locks where not granted)")[0] or move.done()

    with ThreadPoolExecutor(2) as threads:
        monkeypatch.setattr(progressive, "bill_reached", slow)
        look = threads.submit(progressive.look_live, pool, system_now())
        assert begun.wait(PATIENCE_SECONDS)
        move = threads.submit(api.put, CLOCK, {"test_clock": {"now": "2024-03-05T11:00:00Z"}})
        wait_until(is_held_up)
        was_early = move.done()
        go_on.set()
        look.result(PATIENCE_SECONDS)
        move.result(PATIENCE_SECONDS)
    assert not was_early
    assert kinds(api) == [("progressive_billing", "2024-03-05T10:00:00Z")]


def test_what_waits_while_a_clock_is_moved_is_left_to_its_mover(api: Api, pool: Pool, send: Sender) -> None:
    """A worker would do it as of an instant that is over by then."""
    api.plan(charges=[charge(api.metric(), pay_in_advance=True)], usage_thresholds=[{"amount_cents": 500}])
    api.customer()
    api.subscribe()
    send(START, tokens=6)
    with pool.connection() as mover:
        organizations.lock_clock(mover, api.organization.id)
        advance.bill_live(pool, system_now())
        assert kinds(api) == []
    advance.bill_live(pool, system_now())
    assert [kind for kind, _ in kinds(api)] == ["subscription"]


def test_ten_years_are_many_short_transactions(billed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "STEP_SECONDS", 0.05)
    took: list[float] = []  # of a processor: a busy machine makes no transaction longer
    real = under_test.commits_for

    def noted(
        conn: psycopg.Connection[Any], seconds: float, *, rest: Callable[[float, float], None]
    ) -> Callable[[], bool]:
        pause = real(conn, seconds, rest=rest)
        last = time.thread_time()

        def both() -> bool:
            nonlocal last
            took.append(time.thread_time() - last)
            last = time.thread_time()
            return pause()

        return both

    monkeypatch.setattr(under_test, "commits_for", noted)
    ten_years = {"test_clock": {"now": "2034-03-05T10:00:00Z"}}
    while billed.call("PUT", CLOCK, ten_years).status_code == 202:
        pass  # a busy machine needs more than one request
    assert bills(billed) == 10 * MONTHS
    assert len(took) > 5
    assert max(took) < 1
