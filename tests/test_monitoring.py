"""What Prometheus reads: only with its key, with right values, and at a cost that doesn't grow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from permille import app, monitoring, telemetry
from permille.config import from_environment
from permille.http.requests import Requests
from permille.store import vat_checks
from permille.store.backlog import backlog
from permille.usecases.organizations import add_key
from tests.usecases.world import START, make_world

DASHBOARD = Path(__file__).resolve().parent.parent / "ops" / "grafana-dashboard.json"
KEY = "scrape"


@pytest.fixture
def client(dsn: str) -> Iterator[TestClient]:
    config = replace(from_environment(), database_url=dsn, metrics_key=KEY)
    built = app.build(config)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await built.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await built.stop()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await built(scope, receive, send)

    whole = Requests(serve, fixed=app.INTAKE_PATHS)
    with TestClient(whole, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def key(db: psycopg.Connection[Any]) -> str:
    world = make_world(db, test_now=None)
    made = add_key(db, world.id, name="k", now=START)
    db.commit()
    return made.secret


def scrape(client: TestClient) -> dict[tuple[str, ...], float]:
    """(name, label values) -> value."""
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples
    }


def test_metrics_are_nobodys_without_the_key(client: TestClient, dsn: str) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
    off = app.build(replace(from_environment(), database_url=dsn))
    assert TestClient(off.rest).get("/metrics", headers={"Authorization": "Bearer None"}).status_code == 404
    for pool in off.pools:
        pool.close()


def test_requests_are_counted_by_the_template_of_their_route(client: TestClient, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    before = scrape(client)
    client.get("/api/v1/plans/none-such", headers=headers)
    client.get("/api/v1/plans/other", headers=headers)
    client.get("/made-up/by/a/client")
    client.request("BREW", "/api/v1/plans", headers=headers)
    after = scrape(client)

    def more(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    new = [name for name in after if name[0] == "permille_requests_total" and more(*name)]
    templates = {name[2] for name in new}
    assert not any("none-such" in each or "made-up" in each for each in templates)
    (plan,) = {each for each in templates if each.startswith("/api/v1/plans/{")}
    assert more("permille_requests_total", "GET", plan, "404") == 2
    assert more("permille_request_seconds_count", "GET", plan) == 2
    assert more("permille_requests_total", "GET", "none", "404") == 1
    assert {name[1] for name in new} == {"GET", "other"}


def test_events_are_counted_by_what_became_of_them(client: TestClient, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}

    def send(*names: str, **more: Any) -> int:
        events = [
            {"transaction_id": name, "code": "c", "external_subscription_id": "s", **more} for name in names
        ]
        return client.post("/api/v1/events/batch", json={"events": events}, headers=headers).status_code

    before = scrape(client)
    assert send("a", "b", "c") == 200
    assert send("a", "b", "d") == 422
    assert send("e", "f", timestamp="junk") == 422
    after = scrape(client)
    found = {
        outcome: after["permille_events_total", outcome] - before["permille_events_total", outcome]
        for outcome in ("stored", "duplicate", "refused", "unavailable")
    }
    assert found == {"stored": 3, "duplicate": 2, "refused": 2, "unavailable": 0}


def test_what_waits_is_said(client: TestClient, db: psycopg.Connection[Any]) -> None:
    world = make_world(db, test_now=None)
    customer = world.customer()
    world.subscribe(customer, world.plan())
    db.execute("update subscription set next_billing_at = now() - interval '1 hour'")
    db.execute("insert into billing_hold values (%s, %s, now(), now(), now(), 'r')", [customer, world.id])
    db.execute(
        "insert into fence (organization_id, task, failures, retry_at, reason, since)"
        " values (%s, 'task', 1, now(), 'r', now())",
        [world.id],
    )
    db.execute(
        "insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, status,"
        " next_attempt_at, last_attempt_at, created_at)"
        " select gen_random_uuid(), %s, gen_random_uuid(), 't', 't', gen_random_uuid(),"
        " case when n < 3 then 'pending' else 'failed' end, case when n < 3 then now() end, now(), now()"
        " from generate_series(1, 7) as n",
        [world.id],
    )
    db.execute(
        "insert into mail (id, organization_id, kind, object_id, recipients, cc, bcc, next_attempt_at, queued_at, created_at)"
        " select gen_random_uuid(), %s, 'test', gen_random_uuid(), '{}', '{}', '{}', now(), now(), now()"
        " from generate_series(1, 3)",
        [world.id],
    )
    vat_checks.ask(db, world.id, customer, "IT1", now=START)
    db.execute("update clock_seen set at = now()")
    db.commit()
    found = scrape(client)
    assert found["permille_database_up",] == 1
    assert found["permille_bills_due",] == 1
    assert found["permille_bills_due_oldest_seconds",] == pytest.approx(3600, abs=60)
    assert found["permille_customers_held",] == found["permille_fences",] == 1
    assert (found["permille_webhooks_waiting",], found["permille_webhooks_failed",]) == (2, 5)
    assert (found["permille_mails_waiting",], found["permille_vat_checks_waiting",]) == (3, 1)
    assert found["permille_invoices_without_price",] == 0
    assert found["permille_roll_up_lag_events",] == 0
    assert found["permille_pool_connections", "permille-serve"] >= 1
    assert found["permille_build_info", telemetry.version()] == 1
    db.execute("delete from fence")
    db.commit()
    assert scrape(client)["permille_fences",] == 1, "the database is not asked at each scrape"


def test_no_count_reads_a_table_as_a_whole(db: psycopg.Connection[Any]) -> None:
    """The plan, where tables are large, stops at its bound."""
    world = make_world(db, test_now=None)
    db.execute(
        "insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, status,"
        " last_attempt_at, created_at)"
        " select gen_random_uuid(), %s, gen_random_uuid(), 't', 't', gen_random_uuid(),"
        " case when n %% 5 = 0 then 'failed' else 'succeeded' end, now(), now() from generate_series(1, 60000) as n",
        [world.id],
    )
    db.execute("analyze webhook")
    found = backlog(db, now=START.replace(year=2026))
    assert found.webhooks_failed == 10_000
    for condition in ("status = 'failed' and last_attempt_at > now()", "next_attempt_at is not null"):
        plan = "\n".join(
            row[0] for row in db.execute(f"explain select from webhook where {condition} limit 10000")
        )
        assert "Seq Scan" not in plan, plan


def test_the_database_may_be_away() -> None:
    class Away:
        name = "p"

        def get_stats(self) -> dict[str, int]:
            return {}

        def connection(self, **_options: Any) -> Any:
            raise psycopg.OperationalError("gone")

    pool: Any = Away()
    found = {family.name: family for family in monitoring.Gauges([pool]).collect()}
    assert found["permille_database_up"].samples[0].value == 0
    assert "permille_bills_due" not in found


def test_every_query_of_the_dashboard_names_a_metric_that_there_is(
    client: TestClient, db: psycopg.Connection[Any]
) -> None:
    db.execute("update clock_seen set at = now()")
    db.commit()
    client.get("/health/live")
    there = {name[0] for name in scrape(client)}
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 15
    for query in queries:
        named = set(re.findall(r"\b(?:permille|process)_\w+", query))
        assert named, query
        assert named <= there, query
    gauges = {f"permille_{name}" for name in monitoring.BACKLOG}
    assert gauges <= {name for query in queries for name in re.findall(r"permille_\w+", query)}
