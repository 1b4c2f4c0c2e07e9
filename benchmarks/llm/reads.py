"""Current usage of a `catalogue` charge over HTTP: 50 models by three types, three dates of prices.

    .venv/bin/python -m benchmarks.llm.reads [--events N ...]

Each answer's units are compared with the sum of the raw events. Processor time is of the server and of PostgreSQL for a read.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg

from benchmarks.cost import cost_so_far
from benchmarks.stack import Stack, percentile, running_stack, save, settle
from permille.core.instants import microseconds
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import shipped_prices

SIZES = (10_000, 100_000, 1_000_000)
MODELS, TYPES = 50, ("input", "cached_input", "output")
PRICE_DATES = 3
"""How often a price of the catalogue has changed since the subscriptions began."""
READS = 300


def priced_models(on: date) -> list[tuple[str, str]]:
    """Providers and models that have a price for each of the types."""
    prices = shipped_prices.catalogue()
    return [
        (provider.id, model.id)
        for provider in prices.providers
        if provider.id in {"openai", "anthropic", "google", "mistral", "x-ai", "groq", "openrouter"}
        for model in provider.models
        if all(
            prices.price(provider.id, model.id, Measure("llm_tokens", kind), Conditions(), on=on)
            for kind in TYPES
        )
    ]


def beginning(today: date) -> datetime:
    """When the subscriptions began."""
    changes = sorted(each for each in shipped_prices.catalogue().price_dates if each < today)
    return datetime.combine(changes[-PRICE_DATES], datetime.min.time(), UTC) - timedelta(days=1)


def set_up(stack: Stack, sizes: list[int]) -> tuple[uuid.UUID, str, list[tuple[str, str]]]:
    organization = stack.organization()
    key, owner = str(organization["api_key"]), uuid.UUID(organization["lago_id"])
    today = datetime.now(UTC).date()
    models, since = priced_models(today)[:MODELS], beginning(today)
    assert len(models) == MODELS, len(models)
    body = {
        "name": "Tokens",
        "code": "llm_tokens",
        "aggregation_type": "sum_agg",
        "field_name": "quantity",
    }
    metric = stack.post("/billable_metrics", {"billable_metric": body}, key)["billable_metric"]
    charge = {
        "billable_metric_id": metric["lago_id"],
        "charge_model": "catalogue",
        "properties": {"markup": "1.2"},
    }
    plan = {
        "name": "P",
        "code": "p",
        "interval": "yearly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [charge],
    }
    stack.post("/plans", {"plan": plan}, key)
    for size in sizes:
        stack.post("/customers", {"customer": {"external_id": f"c{size}", "currency": "USD"}}, key)
        subscription = {
            "external_customer_id": f"c{size}",
            "plan_code": "p",
            "external_id": f"s{size}",
            "subscription_at": since.isoformat(),
            "billing_time": "anniversary",
        }
        stack.post("/subscriptions", {"subscription": subscription}, key)
    return owner, key, models


def feed(
    dsn: str,
    organization: uuid.UUID,
    events: int,
    drawn: Callable[[], tuple[str, str, str]],
    *,
    since: datetime,
    chance: random.Random,
) -> None:
    """Straight through the writer: these benchmarks are about reading. Each event's subscription, provider and model are drawn."""
    now, first_at = time.time_ns() // 1_000, microseconds(since)
    conn, memory = open_connection(dsn), Memory()
    for first in range(0, events, 5_000):
        drafts = []
        for _ in range(min(5_000, events - first)):
            subscription, provider, model = drawn()
            properties = {
                "provider": provider,
                "model": model,
                "type": chance.choice(TYPES),
                "modality": "text",
                "tier": "standard",
                "context": "0",
                "quantity": chance.randrange(4_000),
            }
            at = chance.randrange(first_at, now)
            drafts.append(Draft(uuid.uuid4().hex, "llm_tokens", subscription, at, None, properties))
        store(conn, memory, [Request(organization, drafts, now)])
    conn.close()


def _draw(subscription: str, models: list[tuple[str, str]], chance: random.Random) -> tuple[str, str, str]:
    return subscription, *chance.choice(models)


class Reader:
    """Reads usage over one connection."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", stack.port)
        self.headers = {"Authorization": f"Bearer {key}"}

    def usage(self, size: int) -> tuple[dict[str, Any], float]:
        """The charge's usage, and in how many milliseconds it was there."""
        started = time.perf_counter()
        path = f"/api/v1/customers/c{size}/current_usage?external_subscription_id=s{size}"
        self.http.request("GET", path, headers=self.headers)
        answer = self.http.getresponse()
        body = answer.read()
        milliseconds = (time.perf_counter() - started) * 1_000
        assert answer.status == 200, body
        (charge,) = json.loads(body)["customer_usage"]["charges_usage"]
        return charge, milliseconds


def total(conn: psycopg.Connection[Any], size: int) -> Decimal:
    row = conn.execute(
        "select sum(e.value) from event e join series s on s.id = e.series_id where s.external_subscription_id = %s",
        [f"s{size}"],
    ).fetchone()
    assert row is not None
    return Decimal(row[0])


def measure(stack: Stack, reader: Reader, size: int) -> dict[str, Any]:
    assert stack.process is not None
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        charge, _ = reader.usage(size)
        pids = [stack.process.pid, *stack.children()]
        before = cost_so_far(conn, pids, ["event"])
        times = [reader.usage(size)[1] for _ in range(READS)]
        cost = cost_so_far(conn, pids, ["event"]) - before
        return {
            "p50": percentile(times, 0.5),
            "p99": percentile(times, 0.99),
            "server_ms": cost.server / READS * 1_000,
            "postgres_ms": cost.postgres / READS * 1_000,
            "groups": len(charge["grouped_usage"]),
            "equal": Decimal(charge["units"]) == total(conn, size),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, nargs="+", default=list(SIZES))
    sizes: list[int] = parser.parse_args().events
    chance = random.Random(1)
    with running_stack() as stack:
        organization, key, models = set_up(stack, sizes)
        for size in sizes:
            since = beginning(datetime.now(UTC).date())
            drawn = partial(_draw, f"s{size}", models, chance)
            feed(stack.dsn, organization, size, drawn, since=since, chance=chance)
        settle(stack.dsn)
        reader = Reader(stack, key)
        result: dict[str, Any] = {}
        for size in sizes:
            row = result[str(size)] = measure(stack, reader, size)
            print(
                f"{size:>10,} events  p50 {row['p50']:6.2f} ms  p99 {row['p99']:6.2f} ms  processor: server"
                f" {row['server_ms']:.2f}, postgres {row['postgres_ms']:.2f} ms  groups {row['groups']}"
                f"  equal {row['equal']}",
                flush=True,
            )
    save("llm_reads", result)


if __name__ == "__main__":
    main()
