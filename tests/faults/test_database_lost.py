"""The database goes away and comes back under a running server: idle connections are no obstacle, and while it is away
every door answers 503 with Retry-After.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from permille.database.migrate import migrate
from permille.embedded.postgres import EmbeddedPostgres
from tests.conftest import FAST
from tests.live import ADMIN_KEY, PATIENCE_SECONDS, PLAIN, free_port, wait_until

RESTARTS = ("orderly", "backends terminated")


class Installation:
    """`permille serve` on a database of its own that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres", settings=FAST)
        self.postgres.start()
        migrate(self.postgres.dsn)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = (folder / "server.log").open("w+")
        environment = {"PERMILLE_DATABASE_URL": self.postgres.dsn, "PERMILLE_ADMIN_KEY": ADMIN_KEY}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "permille", "serve", "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **environment},
            stdout=self.log,
            stderr=self.log,
        )
        self.await_health()
        made = self.ask("POST", "/admin/v1/organizations", ADMIN_KEY, {"organization": {"name": "O"}})
        self.key = made.json()["organization"]["api_key"]

    def ask(self, method: str, path: str, key: str | None = None, body: Any = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.request(
            method, f"{self.url}{path}", headers=headers, json=body, timeout=PATIENCE_SECONDS, verify=PLAIN
        )

    def send(self, transaction: str, code: str = "c") -> httpx2.Response:
        event = {"transaction_id": transaction, "code": code, "external_subscription_id": "s"}
        return self.ask("POST", "/api/v1/events", self.key, {"event": event})

    def await_health(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            try:
                if self.ask("GET", "/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(self.log.read())

    def warm_up(self, name: str) -> None:
        """Both writers, their threads, and several connections of each pool are in use for a moment."""
        with ThreadPoolExecutor(16) as threads:
            sent = threads.map(
                lambda n: self.send(f"{name}-{n}", code=f"{name}-{n % 4}").status_code, range(60)
            )
            read = threads.map(lambda _: self.ask("GET", "/api/v1/plans", self.key).status_code, range(24))
            assert set(sent) == set(read) == {200}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        self.log.close()
        self.postgres.stop()


@pytest.fixture(scope="module")
def installation(reachable_session_path: Path) -> Iterator[Installation]:
    folder = reachable_session_path / "lost"
    folder.mkdir()
    folder.chmod(0o711)
    made = Installation(folder)
    yield made
    made.stop()


def restart(installation: Installation, how: str) -> None:
    if how == "orderly":
        installation.postgres.stop()
        installation.postgres.start()
        return
    with psycopg.connect(installation.postgres.superuser_dsn) as conn:
        conn.execute(
            "select pg_terminate_backend(pid, %s) from pg_stat_activity where application_name like 'permille-%%'",
            [PATIENCE_SECONDS * 1_000],
        )


def use_everything(installation: Installation, name: str) -> float:
    """How many seconds it takes."""
    began = time.monotonic()
    for n in range(6):  # both writers, with a code they know and with one that is new
        answer = installation.send(f"{name} {n}", code=f"{name}-{n}" if n % 2 else "c")
        assert answer.status_code == 200, answer.text
    for path in ("/api/v1/plans", "/api/v1/events", "/health"):
        assert installation.ask("GET", path, installation.key).status_code == 200, path
    assert installation.ask("GET", "/app/sign-in").status_code == 200
    return time.monotonic() - began


@pytest.mark.parametrize("how", RESTARTS)
def test_after_a_restart_the_next_of_everything_is_answered(installation: Installation, how: str) -> None:
    installation.warm_up(how)
    quiet = use_everything(installation, f"before {how}")
    restart(installation, how)
    assert use_everything(installation, f"after {how}") < 3 + 3 * quiet
    with psycopg.connect(installation.postgres.dsn) as conn:
        stored = conn.execute(
            "select count(*) from event where transaction_id like %s", [f"after {how}%"]
        ).fetchone()
    assert stored == (6,)


def test_while_it_is_away_every_door_says_when_to_try_again(installation: Installation) -> None:
    key = installation.key
    doors = {
        "event": lambda: installation.send("away"),
        "event of an unknown key": lambda: installation.ask("POST", "/api/v1/events", "no-key", {"event": {"code": "c"}}),
        "batch": lambda: installation.ask("POST", "/api/v1/events/batch", key, {"events": [{"code": "c", "transaction_id": "b"}]}),
        "batch with errors": lambda: installation.ask("POST", "/api/v1/events/batch", key, {"events": [{"code": "c"}]}),
        "read": lambda: installation.ask("GET", "/api/v1/plans", key),
        "write": lambda: installation.ask("POST", "/api/v1/customers", key, {"customer": {"external_id": "c"}}),
        "admin": lambda: installation.ask("POST", "/admin/v1/organizations", ADMIN_KEY, {"organization": {"name": "P"}}),
        "health": lambda: installation.ask("GET", "/health"),
        "page": lambda: httpx2.get(f"{installation.url}/app", cookies={"permille_session": "x"}, timeout=PATIENCE_SECONDS),
        "link": lambda: installation.ask("GET", "/app/link/abc"),
    }  # fmt: skip
    installation.postgres.stop()
    try:
        wait_until(
            lambda: installation.ask("GET", "/health").status_code == 503
        )  # it is looked at once a second
        with ThreadPoolExecutor(len(doors)) as threads:
            answers = dict(zip(doors, threads.map(lambda door: door(), doors.values()), strict=True))
    finally:
        installation.postgres.start()
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(doors, 503)
    assert all(answer.headers["retry-after"] == "1" for answer in answers.values())
    expected = {"status": 503, "error": "Service Unavailable", "code": "try_again"}
    assert expected.items() <= answers["read"].json().items()
    assert "<h1>The database can&#39;t be reached</h1>" in answers["page"].text
    assert answers["page"].headers["content-security-policy"]
    installation.await_health()
    assert installation.send("away").status_code == 200


def test_a_full_pool_says_when_to_try_again(installation: Installation) -> None:
    """All connections that the database gives are taken by others."""
    with psycopg.connect(installation.postgres.superuser_dsn, autocommit=True) as conn:
        conn.execute("alter database permille connection limit 0")
        until = (
            time.monotonic() + 1.2
        )  # one that is being opened ends later; health is looked at once a second
        while time.monotonic() < until:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'permille-%'"
            )
            time.sleep(0.1)
        try:
            answers = [
                installation.ask("GET", "/api/v1/plans", installation.key),
                installation.send("full"),
                installation.ask("GET", "/health"),
            ]
        finally:
            conn.execute("alter database permille connection limit -1")
    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [(503, "1")] * 3
    installation.await_health()
    assert installation.send("full").status_code == 200
