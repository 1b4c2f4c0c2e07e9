"""Lines of the log: JSON with what a request is about, and never what somebody has sent."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from permille import logs
from permille.api.addresses import Route
from permille.api.http import application
from permille.http.requests import Requests
from permille.usecases.organizations import add_key
from tests.live import PATIENCE_SECONDS, free_port, is_healthy, wait_until
from tests.usecases.world import START, make_world

SECRET = "planted-secret-9f3c"


@contextmanager
def lines(formatter: logging.Formatter) -> Iterator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    try:
        yield written
    finally:
        logging.getLogger().removeHandler(handler)


def crash(kind: str) -> None:
    nothing: dict[str, int] = {}
    try:
        {
            "value": lambda: int(SECRET),
            "key": lambda: nothing[SECRET],
            "text": lambda: f"{SECRET}".index("?"),
        }[kind]()
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"about {SECRET}") from error


@pytest.mark.parametrize("kind", ["value", "key", "text"])
@pytest.mark.parametrize("formatter", [logs.JsonLines(), logs.TextLines(logs.FORMAT)])
def test_a_crash_says_where_and_not_what(kind: str, formatter: logging.Formatter) -> None:
    async def broken(_request: Request) -> Response:
        crash(kind)
        raise AssertionError

    app = Requests(application([Route("/x/{name}", broken)]), logs_requests=True)
    with lines(formatter) as written:
        TestClient(app, raise_server_exceptions=False).get(f"/x/{SECRET}?key={SECRET}")
    text = written.getvalue()
    assert SECRET not in text
    assert "A request crashed" in text
    assert "in crash" in text
    assert "RuntimeError" in text


def test_an_error_of_the_database_says_its_state_and_no_row(db: psycopg.Connection[Any]) -> None:
    with lines(logs.JsonLines()) as written:
        for statement, values in (
            ("select %s::text::numeric", [SECRET]),
            ("insert into organization (id) values (%s::text::uuid)", [SECRET]),
        ):
            try:
                db.execute(statement, values)
            except psycopg.Error as error:
                logging.getLogger("x").warning("It failed: %s", error)
                logging.getLogger("x").exception("It failed")
                db.rollback()
    assert SECRET not in written.getvalue()
    assert "22P02" in written.getvalue()
    with lines(logs.JsonLines()) as written:
        db.execute("set statement_timeout = 10")
        try:
            db.execute("select pg_sleep(1)")
        except psycopg.Error as error:
            logging.getLogger("x").warning("It failed: %s", error)
    assert "canceling statement due to statement timeout" in written.getvalue()


def test_a_line_break_makes_no_second_line() -> None:
    with lines(logs.JsonLines()) as written:
        logging.getLogger("x").warning("one\ntwo %s", "three\r\nfour" + "x" * 50_000)
    (line,) = written.getvalue().splitlines()
    assert len(line) < 17_000
    assert json.loads(line)["message"].startswith("one\ntwo three")


def test_what_somebody_sent_begins_no_line_of_its_own() -> None:
    with lines(logs.TextLines(logs.FORMAT)) as written:
        logging.getLogger("x").warning("Customer %s", "a\r\n2026 CRITICAL x: forged\x1b[2J\u2028b")
    (line,) = written.getvalue().splitlines()
    assert line.endswith(r"Customer a\r\n2026 CRITICAL x: forged\x1b[2J\u2028b")


def test_a_server_logs_each_request_as_json_and_nothing_that_was_sent(
    dsn: str, db: psycopg.Connection[Any], tmp_path: Path
) -> None:
    world = make_world(db, test_now=None)
    key = add_key(db, world.id, name="k", now=START).secret
    db.commit()
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "permille", "serve", "--port", str(port)],
            env={**os.environ, "PERMILLE_DATABASE_URL": dsn, "PERMILLE_LOG_FORMAT": "json",
                 "PERMILLE_ADMIN_KEY": f"admin-{SECRET}-of-some-length", "PERMILLE_METRICS_KEY": f"metrics-{SECRET}"},
            stderr=output,
        )  # fmt: skip
    url, good = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
    event = {"transaction_id": "t", "code": "c", "external_subscription_id": "s", "properties": {"p": SECRET}}
    try:
        wait_until(lambda: is_healthy(url))
        with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            client.post("/api/v1/events", content=f'{{"event": "{SECRET}', headers=good)
            client.post("/api/v1/plans", content=f'{{"plan": {SECRET}', headers=good)
            client.post("/api/v1/events", json={"event": event}, headers=good)
            client.post("/api/v1/events", json={"event": event}, headers=good)
            client.post("/api/v1/events", json={"event": {**event, "timestamp": SECRET}}, headers=good)
            client.get("/api/v1/plans", headers={"Authorization": f"Bearer {SECRET}"})
            client.get(f"/api/v1/plans/{SECRET}", headers={**good, "X-Request-Id": "mine-1"})
            client.get(f"/api/v1/events?external_subscription_id={SECRET}%00", headers=good)
            client.post("/admin/v1/organizations", json={"x": SECRET}, headers={"Authorization": SECRET})
            client.get(f"/app/link/{SECRET}")
            client.post("/app/sign-in", data={"email": f"{SECRET}@x.y", "password": SECRET})
            client.get("/metrics", headers={"Authorization": f"Bearer metrics-{SECRET}"})
            client.get("/health", headers={"X-Request-Id": f"{SECRET} <script>"})
    finally:
        server.terminate()
        server.wait(PATIENCE_SECONDS)
    text = log.read_text()
    assert SECRET not in text
    assert key not in text
    entries = [json.loads(line) for line in text.splitlines()]
    answered = [entry for entry in entries if entry["logger"] == "permille.requests"]
    assert len(answered) >= 14
    for entry in answered:
        assert re.fullmatch(r"[!-~]{1,128}", entry["request_id"])
        assert entry.keys() >= {"at", "level", "method", "route", "status", "seconds"}
    (mine,) = [entry for entry in answered if entry["request_id"] == "mine-1"]
    assert (mine["organization_id"], mine["status"]) == (str(world.id), 404)
    stored = [entry for entry in answered if entry["route"] == "/api/v1/events" and entry["status"] == 200]
    assert [entry["organization_id"] for entry in stored] == [str(world.id)]
