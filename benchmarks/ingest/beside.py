"""What one organization's flood of events takes from others, and what it keeps itself while they are there.

    .venv/bin/python -m benchmarks.ingest.beside [--events 400000]

Batches of 1,000 over 8 connections of one organization: alone, beside another that sends an event every 50 ms, and of two
organizations at once. Rates are events a second of all floods together.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.ingest.__main__ import Run
from benchmarks.ingest.events import USUAL
from benchmarks.stack import Stack, percentile, running_stack, save

PAUSE_SECONDS = 0.05
BATCHES = USUAL[0]


@contextmanager
def light(stack: Stack, key: str) -> Iterator[list[float]]:
    """Another organization's events, one after the other; how many milliseconds each took."""
    took: list[float] = []
    ends = threading.Event()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", stack.port)
        head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        while not ends.wait(PAUSE_SECONDS):
            event = {"transaction_id": str(uuid.uuid4()), "code": "tokens", "external_subscription_id": "s"}
            began = time.perf_counter()
            connection.request("POST", "/api/v1/events", json.dumps({"event": event}), head)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took.append((time.perf_counter() - began) * 1_000)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield took
    finally:
        ends.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=400_000)
    count = parser.parse_args().events
    with running_stack() as stack:
        run = Run(stack)
        run.keys = run.keys[:2]
        lone, both = BATCHES, replace(BATCHES, organizations=2)
        run.send(both, 50_000)  # warm
        other = str(stack.organization()["api_key"])
        with light(stack, other) as quiet:
            time.sleep(3)
        result = {"quiet_p50": percentile(quiet, 0.5), "quiet_p99": percentile(quiet, 0.99)}
        print("the other one alone: p50 {quiet_p50:.1f}, p99 {quiet_p99:.1f} ms".format(**result))
        for name, traffic in (("one flood", lone), ("two floods", both)):
            time.sleep(5)  # nobody is there any more
            alone = run.send(traffic, count).rate * traffic.batch
            with light(stack, other) as beside:
                rate = run.send(traffic, count).rate * traffic.batch
            p50, p99 = percentile(beside, 0.5), percentile(beside, 0.99)
            print(
                f"{name}: {alone:,.0f} events/s; beside the other one {rate:,.0f}, whose events take p50 {p50:.1f}, p99 {p99:.1f} ms",
                flush=True,
            )
            result |= {f"{name}, alone": alone, f"{name}, beside": rate, f"{name}, other p50": p50}
            result[f"{name}, other p99"] = p99
        save("beside", result)


if __name__ == "__main__":
    main()
