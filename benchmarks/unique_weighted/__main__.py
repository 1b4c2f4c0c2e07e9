"""Current usage of what sums of cells cannot answer alone: distinct values, weighted and prorated sums, beside a plain sum.

    .venv/bin/python -m benchmarks.unique_weighted [--most 1000000]

One subscription for each metric and size; the distinct values and the plain sum are compared with what was fed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import time
import uuid
from decimal import Decimal
from typing import Any

from benchmarks.stack import Stack, month, percentile, running_stack, save, settle
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

SIZES = (10_000, 100_000, 1_000_000)
METRICS: dict[str, dict[str, Any]] = {
    "sum": {"aggregation_type": "sum_agg"},
    "unique": {"aggregation_type": "unique_count_agg"},
    "weighted": {"aggregation_type": "weighted_sum_agg", "weighted_interval": "seconds"},
    "prorated": {"aggregation_type": "sum_agg", "recurring": True},
}
DISTINCT = 5_000
SECONDS_PER_ROW = 20.0


def set_up(stack: Stack) -> tuple[uuid.UUID, str]:
    organization = stack.organization()
    key = organization["api_key"]
    for code, fields in METRICS.items():
        stack.sell(key, code, fields, {"prorated": code == "prorated"})
    stack.post("/customers", {"customer": {"external_id": "c", "currency": "USD"}}, key)
    return uuid.UUID(organization["lago_id"]), key


def subscribe(stack: Stack, key: str, code: str, size: int) -> None:
    body = {
        "external_customer_id": "c",
        "plan_code": code,
        "external_id": f"{code}-{size}",
        "subscription_at": month().isoformat(),
    }
    stack.post("/subscriptions", {"subscription": body}, key)


def feed(dsn: str, organization: uuid.UUID, code: str, size: int) -> Decimal:
    """Straight through the writer; what the plain sum and the distinct values must come to."""
    chance = random.Random(size)
    since, now = int(month().timestamp() * 1_000_000), time.time_ns() // 1_000
    conn, memory = open_connection(dsn), Memory()
    total, distinct = 0, set()
    for first in range(0, size, 5_000):
        drafts = []
        for _ in range(min(5_000, size - first)):
            value = chance.randrange(DISTINCT)
            total += value
            distinct.add(value)
            sent = f"user-{value}" if code == "unique" else value
            at = chance.randrange(since, now)
            drafts.append(Draft(uuid.uuid4().hex, code, f"{code}-{size}", at, None, {"n": sent}))
        store(conn, memory, [Request(organization, drafts, now)])
    conn.close()
    return Decimal(len(distinct) if code == "unique" else total)


def read(http_: http.client.HTTPConnection, key: str, subscription: str) -> tuple[Decimal, float]:
    """Units of the one charge, and the milliseconds that the answer took."""
    started = time.perf_counter()
    path = f"/api/v1/customers/c/current_usage?external_subscription_id={subscription}"
    http_.request("GET", path, headers={"Authorization": f"Bearer {key}"})
    answer = http_.getresponse()
    body = answer.read()
    milliseconds = (time.perf_counter() - started) * 1_000
    assert answer.status == 200, body
    (charge,) = json.loads(body)["customer_usage"]["charges_usage"]
    return Decimal(charge["units"]), milliseconds


def measure(stack: Stack, key: str, code: str, size: int, expected: Decimal) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port)
    units, _ = read(connection, key, f"{code}-{size}")
    times: list[float] = []
    until = time.monotonic() + SECONDS_PER_ROW
    while len(times) < 100 and (len(times) < 3 or time.monotonic() < until):
        times.append(read(connection, key, f"{code}-{size}")[1])
    return {
        "p50": percentile(times, 0.5),
        "p95": percentile(times, 0.95),
        "reads": len(times),
        "equal": units == expected if code != "weighted" else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=SIZES[-1])
    most = parser.parse_args().most
    result: dict[str, dict[int, Any]] = {code: {} for code in METRICS}
    with running_stack() as stack:
        organization, key = set_up(stack)
        for size in (size for size in SIZES if size <= most):
            for code in METRICS:
                subscribe(stack, key, code, size)
                expected = feed(stack.dsn, organization, code, size)
                settle(stack.dsn)
                result[code][size] = measure(stack, key, code, size, expected)
        for code, rows in result.items():
            for size, row in rows.items():
                ratio = row["p50"] / result["sum"][size]["p50"]
                print(
                    f"{code:<9}{size:>10,} events  p50 {row['p50']:9.2f} ms  p95 {row['p95']:9.2f} ms"
                    f"  {ratio:7.1f} x sum  {row['reads']} reads  equal {row['equal']}",
                    flush=True,
                )
    save("unique_weighted", result)


if __name__ == "__main__":
    main()
