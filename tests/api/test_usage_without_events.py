"""Usage that comes to something else although no event comes in: alerts, thresholds and ongoing balances follow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from permille.database.connections import open_pool
from permille.events.engine import upkeep
from permille.usecases import alerts, ongoing_balances
from permille.usecases.due import due
from permille.usecases.invoices import progressive

from .conftest import Api, charge
from .test_amendments import Sender, send
from .test_drafts import invoices, move
from .test_wallets import look as wallet_now, open_wallet

__all__ = ["send"]

APRIL = datetime(2024, 4, 1, tzinfo=UTC)


@pytest.fixture
def seats(api: Api) -> Api:
    """7.00 a seat, carried over from month to month; a customer with a wallet of 1.00."""
    seats = api.metric("seats", recurring=True, field_name="tokens")
    api.plan(charges=[charge(seats, properties={"amount": "7"})])
    api.customer()
    return api


def see(api: Api, dsn: str, at: datetime) -> None:
    """What the loops of a worker find, without a move of the clock and without an event."""
    api.conn.rollback()
    with open_pool(dsn, size=2, name="test") as pool:
        for step in (alerts.look_live, progressive.look_live, ongoing_balances.refresh_live):
            while step(pool, at):
                pass
    api.conn.rollback()


def bill(api: Api, at: datetime) -> None:
    """What is due at an instant, and nothing of what follows it."""
    api.row("update organization set test_now = %(at)s where id = %(organization)s returning 1", at=at)
    while due._step(api.conn, api.organization.id, at, wait=True, now=at):
        pass
    api.conn.commit()


def alert(api: Api, cents: int) -> None:
    steps = [{"code": "x", "value": cents}]
    body = {"alert_type": "current_usage_amount", "code": "a", "thresholds": steps}
    api.post("/subscriptions/sub/alerts", {"alert": body})


def firings(api: Api) -> int:
    found = "select count(*)::int from triggered_alert where organization_id = %(organization)s"
    count: int = api.row(found)[0]
    return count


def counted(api: Api, send: Sender) -> None:
    send.conn.commit()
    while upkeep.roll_up(send.conn):
        send.conn.commit()


def test_a_period_begins_with_what_is_carried_over(api: Api, seats: Api, send: Sender, dsn: str) -> None:
    """3 seats are 21.00 in March; with April it is 42.00 in the subscription's life, of which 21.00 in April."""
    seats.subscribe()
    row = open_wallet(seats, "50")
    send(code="seats", tokens=3)
    move(seats, 2024, 3, 6)
    seats.put("/subscriptions/sub", {"subscription": {"usage_thresholds": [{"amount_cents": 4_000}]}})
    alert(seats, 2_000)
    move(seats, 2024, 3, 7)
    assert (firings(seats), len(invoices(seats))) == (1, 0)
    bill(seats, APRIL)
    see(seats, dsn, APRIL)
    assert firings(seats) == 2
    assert sorted(each["invoice_type"] for each in invoices(seats)) == ["progressive_billing", "subscription"]
    assert wallet_now(seats, row)["balance_cents"] == 5_000 - 2 * 2_100


def test_usage_from_before_a_start_counts_once_it_has_started(
    api: Api, seats: Api, send: Sender, dsn: str
) -> None:
    """The events came in while nobody was subscribed."""
    send(code="seats", tokens=3)
    move(seats, 2024, 3, 6)
    counted(seats, send)
    see(seats, dsn, APRIL)
    row = open_wallet(seats, "50")
    seats.subscribe(subscription_at="2024-03-05T00:00:00Z", usage_thresholds=[{"amount_cents": 2_000}])
    see(seats, dsn, APRIL)
    assert [each["invoice_type"] for each in invoices(seats)] == ["progressive_billing"]
    assert wallet_now(seats, row)["balance_cents"] == 5_000 - 2_100


def test_a_plan_that_takes_over_has_what_the_one_before_leaves_to_it(
    api: Api, seats: Api, send: Sender, dsn: str
) -> None:
    dearer = charge(seats.get("/billable_metrics/seats")["billable_metric"], properties={"amount": "30"})
    seats.plan("plus", charges=[dearer], amount_cents=100, usage_thresholds=[{"amount_cents": 9_000}])
    seats.subscribe()
    send(code="seats", tokens=3)
    move(seats, 2024, 3, 6)
    alert(seats, 9_000)
    seats.subscribe(plan="plus")
    see(seats, dsn, APRIL)
    assert firings(seats) == 1
    assert "progressive_billing" in [each["invoice_type"] for each in invoices(seats)]


def test_a_customer_that_moves_has_the_taxes_of_its_new_billing_entity_at_once(
    api: Api, seats: Api, send: Sender, dsn: str
) -> None:
    seats.subscribe()
    row = open_wallet(seats, "50")
    send(code="seats", tokens=3)
    move(seats, 2024, 3, 6)
    assert wallet_now(api, row)["ongoing_usage_balance_cents"] == 2_100
    api.post("/taxes", {"tax": {"name": "V", "code": "v", "rate": "10"}})
    api.post("/billing_entities", {"billing_entity": {"code": "north", "name": "North"}})
    api.put("/billing_entities/north", {"billing_entity": {"tax_codes": ["v"]}})
    see(api, dsn, datetime(2024, 3, 6, tzinfo=UTC))
    api.post("/customers", {"customer": {"external_id": "cus", "billing_entity_code": "north"}})
    see(api, dsn, datetime(2024, 3, 6, tzinfo=UTC))
    assert wallet_now(api, row)["ongoing_usage_balance_cents"] == 2_310
