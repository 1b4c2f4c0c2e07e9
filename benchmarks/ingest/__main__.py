"""Durable, deduplicated events a second over HTTP, beside the raw insert rate and the naive way of the same run.

    .venv/bin/python -m benchmarks.ingest [--events N] [--large N]

Server, database, roll-up and load generator share this machine. `--large` sends so many events in batches of
1,000 first (20000000 to see how it holds).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict
from typing import Any

import httpx2
import psycopg
from tests.live import free_port

from benchmarks.stack import Stack, running_stack, save
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store


def set_up(stack: Stack) -> tuple[str, str]:
    organization = stack.organization()
    key = organization["api_key"]
    stack.post(
        "/billable_metrics",
        {
            "billable_metric": {
                "name": "Tokens", "code": "tokens", "aggregation_type": "sum_agg", "field_name": "tokens",
                "filters": [{"key": "model", "values": ["8K", "32K"]}, {"key": "type", "values": ["input", "output"]}],
            }
        },
        key,
    )  # fmt: skip
    return organization["lago_id"], key


def load(
    port: int, key: str, connections: int, batch: int, count: int, ids: str = "random"
) -> dict[str, Any]:
    prefix = uuid.uuid4().hex[:8]
    arguments = [str(port), key, str(connections), str(batch), str(count), ids, prefix]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest.load", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    result["rate"] = result["acknowledged"] / result["seconds"]
    return result


def raw_rate(dsn: str, organization: str, count: int) -> float:
    """The same rows, encoded beforehand, straight into the same table: 1,000 a statement, two connections."""
    from permille.events.draft import Draft
    from permille.events.postgres import writer

    now = time.time_ns() // 1_000
    statements: list[list[Any]] = []

    class Recorder:
        """Takes the statement that a group makes instead of running it."""

        def __init__(self, conn: psycopg.Connection[Any]) -> None:
            self.conn = conn

        def execute(self, query: Any, parameters: Any = None) -> Any:
            if query == writer._STORE:
                statements.append(parameters)
                return None
            return self.conn.execute(query, parameters)

    conn, memory = open_connection(dsn), Memory()
    for first in range(0, count, 1_000):
        drafts = [
            Draft(uuid.uuid4().hex, "tokens", f"sub-{(first + i) * 7919 % 1000}", now - (first + i) * 7919 % 3_600_000_000, None,
                  {"model": ("8K", "32K")[i % 2], "type": ("input", "output")[i // 2 % 2], "tokens": i + 1})
            for i in range(1_000)
        ]  # fmt: skip
        store(Recorder(conn), memory, [Request(uuid.UUID(organization), drafts, now)])  # type: ignore[arg-type]
    todo = iter(statements)
    lock = threading.Lock()

    def insert() -> None:
        own = open_connection(dsn)
        while True:
            with lock:
                parameters = next(todo, None)
            if parameters is None:
                return
            own.execute(writer._STORE, parameters)

    threads = [threading.Thread(target=insert) for _ in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - started)


def naive(stack: Stack, key: str, connections: int, count: int) -> dict[str, Any]:
    port = free_port()
    environment = {**os.environ, "PERMILLE_DATABASE_URL": stack.dsn}
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.ingest.naive", str(port)], env=environment)
    try:
        for _ in range(100):
            try:
                httpx2.get(f"http://127.0.0.1:{port}/", timeout=1)
                break
            except httpx2.TransportError:
                time.sleep(0.1)
        return load(port, key, connections, 1, count)
    finally:
        server.terminate()
        server.wait()


def stored(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("select count(*) from event").fetchone()
        assert row is not None
        return int(row[0])


def drained(dsn: str) -> tuple[float, int]:
    """Seconds until the worker's roll-up has caught up, and how many cells are wrong."""
    started = time.perf_counter()
    with psycopg.connect(dsn, autocommit=True) as conn:
        while True:
            row = conn.execute(
                "select (select last_value from event_seq_seq) - rolled_up_to from metering_state"
            ).fetchone()
            assert row is not None
            if row[0] <= 0:
                break
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        return seconds, len(rollup.verify(conn))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    count = options.events
    with running_stack() as stack:
        organization, key = set_up(stack)
        idle = stack.memory()
        result: dict[str, Any] = {"events": count, "idle_memory": asdict(idle)}
        print(f"idle: {idle.processes} processes, RSS {idle.rss:.0f} MiB, PSS {idle.pss:.0f} MiB")
        acknowledged = 0
        load(stack.port, key, 4, 1_000, 50_000)  # warm
        acknowledged += 50_000
        began = time.perf_counter()
        if options.large:
            result["large"] = []
            for first in range(0, options.large, 1_000_000):
                part = load(stack.port, key, 8, 1_000, min(1_000_000, options.large - first))
                acknowledged += part["acknowledged"]
                memory = stack.memory()
                result["large"].append({"after": first, **part, "memory": asdict(memory)})
                print(
                    f"after {first:>11,}: {part['rate']:>9,.0f} events/s  p99 {part['p99']:.0f} ms"
                    f"  RSS {memory.rss:.0f} MiB  PSS {memory.pss:.0f} MiB  at {time.perf_counter() - began:.0f} s",
                    flush=True,
                )
        raw = raw_rate(stack.dsn, organization, count)
        acknowledged += count
        result["raw"] = raw
        print(f"{'raw inserts, 2 connections':<44}{raw:>10,.0f} events/s")
        runs = [
            ("batches of 1,000, random ids", 8, 1_000, count, "random"),
            ("batches of 1,000, time-ordered ids", 8, 1_000, count, "ordered"),
            ("batches of 100, random ids", 16, 100, count, "random"),
            ("single events, 64 connections", 64, 1, count // 5, "random"),
            ("single events, 512 connections", 512, 1, count // 5, "random"),
        ]
        result["runs"] = {}
        for name, connections, batch, size, ids in runs:
            found = load(stack.port, key, connections, batch, size, ids)
            acknowledged += found["acknowledged"]
            result["runs"][name] = found
            print(
                f"{name:<44}{found['rate']:>10,.0f} events/s  {found['rate'] / raw:>4.0%} of raw"
                f"  p50 {found['p50']:.1f} ms  p99 {found['p99']:.1f} ms  refused {found['failed']}",
                flush=True,
            )
        for connections in (64, 512):
            found = naive(stack, key, connections, count // 20)
            acknowledged += found["acknowledged"]
            single = result["runs"][f"single events, {connections} connections"]["rate"]
            result["runs"][f"naive, {connections} connections"] = found
            print(
                f"{f'one transaction a request, {connections} connections':<44}{found['rate']:>10,.0f} events/s"
                f"  p99 {found['p99']:.1f} ms; grouped is {single / found['rate']:.1f} x"
            )
        seconds, wrong = drained(stack.dsn)
        result |= {
            "acknowledged": acknowledged,
            "stored": stored(stack.dsn),
            "roll_up_lag_s": seconds,
            "wrong_cells": wrong,
        }
        after = stack.memory()
        result["memory_after"] = asdict(after)
        print(
            f"acknowledged {acknowledged:,}, stored {result['stored']:,}; roll-up {seconds:.1f} s behind; wrong cells: {wrong}"
        )
        print(f"after: RSS {after.rss:.0f} MiB, PSS {after.pss:.0f} MiB")
    save("ingest", result)


if __name__ == "__main__":
    main()
