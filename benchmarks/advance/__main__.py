"""Fees of events that are paid in advance: how many a second, as the period fills up.

    .venv/bin/python -m benchmarks.advance [--most 100000]

One subscription, whose events come in batches; after each size the fees of the next events are timed from the
acknowledgement to the fee, and the current usage is read. The fees' sum is compared with the events'.
"""

from __future__ import annotations

import argparse
import http.client
import random
import time
import uuid
from typing import Any

import psycopg

from benchmarks.stack import Stack, month, percentile, running_stack, save
from benchmarks.unique_weighted.__main__ import read
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

SIZES = (1_000, 10_000, 100_000)
METRICS: dict[str, dict[str, Any]] = {
    "sum": {"aggregation_type": "sum_agg"},
    "unique": {"aggregation_type": "unique_count_agg"},
}
DISTINCT = 1_000
SINGLE_EVENTS = 50
READS = 20


def set_up(stack: Stack) -> tuple[uuid.UUID, str]:
    organization = stack.organization()
    key = organization["api_key"]
    stack.post("/customers", {"customer": {"external_id": "c", "currency": "USD"}}, key)
    for code, fields in METRICS.items():
        stack.sell(key, code, fields, {"pay_in_advance": True, "invoiceable": False})
        body = {
            "external_customer_id": "c",
            "plan_code": code,
            "external_id": code,
            "subscription_at": month().isoformat(),
        }
        stack.post("/subscriptions", {"subscription": body}, key)
    return uuid.UUID(organization["lago_id"]), key


class Feeder:
    """Sends events of one metric and waits for their fees."""

    def __init__(self, dsn: str, organization: uuid.UUID, code: str) -> None:
        self.organization, self.code = organization, code
        self.chance = random.Random(code)
        self.writer, self.memory = open_connection(dsn), Memory()
        self.reader = psycopg.connect(dsn, autocommit=True)
        self.total = 0

    def send(self, count: int) -> None:
        since, now = int(month().timestamp() * 1_000_000), time.time_ns() // 1_000
        drafts = []
        for _ in range(count):
            value = self.chance.randrange(1, DISTINCT)
            self.total += value
            sent = f"user-{value}" if self.code == "unique" else value
            at = self.chance.randrange(since, now)
            drafts.append(Draft(uuid.uuid4().hex, self.code, self.code, at, None, {"n": sent}))
        store(self.writer, self.memory, [Request(self.organization, drafts, now)])

    def wait(self) -> None:
        while self.reader.execute("select exists (select from advance_event)").fetchone() == (True,):
            time.sleep(0.005)


def measure(stack: Stack, key: str, feeder: Feeder, size: int, sent: int) -> dict[str, Any]:
    started = time.perf_counter()
    while sent < size:
        feeder.send(min(5_000, size - sent))
        sent += min(5_000, size - sent)
    feeder.wait()
    seconds = time.perf_counter() - started
    waits: list[float] = []
    for _ in range(SINGLE_EVENTS):
        began = time.perf_counter()
        feeder.send(1)
        feeder.wait()
        waits.append((time.perf_counter() - began) * 1_000)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port)
    reads = [read(connection, key, feeder.code) for _ in range(READS)]
    return {
        "fees_a_second": (size - (0 if size == SIZES[0] else size // 10)) / seconds,
        "wait_p50": percentile(waits, 0.5),
        "usage_p50": percentile([milliseconds for _, milliseconds in reads], 0.5),
        "equal": feeder.code == "unique" or reads[-1][0] == feeder.total,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=SIZES[-1])
    most = parser.parse_args().most
    result: dict[str, dict[int, Any]] = {code: {} for code in METRICS}
    with running_stack() as stack:
        organization, key = set_up(stack)
        for code in METRICS:
            feeder, sent = Feeder(stack.dsn, organization, code), 0
            for size in (size for size in SIZES if size <= most):
                row = result[code][size] = measure(stack, key, feeder, size, sent)
                sent = size + SINGLE_EVENTS
                print(
                    f"{code:<8}{size:>10,} events  {row['fees_a_second']:8.0f} fees/s"
                    f"  a fee after p50 {row['wait_p50']:8.1f} ms  usage p50 {row['usage_p50']:8.1f} ms"
                    f"  equal {row['equal']}",
                    flush=True,
                )
    save("advance", result)


if __name__ == "__main__":
    main()
