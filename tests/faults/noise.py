"""An organization that does its worst on every front at once: `python -m tests.faults.noise PORT KEY SECONDS`.

It prints that it is ready, begins when its input ends, and prints how often it was answered with what, by front.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx2

from permille import niceness

GROUPS = 500
HEAVY = " / ".join(["event.properties.a"] * 99)
"""As many words as 1,000 events of a request may have."""
FRONTS: dict[str, int] = {
    "heavy expressions": 4,
    "large batches": 4,
    "too large": 2,
    "clock": 12,
    "documents": 12,
    "usage": 4,
    "deep lists": 4,
    "evaluations": 2,
}
"""Front -> clients at once."""


def set_up(client: httpx2.Client) -> None:
    """Plans, prices, 500 groups of usage, and an invoice of as many lines."""

    def post(path: str, **body: Any) -> Any:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    charges: list[dict[str, Any]] = []
    for code in ("grouped", "heavy"):
        metric = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "n"}
        if code == "heavy":
            metric["expression"] = HEAVY
        made = post("/billable_metrics", billable_metric=metric)["billable_metric"]
        charges.append(
            {
                "billable_metric_id": made["lago_id"],
                "charge_model": "standard",
                "properties": {"amount": "1", "grouped_by": ["group"]},
            }
        )
    for interval, own in (("monthly", charges), ("weekly", [])):
        plan = {"name": interval, "code": interval, "interval": interval, "amount_cents": 100}
        post("/plans", plan={**plan, "amount_currency": "EUR", "pay_in_advance": False, "charges": own})
    post("/customers", customer={"external_id": "c", "currency": "EUR"})
    for number in range(6):
        plan_code = "weekly" if number else "monthly"
        subscription = {"external_customer_id": "c", "plan_code": plan_code, "external_id": f"s{number}"}
        post("/subscriptions", subscription=subscription)
    for is_first in (True, False):
        post("/events/batch", events=batch("grouped", GROUPS, lambda n: {"n": 1, "group": f"g{n}"}))
        if is_first:
            moved = client.put("/test_clock", json={"test_clock": {"now": "2024-02-01T01:00:00Z"}})
            assert moved.status_code == 200, moved.text


def batch(code: str, size: int, properties: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    prefix = uuid.uuid4().hex
    return [
        {
            "transaction_id": f"{prefix}-{number}",
            "external_subscription_id": "s0",
            "code": code,
            "properties": properties(number),
        }
        for number in range(size)
    ]


def _body(events: list[dict[str, Any]]) -> tuple[bytes, bytes]:
    """The prefix of all transaction ids, and the body of a batch."""
    return events[0]["transaction_id"].split("-")[0].encode(), json.dumps({"events": events}).encode()


class Noise:
    def __init__(self, port: int, key: str) -> None:
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            limits=httpx2.Limits(max_connections=100),
        )
        self.answers: dict[str, Counter[int | str]] = {front: Counter() for front in FRONTS}
        self.numbers = count()
        text = "1." + "3" * 30
        self.bodies = {
            "heavy expressions": _body(batch("heavy", 1_000, lambda _: {"a": text})),
            "large batches": _body(batch("grouped", 1_000, lambda n: {"n": n, "group": f"g{n}"})),
            "too large": _body(batch("heavy", 5, lambda _: {"a": "x" * 1_000_000, "group": "y" * 900_000})),
        }
        found = self.client.get("/invoices", params={"per_page": 1_000}).json()["invoices"]
        self.year = 2030
        self.invoice = max(found, key=lambda each: int(each["fees_amount_cents"]))["lago_id"]

    def begin(self) -> None:
        """Look where the clock is, which an earlier noise may have moved."""
        clock = self.client.get("/test_clock").json()["test_clock"]
        self.year = max(self.year, int((clock["moving_to"] or clock["now"])[:4]) + 1)

    def once(self, front: str) -> httpx2.Response:
        """One request of the front."""
        match front:
            case "heavy expressions" | "large batches" | "too large":
                prefix, body = self.bodies[front]
                again = body.replace(prefix, uuid.uuid4().hex.encode())
                return self.client.post("/events/batch", content=again)
            case "clock":
                year = self.year + next(self.numbers) % 5
                clock = {"now": f"{year}-01-01T00:00:00Z"}
                return self.client.put("/test_clock", json={"test_clock": clock})
            case "documents":
                return self.client.get(f"/invoices/{self.invoice}/pdf")
            case "usage":
                query = {"external_subscription_id": "s0"}
                return self.client.get("/customers/c/current_usage", params=query)
            case "deep lists":
                return self.client.get("/events", params={"per_page": 1_000, "page": 20})
            case _:
                repeated = "concat(" + ", ".join(["event.properties.a"] * 200) + ")"
                event = {"code": "c", "properties": {"a": "x" * 60_000}}
                asked = {"expression": repeated, "event": event}
                return self.client.post("/billable_metrics/evaluate_expression", json=asked)

    def repeat(self, front: str, until: float) -> None:
        while time.monotonic() < until:
            try:
                status: int | str = self.once(front).status_code
            except httpx2.TransportError as error:
                status = type(error).__name__
            self.answers[front][status] += 1
            if status in (429, 503):
                time.sleep(0.2)  # as little as Retry-After could be taken for


def main() -> None:
    port, key, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    niceness.lower(os.getpid())  # what the noise costs the server counts, not what it costs to make
    noise = Noise(port, key)
    print("ready", flush=True)
    sys.stdin.read()  # until it is to begin
    noise.begin()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=noise.repeat, args=(front, until), daemon=True)
        for front, clients in FRONTS.items()
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    print(
        json.dumps({front: {str(k): v for k, v in found.items()} for front, found in noise.answers.items()})
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
