"""Two servers and two workers on one database: one of each is killed, and nobody notices but by its address."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import psycopg

from permille.clock import system_now
from permille.usecases.organizations import add_key
from tests.live import PATIENCE_SECONDS, free_port, is_healthy, wait_until
from tests.test_backup import a_month
from tests.usecases.world import make_world


@contextmanager
def program(dsn: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "permille", *arguments], env={**os.environ, "PERMILLE_DATABASE_URL": dsn}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def test_one_of_each_is_killed_and_the_others_go_on(dsn: str, db: psycopg.Connection[Any]) -> None:
    now = system_now()
    world = make_world(db, test_now=None)
    headers = {"Authorization": f"Bearer {add_key(db, world.id, name='k', now=now).secret}"}
    db.commit()
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]

    def send(url: str, name: str) -> int:
        event = {"transaction_id": name, "code": "t", "external_subscription_id": "s", "properties": {"n": 1}}
        return httpx2.post(
            f"{url}/api/v1/events", json={"event": event}, headers=headers, timeout=PATIENCE_SECONDS
        ).status_code

    def counted(url: str) -> int:
        answer = httpx2.get(
            f"{url}/api/v1/customers/c/current_usage?external_subscription_id=s",
            headers=headers,
            timeout=PATIENCE_SECONDS,
        )
        assert answer.status_code == 200, answer.text
        return int(float(answer.json()["customer_usage"]["charges_usage"][0]["units"]))

    def rolled_up() -> bool:
        with psycopg.connect(dsn) as conn:
            row = conn.execute(
                "select rolled_up_to >= (select max(seq) from event) from metering_state"
            ).fetchone()
        return row == (True,)

    with ExitStack() as stack:
        servers = [stack.enter_context(program(dsn, "serve", "--port", str(port))) for port in ports]
        workers = [stack.enter_context(program(dsn, "work")) for _ in range(2)]
        wait_until(lambda: all(map(is_healthy, urls)))
        with httpx2.Client(base_url=f"{urls[0]}/api/v1", headers=headers, timeout=PATIENCE_SECONDS) as client:
            a_month(client)
        assert [send(url, "same") for url in urls] == [200, 422], "once, whichever server took it"
        assert send(urls[1], "other") == 200
        assert [counted(url) for url in urls] == [2, 2]
        servers[0].kill()
        workers[0].kill()
        servers[0].wait()
        assert send(urls[1], "same") == 422
        assert send(urls[1], "after") == 200
        assert counted(urls[1]) == 3
        wait_until(rolled_up)
        assert counted(urls[1]) == 3
