"""An amount beyond all bounds, over HTTP: the others are billed, reads answer, and an amendment puts it right."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from permille.core.instants import microseconds
from permille.database.connections import open_pool
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.invoices import advance

from .conftest import START, Api, charge

ABSURD = 10**20
_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store events of one request; their transaction ids."""
    conn, memory = open_connection(dsn), Memory()

    def many(*values: Any, sub: str = "sub", at: datetime = START) -> list[str]:
        drafts = [
            Draft(f"hold-{next(_numbers)}", "tokens", sub, microseconds(at), None, {"tokens": value})
            for value in values
        ]
        store(conn, memory, [Request(api.organization.id, drafts, microseconds(at))])
        return [draft.transaction_id for draft in drafts]

    yield many
    conn.close()


def move(api: Api, *when: Any) -> None:
    at = datetime(*when).replace(tzinfo=UTC) if when else START
    api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})


def subscribed(api: Api, *payers: str, start: datetime = START, **terms: Any) -> Any:
    """Customers with a subscription each, of the same names."""
    metric = api.metric()
    plan = api.plan("pro", [charge(metric, **terms)])
    for payer in payers:
        api.customer(payer)
        api.subscribe(payer, external_customer_id=payer, subscription_at=start.isoformat())
    return plan


def fees(api: Api, sub: str) -> list[tuple[Any, ...]]:
    found = api.get("/fees", external_subscription_id=sub, fee_type="charge")["fees"]
    return sorted(
        (fee["created_at"], fee["event_transaction_id"], fee["units"], fee["amount_cents"], fee["from_date"])
        for fee in found
    )


def amend(api: Api, event: str, sub: str, **changes: Any) -> None:
    body = {
        "transaction_id": f"fix-{next(_numbers)}",
        "event_transaction_id": event,
        "external_subscription_id": sub,
        "kind": "replace" if changes else "void",
        "reason": "A slip of the pen",
        **({"properties": changes} if changes else {}),
    }
    api.post("/events/amendments", {"amendment": body})


@pytest.mark.parametrize("invoiceable", [True, False])
def test_in_advance_it_waits_with_what_comes_after_it(api: Api, send: Any, invoiceable: bool) -> None:
    subscribed(api, "bad", "fine", pay_in_advance=True, invoiceable=invoiceable)
    before, absurd, after = send(2, ABSURD, 3, sub="bad")
    (other,) = send(4, sub="fine")
    move(api, 2024, 3, 5, 11)
    (later,) = send(5, sub="bad", at=START + timedelta(hours=1))
    for _ in range(2):
        move(api, 2024, 3, 5, 12)
        assert [row[1] for row in fees(api, "bad")] == [before]
        assert [row[1] for row in fees(api, "fine")] == [other]
    amend(api, absurd, "bad", tokens=1)
    move(api, 2024, 4, 2)
    at = ["2024-03-05T10:00:00Z"] * 3 + ["2024-03-05T11:00:00Z"]
    expected = zip(at, [before, absurd, after, later], ["2.0", "1.0", "3.0", "5.0"], strict=True)
    assert [row[:3] for row in fees(api, "bad")] == sorted(expected)
    assert len(api.get("/invoices", external_customer_id="bad")["invoices"]) == (4 if invoiceable else 0) + 1
    assert api.row("select count(*) from held_advance_event")[0] == 0


def test_the_worker_tries_it_again_once_it_is_amended(api: Api, send: Any, dsn: str) -> None:
    subscribed(api, "bad", pay_in_advance=True)
    absurd, after = send(ABSURD, 3, sub="bad")
    pool = open_pool(dsn, size=2, name="holds")
    try:
        assert work(pool)
        assert not fees(api, "bad")
        assert not work(pool, START + timedelta(days=9)), "its clock stands still"
        amend(api, absurd, "bad")
        work(pool)
        assert [row[1] for row in fees(api, "bad")] == [after]
    finally:
        pool.close()


def work(pool: ConnectionPool[Any], now: datetime = START) -> int:
    return advance.bill_live(pool, now)


def test_what_is_held_in_advance_is_billed_before_the_end(api: Api, send: Any) -> None:
    subscribed(api, "bad", pay_in_advance=True)
    absurd, after = send(ABSURD, 3, sub="bad")
    move(api)
    assert api.details("DELETE", "/subscriptions/bad", None) == {"base": ["amount_out_of_range"]}
    assert api.get("/subscriptions/bad")["subscription"]["status"] == "active"
    amend(api, absurd, "bad")
    api.delete("/subscriptions/bad")
    assert [row[1] for row in fees(api, "bad")] == [after]


def test_usage_of_it_can_be_read_wherever_it_shows(api: Api, send: Any) -> None:
    plan = subscribed(api, "bad", "fine")
    send(ABSURD, sub="bad")
    whose = {"external_subscription_id": "bad"}
    move(api, 2024, 3, 9)
    usage = api.get("/customers/bad/current_usage", **whose)["customer_usage"]
    assert usage["amount_cents"] == ABSURD * 100 == usage["charges_usage"][0]["amount_cents"]
    api.get("/customers/bad/projected_usage", **whose)
    api.get("/subscriptions/bad/daily_usage")
    lifetime = api.get("/subscriptions/bad/lifetime_usage")["lifetime_usage"]
    assert lifetime["current_usage_amount_cents"] == ABSURD * 100
    move(api, 2024, 4, 2)
    api.get("/customers/bad/past_usage", **whose)
    api.get("/subscriptions/bad/daily_usage", from_date="2024-03-05", to_date="2024-03-31")
    usage = api.get("/customers/bad/current_usage", **whose)["customer_usage"]
    assert usage["amount_cents"] == 0
    assert plan["code"] == "pro"


def test_the_price_can_be_mended(api: Api, send: Any) -> None:
    plan = subscribed(api, "bad", properties={"amount": "1" + "0" * 17})
    send(1_000, sub="bad")
    move(api, 2024, 5, 2)
    assert not api.get("/invoices")["invoices"]
    mended = {**plan["charges"][0], "id": plan["charges"][0]["lago_id"], "properties": {"amount": "2"}}
    api.put("/plans/pro", {"plan": {"charges": [mended]}})
    move(api, 2024, 5, 2)
    made = sorted(
        (each["issuing_date"], each["fees_amount_cents"]) for each in api.get("/invoices")["invoices"]
    )
    assert made == [("2024-04-01", 200_000), ("2024-05-01", 0)]


def test_a_draft_is_not_priced_again_with_it(api: Api, send: Any) -> None:
    subscribed(api, "bad")
    api.customer("bad", billing_configuration={"invoice_grace_period": 9})
    send(7, sub="bad")
    move(api, 2024, 4, 2)
    (draft,) = api.get("/invoices", status="draft")["invoices"]
    (absurd,) = send(ABSURD, sub="bad")
    for verb in ("refresh", "finalize"):
        path = f"/invoices/{draft['lago_id']}/{verb}"
        assert api.details("PUT", path, {}) == {"base": ["amount_out_of_range"]}
    amend(api, absurd, "bad", tokens=2)
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", {})["invoice"]
    assert (refreshed["status"], refreshed["fees_amount_cents"]) == ("draft", 900)


def test_life_time_usage_of_many_large_invoices(api: Api, send: Any) -> None:
    subscribed(api, "rich")
    large = 9 * 10**16
    for month in (3, 4):
        send(large, sub="rich", at=datetime(2024, month, 20, tzinfo=UTC))
    move(api, 2024, 5, 2)
    lifetime = api.get("/subscriptions/rich/lifetime_usage")["lifetime_usage"]
    assert lifetime["invoiced_usage_amount_cents"] == 2 * large * 100
