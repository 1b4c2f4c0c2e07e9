"""kill -9 of every process under load: nothing acknowledged is lost or counted twice, nobody is billed twice.

The client does what a real one does: it repeats a batch until it is answered for good, and takes
"value_already_exist" for every event of it as the proof that the batch is in.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from permille.events.postgres import rollup
from tests.live import PATIENCE_SECONDS, LiveServer, live_server

CUSTOMERS = [f"customer-{n}" for n in range(5)]
TYPES = ("input", "output")
BATCH = 50
PACKAGE_CENTS = 3


def set_up(client: httpx2.Client) -> None:
    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    metric = post(
        "/billable_metrics",
        {
            "billable_metric": {
                "name": "Tokens",
                "code": "tokens",
                "aggregation_type": "sum_agg",
                "field_name": "tokens",
                "filters": [{"key": "type", "values": list(TYPES)}],
            }
        },
    )["billable_metric"]
    price = {"amount": "0.03", "free_units": 0, "package_size": 1000}
    charge = {
        "billable_metric_id": metric["lago_id"],
        "charge_model": "package",
        "properties": price,
        "filters": [{"values": {"type": [kind]}, "properties": price} for kind in TYPES],
    }
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    post("/plans", {"plan": {**plan, "pay_in_advance": False, "charges": [charge]}})
    for name in CUSTOMERS:
        post("/customers", {"customer": {"external_id": name, "currency": "USD"}})
        subscription = {"external_customer_id": name, "plan_code": "p", "external_id": name}
        post("/subscriptions", {"subscription": subscription})


class Load(threading.Thread):
    """Sends batches until told to stop, each again and again until it is in."""

    def __init__(self, server: LiveServer, key: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.server, self.key, self.seed = server, key, seed
        self.chance = random.Random(seed)
        self.done = threading.Event()
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.events = 0
        self.problem: str | None = None

    def run(self) -> None:
        with self.server.client(self.key) as client:
            number = 0
            while not self.done.is_set() and self.problem is None:
                batch = [self._event(number + i) for i in range(BATCH)]
                number += BATCH
                self._deliver(client, batch)

    def _event(self, number: int) -> dict[str, Any]:
        return {
            "transaction_id": f"{self.seed}-{number}",
            "external_subscription_id": self.chance.choice(CUSTOMERS),
            "code": "tokens",
            "timestamp": 1_790_812_800 + self.chance.randrange(86_400),  # on 1 October 2026
            "properties": {"type": self.chance.choice(TYPES), "tokens": self.chance.randrange(5_000)},
        }

    def _deliver(self, client: httpx2.Client, batch: list[dict[str, Any]]) -> None:
        while True:
            try:
                answer = client.post("/events/batch", json={"events": batch})
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200 or self._is_in_already(answer):
                break
            if answer.status_code < 500:
                self.problem = f"{answer.status_code}: {answer.text[:300]}"
                return
            time.sleep(0.05)
        for event in batch:
            bucket = event["external_subscription_id"], event["properties"]["type"]
            self.tokens[bucket] += event["properties"]["tokens"]
        self.events += len(batch)

    def _is_in_already(self, answer: httpx2.Response) -> bool:
        if answer.status_code != 422:
            return False
        details = answer.json()["error_details"]
        return len(details) == BATCH and all(
            error == {"transaction_id": ["value_already_exist"]} for error in details.values()
        )


def victims(server: LiveServer) -> dict[str, list[int]]:
    """What can be killed, by role."""
    found: dict[str, list[int]] = {"supervisor": [], "serve": [], "work": [], "postgres": []}
    assert server.process is not None
    found["supervisor"].append(server.process.pid)
    for pid, command in server.children().items():
        for role, mark in (("serve", " serve"), ("work", " work"), ("postgres", "postgres")):
            if mark in command and (role != "postgres" or "-D" in command or command.startswith("postgres:")):
                found[role].append(pid)
                break
    return found


def kill(server: LiveServer, role: str, chance: random.Random) -> None:
    pids = victims(server)[role]
    assert pids, f"no {role} to kill: {server.children()}"
    pid, before = chance.choice(pids), server.children()
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # a database backend that ended by itself
    if role == "supervisor":
        assert server.process is not None
        server.process.wait()
        server.start()
        until(lambda: not any(map(is_running, before)), what="the old server answers nothing any more")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def usage(client: httpx2.Client, name: str) -> dict[str, Decimal]:
    answer = client.get(f"/customers/{name}/current_usage", params={"external_subscription_id": name})
    assert answer.status_code == 200, answer.text
    (charge,) = answer.json()["customer_usage"]["charges_usage"]
    return {row["values"]["type"][0]: Decimal(row["units"]) for row in charge["filters"] if row["values"]}


def cells_are_right(server: LiveServer) -> bool:
    from permille.embedded.postgres import dsn_of

    with psycopg.connect(dsn_of(server.folder / "data") or "") as conn:
        return not rollup.verify(conn)


@pytest.fixture(scope="module")
def server(reachable_session_path: Path) -> Iterator[LiveServer]:
    """One for all, each with an organization of its own."""
    folder = reachable_session_path / "kill"
    folder.mkdir(mode=0o711)
    with live_server(folder) as server:
        yield server


def test_nothing_acknowledged_is_lost_or_doubled(server: LiveServer) -> None:
    chance = random.Random(2026)
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    with server.client(key, asks_again=True) as client:
        set_up(client)
    loads = [Load(server, key, seed) for seed in range(3)]
    for load in loads:
        load.start()
    roles = ["serve", "postgres", "work", "supervisor", "serve", "postgres", "supervisor"]
    for role in roles:
        time.sleep(chance.uniform(0.3, 1.5))
        kill(server, role, chance)
        server.wait_ready()
        until(lambda: all(victims(server).values()), what="every process runs again")
    time.sleep(1)
    for load in loads:
        load.done.set()
    for load in loads:
        load.join(PATIENCE_SECONDS)
        assert load.problem is None
        assert load.events > 0

    expected = sum((load.tokens for load in loads), Counter())
    with server.client(key, asks_again=True) as client:
        for name in CUSTOMERS:
            assert usage(client, name) == {kind: Decimal(expected[name, kind]) for kind in TYPES}
        total = client.get("/events", params={"per_page": 1}).json()["meta"]["total_count"]
    assert total == sum(load.events for load in loads)
    assert cells_are_right(server)


def test_sigterm_under_load_is_a_clean_end(server: LiveServer) -> None:
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    with server.client(key, asks_again=True) as client:
        set_up(client)
    load = Load(server, key, seed=5)
    load.start()
    time.sleep(1.5)
    assert server.stop() == 0
    assert not server.healthy()
    server.start()
    server.wait_ready()
    load.done.set()
    load.join(PATIENCE_SECONDS)
    assert load.problem is None
    with server.client(key, asks_again=True) as client:
        found = {name: usage(client, name) for name in CUSTOMERS}
    assert found == {name: {kind: Decimal(load.tokens[name, kind]) for kind in TYPES} for name in CUSTOMERS}


def test_a_billing_run_that_is_killed_bills_everybody_once(server: LiveServer) -> None:
    chance = random.Random(7)
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    with server.client(key, asks_again=True) as client:
        set_up(client)
        load = Load(server, key, seed=99)
        for number in range(0, 500, BATCH):
            load._deliver(client, [load._event(number + i) for i in range(BATCH)])
    for month, role in ((11, "serve"), (12, "postgres")):
        move(server, key, f"2026-{month}-01T00:00:00Z", kill_role=role, chance=chance)

    with server.client(key, asks_again=True) as client:
        for name in CUSTOMERS:
            invoices = client.get("/invoices", params={"external_customer_id": name}).json()["invoices"]
            packages = [-(-load.tokens[name, kind] // 1_000) for kind in TYPES]
            totals = sorted(invoice["total_amount_cents"] for invoice in invoices)
            assert totals == [0, sum(packages) * PACKAGE_CENTS]
            assert sorted(invoice["sequential_id"] for invoice in invoices) == [1, 2]


def move(server: LiveServer, key: str, to: str, *, kill_role: str, chance: random.Random) -> None:
    """Move the clock while a process is killed, and again until it has moved."""
    body = {"test_clock": {"now": to}}

    def first_try() -> None:
        try:
            with server.client(key, asks_again=True) as client:
                client.put("/test_clock", json=body)
        except httpx2.TransportError:
            return

    mover = threading.Thread(target=first_try)
    mover.start()
    time.sleep(chance.uniform(0.0, 0.1))
    kill(server, kill_role, chance)
    mover.join()
    server.wait_ready()

    def moved() -> bool:
        try:
            with server.client(key, asks_again=True) as client:
                return client.put("/test_clock", json=body).status_code == 200
        except httpx2.TransportError:
            return False

    until(moved, what="the clock moves")
