"""A dimension is added to a metric with a long history: how long the edit takes, how long its events take to be moved in
the background, and what reads and ingestion notice of it meanwhile.

    .venv/bin/python -m benchmarks.rebuilding [--events 1000000]
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from typing import Any

import httpx2
import psycopg

from benchmarks.stack import Stack, percentile, running_stack, save, settle
from benchmarks.usage.__main__ import MODELS, SIZES, TYPES, Reader, feed, from_events, set_up

BATCH = 1_000
LISTED = {"model": list(MODELS), "type": list(TYPES), "tier": ["free", "paid"]}


def add_dimension(stack: Stack, key: str) -> float:
    """Seconds that the edit takes."""
    filters = [{"key": name, "values": values} for name, values in LISTED.items()]
    started = time.perf_counter()
    answer = httpx2.put(
        f"{stack.url}/api/v1/billable_metrics/tokens",
        json={"billable_metric": {"filters": filters}},
        headers={"Authorization": f"Bearer {key}"},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - started


class Feeder(threading.Thread):
    """Stores batches for a subscription that nobody reads; milliseconds of each."""

    def __init__(self, dsn: str, organization: Any) -> None:
        super().__init__(daemon=True)
        self.dsn, self.organization, self.done = dsn, organization, threading.Event()
        self.milliseconds: list[float] = []

    def run(self) -> None:
        chance = random.Random(7)
        while not self.done.is_set():
            started = time.perf_counter()
            feed(self.dsn, self.organization, 0, BATCH, chance)
            self.milliseconds.append((time.perf_counter() - started) * 1_000)
            time.sleep(0.05)

    def stop(self) -> dict[str, float]:
        self.done.set()
        self.join()
        return {"p50": percentile(self.milliseconds, 0.5), "most": max(self.milliseconds)}


def is_rebuilding(dsn: str) -> bool:
    with psycopg.connect(dsn) as conn:
        return conn.execute("select exists (select from metering where rebuilding)").fetchone() == (True,)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=SIZES[-1])
    size = parser.parse_args().events
    with running_stack() as stack:
        organization, key = set_up(stack)
        feed(stack.dsn, organization, SIZES[0], SIZES[0], random.Random(1))
        feed(stack.dsn, organization, SIZES[-1], size, random.Random(2))
        settle(stack.dsn)
        reader, expected = Reader(stack, key), from_events(stack.dsn, SIZES[-1])
        before = Feeder(stack.dsn, organization)
        before.start()
        time.sleep(10)
        calm = before.stop()
        rest = [reader.usage(SIZES[-1])[1] for _ in range(20)]
        during = Feeder(stack.dsn, organization)
        during.start()
        edit = add_dimension(stack, key)
        started = time.perf_counter()
        large: list[float] = []
        small: list[float] = []
        equal = True
        while is_rebuilding(stack.dsn):
            found, milliseconds = reader.usage(SIZES[-1])
            equal = equal and found == expected
            large.append(milliseconds)
            small.append(reader.usage(SIZES[0])[1])
        moved = time.perf_counter() - started
        busy = during.stop()
        after = [reader.usage(SIZES[-1])[1] for _ in range(20)]
        equal = equal and reader.usage(SIZES[-1])[0] == expected == from_events(stack.dsn, SIZES[-1])
    result = {
        "events": size,
        "edit_seconds": edit,
        "moved_seconds": moved,
        "usage_rest_p50": percentile(rest, 0.5),
        "usage_rebuilding_p50": percentile(large, 0.5),
        "usage_small_rebuilding_p50": percentile(small, 0.5),
        "usage_after_p50": percentile(after, 0.5),
        "reads_rebuilding": len(large),
        "batch_calm": calm,
        "batch_rebuilding": busy,
        "equal": equal,
    }
    for name, value in result.items():
        print(f"{name:<28}{value}", flush=True)
    save("rebuilding", result)


if __name__ == "__main__":
    main()
