"""One organization does its worst on every front at once; what another one does takes as long as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from tests.faults import noise
from tests.faults.measurements import is_once_quick
from tests.live import live_server

QUIET_SECONDS, NOISY_SECONDS = 3.0, 8.0
FLOOR = {"event": 1.0, "read": 1.0, "usage": 1.0, "bill": 2.0, "webhook": 2.5}
"""Below it nothing is called slow: the machine may be busy with other things, and all the noise shares its cores."""
MONTH = timedelta(days=31)


@contextmanager
def going_first() -> Iterator[None]:
    """Threads that begin here have a processor as soon as they want one, where that is allowed: what is measured is the server, whose clients are on other machines."""
    group, before = Path("/proc/self/autogroup"), os.getpriority(os.PRIO_PROCESS, 0)
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)
            group.write_text("-15")
        yield
    finally:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, before)
            group.write_text("0")


@contextmanager
def receiver() -> Iterator[tuple[int, dict[str, float]]]:
    """A webhook endpoint: its port, and when which invoice came in, by the day it was issued."""
    arrived: dict[str, float] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if body["webhook_type"] == "invoice.created":
                arrived.setdefault(body["invoice"]["issuing_date"], time.monotonic())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], arrived
    finally:
        server.shutdown()


class Neighbour:
    """Sends an event, reads, looks at usage and moves its clock by a month, over and over."""

    def __init__(self, client: httpx2.Client, arrived: dict[str, float]) -> None:
        self.client, self.arrived = client, arrived
        self.now = datetime(2024, 1, 1, tzinfo=UTC)
        self.number = 0

    def set_up(self, webhook_port: int) -> None:
        def post(path: str, **body: Any) -> Any:
            answer = self.client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        metric = {"name": "m", "code": "m", "aggregation_type": "sum_agg", "field_name": "n"}
        made = post("/billable_metrics", billable_metric=metric)["billable_metric"]
        charge = {
            "billable_metric_id": made["lago_id"],
            "charge_model": "standard",
            "properties": {"amount": "1"},
        }
        plan = {
            "name": "p",
            "code": "p",
            "interval": "monthly",
            "amount_cents": 100,
            "amount_currency": "EUR",
        }
        post("/plans", plan={**plan, "pay_in_advance": False, "charges": [charge]})
        post("/customers", customer={"external_id": "c", "currency": "EUR"})
        subscription = {"external_customer_id": "c", "plan_code": "p", "external_id": "s"}
        post("/subscriptions", subscription=subscription)
        hook = {"webhook_url": f"http://127.0.0.1:{webhook_port}/"}
        post("/webhook_endpoints", webhook_endpoint=hook)

    def event(self) -> httpx2.Response:
        self.number += 1
        event = {"transaction_id": f"t{self.number}", "code": "m", "external_subscription_id": "s"}
        return self.client.post("/events", json={"event": {**event, "properties": {"n": 1}}})

    def read(self) -> httpx2.Response:
        return self.client.get("/customers/c")

    def usage(self) -> httpx2.Response:
        query = {"external_subscription_id": "s"}
        return self.client.get("/customers/c/current_usage", params=query)

    def bill(self) -> httpx2.Response:
        self.now = (self.now + MONTH).replace(day=1)
        return self.client.put("/test_clock", json={"test_clock": {"now": self.now.isoformat()}})

    def measure(self, seconds: float) -> dict[str, list[float]]:
        """How long each kind of request took, and webhooks from the bill on."""
        took: dict[str, list[float]] = {kind: [] for kind in FLOOR}
        billed: dict[str, float] = {}
        until = time.monotonic() + seconds

        def repeat(kind: str, send: Callable[[], httpx2.Response], pause: float) -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                answer = send()
                took[kind].append(time.monotonic() - began)
                assert answer.status_code == 200, f"{kind}: {answer.status_code} {answer.text}"
                if kind == "bill":
                    billed[self.now.date().isoformat()] = began
                time.sleep(pause)

        problems: list[BaseException] = []

        def guarded(*args: Any) -> None:
            try:
                repeat(*args)
            except BaseException as error:
                problems.append(error)

        kinds = [
            ("event", self.event, 0.03),
            ("read", self.read, 0.05),
            ("usage", self.usage, 0.05),
            ("bill", self.bill, 0.5),
        ]
        threads = [threading.Thread(target=guarded, args=each) for each in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems, problems
        waits_until = time.monotonic() + 10
        while not billed.keys() <= self.arrived.keys() and time.monotonic() < waits_until:
            time.sleep(0.05)
        never = waits_until + 60
        took["webhook"] = [self.arrived.get(day, never) - began for day, began in billed.items()]
        return took


def p99(times: list[float]) -> float:
    """The time that all but the slowest one or percent of them took."""
    slowest = max(1, len(times) // 100)
    return sorted(times)[-slowest - 1] if len(times) > slowest else max(times)


def slowed(neighbour: Neighbour, port: int, noisy_key: str) -> dict[str, tuple[float, float]]:
    """The kinds of requests that the noise makes slow, each with its p99 without and with it."""
    arguments = [str(port), noisy_key, str(NOISY_SECONDS + 1)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.noise", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with going_first():
            neighbour.measure(0.5)  # warm
            quiet = neighbour.measure(QUIET_SECONDS)
            process.stdin.close()
            noisy = neighbour.measure(NOISY_SECONDS)
        answers = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    figures = {kind: (round(p99(quiet[kind]), 3), round(p99(noisy[kind]), 3)) for kind in FLOOR}
    print(figures, answers)
    for front, found in answers.items():
        assert not found.keys() & {"500"}, (front, found)
    return {kind: each for kind, each in figures.items() if each[1] > max(2 * each[0], FLOOR[kind])}


def test_a_neighbour_that_does_its_worst_is_hardly_felt(reachable_path: Path) -> None:
    with live_server(reachable_path) as server, receiver() as (port, arrived):
        made = {
            name: server.organization(name=name, test_mode=True, now="2024-01-01T00:00:00Z")
            for name in ("noisy", "quiet")
        }
        with server.client(made["noisy"]["api_key"]) as client:
            noise.set_up(client)
        with server.client(made["quiet"]["api_key"]) as client:
            neighbour = Neighbour(client, arrived)
            neighbour.set_up(port)
            is_once_quick(lambda: slowed(neighbour, server.port, made["noisy"]["api_key"]))
