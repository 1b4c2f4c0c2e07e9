"""Current usage over HTTP of subscriptions with 1 thousand, 100 thousand and 1 million events in the period.

    .venv/bin/python -m benchmarks.usage [--short]

Each answer is compared with a sum over the raw events, at rest and while events are being written.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from benchmarks.ratios import say
from benchmarks.stack import Stack, percentile, running_stack, save, settle
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

SIZES = (1_000, 100_000, 1_000_000)
SHORT = (1_000, 100_000)
MODELS, TYPES = ("8K", "32K"), ("input", "output")
READS = 300


def set_up(stack: Stack, sizes: Sequence[int] = SIZES) -> tuple[uuid.UUID, str]:
    organization = stack.organization()
    key = organization["api_key"]
    metric = stack.post(
        "/billable_metrics",
        {
            "billable_metric": {
                "name": "Tokens", "code": "tokens", "aggregation_type": "sum_agg", "field_name": "tokens",
                "filters": [{"key": "model", "values": list(MODELS)}, {"key": "type", "values": list(TYPES)}],
            }
        },
        key,
    )["billable_metric"]  # fmt: skip
    price = {"amount": "0.03", "free_units": 0, "package_size": 1000}
    filters = [{"values": {"model": [m], "type": [t]}, "properties": price} for m in MODELS for t in TYPES]
    charge = {
        "billable_metric_id": metric["lago_id"],
        "charge_model": "package",
        "properties": price,
        "filters": filters,
    }
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
    stack.post("/plans", {"plan": {**plan, "pay_in_advance": False, "charges": [charge]}}, key)
    for size in sizes:
        stack.post("/customers", {"customer": {"external_id": f"c{size}", "currency": "USD"}}, key)
        started = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        body = {
            "external_customer_id": f"c{size}",
            "plan_code": "p",
            "external_id": f"s{size}",
            "subscription_at": started.isoformat(),
        }
        stack.post("/subscriptions", {"subscription": body}, key)
    return uuid.UUID(organization["lago_id"]), key


def feed(dsn: str, organization: uuid.UUID, size: int, count: int, chance: random.Random) -> None:
    """Straight through the writer: this benchmark is about reading."""
    now = time.time_ns() // 1_000
    since = int(
        datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1_000_000
    )
    conn, memory = open_connection(dsn), Memory()
    for first in range(0, count, 5_000):
        drafts = [
            Draft(uuid.uuid4().hex, "tokens", f"s{size}", chance.randrange(since, now), None,
                  {"model": chance.choice(MODELS), "type": chance.choice(TYPES), "tokens": chance.randrange(4_000)})
            for _ in range(min(5_000, count - first))
        ]  # fmt: skip
        store(conn, memory, [Request(organization, drafts, now)])
    conn.close()


def from_events(dsn: str, size: int) -> dict[tuple[str, str], Decimal]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "select s.dimensions ->> 'model', s.dimensions ->> 'type', sum(e.value) from event e"
            " join series s on s.id = e.series_id where s.external_subscription_id = %s group by 1, 2",
            [f"s{size}"],
        ).fetchall()
    return {(model, kind): total for model, kind, total in rows}


class Reader:
    def __init__(self, stack: Stack, key: str) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", stack.port)
        self.headers = {"Authorization": f"Bearer {key}"}

    def usage(self, size: int) -> tuple[dict[tuple[str, str], Decimal], float]:
        started = time.perf_counter()
        path = f"/api/v1/customers/c{size}/current_usage?external_subscription_id=s{size}"
        self.http.request("GET", path, headers=self.headers)
        answer = self.http.getresponse()
        body = answer.read()
        milliseconds = (time.perf_counter() - started) * 1_000
        assert answer.status == 200, body
        (charge,) = json.loads(body)["customer_usage"]["charges_usage"]
        found = {
            (row["values"]["model"][0], row["values"]["type"][0]): Decimal(row["units"])
            for row in charge["filters"]
            if row["values"] and Decimal(row["units"])
        }
        return found, milliseconds


def measure(reader: Reader, size: int) -> dict[str, float]:
    times = [reader.usage(size)[1] for _ in range(READS)]
    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    sizes = SHORT if parser.parse_args().short else SIZES
    chance = random.Random(1)
    with running_stack() as stack:
        organization, key = set_up(stack, sizes)
        for size in sizes:
            feed(stack.dsn, organization, size, size, chance)
        settle(stack.dsn)
        reader = Reader(stack, key)
        result: dict[str, Any] = {"rest": {}, "writing": {}}
        for size in sizes:
            equal = reader.usage(size)[0] == from_events(stack.dsn, size)
            result["rest"][size] = {**measure(reader, size), "equal": equal}
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                for size in sizes:
                    feed(stack.dsn, organization, size, 500, chance)

        writer = threading.Thread(target=write)
        writer.start()
        for size in sizes:
            result["writing"][size] = measure(reader, size)
            # Between two sums over the raw events lies what a read in between may answer.
            before = from_events(stack.dsn, size)
            found = reader.usage(size)[0]
            after = from_events(stack.dsn, size)
            result["writing"][size]["between"] = all(before[k] <= found[k] <= after[k] for k in before)
        done.set()
        writer.join()
        for size in sizes:
            result["writing"][size]["equal_after"] = reader.usage(size)[0] == from_events(stack.dsn, size)
        for state, rows in result.items():
            for size, row in rows.items():
                print(
                    f"{state:<8}{size:>10,} events  p50 {row['p50']:6.2f} ms  p99 {row['p99']:6.2f} ms  {row}"
                )
        most, least = (result["rest"][size] for size in (max(sizes), min(sizes)))
        say("usage", "1,000 events, of the most", least["p50"] / most["p50"])
        say("usage", "at rest, of while writing", most["p50"] / result["writing"][max(sizes)]["p50"])
        right = [
            row[name]
            for rows in result.values()
            for row in rows.values()
            for name in ("equal", "between", "equal_after")
            if name in row
        ]
        say("usage", "right answers, of all", sum(right) / len(right))
    save("usage", result)


if __name__ == "__main__":
    main()
