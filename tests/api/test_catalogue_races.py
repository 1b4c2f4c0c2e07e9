"""Prices and series are read in several statements: a change of the dimensions in between never mixes the two."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from starlette.datastructures import QueryParams

from permille.api.billable_metrics import update_billable_metric
from permille.api.http import Call
from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import plans
from tests.live import PATIENCE_SECONDS

from .conftest import START, Api, charge

PAIR = [{"key": "model", "values": ["a"]}, {"key": "region", "values": ["x"]}]
# Whether the region is a dimension or not, the event is of the filter: 10 at 2.00 and never at 1.00.
FILTER = {"values": {"model": ["a"], "region": ["x"]}, "properties": {"amount": "2"}}
RIGHT = 2_000


def send(api: Api, dsn: str, at: datetime) -> None:
    """Store an event at an instant."""
    properties = {"tokens": 10, "model": "a", "region": "x"}
    draft = Draft(f"at {at}", "tokens", "sub", microseconds(at), None, properties)
    with closing(open_connection(dsn)) as conn:
        store(conn, Memory(), [Request(api.organization.id, [draft], microseconds(at))])


@pytest.fixture
def used(api: Api, dsn: str) -> Callable[[], None]:
    """Makes a plan with the filter, a subscription and its event."""

    def ready() -> None:
        api.plan(charges=[charge(api.metric(filters=PAIR), filters=[FILTER])])
        api.customer()
        api.subscribe()
        send(api, dsn, START)

    return ready


def beside_an_edit(api: Api, dsn: str, work: Callable[[], Any]) -> Any:
    """The answer of the work, between whose reads of prices and of series the metric loses a dimension."""
    answers: list[Any] = []
    with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as watch:
        conn.execute("lock table series in access exclusive mode")
        worker = threading.Thread(target=lambda: answers.append(work()))
        worker.start()
        waits = "select count(*) from pg_locks where not granted and relation = 'series'::regclass"
        until = time.monotonic() + PATIENCE_SECONDS
        while not (watch.execute(waits).fetchone() or (0,))[0]:
            assert worker.is_alive(), "it reads no series"
            assert time.monotonic() < until, "it reads no series"
            time.sleep(0.01)
        call = SimpleNamespace(
            conn=conn,
            organization=api.organization,
            now=START,
            path={"code": "tokens"},
            query=QueryParams(),
            body=None,
            root=lambda _: {"filters": PAIR[:1]},
        )
        with pytest.MonkeyPatch.context() as patch:
            # It would reprice events without a region, and be refused for that while somebody is subscribed.
            patch.setattr(plans, "subscribed_among", lambda *_: set())
            update_billable_metric(cast("Call", call))
        conn.commit()
        worker.join(PATIENCE_SECONDS)
    (answer,) = answers
    assert [each["values"] for each in api.get("/plans/pro/charges/tokens/filters")["filters"]] == [
        {"model": ["a"]}
    ]
    return answer


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def test_current_usage(api: Api, dsn: str, used: Callable[[], None]) -> None:
    used()
    path = "/customers/cus/current_usage"
    answer = beside_an_edit(api, dsn, lambda: api.get(path, external_subscription_id="sub"))
    assert answer["customer_usage"]["amount_cents"] == RIGHT


def test_daily_usage(api: Api, dsn: str, used: Callable[[], None]) -> None:
    used()
    answer = beside_an_edit(api, dsn, lambda: api.get("/subscriptions/sub/daily_usage"))
    (used_charge,) = [
        each for day in answer["daily_usage"] for each in day["charges_usage"] if each["units"] != "0.0"
    ]
    lines = [(line["values"], line["units"]) for line in used_charge["breakdown"]]
    # a read is of one instant, before the edit or after it
    assert lines in ([({"model": ["a"]}, "10.0")], [(FILTER["values"], "10.0")])


def test_an_invoice(api: Api, dsn: str, used: Callable[[], None]) -> None:
    used()
    beside_an_edit(api, dsn, lambda: move(api, 2024, 4, 1, 1))
    (invoice,) = api.get("/invoices")["invoices"]
    assert invoice["fees_amount_cents"] == RIGHT


def test_a_draft_that_is_refreshed(api: Api, dsn: str, used: Callable[[], None]) -> None:
    api.customer(invoice_grace_period=5)
    used()
    move(api, 2024, 4, 1, 1)
    (draft,) = api.get("/invoices")["invoices"]
    path = f"/invoices/{draft['lago_id']}/refresh"
    answer = beside_an_edit(api, dsn, lambda: api.put(path, {}))
    assert (answer["invoice"]["status"], answer["invoice"]["fees_amount_cents"]) == ("draft", RIGHT)


def test_an_explanation(api: Api, dsn: str, used: Callable[[], None]) -> None:
    used()
    move(api, 2024, 4, 1, 1)
    (fee,) = api.get("/fees", fee_type="charge")["fees"]
    answer = beside_an_edit(api, dsn, lambda: api.get(f"/fees/{fee['lago_id']}/explanation"))
    assert answer["fee_explanation"]["recomputed"]["amount_cents"] == RIGHT
