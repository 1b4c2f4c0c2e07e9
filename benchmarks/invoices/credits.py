"""What contracts and credits cost an invoice run: the same run with a coupon, a tax, a wallet and a commitment for each
subscription and without them, on one connection, in seconds of processors: those of this process and of its server's;
beside COPY of the rows that each has made.

Batches of both take turns at last, many small ones, so that the moods of the machine cancel out: the median of their ratios
is the one to go by.

.venv/bin/python -m benchmarks.invoices.credits [--subscriptions N] [--turns N] [--each] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import Connection
from rich.table import Table

from benchmarks.ratios import say
from permille.memory import calm_collector
from permille.usecases.invoices import run

from .__main__ import connected, console, database
from .copies import WAYS, copied
from .population import DUE, START, Population, populate

ROUNDS = 5
TURN = 1_000
"""Invoices of a batch where batches take turns."""

PARTS: dict[str, tuple[str, ...]] = {
    "coupon": (
        "insert into coupon (id, organization_id, name, code, coupon_type, percentage_rate, frequency, reusable, created_at,"
        " updated_at) values (gen_random_uuid(), %(organization)s, 'Tenth', 'tenth', 'percentage', 10, 'forever', true,"
        " %(start)s, %(start)s)",
        "insert into applied_coupon (id, organization_id, customer_id, coupon_id, status, coupon_type, percentage_rate,"
        " frequency, created_at, updated_at) select uuidv7(), k.organization_id, c.id, k.id, 'active', 'percentage',"
        " 10, 'forever', %(start)s, %(start)s from customer c join coupon k on k.organization_id = c.organization_id"
        " where c.organization_id = %(organization)s",
        "analyze coupon, applied_coupon",
    ),
    "tax": (
        "insert into tax (id, organization_id, name, code, rate, applied_to_organization, created_at, updated_at)"
        " values (gen_random_uuid(), %(organization)s, 'VAT', 'vat', 20, true, %(start)s, %(start)s)",
        "update billing_entity set tax_ids = array(select id from tax where organization_id = %(organization)s)"
        " where organization_id = %(organization)s",
        "analyze tax",
    ),
    "wallet": (
        "insert into wallet (id, organization_id, customer_id, status, currency, code, priority, rate_amount,"
        " invoice_requires_successful_payment, fee_types, billable_metric_ids, balance_cents, credits_balance,"
        " consumed_amount_cents, consumed_credits, ongoing_usage_balance_cents, is_depleted, created_at, updated_at)"
        " select uuidv7(), organization_id, id, 'active', 'USD', 'main', 1, 1, false, '{}', '{}', 1000, 10, 0, 0, 0,"
        " false, %(start)s, %(start)s from customer where organization_id = %(organization)s",
        "insert into wallet_transaction (id, organization_id, wallet_id, transaction_type, transaction_status, status,"
        " source, amount_cents, credit_amount, remaining_amount_cents, priority, invoice_requires_successful_payment,"
        " metadata, settled_at, created_at) select uuidv7(), organization_id, id, 'inbound', 'granted', 'settled',"
        " 'manual', 1000, 10, 1000, 1, false, '{}', %(start)s, %(start)s from wallet"
        " where organization_id = %(organization)s",
        "analyze wallet, wallet_transaction",
    ),
    "commitment": (
        "insert into commitment (id, organization_id, plan_id, amount_cents, tax_ids, created_at, updated_at)"
        " select gen_random_uuid(), organization_id, id, 100000, '{}', %(start)s, %(start)s from plan"
        " where organization_id = %(organization)s",
        "analyze commitment",
    ),
}
_SEEN = (
    "select count(*), count(*) filter (where coupons_amount_cents > 0), count(*) filter (where taxes_amount_cents > 0),"
    " count(*) filter (where prepaid_credit_amount_cents = 1000), (select count(*) from fee f"
    " where f.organization_id = %(organization)s and f.fee_type = 'commitment')"
    " from invoice where organization_id = %(organization)s"
)


class Spent(NamedTuple):
    """Seconds of processors that a run took, and what copying its rows took."""

    python: float
    postgres: float
    copies: dict[str, float]

    @property
    def seconds(self) -> float:
        return self.python + self.postgres


def postgres_seconds(conn: Connection[Any]) -> float:
    """Seconds of processors so far of the server's process for the connection."""
    return int(Path(f"/proc/{conn.info.backend_pid}/schedstat").read_text().split()[0]) / 1e9


def all_seconds(conn: Connection[Any]) -> float:
    """And of this process."""
    return time.process_time() + postgres_seconds(conn)


def billed(conn: Connection[Any], population: Population) -> tuple[float, float]:
    """Seconds of processors that the run took: of this process and of the server's."""
    python, postgres = time.process_time(), postgres_seconds(conn)
    while run.bill_due(conn, organization_id=population.organization_id, until=DUE):
        conn.commit()
    return time.process_time() - python, postgres_seconds(conn) - postgres


def populate_with(conn: Connection[Any], count: int, name: str, parts: Collection[str]) -> Population:
    """Subscriptions of which each has these parts."""
    population = populate(conn, subscriptions=count, name=name)
    values = {"organization": population.organization_id, "start": START}
    for part in parts:
        for statement in PARTS[part]:
            conn.execute(statement, values)
    conn.commit()
    return population


def check(conn: Connection[Any], population: Population, parts: Collection[str]) -> None:
    """All are billed, and these parts are on each invoice."""
    seen = conn.execute(_SEEN, {"organization": population.organization_id}).fetchone()
    count = population.subscriptions
    assert seen == (count, *(count if part in parts else 0 for part in PARTS)), seen


def with_parts(conn: Connection[Any], count: int, name: str, parts: Collection[str]) -> Spent:
    """The run of a population of which each has these parts, which are on each invoice."""
    population = populate_with(conn, count, name, parts)
    python, postgres = billed(conn, population)
    check(conn, population, parts)
    copies = copied(conn, population.organization_id, all_seconds)
    conn.rollback()
    return Spent(python, postgres, copies)


def in_turns(
    conn: Connection[Any], count: int, runs: dict[str, Collection[str]], rounds: int = ROUNDS
) -> dict[str, Spent]:
    """The cheapest of each run: they take turns, as other work on the machine makes all of them slower."""
    spent = [
        {name: with_parts(conn, count, f"{name} {turn}", parts) for name, parts in runs.items()}
        for turn in range(rounds)
    ]
    return {name: _cheapest([each[name] for each in spent]) for name in runs}


def ratios(conn: Connection[Any], turns: int, batch: int = TURN) -> list[float]:
    """How many times as much a batch with all parts costs as one without, of each turn; the first to go alternates."""
    runs: dict[str, Collection[str]] = {"without": (), "with all": tuple(PARTS)}
    populations = {
        name: populate_with(conn, batch * (turns + 1), f"{name}, by turns", parts)
        for name, parts in runs.items()
    }
    found = []
    for turn in range(turns + 1):
        order = list(runs) if turn % 2 else list(reversed(runs))
        spent = {name: _batch(conn, populations[name], batch) for name in order}
        found.append(spent["with all"] / spent["without"])
    for name, parts in runs.items():
        check(conn, populations[name], parts)
    return found[1:]  # the first ones warm up


def _batch(conn: Connection[Any], population: Population, batch: int) -> float:
    """Seconds of processors that a batch takes with its commit."""
    began = all_seconds(conn)
    run.bill_due(conn, organization_id=population.organization_id, until=DUE, limit=batch)
    conn.commit()
    return all_seconds(conn) - began


def show_ratios(found: Sequence[float]) -> None:
    """Their median, between which half of them are, and how many there are."""
    low, median, high = statistics.quantiles(found, n=4)
    console.print(
        f"with all in turns: {median:.2f} times, half of {len(found)} between {low:.2f} and {high:.2f}"
    )
    say("credits", "without, of with all, in turns", 1 / median)


def _cheapest(spent: Sequence[Spent]) -> Spent:
    copies = {way: min(each.copies[way] for each in spent) for way in WAYS}
    return min(spent, key=lambda each: each.seconds)._replace(copies=copies)


def show(count: int, best: dict[str, Spent]) -> None:
    """Microseconds an invoice, and how many times as much a run is as COPY of the rows that it has made."""
    table = Table(
        f"{count:,} invoices", "us", "Python", "PostgreSQL", "times", *(f"of COPY {way}" for way in WAYS)
    )
    for name, spent in best.items():
        each = [f"{seconds * 1e6 / count:,.0f}" for seconds in (spent.seconds, spent.python, spent.postgres)]
        of_copies = [
            f"{spent.seconds / spent.copies[way]:.1f} ({spent.copies[way] * 1e6 / count:,.0f} us)"
            for way in WAYS
        ]
        table.add_row(name, *each, f"{spent.seconds / best['without'].seconds:.2f}", *of_copies)
        say("credits", f"{name}, copying its rows of it", spent.copies["with indexes"] / spent.seconds)
    say("credits", "without, of with all", best["without"].seconds / best["with all"].seconds)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--each", action="store_true", help="each part by itself, too")
    parser.add_argument("--profile", action="store_true", help="what the run with all of them spends")
    given = parser.parse_args()
    runs: dict[str, Collection[str]] = {"without": ()}
    if given.each:
        runs |= {part: (part,) for part in PARTS}
    runs["with all"] = tuple(PARTS)
    calm_collector()  # as the worker does
    with database() as dsn, connected(dsn) as conn:
        with_parts(conn, 500, "warm", tuple(PARTS))
        best = in_turns(conn, given.subscriptions, runs)
        show(given.subscriptions, best)
        show_ratios(ratios(conn, given.turns))
        if given.profile:
            profile = cProfile.Profile(time.process_time)
            profile.runcall(with_parts, conn, given.subscriptions, "profile", tuple(PARTS))
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
