"""Current usage over HTTP: many events, many filters, many pricing groups; at rest and while events are written.

    .venv/bin/python -m benchmarks.usage.many [--short]

Each answer is compared with sums over the raw events. Beside the time of a read is that of its statements alone, sent by one
connection with nothing around them, and how many times that the read takes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from benchmarks.cost import cost_so_far
from benchmarks.ratios import say
from benchmarks.stack import Stack, month, percentile, running_stack, save, settle
from permille.core.organization import Organization
from permille.database.connections import keep_plans, use_exact_json
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import organizations
from permille.usecases.usage.usage import UsageSearch, current_usage

PRICE = {"amount": "0.03", "free_units": 0, "package_size": 1000}


@dataclass(frozen=True, slots=True)
class Case:
    """A subscription: so many events over so many values of a property, by which it has filters or groups."""

    name: str
    key: str
    values: int
    events: int
    reads: int

    @property
    def has_filters(self) -> bool:
        """Whether each value has a filter; else it has a group."""
        return self.key == "model"

    def draft(self, number: int, at: int, chance: random.Random) -> Draft:
        """An event of it."""
        properties = {self.key: f"{self.key}-{number % self.values}", "tokens": chance.randrange(4_000)}
        return Draft(uuid.uuid4().hex, self.name, self.name, at, None, properties)


def cases(*, short: bool) -> list[Case]:
    """Those that are measured."""
    sizes = (1_000, 100_000) if short else (1_000, 100_000, 1_000_000)
    return [
        *(Case(f"events-{size}", "model", 4, size, 300) for size in sizes),
        *(Case(f"filters-{count}", "model", count, 10 * count, 100) for count in (50, 200, 1_000)),
        *(Case(f"groups-{count}", "user", count, 4 * count, 20) for count in (10, 1_000, 10_000)),
    ]


def set_up(stack: Stack, every: Sequence[Case]) -> tuple[uuid.UUID, str]:
    """A metric, a plan, a customer and a subscription for each."""
    organization = stack.organization()
    key = str(organization["api_key"])
    for case in every:
        values = [f"{case.key}-{number}" for number in range(case.values)]
        filters = [{"values": {case.key: [value]}, "properties": PRICE} for value in values]
        if case.has_filters:
            metric = {"field_name": "tokens", "filters": [{"key": case.key, "values": values}]}
            charge: dict[str, Any] = {"charge_model": "package", "properties": PRICE, "filters": filters}
        else:
            metric = {"field_name": "tokens"}
            charge = {"properties": {"amount": "0.03", "pricing_group_keys": [case.key]}}
        stack.sell(key, case.name, {"aggregation_type": "sum_agg", **metric}, charge)
        stack.post("/customers", {"customer": {"external_id": case.name, "currency": "USD"}}, key)
        subscription = {"external_customer_id": case.name, "plan_code": case.name, "external_id": case.name}
        subscription["subscription_at"] = month().isoformat()
        stack.post("/subscriptions", {"subscription": subscription}, key)
    return uuid.UUID(organization["lago_id"]), key


def feed(dsn: str, organization: uuid.UUID, case: Case, count: int, chance: random.Random) -> None:
    """Straight through the writer: this benchmark is about reading."""
    now, since = time.time_ns() // 1_000, int(month().timestamp() * 1_000_000)
    conn, memory = open_connection(dsn), Memory()
    for first in range(0, count, 5_000):
        numbers = range(first, min(first + 5_000, count))
        drafts = [case.draft(number, chance.randrange(since, now), chance) for number in numbers]
        store(conn, memory, [Request(organization, drafts, now)])
    conn.close()


def from_events(conn: psycopg.Connection[Any], case: Case) -> dict[str, Decimal]:
    """Value -> units, added up from the events."""
    rows = conn.execute(
        "select s.dimensions ->> %s, sum(e.value) from event e join series s on s.id = e.series_id"
        " where s.external_subscription_id = %s group by 1",
        [case.key, case.name],
    )
    return {value: total for value, total in rows if total}


class Reader:
    """Reads usage over one connection."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", stack.port)
        self.headers = {"Authorization": f"Bearer {key}"}

    def answer(self, case: Case) -> tuple[bytes, float]:
        """The answer, and in how many milliseconds it was there."""
        started = time.perf_counter()
        path = f"/api/v1/customers/{case.name}/current_usage?external_subscription_id={case.name}"
        self.http.request("GET", path, headers=self.headers)
        answer = self.http.getresponse()
        body = answer.read()
        milliseconds = (time.perf_counter() - started) * 1_000
        assert answer.status == 200, body
        return body, milliseconds

    def units(self, case: Case) -> dict[str, Decimal]:
        """Value -> units, as answered."""
        (charge,) = json.loads(self.answer(case)[0])["customer_usage"]["charges_usage"]
        if case.has_filters:
            rows = [(row["values"][case.key][0], row["units"]) for row in charge["filters"] if row["values"]]
        else:
            rows = [(row["grouped_by"][case.key], row["units"]) for row in charge["grouped_usage"]]
        return {value: Decimal(units) for value, units in rows if Decimal(units)}


class _Recording(psycopg.Cursor[Any]):
    """Remembers the statements of its connection."""

    statements: list[tuple[Any, Any]]

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        self.statements.append((query, params))
        return super().execute(query, params, **more)


def statements_of(dsn: str, owner: Organization, case: Case) -> list[tuple[Any, Any]]:
    """The statements of a read, with their values."""
    cursor = type("Recorded", (_Recording,), {"statements": []})
    with psycopg.connect(dsn, cursor_factory=cursor) as conn:
        current_usage(
            conn,
            organization_id=owner.id,
            external_customer_id=case.name,
            external_subscription_id=case.name,
            search=UsageSearch(),
            now=datetime.now(UTC),
        )
    found: list[tuple[Any, Any]] = cursor.statements  # type: ignore[attr-defined]
    return found


def time_alone(dsn: str, statements: Sequence[tuple[Any, Any]], times: int) -> float:
    """Milliseconds that the statements of a read take, with the plans that reads keep."""
    took = []
    with psycopg.connect(dsn) as conn:
        for _ in range(times + 8):
            conn.execute("set transaction isolation level repeatable read")
            keep_plans(conn)
            started = time.perf_counter()
            for query, values in statements:
                cursor = conn.execute(query, values)
                if cursor.description is not None:
                    cursor.fetchall()
            took.append((time.perf_counter() - started) * 1_000)
            conn.commit()
    return percentile(took[8:], 0.5)


def measure(stack: Stack, reader: Reader, owner: Organization, case: Case) -> dict[str, Any]:
    """A read's time, that of its statements, and processor time of the server and of PostgreSQL."""
    assert stack.process is not None
    pids = [stack.process.pid, *stack.children()]
    alone = time_alone(stack.dsn, statements_of(stack.dsn, owner, case), case.reads)
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        for _ in range(8):
            reader.answer(case)
        before = cost_so_far(conn, pids, ["event"])
        times = [reader.answer(case)[1] for _ in range(case.reads)]
        cost = cost_so_far(conn, pids, ["event"]) - before
    p50 = percentile(times, 0.5)
    return {
        "p50": p50,
        "p99": percentile(times, 0.99),
        "statements": alone,
        "ratio": p50 / alone,
        "server_ms": cost.server / case.reads * 1_000,
        "postgres_ms": cost.postgres / case.reads * 1_000,
    }


@contextmanager
def writing(
    dsn: str, organization: uuid.UUID, every: Sequence[Case], chance: random.Random
) -> Iterator[None]:
    """Events of all of them go in meanwhile."""
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for case in every:
                feed(dsn, organization, case, 500, chance)

    writer = threading.Thread(target=write)
    writer.start()
    yield
    done.set()
    writer.join()


def is_between(conn: psycopg.Connection[Any], reader: Reader, case: Case) -> bool:
    """Whether an answer is between the sums over the raw events before it and after it."""
    before = from_events(conn, case)
    found = reader.units(case)
    after = from_events(conn, case)
    return all(before[value] <= found[value] <= after[value] for value in before)


def shown(state: str, case: Case, row: dict[str, Any]) -> str:
    """A line of the table."""
    return (
        f"{state:<8}{case.name:<16} p50 {row['p50']:7.2f} ms  p99 {row['p99']:7.2f}  statements {row['statements']:6.2f}"
        f"  ratio {row['ratio']:4.1f}  processor: server {row['server_ms']:6.2f}, postgres {row['postgres_ms']:6.2f}"
        f"  exact {row['exact']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    every = cases(short=parser.parse_args().short)
    use_exact_json()
    chance = random.Random(1)
    result: dict[str, Any] = {"rest": {}, "writing": {}}
    with running_stack() as stack:
        organization, key = set_up(stack, every)
        for case in every:
            feed(stack.dsn, organization, case, case.events, chance)
        settle(stack.dsn)
        reader = Reader(stack, key)
        with psycopg.connect(stack.dsn, autocommit=True) as conn:
            conn.execute("vacuum analyze")
            owner = organizations.by_id(conn, organization)
            assert owner is not None
            for case in every:
                exact = reader.units(case) == from_events(conn, case)
                result["rest"][case.name] = {**measure(stack, reader, owner, case), "exact": exact}
                print(shown("rest", case, result["rest"][case.name]), flush=True)
            with writing(stack.dsn, organization, every, chance):
                for case in every:
                    row = measure(stack, reader, owner, case)
                    row["exact"] = is_between(conn, reader, case)
                    result["writing"][case.name] = row
                    print(shown("writing", case, row), flush=True)
            settle(stack.dsn)
            equal = [reader.units(case) == from_events(conn, case) for case in every]
    print(f"equal afterwards: {all(equal)}")
    for case in every:
        say("usage_many", f"{case.name}, its statements of a read", 1 / result["rest"][case.name]["ratio"])
    answers = [row["exact"] for rows in (result["rest"], result["writing"]) for row in rows.values()]
    say("usage_many", "right answers, of all", sum([*answers, *equal]) / len([*answers, *equal]))
    save("usage_many", {**result, "equal_after": all(equal)})


if __name__ == "__main__":
    main()
