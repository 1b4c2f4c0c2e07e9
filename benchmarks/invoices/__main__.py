"""The invoice run: 100,000 subscriptions with four token prices each, all due at the same instant.

    .venv/bin/python -m benchmarks.invoices [--subscriptions N] [--short | --product]

As the worker runs it, in one database of its own; against the same run for one subscription at a time and
against a loop of queries; killed half-way and resumed. Every total is compared with a sum in SQL.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.ratios import say
from benchmarks.stack import save
from permille.config import from_environment
from permille.database.connections import open_pool
from permille.database.migrate import migrate
from permille.embedded.postgres import EmbeddedPostgres
from permille.usecases.due import due
from permille.usecases.invoices import run

from .naive import bill_one_by_one
from .population import DUE, PRICES, TYPES, Population, populate
from .stages import Stages

SAMPLE = 300
WORKERS = 2
PROFILED = 10_000

console = Console()
Connection = psycopg.Connection[Any]


@contextmanager
def database() -> Iterator[str]:
    """The URI of an embedded, migrated database with the settings that customers get."""
    folder = Path(tempfile.mkdtemp(prefix="permille-bench-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres(folder / "postgres", bin_dir=from_environment().pg_bin) as server:
            migrate(server.dsn)
            yield server.dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def connected(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn) as conn:
        conn.execute("set timezone to 'UTC'")
        conn.commit()
        yield conn


def timed(work: Callable[[], int]) -> tuple[int, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def check(conn: Connection, population: Population) -> None:
    """None is billed twice, none is missing, and the money is what plain SQL makes of the usage."""
    conn.rollback()
    ids = {"organization": population.organization_id, "types": list(TYPES), "prices": list(PRICES)}
    billed = conn.execute(
        "select count(*), count(distinct p.subscription_id), coalesce(sum(i.total_amount_cents), 0)::bigint,"
        " count(distinct i.number) from invoice i join invoice_subscription p on p.invoice_id = i.id"
        " where i.organization_id = %(organization)s",
        ids,
    ).fetchone()
    fees = conn.execute(
        "select coalesce(sum(amount_cents), 0)::bigint from fee where organization_id = %(organization)s", ids
    ).fetchone()
    owed = conn.execute(
        "select sum(round(c.sum * p.price * 100))::bigint from usage_cell c join series s on s.id = c.series_id"
        " join unnest(%(types)s::text[], %(prices)s::numeric[]) as p (type, price)"
        " on p.type = s.dimensions ->> 'type' where s.organization_id = %(organization)s and c.grain = 'h'",
        ids,
    ).fetchone()
    told = conn.execute(
        "select count(*) from webhook where organization_id = %(organization)s", ids
    ).fetchone()
    count = population.subscriptions
    assert owed is not None
    total = owed[0] + 2000 * count
    assert billed == (count, count, total, count), (billed, count, total)
    assert fees == (total,), fees
    assert told == (count,), told
    conn.rollback()


def measure_size(dsn: str, conn: Connection, subscriptions: int) -> dict[str, Any]:
    """Two worker processes, as `permille up` runs them; their start counts too."""
    population = populate(conn, subscriptions=subscriptions, name=f"{subscriptions} subscriptions")

    def work() -> int:
        command = [sys.executable, "-m", "benchmarks.invoices.child", dsn]
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)]
        return sum(int(child.communicate()[0]) for child in children)

    billed, seconds = timed(work)
    assert billed == subscriptions, billed
    console.print(f"{subscriptions:,} subscriptions: {seconds:.1f} s, {billed / seconds:,.0f} invoices/s")
    check(conn, population)
    return {"subscriptions": subscriptions, "seconds": seconds, "per_second": billed / seconds}


def profile(conn: Connection) -> dict[str, float]:
    """Seconds by stage of a run on one connection."""
    population = populate(conn, subscriptions=PROFILED, name="profiled")
    with Stages() as stages:
        began = time.perf_counter()
        while run.bill_due(conn, organization_id=population.organization_id, until=DUE):
            committing = time.perf_counter()
            conn.commit()
            stages.seconds["commit"] += time.perf_counter() - committing
        seconds = time.perf_counter() - began
    check(conn, population)
    return {"all": seconds, **dict(sorted(stages.seconds.items(), key=lambda item: -item[1]))}


def one_at_a_time(conn: Connection) -> float:
    """Invoices a second of the same run with batches of one."""
    population = populate(conn, subscriptions=SAMPLE, name="one at a time")

    def work() -> int:
        billed = 0
        while done := run.bill_due(conn, organization_id=population.organization_id, until=DUE, limit=1):
            conn.commit()
            billed += done
        return billed

    billed, seconds = timed(work)
    check(conn, population)
    return billed / seconds


def naive(conn: Connection) -> float:
    """Invoices a second of a loop of queries."""
    population = populate(conn, subscriptions=SAMPLE, name="naive")
    billed, seconds = timed(lambda: bill_one_by_one(conn, population.organization_id))
    check(conn, population)
    return billed / seconds


def killed(dsn: str, conn: Connection, subscriptions: int) -> dict[str, int]:
    """Kill the run with SIGKILL when it is half-way, and run again."""
    population = populate(conn, subscriptions=subscriptions, name="killed")
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.invoices.child", dsn], stdout=subprocess.DEVNULL
    )
    before = 0
    while before < subscriptions // 2:
        if child.poll() is not None:
            raise SystemExit("the run ended before it could be killed")
        time.sleep(0.05)
        before = _count(conn, population)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = _settled_count(conn, population)
    pool = open_pool(dsn, size=2, name="bench")
    after = due.run_live(pool, DUE)
    pool.close()
    check(conn, population)
    return {"subscriptions": subscriptions, "billed_before_the_kill": before, "billed_after": after}


def _count(conn: Connection, population: Population) -> int:
    conn.rollback()
    row = conn.execute(
        "select count(*) from invoice where organization_id = %s", [population.organization_id]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _settled_count(conn: Connection, population: Population) -> int:
    """The count once the server has noticed that nobody is there any more: the open batches are undone."""
    while True:
        conn.rollback()
        row = conn.execute(
            "select count(*) from pg_stat_activity where application_name = 'killed'"
        ).fetchone()
        if row == (0,):
            return _count(conn, population)
        time.sleep(0.05)


def show(result: dict[str, Any]) -> None:
    table = Table("subscriptions", "seconds", "invoices/s")
    for size in result["sizes"]:
        table.add_row(f"{size['subscriptions']:,}", f"{size['seconds']:.1f}", f"{size['per_second']:,.0f}")
    for name in ("one_at_a_time", "naive"):
        table.add_row(f"{SAMPLE} {name.replace('_', ' ')}", "", f"{result[name]:,.0f}")
    console.print(table)
    stages = Table(f"stage of {PROFILED:,} on one connection", "seconds", "share")
    whole = result["stages"]["all"]
    for name, seconds in result["stages"].items():
        stages.add_row(name, f"{seconds:.2f}", f"{seconds / whole:.0%}")
    console.print(stages)
    console.print(
        f"{result['times_one_at_a_time']:.1f} x one at a time, {result['times_naive']:.1f} x the naive loop;"
        f" killed: {result['killed']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=100_000)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="one size, nothing killed")
    form.add_argument("--product", action="store_true", help="how long all of them take, nothing beside it")
    given = parser.parse_args()
    most = given.subscriptions
    with database() as dsn, connected(dsn) as conn:
        if given.product:
            measure_size(dsn, conn, most)
            return
        one, loop = one_at_a_time(conn), naive(conn)
        sizes = [measure_size(dsn, conn, most // part) for part in ((4, 1) if given.short else (4, 2, 1))]
        rate = sizes[-1]["per_second"]
        say("invoices", "all, of one at a time", rate / one)
        say("invoices", "all, of a naive loop", rate / loop)
        say("invoices", "all, of a quarter of them", rate / sizes[0]["per_second"])
        result = {
            "sizes": sizes,
            "one_at_a_time": one,
            "naive": loop,
            "times_one_at_a_time": rate / one,
            "times_naive": rate / loop,
        }
        if given.short:
            return
        result["stages"] = profile(conn)
        result["killed"] = killed(dsn, conn, max(most // 5, 8 * due.BATCH))
    show(result)
    save("invoices", result)


if __name__ == "__main__":
    main()
