"""`permille work` as a process: it rolls up, bills what is due, delivers, and stops when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from permille.config import CALLS_SOCKET
from permille.core.instants import microseconds
from permille.embedded.calls import WORKING, Calls
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.ids import new_id
from permille.store import organizations
from tests.live import PATIENCE_SECONDS


def until(condition: Callable[[], Any], *, what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_it_works_and_stops(dsn: str, db: psycopg.Connection[Any]) -> None:
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    receiver = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    organization = make_due(db, webhook_url=f"http://127.0.0.1:{receiver.server_port}")
    now = microseconds(datetime.now(UTC))
    store(open_connection(dsn), Memory(), [Request(organization, [Draft("t", "c", "s", now, None, {})], now)])
    environment = {**os.environ, "PERMILLE_DATABASE_URL": dsn, "PERMILLE_WEBHOOK_ALLOW_PRIVATE": "true"}
    worker = subprocess.Popen([sys.executable, "-m", "permille", "work"], env=environment)

    def types() -> set[str]:
        return {each["webhook_type"] for each in received}

    try:

        def rolled_up() -> bool:
            row = db.execute("select count(*) from usage_cell").fetchone()
            db.commit()
            return row == (3,)

        until(rolled_up, what="an hour, a day and a month of usage")
        until(lambda: "invoice.created" in types(), what="the webhook of an invoice")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
        receiver.shutdown()
    invoice = next(each["invoice"] for each in received if each["webhook_type"] == "invoice.created")
    assert invoice["fees_amount_cents"] == sum(fee["amount_cents"] for fee in invoice["fees"]) == 1_000
    assert len(invoice["billing_periods"]) == len(invoice["subscriptions"]) == 1


def make_due(db: psycopg.Connection[Any], *, webhook_url: str) -> Any:
    """A live organization whose weekly subscription has been due since yesterday."""
    now = datetime.now(UTC)
    began = now - timedelta(days=8)
    organization = organizations.add(db, name="O", test_now=None, entity={}, now=began).id
    entity = db.execute("select id from billing_entity where organization_id = %s", [organization]).fetchone()
    assert entity is not None
    customer, plan, row = new_id(began), new_id(began), new_id(began)
    statements: list[tuple[str, list[Any]]] = [
        (
            "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
            " values (%s, %s, %s, %s, %s)",
            [new_id(now), organization, webhook_url, began, began],
        ),
        (
            "insert into customer (id, organization_id, billing_entity_id, external_id, sequential_id, slug,"
            " created_at, updated_at) values (%s, %s, %s, 'c', 1, 'O-001', %s, %s)",
            [customer, organization, entity[0], began, began],
        ),
        (
            "insert into plan (id, organization_id, code, name, interval, amount_cents, amount_currency,"
            " created_at, updated_at) values (%s, %s, 'p', 'P', 'weekly', 1000, 'USD', %s, %s)",
            [plan, organization, began, began],
        ),
        (
            "insert into subscription (id, organization_id, customer_id, plan_id, external_id, status,"
            " billing_time, subscription_at, started_at, created_at, updated_at, next_billing_at)"
            " values (%s, %s, %s, %s, 's', 'active', 'anniversary', %s, %s, %s, %s, %s)",
            [row, organization, customer, plan, began, began, began, began,
             (began + timedelta(days=7)).replace(hour=0, minute=0, second=0, microsecond=0)],
        ),
    ]  # fmt: skip
    for statement, values in statements:
        db.execute(statement, values)
    db.commit()
    return organization


TWICE = """
import os, signal, threading
real, armed = threading.Event.set, []
signal.signal(signal.SIGUSR1, lambda *_: armed.append(True))
def interrupted(event):
    if armed and threading.get_ident() == threading.main_thread().ident:
        armed.clear()
        with event._cond:
            os.kill(os.getpid(), signal.SIGTERM)
    real(event)
threading.Event.set = interrupted
from permille.config import from_environment
from permille.worker import run
run(from_environment())  # the command of root starts itself again as another user, without this script
"""
"""A worker that gets another SIGTERM while it is at the first one, once it is armed."""


def work(dsn: str, *before: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PERMILLE_DATABASE_URL": dsn}
    command = [sys.executable, *(before or ("-m", "permille")), "work"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ended(worker: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, said = worker.communicate(timeout=PATIENCE_SECONDS)
    finally:
        worker.kill()
    return worker.returncode, said


def catches(pid: int, *numbers: signal.Signals) -> bool:
    """Whether a process has handlers of its own for these signals."""
    caught = int(Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0], 16)
    return all(caught >> (number - 1) & 1 for number in numbers)


def is_at_work(db: psycopg.Connection[Any]) -> bool:
    db.rollback()
    row = db.execute(
        "select count(*) from pg_stat_activity"
        " where application_name = 'permille-work' and datname = current_database()"
    ).fetchone()
    return row is not None and row[0] > 0


def test_a_second_signal_in_the_middle_of_the_first_hangs_nothing(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    worker = work(dsn, "-c", TWICE)
    until(lambda: catches(worker.pid, signal.SIGUSR1, signal.SIGTERM), what="the worker's handlers")
    worker.send_signal(signal.SIGUSR1)
    worker.send_signal(signal.SIGTERM)
    assert ended(worker)[0] == 0


UNTIL_IDLE = """
import sys, time
from permille import worker
from permille.config import from_environment
turns = []
def step(_pool, _now):
    turns.append(time.sleep(0.05))
    return len(turns) < int(sys.argv[1])
worker.loops = lambda *_: (
    worker.Loop(name="all", step=step, pause_seconds=1.0),
    worker.Loop(name="daily", step=lambda *_: turns.append("daily"), pause_seconds=86_400.0),
)
worker.BUSY_SECONDS, worker.IDLE_SECONDS = 0.5, 1.0
worker.run(from_environment(), until_idle=True)
sys.exit(3 if len(turns) < int(sys.argv[1]) or "daily" in turns else 0)
"""
"""A worker with a loop that goes on for so many turns."""


@pytest.mark.skipif(sys.platform != "linux", reason="another worker can be asked for on Linux only")
@pytest.mark.parametrize(("turns", "asked"), [(1, set()), (40, {WORKING})])
def test_it_asks_for_another_worker_while_there_is_much_to_do_and_ends_when_it_is_idle(
    dsn: str, turns: int, asked: set[str]
) -> None:
    calls = Calls()
    environment = {**os.environ, "PERMILLE_DATABASE_URL": dsn, CALLS_SOCKET: calls.name}
    command = [sys.executable, "-c", UNTIL_IDLE, str(turns)]
    assert subprocess.run(command, env=environment, timeout=PATIENCE_SECONDS, check=False).returncode == 0
    assert calls.take() == asked
    calls.close()


def test_a_newer_schema_ends_it_at_the_start_and_while_it_runs(dsn: str, db: psycopg.Connection[Any]) -> None:
    worker = work(dsn)
    until(lambda: is_at_work(db), what="the worker's connections")
    db.execute("insert into schema_migration values (9999, 'of_tomorrow', '', now())")
    db.commit()
    for each in (worker, work(dsn)):
        code, said = ended(each)
        assert code == 2
        assert "9999" in said
        assert "newer version" in said


def test_a_clock_behind_what_was_seen_ends_it(dsn: str, db: psycopg.Connection[Any]) -> None:
    make_due(db, webhook_url="http://127.0.0.1:9")
    db.execute("update clock_seen set at = now() + interval '3 years'")
    db.commit()
    code, said = ended(work(dsn))
    assert code == 2
    assert "permille clock confirm" in said
    assert db.execute("select count(*) from invoice").fetchone() == (0,)
