"""kill -9 while events are amended, and while events make fees: every answer stands once, whatever died."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from permille.embedded.postgres import dsn_of
from tests.faults.test_kill import (
    BATCH,
    CUSTOMERS,
    TYPES,
    Load,
    cells_are_right,
    kill,
    set_up,
    until,
    usage,
    victims,
)
from tests.live import PATIENCE_SECONDS, LiveServer, live_server

ROLES = ["serve", "postgres", "work", "supervisor"]


@pytest.fixture(scope="module")
def server(reachable_session_path: Path) -> Iterator[LiveServer]:
    """One for all, each with an organization of its own."""
    folder = reachable_session_path / "changes"
    folder.mkdir(mode=0o711)
    with live_server(folder) as server:
        yield server


def post_until_in(client: httpx2.Client, path: str, body: dict[str, Any], *, root: str) -> None:
    """Again and again until it is answered for good; that all of it exists already is such an answer."""
    while True:
        try:
            answer = client.post(path, json=body)
        except httpx2.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            return
        if answer.status_code == 422:
            errors = answer.json()["error_details"]
            found = errors.get(root, errors)
            assert len(found) == len(body[root]), answer.text
            assert all(each == {"transaction_id": ["value_already_exist"]} for each in found.values())
            return
        assert answer.status_code >= 500, answer.text
        time.sleep(0.05)


def beside_kills(server: LiveServer, work: Callable[[], None], *, seed: int) -> None:
    """Do the work while one process after the other is killed, at least one of each."""
    chance = random.Random(seed)
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for role in ROLES:
        time.sleep(chance.uniform(0.1, 0.6))
        kill(server, role, chance)
        server.wait_ready()
        until(lambda: all(victims(server).values()), what="every process runs again")
    worker.join(PATIENCE_SECONDS)
    assert not worker.is_alive()


def test_every_amendment_that_was_answered_counts_once(server: LiveServer) -> None:
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    load = Load(server, key, seed=1)
    batches = [[load._event(number + i) for i in range(BATCH)] for number in range(0, 1_000, BATCH)]
    done = []

    def amend() -> None:
        with server.client(key, asks_again=True) as client:
            for batch in batches:
                amendments: list[dict[str, Any]] = [
                    {
                        "transaction_id": f"amend-{event['transaction_id']}",
                        "event_transaction_id": event["transaction_id"],
                        "external_subscription_id": event["external_subscription_id"],
                        "kind": "void",
                        "reason": "sent by mistake",
                    }
                    for event in batch[::2]
                ]
                post_until_in(client, "/events/amendments", {"amendments": amendments}, root="amendments")
                done.append(len(amendments))
                time.sleep(0.1)

    with server.client(key, asks_again=True) as client:
        set_up(client)
        for batch in batches:
            load._deliver(client, batch)
    beside_kills(server, amend, seed=3)

    assert sum(done) == 500
    left: Counter[tuple[str, str]] = Counter()
    for event in (event for batch in batches for event in batch[1::2]):
        left[event["external_subscription_id"], event["properties"]["type"]] += event["properties"]["tokens"]
    with server.client(key, asks_again=True) as client:
        for name in CUSTOMERS:
            assert usage(client, name) == {kind: Decimal(left[name, kind]) for kind in TYPES}
        listed = client.get("/events/amendments", params={"per_page": 1}).json()
    assert listed["meta"]["total_count"] == 500
    assert cells_are_right(server)


@pytest.mark.parametrize("invoiceable", [True, False])
def test_every_event_in_advance_has_one_fee(server: LiveServer, invoiceable: bool) -> None:
    key = server.organization(test_mode=False)["api_key"]
    now = int(time.time())
    events = [
        {
            "transaction_id": f"call-{number}",
            "external_subscription_id": "early",
            "code": "calls",
            "timestamp": now,
        }
        for number in range(200)
    ]
    with server.client(key, asks_again=True) as client:
        metric = {"name": "Calls", "code": "calls", "aggregation_type": "count_agg"}
        made = client.post("/billable_metrics", json={"billable_metric": metric}).json()["billable_metric"]
        charge = {
            "billable_metric_id": made["lago_id"],
            "charge_model": "standard",
            "pay_in_advance": True,
            "invoiceable": invoiceable,
            "properties": {"amount": "0.5"},
        }
        plan = {"name": "E", "code": "e", "interval": "monthly", "amount_cents": 0, "amount_currency": "USD"}
        plan |= {"pay_in_advance": False, "charges": [charge]}
        assert client.post("/plans", json={"plan": plan}).status_code == 200
        customer = {"external_id": "early", "currency": "USD"}
        assert client.post("/customers", json={"customer": customer}).status_code == 200
        terms = {"external_customer_id": "early", "plan_code": "e", "external_id": "early"}
        terms["subscription_at"] = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        assert client.post("/subscriptions", json={"subscription": terms}).status_code == 200

    def send() -> None:
        with server.client(key, asks_again=True) as client:
            for start in range(0, len(events), 10):
                post_until_in(client, "/events/batch", {"events": events[start : start + 10]}, root="events")
                time.sleep(0.1)

    beside_kills(server, send, seed=4)

    def fees_count() -> int:
        with server.client(key, asks_again=True) as client:
            found: int = client.get("/fees", params={"fee_type": "charge", "per_page": 1}).json()["meta"][
                "total_count"
            ]
            return found

    until(lambda: fees_count() >= len(events), what="every event has its fee")
    time.sleep(1)
    with server.client(key, asks_again=True) as client:
        fees = [
            fee
            for page in (1, 2, 3)
            for fee in client.get("/fees", params={"per_page": 100, "page": page}).json()["fees"]
        ]
        invoices = client.get("/invoices", params={"per_page": 1}).json()["meta"]["total_count"]
    assert Counter(fee["event_transaction_id"] for fee in fees) == Counter(
        event["transaction_id"] for event in events
    )
    assert {fee["amount_cents"] for fee in fees} == {50}
    assert invoices == (len(events) if invoiceable else 0)


def test_a_history_is_moved_to_other_dimensions_whatever_dies(server: LiveServer) -> None:
    """More events than an edit moves itself: the rest is moved by workers that are killed, while more come."""
    key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
    load, chance = Load(server, key, seed=6), random.Random(6)
    expected: Counter[tuple[str, str, str]] = Counter()

    def batch(client: httpx2.Client, first: int) -> None:
        events = [load._event(first + i) for i in range(1_000)]
        for event in events:
            event["properties"]["region"] = chance.choice(["eu", "us"])
        post_until_in(client, "/events/batch", {"events": events}, root="events")
        for event in events:
            said = event["properties"]
            expected[event["external_subscription_id"], said["type"], said["region"]] += said["tokens"]

    def regions(client: httpx2.Client, name: str) -> dict[tuple[str, str], Decimal]:
        answer = client.get(f"/customers/{name}/current_usage", params={"external_subscription_id": name})
        assert answer.status_code == 200, answer.text
        (used,) = answer.json()["customer_usage"]["charges_usage"]
        return {
            (row["values"]["type"][0], row["values"]["region"][0]): Decimal(row["units"])
            for row in used["filters"]
            if row["values"]
        }

    def send_more() -> None:
        with server.client(key, asks_again=True) as client:
            for first in range(20_000, 24_000, 1_000):
                batch(client, first)
                time.sleep(0.3)

    with server.client(key, asks_again=True) as client:
        set_up(client)
        for first in range(0, 20_000, 1_000):
            batch(client, first)
        dimensions = [{"key": "type", "values": list(TYPES)}, {"key": "region", "values": ["eu", "us"]}]
        edit = client.put("/billable_metrics/tokens", json={"billable_metric": {"filters": dimensions}})
        assert edit.status_code == 200
        price = {"amount": "0.03", "free_units": 0, "package_size": 1000}
        filters = [
            {"values": {"type": [kind], "region": [region]}, "properties": price}
            for kind in TYPES
            for region in ("eu", "us")
        ]
        code = client.get("/plans/p/charges").json()["charges"][0]["code"]
        edit = client.put(f"/plans/p/charges/{code}", json={"charge": {"filters": filters}})
        assert edit.status_code == 200
        for name in CUSTOMERS:
            assert regions(client, name) == {
                place[1:]: units for place, units in expected.items() if place[0] == name
            }
    beside_kills(server, send_more, seed=7)

    def is_moved() -> bool:
        with psycopg.connect(dsn_of(server.folder / "data") or "") as conn:
            row = conn.execute("select count(*) from metering where rebuilding").fetchone()
            return row == (0,)

    until(is_moved, what="the history is moved")
    with server.client(key, asks_again=True) as client:
        for name in CUSTOMERS:
            assert regions(client, name) == {
                place[1:]: units for place, units in expected.items() if place[0] == name
            }
    until(lambda: cells_are_right(server), what="the cells are those of the events")
