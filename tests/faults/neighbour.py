"""An organization beside one that does its worst, and how long its requests take: `python -m tests.faults.neighbour [SECONDS]`.

Quiet and noise come in turns on a warm server, so that what else the machine does concerns both. Prints p50, p90 and p99 of
each kind of request, in quiet and in noise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from tests.faults import noise
from tests.live import live_server

TURNS = 2
"""How often quiet and noise alternate."""
KINDS = ("event", "read", "usage", "bill", "webhook")
MONTH = timedelta(days=31)
BILLED = 4
"""So many organizations have bills, a second apart: enough for a p99 that isn't the slowest one."""
SETTLE_SECONDS = 6.0
"""After so long what the noise has begun is done, or goes on beside the quiet turn."""

Times = dict[str, list[float]]
Arrived = dict[tuple[str, str], float]


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
def receiver() -> Iterator[tuple[int, Arrived]]:
    """Webhook endpoints, by path: their port, and when which invoice came in, by the path and the day it was issued."""
    arrived: Arrived = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if body["webhook_type"] == "invoice.created":
                arrived.setdefault((self.path, body["invoice"]["issuing_date"]), time.monotonic())
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


def sell(client: httpx2.Client) -> None:
    """A metric, a plan with a price for it, and a customer's subscription to it."""

    def post(path: str, **body: Any) -> Any:
        answer = client.post(path, json=body)
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


class Billed:
    """An organization in test mode that moves its clock by a month, over and over, and hears of its invoices at `path`."""

    def __init__(self, client: httpx2.Client, path: str) -> None:
        self.client, self.path = client, path
        self.now = datetime(2024, 1, 1, tzinfo=UTC)

    def set_up(self, webhook_port: int) -> None:
        sell(self.client)
        hook = {"webhook_url": f"http://127.0.0.1:{webhook_port}{self.path}"}
        answer = self.client.post("/webhook_endpoints", json={"webhook_endpoint": hook})
        assert answer.status_code == 200, answer.text

    def bill(self) -> httpx2.Response:
        self.now = (self.now + MONTH).replace(day=1)
        return self.client.put("/test_clock", json={"test_clock": {"now": self.now.isoformat()}})

    @property
    def latest(self) -> tuple[str, str]:
        """The path and the day of the latest invoice."""
        return self.path, self.now.date().isoformat()


class Neighbour:
    """Quiet organizations, over and over: a live one sends an event, reads and looks at usage, others have bills."""

    def __init__(self, client: httpx2.Client, billed: Sequence[Billed], arrived: Arrived) -> None:
        self.client, self.billed, self.arrived = client, billed, arrived
        self.number = 0

    def set_up(self, webhook_port: int) -> None:
        sell(self.client)
        for each in self.billed:
            each.set_up(webhook_port)

    def event(self) -> httpx2.Response:
        self.number += 1
        event = {"transaction_id": f"t{self.number}", "code": "m", "external_subscription_id": "s"}
        return self.client.post("/events", json={"event": {**event, "properties": {"n": 1}}})

    def read(self) -> httpx2.Response:
        return self.client.get("/customers/c")

    def usage(self) -> httpx2.Response:
        query = {"external_subscription_id": "s"}
        return self.client.get("/customers/c/current_usage", params=query)

    def measure(self, seconds: float) -> Times:
        """How long each kind of request took, and webhooks from the bill on."""
        took: Times = {kind: [] for kind in KINDS}
        issued: Arrived = {}
        until = time.monotonic() + seconds

        def repeat(kind: str, send: Callable[[], httpx2.Response], pause: float, late: float) -> None:
            time.sleep(late)
            while time.monotonic() < until:
                began = time.monotonic()
                answer = send()
                took[kind].append(time.monotonic() - began)
                assert answer.status_code == 200, f"{kind}: {answer.status_code} {answer.text}"
                time.sleep(pause)

        def bill(payer: Billed) -> httpx2.Response:
            began = time.monotonic()
            answer = payer.bill()
            issued[payer.latest] = began
            return answer

        problems: list[BaseException] = []

        def guarded(*args: Any) -> None:
            try:
                repeat(*args)
            except BaseException as error:
                problems.append(error)

        kinds = [
            ("event", self.event, 0.03, 0.0),
            ("read", self.read, 0.05, 0.0),
            ("usage", self.usage, 0.05, 0.0),
            *(("bill", partial(bill, each), 1.0, nth / BILLED) for nth, each in enumerate(self.billed)),
        ]
        threads = [threading.Thread(target=guarded, args=each) for each in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems, problems
        waits_until = time.monotonic() + 10
        while not issued.keys() <= self.arrived.keys() and time.monotonic() < waits_until:
            time.sleep(0.05)
        never = waits_until + 60
        took["webhook"] = [self.arrived.get(each, never) - began for each, began in issued.items()]
        return took


def percentile(times: list[float], part: float) -> float:
    """The time that all but so large a part of them took no longer than."""
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


@contextmanager
def noisy(port: int, key: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """What makes the noise, which begins when its input is closed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.noise", str(port), key, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


class Measured:
    """The times of the quiet turns and of the noisy ones, and what the noise was answered, by front."""

    def __init__(self) -> None:
        self.quiet: Times = {kind: [] for kind in KINDS}
        self.noisy: Times = {kind: [] for kind in KINDS}
        self.answers: dict[str, Counter[str]] = {front: Counter() for front in noise.FRONTS}

    def ratio(self, kind: str, part: float) -> float:
        return percentile(self.noisy[kind], part) / percentile(self.quiet[kind], part)

    def table(self) -> str:
        lines = ["ms: quiet, noise, times".ljust(26) + "".join(f"p{part:<26.0f}" for part in (50, 90, 99))]
        for kind in KINDS:
            count = f"{kind} ({len(self.quiet[kind])}, {len(self.noisy[kind])})"
            cells = [
                f"{percentile(self.quiet[kind], part) * 1e3:6.1f} {percentile(self.noisy[kind], part) * 1e3:6.1f} {self.ratio(kind, part):5.2f}"
                for part in (0.5, 0.9, 0.99)
            ]
            lines.append(count.ljust(26) + "".join(cell.ljust(27) for cell in cells))
        return "\n".join([*lines, json.dumps(self.answers)])


def measure(neighbour: Neighbour, port: int, key: str, *, quiet: float, noise: float) -> Measured:
    """So many seconds of quiet and of noise in each of TURNS turns; `key` is the noisy one's."""
    found = Measured()
    with going_first():
        neighbour.measure(0.5)  # warm
        for turn in range(TURNS):
            with noisy(port, key, noise + 0.5) as process:
                if turn:
                    time.sleep(SETTLE_SECONDS)
                _add(found.quiet, neighbour.measure(quiet))
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.close()
                _add(found.noisy, neighbour.measure(noise))
                for front, answers in json.loads(process.stdout.readline()).items():
                    found.answers[front].update(answers)
    return found


def _add(all_times: Times, more: Times) -> None:
    for kind, times in more.items():
        all_times[kind] += times


@contextmanager
def neighbours(folder: Path) -> Iterator[tuple[Neighbour, int, str]]:
    """Quiet organizations on a server of their own, that server's port, and the key of a noisy one."""
    with live_server(folder, limits={}) as server, receiver() as (port, arrived):
        test = {"test_mode": True, "now": "2024-01-01T00:00:00Z"}
        names = [f"billed {number}" for number in range(BILLED)]
        fields = {"noisy": test, "live": {}, **dict.fromkeys(names, test)}
        keys = {name: server.organization(name=name, **each)["api_key"] for name, each in fields.items()}
        with server.client(keys["noisy"]) as client:
            noise.set_up(client)
        with ExitStack() as clients:
            live = clients.enter_context(server.client(keys["live"]))
            billed = [
                Billed(clients.enter_context(server.client(keys[name])), f"/{number}")
                for number, name in enumerate(names)
            ]
            neighbour = Neighbour(live, billed, arrived)
            neighbour.set_up(port)
            yield neighbour, server.port, keys["noisy"]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 15.0
    with tempfile.TemporaryDirectory(dir="/dev/shm", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with neighbours(Path(folder)) as (neighbour, port, key):
            print(measure(neighbour, port, key, quiet=seconds * 2 / 3, noise=seconds).table(), flush=True)


if __name__ == "__main__":
    main()
