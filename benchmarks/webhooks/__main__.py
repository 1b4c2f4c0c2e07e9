"""Webhooks delivered a second by `permille up`: each of a real invoice with five fees, rendered and signed.

    .venv/bin/python -m benchmarks.webhooks [--invoices N]

To a receiver in C that answers at once: all of one endpoint, of eight, signed by HMAC, and beside an endpoint that takes a second
for each. The base is the load generator in C, which sends requests of that size to the same receiver.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import psycopg
from tests.live import free_port

from benchmarks import load
from benchmarks.cost import Cost, cost_so_far
from benchmarks.invoices.population import DUE, populate
from benchmarks.ratios import say
from benchmarks.stack import Stack, running_stack, save
from permille.clock import system_now
from permille.out.signing import draw_private_key, jwt_signature
from permille.store import webhook_log, webhooks
from permille.usecases.invoices import run

SLOW_SECONDS = 1.0
SLOW_WEBHOOKS = 300
ENDPOINTS = 8
SIGNATURES = 300
PATIENCE_SECONDS = 300
TABLES = ("webhook",)

_AGAIN = """
update webhook set status = 'pending', attempts = 0, rendered = null, http_status = null, response = null,
    next_attempt_at = 'epoch' where organization_id = any(%s) and webhook_type = 'invoice.created'
"""
_LEFT = "select count(*) from webhook where organization_id = any(%s) and status <> 'succeeded'"


@dataclass(frozen=True, slots=True)
class Delivered:
    """`server_us` and `postgres_us`: processor time for each webhook, of all processes of the stack."""

    webhooks: int
    seconds: float
    server_us: float
    postgres_us: float

    @property
    def rate(self) -> float:
        return self.webhooks / self.seconds


@contextmanager
def taking(seconds: float) -> Iterator[int]:
    """The port of a receiver that takes so long for each webhook."""
    port = free_port()
    receiver = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.webhooks.receiver", str(port), str(seconds)]
    )
    time.sleep(0.5)
    try:
        yield port
    finally:
        receiver.kill()
        receiver.wait()


class Deliveries:
    """One `permille up` that delivers what is due."""

    def __init__(self, stack: Stack, port: int) -> None:
        self.stack, self.port = stack, port
        self.conn = psycopg.connect(stack.dsn, autocommit=True)
        self.conn.execute("set timezone to 'UTC'")

    def endpoint(self, invoices: int, *, name: str, algo: str = "jwt", port: int | None = None) -> UUID:
        """An organization in test mode with so many invoices, of each of which a webhook was delivered once."""
        with psycopg.connect(self.stack.dsn) as conn:
            conn.execute("set timezone to 'UTC'")
            population = populate(conn, subscriptions=invoices, name=name, test_now=DUE)
            conn.execute(
                "update webhook_endpoint set webhook_url = %s, signature_algo = %s where organization_id = %s",
                [f"http://127.0.0.1:{port or self.port}/", algo, population.organization_id],
            )
            while run.bill_due(conn, organization_id=population.organization_id, until=DUE):
                conn.commit()
        made = [population.organization_id]
        self._await(lambda: self._count(made) == invoices and self._left(made) == 0)
        return population.organization_id

    def deliver(self, organizations: Sequence[UUID], *, beside: Sequence[UUID] = ()) -> Delivered:
        """Send all webhooks of the organizations again, rendered from the beginning."""
        count = self._count(organizations)
        with self.conn.transaction():
            self.conn.execute(_AGAIN, [[*organizations, *beside]])
        before, began = self._cost(), time.perf_counter()
        webhooks.defer_due(self.conn, now=system_now())
        self._await(lambda: self._left(organizations) == 0)
        seconds, cost = time.perf_counter() - began, self._cost() - before
        each = 1e6 / count
        return Delivered(count, seconds, server_us=cost.server * each, postgres_us=cost.postgres * each)

    def size(self, organization: UUID) -> int:
        """Bytes of a webhook's body, on average of the first hundred."""
        rows, _ = webhook_log.listing(self.conn, organization, status=None, limit=100, offset=0)
        return sum(len(row.body or "") for row in rows) // len(rows)

    def await_end(self, organizations: Sequence[UUID]) -> None:
        self._await(lambda: self._left(organizations) == 0)

    def _count(self, organizations: Sequence[UUID]) -> int:
        row = self.conn.execute(
            "select count(*) from webhook where organization_id = any(%s)", [list(organizations)]
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _left(self, organizations: Sequence[UUID]) -> int:
        row = self.conn.execute(_LEFT, [list(organizations)]).fetchone()
        assert row is not None
        return int(row[0])

    def _cost(self) -> Cost:
        process = self.stack.process
        assert process is not None
        return cost_so_far(self.conn, [process.pid, *self.stack.children()], TABLES)

    @staticmethod
    def _await(holds: Any) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > end:
                raise SystemExit("not delivered in time")
            time.sleep(0.02)


def bare_rate(deliveries: Deliveries, size: int) -> float:
    """Requests a second of the load generator: such bodies to the same receiver, over as many connections."""
    body = b" " * size
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    path = deliveries.stack.folder / "requests"
    load.write((head + body for _ in range(20_000)), path)
    return load.send(deliveries.port, path, connections=32).rate


def signature_us(size: int) -> float:
    """Processor time of a JWT over so many bytes: what nothing but another key can make less."""
    body, pem = b"x" * size, draw_private_key()
    jwt_signature(body, private_pem=pem, issuer="https://localhost")
    began = time.process_time()
    for _ in range(SIGNATURES):
        jwt_signature(body, private_pem=pem, issuer="https://localhost")
    return (time.process_time() - began) / SIGNATURES * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--invoices", type=int, default=10_000)
    invoices = parser.parse_args().invoices
    with load.answering_at_once() as port, taking(SLOW_SECONDS) as slow_port, running_stack() as stack:
        deliveries = Deliveries(stack, port)
        one = deliveries.endpoint(invoices, name="one")
        signed = deliveries.endpoint(invoices, name="hmac", algo="hmac")
        several = [
            deliveries.endpoint(invoices // ENDPOINTS, name=f"of {ENDPOINTS}, {n}") for n in range(ENDPOINTS)
        ]
        slow = deliveries.endpoint(SLOW_WEBHOOKS, name="slow", port=slow_port)
        size = deliveries.size(one)
        signature = signature_us(size)
        bare = bare_rate(deliveries, size)
        print(f"bare: {bare:,.0f} requests/s of {size:,} B")
        found = {}
        for name, organizations in (
            ("one endpoint", [one]),
            ("one endpoint, HMAC", [signed]),
            (f"{ENDPOINTS} endpoints", several),
        ):
            found[name] = deliveries.deliver(organizations)
        found["beside a slow one"] = deliveries.deliver([one], beside=[slow])
        deliveries.await_end([slow])
        for name, each in found.items():
            print(
                f"{name:<20}{each.rate:>8,.0f} webhooks/s  processor us: server {each.server_us:,.0f},"
                f" postgres {each.postgres_us:,.0f}",
                flush=True,
            )
            say("webhooks", f"{name}, of bare requests", each.rate / bare)
            cost = each.server_us + each.postgres_us
            say("webhooks", f"{name}, one signature of its processor time", signature / cost)
        say(
            "webhooks",
            "beside a slow one, of alone",
            found["beside a slow one"].rate / found["one endpoint"].rate,
        )
        deliveries.conn.close()
    save("webhooks", {"bare": bare, "runs": {name: asdict(each) for name, each in found.items()}})


if __name__ == "__main__":
    main()
