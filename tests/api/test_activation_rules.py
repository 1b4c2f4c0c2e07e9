"""Subscriptions that run once their first invoice is paid, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.invoice.payment import PaymentStatus
from permille.store import invoices as invoice_store
from permille.usecases import payments

from .conftest import START, Api, charge
from .test_amendments import Sender, send
from .test_drafts import move
from .test_wallets import open_wallet

__all__ = ["send"]

RULE = {"type": "payment", "timeout_hours": 48}


def gate(api: Api, external_id: str = "sub", rule: Any = RULE, **fields: Any) -> Any:
    return api.subscribe(external_id, activation_rules=[rule], **fields)


@pytest.fixture
def sold(api: Api) -> Api:
    """31.00 a month in advance: 27.00 for March from the 5th on."""
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer()
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    return api


def now_of(api: Api, external_id: str = "sub") -> Any:
    """The newest row of a subscription, whatever its status."""
    statuses = ["pending", "incomplete", "active", "terminated", "canceled"]
    found = api.get("/subscriptions", **{"status[]": statuses})["subscriptions"]
    return max(
        (each for each in found if each["external_id"] == external_id), key=lambda each: each["created_at"]
    )


def pay(api: Api, subscription: Any, amount_cents: int = 2_700) -> Any:
    (rule,) = subscription["activation_rules"]
    body = {"invoice_id": rule["lago_invoice_id"], "amount_cents": amount_cents, "reference": "bank"}
    return api.post("/payments", {"payment": body})["payment"]


def webhooks(api: Api) -> list[str]:
    api.conn.rollback()
    rows = api.conn.execute(
        "select webhook_type from webhook where organization_id = %s and webhook_type ~ '^(subscription|invoice)'"
        " order by webhook_type",
        [api.organization.id],
    ).fetchall()
    return [name for (name,) in rows]


def shown(api: Api) -> list[tuple[str, int, int]]:
    rows = api.get("/invoices")["invoices"]
    return sorted(
        (each["issuing_date"], each["fees_amount_cents"], each["total_amount_cents"]) for each in rows
    )


def test_a_subscription_runs_once_its_first_invoice_is_paid(sold: Api, send: Sender) -> None:
    api = sold
    api.customer(billing_configuration={"invoice_grace_period": 3})
    made = gate(api)
    (rule,) = made["activation_rules"]
    assert (made["status"], made["activated_at"], made["started_at"] is not None) == (
        "incomplete",
        None,
        True,
    )
    assert (rule["type"], rule["timeout_hours"], rule["status"]) == ("payment", 48, "pending")
    assert rule["expires_at"] == "2024-03-07T10:00:00Z"
    assert (shown(api), webhooks(api)) == ([], ["subscription.incomplete"])
    assert api.code(404, "GET", f"/invoices/{rule['lago_invoice_id']}") == "invoice_not_found"
    again = {"external_customer_id": "cus", "plan_code": "pro", "external_id": "sub"}
    refused = api.details("POST", "/subscriptions", {"subscription": again})
    assert refused == {"subscription": ["subscription_incomplete"]}
    assert (
        api.code(405, "PUT", "/subscriptions/sub", {"subscription": {"name": "x"}})
        == "subscription_incomplete"
    )
    assert api.code(404, "GET", "/subscriptions/sub") == "subscription_not_found"
    assert api.get("/subscriptions/sub", status="incomplete")["subscription"]["lago_id"] == made["lago_id"]

    move(api, 2024, 3, 6, 9)
    part = {"invoice_id": rule["lago_invoice_id"], "amount_cents": 700, "reference": "bank"}
    assert api.details("POST", "/payments", {"payment": part}) == {"amount_cents": ["invalid_amount"]}
    assert now_of(api)["status"] == "incomplete"
    pay(api, made)
    running = api.get("/subscriptions/sub")["subscription"]
    assert running["activated_at"] == "2024-03-06T09:00:00Z"
    assert running["started_at"] == made["started_at"]
    assert running["activation_rules"][0]["status"] == "satisfied"
    assert shown(api) == [("2024-03-06", 2_700, 2_700)]
    (invoice,) = api.get("/invoices")["invoices"]
    assert (invoice["status"], invoice["payment_status"]) == ("finalized", "succeeded")
    assert webhooks(api) == sorted(
        [
            "subscription.incomplete",
            "invoice.created",
            "subscription.started",
            "invoice.payment_status_updated",
        ]
    )
    move(api, 2024, 4, 1, 1)
    assert [fees for _, fees, _ in shown(api)] == [2_700, 3_100]


def test_what_is_used_before_the_payment_counts_and_what_was_due_by_then_is_billed(
    api: Api, send: Sender
) -> None:
    api.plan(charges=[charge(api.metric())], amount_cents=3_100, pay_in_advance=True)
    api.customer()
    made = gate(api, rule={"type": "payment"})
    assert made["activation_rules"][0]["expires_at"] is None
    move(api, 2024, 3, 20)
    send(datetime(2024, 3, 6, 12, tzinfo=UTC), tokens=5)
    move(api, 2024, 4, 3)
    pay(api, made)
    move(api, 2024, 4, 3, 1)
    assert [fees for _, fees, _ in shown(api)] == [3_100 + 500, 2_700]
    move(api, 2024, 5, 1, 1)
    assert sorted(fees for _, fees, _ in shown(api)) == [2_700, 3_100, 3_600]


def rests(api: Api) -> tuple[int, int, str]:
    """What is left of the wallet, of the credit note and of the coupon."""
    (wallet,) = api.get("/wallets")["wallets"]
    (note,) = api.get("/credit_notes")["credit_notes"]
    coupons = api.get("/applied_coupons", external_customer_id="cus")["applied_coupons"]
    return wallet["balance_cents"], note["balance_amount_cents"], coupons[0]["status"]


@pytest.mark.parametrize(
    ("ends_by", "reason", "status"),
    [
        ("timeout", "timeout", "expired"),
        ("failure", "payment_failed", "failed"),
        ("delete", None, "declined"),
        ("customer", None, "declined"),
    ],
)
def test_what_an_invoice_took_comes_back_where_it_is_never_paid(
    sold: Api, ends_by: str, reason: str | None, status: str
) -> None:
    """Of 27.00 a coupon takes 5.00, a credit note 3.00 and a wallet 4.00."""
    api = sold
    api.subscribe("other")
    (invoice,) = api.get("/invoices")["invoices"]
    (fee,) = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    note = {"invoice_id": invoice["lago_id"], "credit_amount_cents": 300}
    note["items"] = [{"fee_id": fee["lago_id"], "amount_cents": 300}]
    api.post("/credit_notes", {"credit_note": note})
    open_wallet(api, "4")
    coupon = {"name": "Off", "code": "off", "coupon_type": "fixed_amount", "amount_cents": 500}
    more = {"amount_currency": "EUR", "frequency": "once", "expiration": "no_expiration"}
    api.post("/coupons", {"coupon": {**coupon, **more}})
    api.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "off"}})
    before = rests(api)
    assert before == (400, 300, "active")
    made = gate(api)
    (rule,) = made["activation_rules"]
    assert api.row(
        "select total_amount_cents from invoice where id = %(id)s", id=rule["lago_invoice_id"]
    ) == (1_500,)
    assert rests(api)[:2] == (0, 0)
    if ends_by == "timeout":
        move(api, 2024, 3, 7, 9)
        assert now_of(api)["status"] == "incomplete"
        move(api, 2024, 3, 7, 11)
    elif ends_by == "failure":
        opened = invoice_store.invoices_by_ids(api.conn, [rule["lago_invoice_id"]]).values()
        payments.set_status(api.conn, list(opened), PaymentStatus.FAILED, now=START)
        api.conn.commit()
    elif ends_by == "delete":
        api.delete("/subscriptions/sub", status="incomplete")
    else:
        api.delete("/customers/cus")
        assert webhooks(api).count("subscription.canceled") == 1
        return
    gone = now_of(api)
    assert (gone["status"], gone["cancellation_reason"], gone["started_at"]) == ("canceled", reason, None)
    assert gone["activation_rules"][0]["status"] == status
    assert rests(api) == before
    assert webhooks(api).count("subscription.canceled") == 1
    body = {"invoice_id": rule["lago_invoice_id"], "amount_cents": 1, "reference": "late"}
    assert api.code(404, "POST", "/payments", {"payment": body}) == "invoice_not_found"
    again = gate(api)
    assert (again["status"], again["lago_id"] != made["lago_id"]) == ("incomplete", True)
    pay(api, again, 1_300 if ends_by == "timeout" else 1_500)
    assert api.get("/subscriptions/sub")["subscription"]["lago_id"] == again["lago_id"]


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        ({"pay_in_advance": False}, "not_applicable"),
        ({"pay_in_advance": True, "trial_period": 5}, "not_applicable"),
        ({"pay_in_advance": True, "amount_cents": 0}, "satisfied"),
    ],
)
def test_a_subscription_of_which_nothing_is_to_be_paid_runs_at_once(api: Api, plan: Any, status: str) -> None:
    api.plan("pro", **{"amount_cents": 3_100, **plan})
    api.customer()
    made = gate(api)
    assert (made["status"], made["activation_rules"][0]["status"]) == ("active", status)
    assert made["activated_at"] is not None


def test_what_credits_pay_whole_runs_at_once(sold: Api) -> None:
    open_wallet(sold, "50")
    made = gate(sold)
    assert (made["status"], made["activation_rules"][0]["status"]) == ("active", "satisfied")
    assert shown(sold) == [("2024-03-05", 2_700, 0)]


def test_one_that_starts_later_waits_from_its_day_on(sold: Api) -> None:
    api = sold
    made = gate(api, subscription_at="2024-03-20T00:00:00Z")
    assert (made["status"], made["activation_rules"][0]["status"]) == ("pending", "inactive")
    changed = {"subscription": {"activation_rules": [{"type": "payment", "timeout_hours": 5}]}}
    after = api.put("/subscriptions/sub", changed)["subscription"]
    assert after["activation_rules"][0]["timeout_hours"] == 5
    move(api, 2024, 3, 20, 2)
    waiting = now_of(api)
    assert (waiting["status"], waiting["activation_rules"][0]["expires_at"]) == (
        "incomplete",
        "2024-03-20T05:00:00Z",
    )
    pay(api, waiting, 1_200)
    assert now_of(api)["status"] == "active"
    assert api.code(405, "PUT", "/subscriptions/sub", changed) == "activation_rules_not_editable"
    gate(api, "next", subscription_at="2024-03-25T00:00:00Z")
    emptied = api.put("/subscriptions/next", {"subscription": {"activation_rules": []}})["subscription"]
    assert emptied["activation_rules"] == []
    move(api, 2024, 3, 25, 2)
    assert now_of(api, "next")["status"] == "active"


def test_rules_that_are_none_are_refused_by_their_field(sold: Api) -> None:
    body = {"external_customer_id": "cus", "plan_code": "pro", "external_id": "sub"}
    for rules, problem in (
        ([{"type": "approval"}], {"type"}),
        ([{"type": "payment", "timeout_hours": -1}], {"timeout_hours"}),
        ([RULE, RULE], {"activation_rules"}),
        ("payment", {"activation_rules"}),
    ):
        refused = sold.details(
            "POST", "/subscriptions", {"subscription": {**body, "activation_rules": rules}}
        )
        assert refused.keys() == problem
