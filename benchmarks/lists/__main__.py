"""Lists of events of an organization with very many series: `GET /events`, and the admin's events and home.

    .venv/bin/python -m benchmarks.lists [--series 1000000 | --short]

Series and events go straight into the database, and are rolled up as usual: this benchmark is about reading.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from benchmarks.cost import cost_so_far
from benchmarks.ratios import say
from benchmarks.stack import Stack, percentile, running_stack, save, settle
from permille.events.postgres.metering import INGESTION_LOCK
from permille.store import sessions, users

READS = 10
EVENTS = 2
"""Events of a series."""
SUBSCRIPTIONS = 1_000

_SERIES = """
insert into series (organization_id, external_subscription_id, code, metering_version, value_key, dimensions, identity)
select %(organization)s, 's' || n %% %(subscriptions)s, 'tokens', 1, 'n',
    jsonb_build_object('model', (array['8K', '32K', '128K', 'mini'])[1 + n %% 4], 'user', n), gen_random_uuid()
from generate_series(1, %(series)s) n
"""
_EVENTS = """
insert into event (series_id, at, created_at, identity, value, transaction_id)
select id, %(since)s + ((id * 7 + n * 5) %% %(hours)s) * interval '1 hour' + n * interval '1 second', %(now)s,
    gen_random_uuid(), id %% 100, 't-' || id || '-' || n
from generate_series(1, %(events)s) n, series where organization_id = %(organization)s order by 2
"""


def feed(stack: Stack, organization: uuid.UUID, series: int) -> None:
    """Two events of each series within the last 30 days."""
    now = datetime.now(UTC)
    values = {
        "organization": organization,
        "series": series,
        "subscriptions": SUBSCRIPTIONS,
        "events": EVENTS,
    }
    values |= {"since": now - timedelta(days=30), "now": now, "hours": 30 * 24 - 1}
    with psycopg.connect(stack.dsn) as conn:
        conn.execute("select pg_advisory_xact_lock_shared(%s)", [INGESTION_LOCK])
        for statement in (_SERIES, _EVENTS):
            conn.execute(statement, values)
    settle(stack.dsn)
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        conn.execute("vacuum analyze")


def sign_in(stack: Stack, organization: uuid.UUID) -> str:
    """The cookie of a user of the organization."""
    now = datetime.now(UTC)
    with psycopg.connect(stack.dsn) as conn:
        user = users.add(conn, email="a@b.example", password_hash=None, is_owner=False, now=now)
        assert user is not None
        secret = sessions.open_session(conn, user_id=user.id, now=now)
        users.join_organization(conn, user_id=user.id, organization_id=organization, role="admin", now=now)
        digest = users.digest_of(secret)
        sessions.choose_organization(conn, digest=digest, organization_id=organization)
    return f"permille={secret}"


class Reader:
    """Reads over one connection."""

    def __init__(self, stack: Stack, headers: dict[str, str]) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", stack.port)
        self.headers = headers

    def read(self, path: str) -> tuple[bytes, float]:
        """The answer, and in how many milliseconds it was there."""
        started = time.perf_counter()
        self.http.request("GET", path, headers=self.headers)
        answer = self.http.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body[:300])
        return body, (time.perf_counter() - started) * 1_000


def measure(stack: Stack, reader: Reader, path: str) -> dict[str, float]:
    """The time of a read, and processor time of the server and of PostgreSQL."""
    assert stack.process is not None
    pids = [stack.process.pid, *stack.children()]
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        first = reader.read(path)[1]
        before = cost_so_far(conn, pids, ["event"])
        times = [reader.read(path)[1] for _ in range(READS)]
        cost = cost_so_far(conn, pids, ["event"]) - before
    return {
        "first": first,
        "p50": percentile(times, 0.5),
        "longest": max(times),
        "server_ms": cost.server / READS * 1_000,
        "postgres_ms": cost.postgres / READS * 1_000,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--short", action="store_true", help="200,000 series")
    asked = parser.parse_args()
    series = 200_000 if asked.short else asked.series
    with running_stack() as stack:
        made = stack.organization()
        organization, key = uuid.UUID(made["lago_id"]), str(made["api_key"])
        stack.sell(key, "tokens", {"aggregation_type": "sum_agg"}, {})
        feed(stack, organization, series)
        api = Reader(stack, {"Authorization": f"Bearer {key}"})
        admin = Reader(stack, {"Cookie": sign_in(stack, organization)})
        day = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
        lists = {
            "GET /events": (api, "/api/v1/events?per_page=20"),
            "the tenth page": (api, "/api/v1/events?per_page=20&page=10"),
            "of a subscription": (api, "/api/v1/events?per_page=20&external_subscription_id=s7"),
            "since three days ago": (api, f"/api/v1/events?per_page=20&timestamp_from={day}"),
            "admin: events": (admin, "/app/events"),
            "admin: home": (admin, "/app"),
        }
        result: dict[str, Any] = {"series": series}
        for name, (reader, path) in lists.items():
            row = result[name] = measure(stack, reader, path)
            print(
                f"{name:<22} p50 {row['p50']:8.1f} ms  first {row['first']:8.1f}  longest {row['longest']:8.1f}"
                f"  processor: server {row['server_ms']:7.1f}, postgres {row['postgres_ms']:8.1f}",
                flush=True,
            )
        total = json.loads(api.read("/api/v1/events?per_page=1")[0])["meta"]["total_count"]
        result["exact"] = total == series * EVENTS
        print(f"counted {total:,} of {series * EVENTS:,}")
    for name in lists:
        say("lists", f"{name}, 50 ms of it", 50 / result[name]["p50"])
    say("lists", "counted, of stored", total / (series * EVENTS))
    save("lists", result)


if __name__ == "__main__":
    main()
