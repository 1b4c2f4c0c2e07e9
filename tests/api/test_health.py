"""GET /health, /health/ready and /health/live: what load balancers ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from permille.api.health import Readiness, health_routes
from permille.api.http import application
from permille.config import Config
from permille.database import readiness
from permille.database.connections import open_pool
from permille.server import Gate

READY = ("/health", "/health/ready")
FULL = "do $$ begin raise exception 'no room' using errcode = '53100'; end $$"


@pytest.fixture
def client(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("permille.api.health.REMEMBERED_SECONDS", -1.0)
    pool = open_pool(dsn, size=1, name="test")
    with TestClient(application(health_routes(pool))) as found:
        yield found
    pool.close()


def test_a_server_that_can_serve_says_so(client: TestClient) -> None:
    for path in (*READY, "/health/live"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"}), path


def test_a_full_disk_is_alive_and_not_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(readiness, "_WRITE", FULL)
        answers = [client.get(path) for path in READY]
        assert client.get("/health/live").status_code == 200
    for answer in answers:
        assert (answer.status_code, answer.json()) == (503, {"status": "disk_full"})
        assert answer.headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200


def test_what_is_written_is_too_large_for_memory(db: psycopg.Connection[Any]) -> None:
    """So that a full disk is noticed: the sort goes to a file."""
    db.execute("set local work_mem = '64kB'")
    found = db.execute(f"explain (analyze, buffers, format json) {readiness._WRITE}").fetchone()
    assert found is not None
    assert found[0][0]["Plan"]["Temp Written Blocks"] > 50


def test_a_database_that_takes_no_writes_is_not_ready(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        assert readiness.readiness(conn) == "ok"
        conn.rollback()
        conn.read_only = True
        assert readiness.readiness(conn) == "read_only"


def test_countless_probes_are_one_look(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look(_conn: Any) -> str:
        looks.append(1)
        return "ok"

    async def ask() -> None:
        pool = open_pool(dsn, size=1, name="test")
        try:
            found = Readiness(pool)
            assert set(await asyncio.gather(*(found.status() for _ in range(50)))) == {"ok"}
        finally:
            pool.close()

    monkeypatch.setattr("permille.api.health.readiness", look)
    asyncio.run(ask())
    assert len(looks) == 1


def test_a_server_that_waits_for_its_database_is_alive_and_not_ready() -> None:
    client = TestClient(Gate(Config()))
    assert client.get("/health/live").status_code == 200
    for path in READY:
        answer = client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (503, "starting")
