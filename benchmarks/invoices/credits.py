"""What coupons cost an invoice run: the same run with a coupon for each customer and without one, on one connection.

.venv/bin/python -m benchmarks.invoices.credits [--subscriptions N]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from psycopg import Connection

from permille.usecases.invoices import run

from .__main__ import check, connected, console, database
from .population import DUE, START, Population, populate

ROUNDS = 3

_COUPONS = (
    "insert into coupon (id, organization_id, name, code, coupon_type, percentage_rate, frequency, reusable, created_at,"
    " updated_at) values (gen_random_uuid(), %(organization)s, 'Tenth', 'tenth', 'percentage', 10, 'forever', true,"
    " %(start)s, %(start)s)",
    "insert into applied_coupon (id, organization_id, customer_id, coupon_id, status, coupon_type, percentage_rate,"
    " frequency, created_at, updated_at) select gen_random_uuid(), k.organization_id, c.id, k.id, 'active', 'percentage',"
    " 10, 'forever', %(start)s, %(start)s from customer c join coupon k on k.organization_id = c.organization_id"
    " where c.organization_id = %(organization)s",
    "analyze coupon, applied_coupon",
)


def billed(conn: Connection[Any], population: Population) -> float:
    """Seconds of the run."""
    began = time.perf_counter()
    while run.bill_due(conn, organization_id=population.organization_id, until=DUE):
        conn.commit()
    return time.perf_counter() - began


def without(conn: Connection[Any], subscriptions: int, name: str) -> float:
    population = populate(conn, subscriptions=subscriptions, name=name)
    seconds = billed(conn, population)
    check(conn, population)
    return seconds


def with_coupons(conn: Connection[Any], subscriptions: int, name: str) -> float:
    population = populate(conn, subscriptions=subscriptions, name=name)
    for statement in _COUPONS:
        conn.execute(statement, {"organization": population.organization_id, "start": START})
    conn.commit()
    seconds = billed(conn, population)
    row = conn.execute(
        "select count(*) from invoice where organization_id = %s"
        " and coupons_amount_cents = round(fees_amount_cents * 0.1)",
        [population.organization_id],
    ).fetchone()
    assert row == (subscriptions,), row
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    count = parser.parse_args().subscriptions
    with database() as dsn, connected(dsn) as conn:
        pairs = [
            (without(conn, count, f"without {turn}"), with_coupons(conn, count, f"with {turn}"))
            for turn in range(ROUNDS)
        ]
    for one, other in pairs:
        console.print(
            f"{count:,}: without {one:.2f} s, with a coupon each {other:.2f} s, {other / one:.2f} times"
        )
    least, most = min(one for one, _ in pairs), min(other for _, other in pairs)
    console.print(f"best of {ROUNDS}: {most / least:.2f} times")


if __name__ == "__main__":
    main()
