"""Durable, deduplicated events a second over HTTP, beside bases of the same run.

    .venv/bin/python -m benchmarks.ingest [--events N] [--stored N] [--series N] [--short]

Server, database, roll-up and load generator share this machine. `--stored` loads so many events beforehand
(50000000 to see how it holds) of as many series as `--series` says, which the case of many series has, too; `--short` runs
the hard cases on a smaller scale.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import httpx2
import psycopg
from tests.live import free_port

from benchmarks import load
from benchmarks.cost import Cost, cost_so_far
from benchmarks.ingest import bases, events as traffics, stored as earlier
from benchmarks.ingest.events import Traffic
from benchmarks.ratios import say
from benchmarks.stack import Stack, running_stack, save
from permille import accelerator
from permille.events.postgres import rollup

SCALE = 50
"""How many times fewer series the short form has."""
TABLES = ("event", "usage_cell", "series", "series_month")


def set_up(stack: Stack, codes: int) -> tuple[str, str]:
    """A new organization that meters tokens by model and type: its id and its key."""
    organization = stack.organization()
    key = organization["api_key"]
    filters = [{"key": "model", "values": ["8K", "32K"]}, {"key": "type", "values": ["input", "output"]}]
    for number in range(codes):
        code = f"tokens{number or ''}"
        fields = {"name": code, "code": code, "aggregation_type": "sum_agg", "field_name": "tokens"}
        stack.post("/billable_metrics", {"billable_metric": {**fields, "filters": filters}}, key)
    return organization["lago_id"], key


class Run:
    """One server, and all that is sent to it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.accounts = [set_up(stack, codes=4) for _ in range(20)]
        self.keys = [key for _, key in self.accounts]
        self.requests = stack.folder / "requests"
        self.acknowledged = 0
        self.conn = psycopg.connect(stack.dsn, autocommit=True)

    def send(self, traffic: Traffic, count: int, *, port: int | None = None, rate: float = 0) -> load.Answers:
        """Send new events; to this server unless a port is given."""
        load.write(traffics.requests(traffic, self.keys, count), self.requests)
        answers = load.send(
            port or self.stack.port, self.requests, connections=traffic.connections, rate=rate
        )
        if port is None:
            self.acknowledged += (answers.requests - answers.refused) * traffic.batch
        return answers

    def cost(self) -> Cost:
        process = self.stack.process
        assert process is not None
        return cost_so_far(self.conn, [process.pid, *self.stack.children()], TABLES)

    def measure(self, traffic: Traffic, count: int, *, heap: float, raw: float, own: float) -> dict[str, Any]:
        """As fast as it goes, and then at half of that by an open loop."""
        before = self.cost()
        found = self.send(traffic, count)
        drained(self.stack.dsn)
        cost = self.cost() - before
        rate = found.rate * traffic.batch
        half = self.send(traffic, traffic.count(count // 2), rate=found.rate / 2)
        measured = {
            "events_a_second": rate,
            "of_heap": rate / heap,
            "of_generator": rate / own,
            "p50": found.p50,
            "p99": found.p99,
            "p99_at_half": half.p99,
            "refused": found.refused + half.refused,
            "server_us": cost.server / count * 1e6,
            "postgres_us": cost.postgres / count * 1e6,
            "log_bytes": cost.log / count,
            "disk_bytes": cost.disk / count,
        }
        print(
            f"{traffic.name:<36}{rate:>9,.0f}/s {rate / heap:>6.2f} x heap {rate / own:>5.0%} of generator"
            f"  p50 {found.p50:>6.1f}  p99 {found.p99:>6.1f}  at half p99 {half.p99:>6.1f} ms"
            f"  us: server {measured['server_us']:.1f}, postgres {measured['postgres_us']:.1f}"
            f"  B: log {measured['log_bytes']:.0f}, disk {measured['disk_bytes']:.0f}  refused {measured['refused']}",
            flush=True,
        )
        say("ingest", f"{traffic.name}, of a bare heap", rate / heap)
        say("ingest", f"{traffic.name}, of raw inserts", rate / raw)
        return measured


def naive(run: Run, traffic: Traffic, count: int) -> load.Answers:
    """The same HTTP server and checks, with a transaction for each request."""
    port = free_port()
    environment = {**os.environ, "PERMILLE_DATABASE_URL": run.stack.dsn}
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.ingest.naive", str(port)], env=environment)
    try:
        for _ in range(100):
            try:
                httpx2.get(f"http://127.0.0.1:{port}/", timeout=1)
                break
            except httpx2.TransportError:
                time.sleep(0.1)
        found = run.send(traffic, count, port=port)
        run.acknowledged += found.requests - found.refused
        return found
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


def own_rate(run: Run, traffic: Traffic, count: int) -> float:
    """Events a second of the generator against a server that answers at once."""
    with load.answering_at_once() as port:
        return run.send(traffic, count, port=port).rate * traffic.batch


def cases(options: argparse.Namespace) -> Sequence[Traffic]:
    if options.short:
        scaled = (*traffics.HARD, traffics.many_series(options.series // SCALE))
        return (*traffics.USUAL, *(replace(each, share=0.5) for each in scaled))
    return (*traffics.USUAL, *traffics.HARD, traffics.many_series(options.series))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--stored", type=int, default=0)
    parser.add_argument("--series", type=int, default=5_000_000)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    count = options.events
    with running_stack() as stack:
        run = Run(stack)
        organization = run.accounts[0][0]
        way = accelerator.state(is_wanted=os.environ.get("PERMILLE_ACCELERATOR") != "off")
        print(f"accelerator of events: {way}")
        result: dict[str, Any] = {"events": count, "accelerator": way, "idle_memory": asdict(stack.memory())}
        print(
            "idle: {processes} processes, RSS {rss:.0f} MiB, PSS {pss:.0f} MiB".format(
                **result["idle_memory"]
            )
        )
        if options.stored:
            series = min(options.series, options.stored)
            seconds = earlier.load(stack.dsn, organization, options.stored, series=series)
            print(
                f"{options.stored:,} events of {series:,} series stored beforehand in {seconds:.0f} s",
                flush=True,
            )
        run.send(traffics.USUAL[0], 50_000)  # warm
        raw = bases.raw_rate(stack.dsn, organization, count)
        heap = bases.heap_rate(stack.dsn, stack.folder, min(count, 400_000))
        result |= {"stored_before": options.stored, "raw": raw, "heap": heap, "runs": {}}
        print(
            f"binary COPY into a bare heap {heap:,.0f} events/s; raw inserts into the events' table {raw:,.0f}"
        )
        for traffic in cases(options):
            size = traffic.count(count)
            own = own_rate(run, traffic, size)
            result["runs"][traffic.name] = run.measure(traffic, size, heap=heap, raw=raw, own=own)
            usual = result["runs"][traffics.USUAL[0].name]["events_a_second"]
            if traffic not in traffics.USUAL:
                rate = result["runs"][traffic.name]["events_a_second"]
                say("ingest", f"{traffic.name}, of the usual", rate / usual)
        for traffic in traffics.USUAL:
            if traffic.batch == 1:
                found = naive(run, traffic, count // 20)
                grouped = result["runs"][traffic.name]["events_a_second"]
                result["runs"][f"naive: {traffic.name}"] = asdict(found)
                say("ingest", f"{traffic.name}, of naive", grouped / found.rate)
                print(
                    f"naive: {traffic.name:<29}{found.rate:>9,.0f}/s; grouped is {grouped / found.rate:.1f} x"
                )
        seconds, wrong = drained(stack.dsn)
        own_events = run.acknowledged + count + options.stored
        result |= {"acknowledged": own_events, "stored": stored(stack.dsn), "wrong_cells": wrong}
        say("ingest", "stored, of acknowledged", result["stored"] / own_events)
        say("ingest", "right cells, of none wrong", float(wrong == 0))
        result["memory_after"] = asdict(stack.memory())
        print(f"acknowledged {own_events:,}, stored {result['stored']:,}; wrong cells: {wrong}")
        print("after: RSS {rss:.0f} MiB, PSS {pss:.0f} MiB".format(**result["memory_after"]))
        run.conn.close()
    save("ingest", result)


if __name__ == "__main__":
    main()
