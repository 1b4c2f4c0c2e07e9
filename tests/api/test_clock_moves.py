"""The test clock moves in steps, each of which is kept: long moves go on by themselves, also after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from permille.api import organizations as under_test
from permille.clock import system_now
from permille.database.connections import Pool, open_pool
from permille.usecases.due import due

from .conftest import Api, Server

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


def test_ten_years_are_many_short_transactions(billed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "STEP_SECONDS", 0.05)
    commits: list[float] = []
    real = under_test.commits_for

    def noted(
        conn: psycopg.Connection[Any], seconds: float, *, rest: Callable[[float, float], None]
    ) -> Callable[[], bool]:
        pause = real(conn, seconds, rest=rest)

        def both() -> bool:
            commits.append(time.monotonic())
            return pause()

        return both

    monkeypatch.setattr(under_test, "commits_for", noted)
    ten_years = {"test_clock": {"now": "2034-03-05T10:00:00Z"}}
    while billed.call("PUT", CLOCK, ten_years).status_code == 202:
        pass  # a busy machine needs more than one request
    assert bills(billed) == 10 * MONTHS
    assert len(commits) > 5
    assert max(after - before for before, after in pairwise(commits)) < 2
