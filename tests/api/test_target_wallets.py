"""Usage that names the wallet which pays for it: its fees are grouped by wallet, and no other wallet pays for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.api.webhooks import RENDERERS
from permille.store.webhooks import body_of
from tests.api.contract import validator

from .conftest import Api, charge
from .test_amendments import Sender, send
from .test_credit_notes import move
from .test_drafts import invoices
from .test_wallets import look, open_wallet

__all__ = ["send"]

NAMED = "target_wallet_code"


def world(api: Api, price: str, wallets: dict[str, str], **terms: Any) -> dict[str, Any]:
    """Wallets in the order in which they pay, and a subscription from March 5 on."""
    api.customer()
    properties = {"amount": price, **terms.pop("properties", {})}
    api.plan(charges=[charge(api.metric(), accepts_target_wallet=True, properties=properties, **terms)])
    rows = {
        code: open_wallet(api, granted, code=code, priority=number)
        for number, (code, granted) in enumerate(wallets.items(), start=1)
    }
    api.subscribe()
    return rows


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, day, hour, tzinfo=UTC)


def balances(api: Api, rows: dict[str, Any], field: str = "balance_cents") -> dict[str, int]:
    return {code: look(api, row)[field] for code, row in rows.items()}


def last_fees(api: Api) -> dict[tuple[tuple[str, str | None], ...], int]:
    found = api.get(f"/invoices/{invoices(api)[0]['lago_id']}")["invoice"]["fees"]
    return {
        tuple(sorted(fee["item"]["grouped_by"].items())): fee["amount_cents"]
        for fee in found
        if fee["item"]["type"] == "charge"
    }


def test_a_wallet_pays_for_what_names_it_and_the_first_for_the_rest(api: Api, send: Sender) -> None:
    rows = world(api, "3", {"first": "7", "second": "40"}, properties={"pricing_group_keys": ["team"]})
    send(at(6), tokens=9, team="red", **{NAMED: "second"})
    send(at(6, 1), tokens=1, team="blue", **{NAMED: "second"})
    send(at(6, 2), tokens=2, team="red")
    send(at(6, 3), tokens=5, team="red", **{NAMED: "nobody"})
    move(api, 2024, 3, 7)
    assert balances(api, rows, "ongoing_usage_balance_cents") == {"first": 600, "second": 3_000}
    move(api, 2024, 4, 1, 12)
    assert last_fees(api) == {
        ((NAMED, "second"), ("team", "red")): 2_700,
        ((NAMED, "second"), ("team", "blue")): 300,
        ((NAMED, None), ("team", "red")): 600,
        ((NAMED, "nobody"), ("team", "red")): 1_500,
    }
    assert balances(api, rows) == {"first": 100, "second": 1_000}, "nobody pays for what names no wallet"


def test_usage_in_advance_is_paid_at_once_by_the_wallet_that_it_names(api: Api, send: Sender) -> None:
    rows = world(api, "2", {"first": "11", "second": "9"}, pay_in_advance=True)
    for day, named, left in (
        (6, {NAMED: "second"}, {"first": 1_100, "second": 300}),
        (7, {NAMED: "second"}, {"first": 1_100, "second": 0}),
        (8, {}, {"first": 500, "second": 0}),
    ):
        move(api, 2024, 3, day)
        send(at(day), tokens=3, **named)
        move(api, 2024, 3, day, 1)
        assert last_fees(api) == {tuple(named.items()): 600}
        assert balances(api, rows) == left


@pytest.mark.parametrize("accepts", [True, False])
def test_a_running_plan_accepts_names_or_stops_it(api: Api, send: Sender, accepts: bool) -> None:
    rows = world(api, "1", {"first": "20", "second": "20"})
    (priced,) = api.get("/plans/pro")["plan"]["charges"]
    assert priced["accepts_target_wallet"] is True
    body = {"charge": {"properties": {"amount": "1"}, "accepts_target_wallet": accepts}}
    changed = api.put(f"/plans/pro/charges/{priced['code']}", body)["charge"]
    assert changed["accepts_target_wallet"] is accepts
    send(at(6), tokens=13, **{NAMED: "second"})
    move(api, 2024, 3, 7)
    used = {"first": 0, "second": 1_300} if accepts else {"first": 1_300, "second": 0}
    assert balances(api, rows, "ongoing_usage_balance_cents") == used
    groups = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    (shown,) = groups["charges_usage"]
    assert [each["grouped_by"] for each in shown["grouped_usage"]] == ([{NAMED: "second"}] if accepts else [])


def test_what_a_threshold_has_billed_is_no_ongoing_usage(api: Api, send: Sender) -> None:
    """Of 33 tokens at 1.50 with 20 % of tax 12 are billed at the threshold and 21 are left."""
    api.post("/taxes", {"tax": {"name": "V", "code": "v", "rate": "20", "applied_to_organization": True}})
    api.plan(
        charges=[charge(api.metric(), properties={"amount": "1.5"})],
        usage_thresholds=[{"amount_cents": 1_700}],
    )
    api.customer()
    row = open_wallet(api, "100")
    api.subscribe()
    move(api, 2024, 3, 6)
    send(at(6), tokens=12)
    move(api, 2024, 3, 6, 1)
    seen = look(api, row)
    assert (seen["balance_cents"], seen["ongoing_usage_balance_cents"]) == (10_000 - 2_160, 0)
    send(at(6, 1), tokens=21)
    move(api, 2024, 3, 6, 2)
    seen = look(api, row)
    assert (seen["ongoing_usage_balance_cents"], seen["ongoing_balance_cents"]) == (3_780, 7_840 - 3_780)


def reported(api: Api, *when: int) -> list[Any]:
    """The events about which `event.error` was queued once the clock shows that time of 2024-03."""
    move(api, 2024, 3, *when)
    api.conn.rollback()
    rows = api.conn.execute(
        "select object_id from webhook where organization_id = %s and webhook_type = 'event.error'",
        [api.organization.id],
    ).fetchall()
    found = RENDERERS["event_error"](api.conn, [event_id for (event_id,) in rows])
    return sorted(found.values(), key=lambda each: each.event.transaction_id)


def test_a_name_of_no_active_wallet_is_reported_with_the_hour(api: Api, stranger: Api, send: Sender) -> None:
    """Neither the name of a wallet, nor one on a metric of which no charge takes names, nor none."""
    for each in (api, stranger):
        each.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    rows = world(api, "1", {"known": "10", "gone": "10"})
    api.delete(f"/wallets/{rows['gone']['lago_id']}")
    api.metric("calls")
    send(at(6), tokens=1, **{NAMED: "known"})
    send(at(6), tokens=1)
    send(at(6), code="calls", tokens=1, **{NAMED: "nobody"})
    wrong = [send(at(6), tokens=1, **{NAMED: name}) for name in ("nobody", "gone", "nobody")]
    later = send(at(6), tokens=1, **{NAMED: "made later"})
    open_wallet(api, None, code="made later")
    assert reported(api, 6, 1, 4) == []
    found = reported(api, 6, 1, 6)
    assert [each.event.transaction_id for each in found] == sorted(wrong)
    assert later not in [each.event.transaction_id for each in found]
    first = found[0]
    assert (first.status, json.loads(first.message)) == (
        422,
        {"target_wallet_code": ["target_wallet_code_not_found"]},
    )
    assert first.event.properties[NAMED] in ("nobody", "gone")
    body = json.loads(body_of(api.organization.id, "event.error", "event_error", first))["event_error"]
    check = validator("event_error", {"$ref": "#/components/schemas/EventError"})
    assert [error.message for error in check.iter_errors(body)] == []
    assert len(reported(api, 6, 3)) == 3
    assert stranger.row("select count(*) from webhook where organization_id = %(organization)s") == (0,)
