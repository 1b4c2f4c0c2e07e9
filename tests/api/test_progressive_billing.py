"""Usage thresholds over the API: invoices during the period, what comes off afterwards, webhooks and lifetime usage."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from permille.api.objects.subscription import Subscription
from permille.api.webhooks import RENDERERS
from permille.database.connections import open_pool
from permille.events.engine import upkeep
from permille.store import subscriptions
from permille.usecases.invoices import progressive

from .conftest import START, Api, charge, plan_body
from .test_amendments import Sender, send
from .test_drafts import invoices, move

__all__ = ["send"]


def world(api: Api, *thresholds: Any, **fields: Any) -> None:
    """10.00 a month and 1.00 a token, from March 5 on."""
    api.plan(
        charges=[charge(api.metric())],
        amount_cents=1_000,
        usage_thresholds=[each if isinstance(each, dict) else {"amount_cents": each} for each in thresholds],
    )
    api.customer(**fields)
    api.subscribe()


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, day, hour, tzinfo=UTC)


def use(api: Api, send: Sender, tokens: int, when: datetime) -> list[Any]:
    """An event, and ten minutes; all invoices then, the oldest first."""
    move(api, *when.timetuple()[:5])
    send(when, tokens=tokens)
    later = when + timedelta(minutes=10)
    move(api, *later.timetuple()[:5])
    return invoices(api)[::-1]


def test_an_invoice_at_a_threshold_its_credit_and_what_lifetime_usage_says(api: Api, send: Sender) -> None:
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    world(api, 5_000, {"amount_cents": 9_000, "threshold_display_name": "Ninety"})
    assert use(api, send, 40, at(6)) == []
    (first,) = use(api, send, 30, at(7))
    first = api.get(f"/invoices/{first['lago_id']}")["invoice"]
    assert (first["invoice_type"], first["status"], first["fees_amount_cents"]) == (
        "progressive_billing", "finalized", 7_000,
    )  # fmt: skip
    assert (first["taxes_amount_cents"], first["total_amount_cents"]) == (1_400, 8_400)
    (applied,) = first["applied_usage_thresholds"]
    assert (applied["lifetime_usage_amount_cents"], applied["created_at"]) == (7_000, "2024-03-07T00:00:00Z")
    assert applied["usage_threshold"]["amount_cents"] == 5_000
    (period,) = first["billing_periods"]
    assert period["invoicing_reason"] == "progressive_billing"
    assert (period["charges_from_datetime"], period["charges_to_datetime"]) == (
        "2024-03-05T10:00:00Z", "2024-03-31T23:59:59Z",
    )  # fmt: skip
    shown = api.get("/subscriptions/sub/lifetime_usage")["lifetime_usage"]
    assert (shown["invoiced_usage_amount_cents"], shown["current_usage_amount_cents"]) == (0, 7_000)
    assert shown["usage_thresholds"] == [
        {"amount_cents": 5_000, "completion_ratio": 1.0, "reached_at": "2024-03-07T00:00:00Z"},
        {"amount_cents": 9_000, "completion_ratio": 0.5, "reached_at": None},
    ]
    _, second = use(api, send, 25, at(20))
    second = api.get(f"/invoices/{second['lago_id']}")["invoice"]
    assert (second["fees_amount_cents"], second["progressive_billing_credit_amount_cents"]) == (9_500, 7_000)
    assert (second["sub_total_excluding_taxes_amount_cents"], second["total_amount_cents"]) == (2_500, 3_000)
    (credit,) = second["credits"]
    assert (credit["before_taxes"], credit["amount_cents"]) == (True, 7_000)
    assert credit["item"]["lago_item_id"] == first["lago_id"]
    move(api, 2024, 4, 1, 12)
    closing = invoices(api)[0]
    assert (closing["invoice_type"], closing["fees_amount_cents"]) == ("subscription", 871 + 9_500)
    assert (closing["progressive_billing_credit_amount_cents"], closing["total_amount_cents"]) == (
        9_500,
        1_045,
    )
    rows = api.row(
        "select array_agg(webhook_type) from webhook where organization_id = %(organization)s"
        " and webhook_type in ('invoice.created', 'subscription.usage_threshold_reached')"
    )[0]
    reached = "subscription.usage_threshold_reached"
    assert sorted(rows) == [*["invoice.created"] * 3, *[reached] * 2]


def test_the_webhook_shows_the_threshold(api: Api, send: Sender) -> None:
    world(api, {"amount_cents": 500, "threshold_display_name": "Five"})
    use(api, send, 6, at(6))
    (applied_id,) = api.row("select id from applied_usage_threshold where organization_id = %(organization)s")
    shown = RENDERERS["subscription.usage_threshold_reached"](api.conn, [applied_id])[applied_id]
    assert isinstance(shown, Subscription)
    assert shown.external_id == "sub"
    assert shown.usage_threshold is not None
    assert shown.usage_threshold.threshold_display_name == "Five"


def test_thresholds_are_replaced_as_a_whole_and_keep_what_stays(api: Api) -> None:
    made = api.plan(usage_thresholds=[{"amount_cents": 5}, {"amount_cents": 7, "recurring": True}])
    five, seven = made["usage_thresholds"]
    assert (seven["recurring"], made["applicable_usage_thresholds"][1]["amount_cents"]) == (True, 7)

    def put(wanted: Any) -> Any:
        return api.put("/plans/pro", {"plan": wanted})["plan"]["usage_thresholds"]

    assert put({"name": "Pro"}) == [five, seven]
    move(api, 2024, 3, 6)
    changed = put(
        {"usage_thresholds": [{"amount_cents": 9}, {"amount_cents": 5, "threshold_display_name": "x"}]}
    )
    assert [each["amount_cents"] for each in changed] == [9, 5]
    assert changed[1] == {**five, "threshold_display_name": "x", "updated_at": "2024-03-06T00:00:00Z"}
    assert put({"usage_thresholds": []}) == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([{"recurring": True}], "missing_amount_cents"),
        ([{"amount_cents": 5}, {"amount_cents": 5}], "duplicated_values"),
        (
            [{"amount_cents": 5, "recurring": True}, {"amount_cents": 6, "recurring": True}],
            "multiple_recurring_thresholds",
        ),
        ("many", "value_is_invalid"),
    ],
)
def test_thresholds_that_cannot_be(api: Api, wanted: Any, code: str) -> None:
    details = api.details("POST", "/plans", {"plan": plan_body(usage_thresholds=wanted)})
    assert details == {"usage_thresholds": [code]}


def test_a_subscriptions_own_thresholds_come_before_those_of_its_plans(api: Api) -> None:
    def amounts(subscription: Any) -> list[int]:
        return [each["amount_cents"] for each in subscription["applicable_usage_thresholds"]]

    api.plan(usage_thresholds=[{"amount_cents": 5}])
    api.customer()
    assert amounts(api.subscribe("a")) == [5]
    inherits = api.subscribe("b", plan_overrides={"amount_cents": 1})
    assert (amounts(inherits), inherits["plan"]["usage_thresholds"]) == ([5], [])
    own_plan = api.subscribe("c", plan_overrides={"usage_thresholds": [{"amount_cents": 6}]})
    assert amounts(own_plan) == amounts(own_plan["plan"]) == [6]
    assert amounts(api.subscribe("d", usage_thresholds=[{"amount_cents": 7}])) == [7]
    assert amounts(api.subscribe("d", usage_thresholds=[{"amount_cents": 8}])) == [8], "the same plan again"
    changed = api.put("/subscriptions/c", {"subscription": {"usage_thresholds": [{"amount_cents": 9}]}})
    assert amounts(changed["subscription"]) == [9]
    both = {
        "usage_thresholds": [{"amount_cents": 1}],
        "plan_overrides": {"usage_thresholds": [{"amount_cents": 2}]},
    }
    wanted = {"external_customer_id": "cus", "plan_code": "pro", "external_id": "e", **both}
    assert api.details("POST", "/subscriptions", {"subscription": wanted}) == {
        "usage_thresholds": ["incompatible_params"],
        "plan_overrides": ["incompatible_params"],
    }


def test_what_was_billed_too_much_is_given_back_by_a_credit_note(api: Api, send: Sender) -> None:
    """60.00 were billed at a threshold of 50.00, and an event of 45.00 is voided then: 45.00 come back, with taxes."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    world(api, 5_000)
    wrong = send.named("wrong", at(5, 11), tokens=45)
    (billed,) = use(api, send, 15, at(6))
    assert billed["total_amount_cents"] == 7_200
    body = {"transaction_id": "am", "event_transaction_id": wrong, "kind": "void", "reason": "a test"}
    api.post("/events/amendments", {"amendment": body})
    move(api, 2024, 4, 1, 12)
    closing = invoices(api)[0]
    assert (closing["fees_amount_cents"], closing["progressive_billing_credit_amount_cents"]) == (
        871 + 1_500,
        1_500,
    )
    (note,) = api.get("/credit_notes")["credit_notes"]
    assert (note["lago_invoice_id"], note["reason"], note["credit_amount_cents"]) == (
        billed["lago_id"], "other", 5_400,
    )  # fmt: skip


def test_what_two_invoices_have_billed_too_much_comes_back_whole(api: Api, send: Sender) -> None:
    """55.00 and 45.00 were billed, and 95.00 is voided then: the second invoice gives back 45.00, the first 50.00."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    world(api, 5_000, 9_000)
    wrong = send.named("wrong", at(5, 11), tokens=55)
    use(api, send, 5, at(6))
    again = send.named("again", at(6, 11), tokens=40)
    move(api, 2024, 3, 7)
    first, second = invoices(api)[::-1]
    assert (first["total_amount_cents"], second["total_amount_cents"]) == (6_600, 5_400)
    for name, event in (("a", wrong), ("b", again)):
        body = {"transaction_id": name, "event_transaction_id": event, "kind": "void", "reason": "a test"}
        api.post("/events/amendments", {"amendment": body})
    move(api, 2024, 4, 1, 12)
    closing = invoices(api)[0]
    assert (closing["fees_amount_cents"], closing["progressive_billing_credit_amount_cents"]) == (
        871 + 500,
        500,
    )
    notes = api.get("/credit_notes")["credit_notes"]
    assert {(note["lago_invoice_id"], note["credit_amount_cents"]) for note in notes} == {
        (second["lago_id"], 5_400), (first["lago_id"], 6_000),
    }  # fmt: skip


def test_what_comes_back_last_takes_up_how_the_taxes_of_all_notes_were_rounded(
    api: Api, send: Sender
) -> None:
    """60.00 with 12.00 of tax are paid; refunds of 0.03 twice are 0.04 each, and all of the usage is voided then."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    world(api, 5_000)
    wrong = send.named("wrong", at(5, 11), tokens=60)
    move(api, 2024, 3, 7)
    (billed,) = invoices(api)
    paid = {"invoice_id": billed["lago_id"], "amount_cents": 7_200, "reference": "x"}
    api.post("/payments", {"payment": paid})
    (fee,) = api.get(f"/invoices/{billed['lago_id']}")["invoice"]["fees"]
    items = [{"fee_id": fee["lago_id"], "amount_cents": 3}]
    refund = {"invoice_id": billed["lago_id"], "items": items, "refund_amount_cents": 4}
    for _ in range(2):
        api.post("/credit_notes", {"credit_note": refund})
    body = {"transaction_id": "am", "event_transaction_id": wrong, "kind": "void", "reason": "a test"}
    api.post("/events/amendments", {"amendment": body})
    move(api, 2024, 4, 1, 12)
    notes = api.get("/credit_notes")["credit_notes"]
    assert sorted(note["total_amount_cents"] for note in notes) == [4, 4, 7_200 - 8]


def test_an_amendment_that_raises_usage_is_looked_at_as_an_event_is(api: Api, send: Sender) -> None:
    world(api, 5_000)
    small = send.named("small", at(5, 11), tokens=4)
    assert use(api, send, 1, at(6)) == []
    detect(send)
    body = {"transaction_id": "am", "event_transaction_id": small, "kind": "replace", "reason": "a test",
            "external_subscription_id": "sub", "properties": {"tokens": 60}}  # fmt: skip
    api.post("/events/amendments", {"amendment": body})
    progressive.look(send.conn, api.organization.id, now=at(6, 1), system_now=datetime.now(UTC))
    send.conn.commit()
    assert [each["fees_amount_cents"] for each in invoices(api)] == [6_100]


def test_subscriptions_at_one_look_share_a_coupon_in_the_order_in_which_they_were_made(
    api: Api, send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order the database has them in."""
    read = subscriptions.by_ids
    monkeypatch.setattr(subscriptions, "by_ids", lambda *of: dict(reversed(read(*of).items())))
    world(api, 500)
    coupon = {"name": "ten", "code": "ten", "coupon_type": "fixed_amount", "frequency": "once",
              "amount_cents": 1_000, "amount_currency": "EUR", "expiration": "no_expiration"}  # fmt: skip
    api.post("/coupons", {"coupon": coupon})
    api.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "ten"}})
    move(api, 2024, 3, 6)
    api.subscribe("later")
    send(at(6), sub="later", tokens=6)
    send(at(6), tokens=7)
    move(api, 2024, 3, 7)
    made = {(each["fees_amount_cents"], each["coupons_amount_cents"]) for each in invoices(api)}
    assert made == {(700, 700), (600, 300)}


def test_a_draft_takes_it_off_and_what_became_of_it_is_counted_once(api: Api, send: Sender) -> None:
    world(api, 5_000, billing_configuration={"invoice_grace_period": 3})
    use(api, send, 60, at(6))
    move(api, 2024, 4, 1, 12)
    closing = invoices(api)[0]
    for _ in range(2):
        again = api.put(f"/invoices/{closing['lago_id']}/refresh", {})["invoice"]
        assert (again["status"], again["progressive_billing_credit_amount_cents"]) == ("draft", 6_000)
    move(api, 2024, 4, 5)
    (final, _) = invoices(api)
    assert (final["status"], final["total_amount_cents"]) == ("finalized", 871)
    (rows,) = api.row(
        "select count(*) from progressive_credit c join invoice i on i.id = c.invoice_id"
        " where i.organization_id = %(organization)s"
    )
    assert rows == 1


def detect(send: Sender) -> None:
    """Count what was sent, and mark what it is of."""
    while upkeep.roll_up(send.conn):
        pass
    send.conn.commit()
    while progressive.detect(send.conn):
        pass
    send.conn.commit()


@pytest.mark.parametrize("stale", [at(20), datetime(2024, 5, 1, tzinfo=UTC)])
def test_a_look_between_two_periods_leaves_the_next_one_to_a_later_look(
    api: Api, send: Sender, stale: datetime
) -> None:
    """March is billed since a look began, or April has ended and is not billed yet."""
    world(api, 500)
    move(api, 2024, 4, 1, 12)
    send(datetime(2024, 4, 1, 12, tzinfo=UTC), tokens=6)
    detect(send)
    for now in (stale, datetime(2024, 4, 1, 13, tzinfo=UTC)):
        progressive.look(send.conn, api.organization.id, now=now, system_now=datetime.now(UTC))
        send.conn.commit()
        billed = [each["invoice_type"] for each in invoices(api)]
        assert billed == (["subscription"] if now == stale else ["progressive_billing", "subscription"])


def test_events_that_are_counted_are_looked_at_without_a_move_of_the_clock(api: Api, send: Sender) -> None:
    world(api, 500)
    send(START, tokens=6)
    detect(send)
    taken = progressive.look(send.conn, api.organization.id, now=START, system_now=datetime.now(UTC))
    send.conn.commit()
    assert (taken, [each["invoice_type"] for each in invoices(api)]) == (1, ["progressive_billing"])


def test_a_look_that_comes_late_does_not_count_a_period_twice(api: Api, send: Sender) -> None:
    """60.00 of March are billed in April: a look that began in March and waited sees them once, not 120.00."""
    world(api, 10_000)
    use(api, send, 60, at(6))
    move(api, 2024, 4, 1, 12)
    row = subscriptions.active(api.conn, api.organization.id, "sub")
    assert row is not None
    progressive.bill_reached(api.conn, [row], now=at(20))
    api.conn.commit()
    assert [each["invoice_type"] for each in invoices(api)] == ["subscription"]


def test_twenty_looks_at_once_make_one_invoice(api: Api, dsn: str, send: Sender) -> None:
    world(api, 500, {"amount_cents": 300, "recurring": True})
    send(START, tokens=9)
    row = subscriptions.active(api.conn, api.organization.id, "sub")
    assert row is not None
    failures: list[BaseException] = []

    def look() -> None:
        try:
            with pool.connection() as conn:
                progressive.bill_reached(conn, [row], now=START)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(20)]
    with open_pool(dsn, size=20, name="looks") as pool:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    (made,) = invoices(api)
    applied = api.get(f"/invoices/{made['lago_id']}")["invoice"]["applied_usage_thresholds"]
    assert {each["usage_threshold"]["amount_cents"] for each in applied} == {300, 500}
    assert made["fees_amount_cents"] == 900
