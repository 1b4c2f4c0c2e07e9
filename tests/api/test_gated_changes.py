"""Changes of plan that take over once they are paid: until then the old plan goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from .conftest import Api, charge
from .test_activation_rules import RULE, gate, now_of, pay, shown, webhooks
from .test_amendments import Sender, send
from .test_drafts import move

__all__ = ["send"]

FOREVER = {"type": "payment"}


@pytest.fixture
def running(api: Api) -> Api:
    """1.00 a day and 1.00 a token in March, of which 27.00 are paid from the 5th on; 2.00 and 2.00 on the dearer plan."""
    metric = api.metric()
    api.plan("pro", [charge(metric)], amount_cents=3_100, pay_in_advance=True)
    api.plan("max", [charge(metric, properties={"amount": "2"})], amount_cents=6_200, pay_in_advance=True)
    api.plan("mini", [charge(metric, properties={"amount": "3"})], amount_cents=930, pay_in_advance=True)
    api.customer(currency="EUR")
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    api.subscribe()
    return api


def notes(api: Api) -> list[tuple[str, int]]:
    found = api.get("/credit_notes")["credit_notes"]
    return sorted((each["reason"], each["total_amount_cents"]) for each in found)


def by_status(api: Api) -> dict[str, str]:
    """Status -> plan of the rows of the subscription, of which there is one of each status."""
    api.conn.rollback()
    rows = api.conn.execute(
        "select s.status, p.code from subscription s join plan p on p.id = s.plan_id where s.organization_id = %s",
        [api.organization.id],
    ).fetchall()
    found = dict(rows)
    assert len(found) == len(rows), rows
    return found


def test_an_upgrade_takes_over_once_it_is_paid(running: Api, send: Sender) -> None:
    """22 days of the dearer plan are paid on the 12th, when 20 of them are left; so are 20 of the old one's."""
    api = running
    move(api, 2024, 3, 10, 9)
    made = gate(api, rule=FOREVER, plan="max")
    (rule,) = made["activation_rules"]
    assert (made["status"], made["started_at"], made["plan_code"]) == ("incomplete", None, "max")
    assert (rule["status"], rule["expires_at"]) == ("pending", "2024-04-01T00:00:00Z")
    assert by_status(api) == {"active": "pro", "incomplete": "max"}
    assert shown(api) == [("2024-03-05", 2_700, 2_700)]
    send(datetime(2024, 3, 11, 8, tzinfo=UTC), tokens=4)
    move(api, 2024, 3, 12, 9)
    send(datetime(2024, 3, 11, 8, tzinfo=UTC), tokens=3)
    assert (
        api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"][
            "amount_cents"
        ]
        == 700
    )
    pay(api, made, 4_400)
    after = api.get("/subscriptions/sub")["subscription"]
    assert (after["lago_id"], after["started_at"]) == (made["lago_id"], "2024-03-12T09:00:00.000Z")
    assert (after["activation_rules"][0]["status"], after["previous_plan_code"]) == ("satisfied", "pro")
    assert by_status(api) == {"terminated": "pro", "active": "max"}
    assert notes(api) == [("order_cancellation", 2_000), ("order_change", 400)]
    assert shown(api) == [("2024-03-05", 2_700, 2_700), ("2024-03-12", 700, 0), ("2024-03-12", 4_400, 4_400)]
    send(datetime(2024, 3, 13, 8, tzinfo=UTC), tokens=5)
    move(api, 2024, 4, 1, 1)
    assert shown(api)[-1] == ("2024-04-01", 6_200 + 1_000, 6_200 + 1_000 - 1_700)
    assert {"subscription.incomplete", "subscription.terminated", "subscription.started"} <= set(
        webhooks(api)
    )


def test_days_that_had_passed_are_no_part_of_what_an_end_gives_back(running: Api) -> None:
    """Of 22 days at 2.00 two had passed when they were paid; the plan ends on the 20th, 11 days before they do."""
    api = running
    move(api, 2024, 3, 10, 9)
    made = gate(api, rule=FOREVER, plan="max")
    move(api, 2024, 3, 12, 9)
    pay(api, made, 4_400)
    move(api, 2024, 3, 20, 9)
    api.delete("/subscriptions/sub")
    assert notes(api) == [("order_cancellation", 2_000), ("order_cancellation", 2_200), ("order_change", 400)]


def test_days_that_had_passed_come_back_also_of_a_plan_with_a_trial_that_is_over(running: Api) -> None:
    api = running
    api.plan("tried", amount_cents=6_200, pay_in_advance=True, trial_period=2)
    move(api, 2024, 3, 10, 9)
    made = gate(api, rule=FOREVER, plan="tried")
    move(api, 2024, 3, 12, 9)
    pay(api, made, 4_400)
    assert notes(api) == [("order_cancellation", 2_000), ("order_change", 400)]


@pytest.mark.parametrize("ends_by", ["period", "delete", "old", "customer"])
def test_the_old_plan_goes_on_where_the_new_one_is_never_paid(running: Api, ends_by: str) -> None:
    api = running
    api.post(
        "/wallets",
        {
            "wallet": {
                "external_customer_id": "cus",
                "rate_amount": "1",
                "currency": "EUR",
                "granted_credits": "6",
            }
        },
    )
    move(api, 2024, 3, 10, 9)
    made = gate(api, plan="max", rule=FOREVER if ends_by == "period" else RULE)
    (rule,) = made["activation_rules"]
    rest = "select balance_cents from wallet where organization_id = %(organization)s"
    assert api.row(rest) == (0,)
    assert rule["status"] == "pending"
    if ends_by == "period":
        move(api, 2024, 4, 1)
    elif ends_by == "delete":
        api.delete("/subscriptions/sub", status="incomplete")
    elif ends_by == "old":
        api.delete("/subscriptions/sub")
    else:
        api.delete("/customers/cus")
    old = "terminated" if ends_by in ("old", "customer") else "active"
    assert by_status(api) == {old: "pro", "canceled": "max"}
    assert webhooks(api).count("subscription.canceled") == 1
    if ends_by == "customer":
        return
    gone = now_of(api)
    assert (gone["cancellation_reason"], gone["started_at"]) == (
        "timeout" if ends_by == "period" else None,
        None,
    )
    expected = 0 if ends_by == "period" else 600
    assert api.row(rest) == (expected,), "April is paid with it by then"
    if old == "active":
        move(api, 2024, 4, 1, 1)
        assert [fees for _, fees, _ in shown(api)] == [2_700, 3_100]
        gate(api, plan="max")


def test_a_downgrade_that_has_to_be_paid_takes_over_then(running: Api) -> None:
    """Of April's 30 days the cheaper plan runs 28; the old one was billed for all of April meanwhile."""
    api = running
    move(api, 2024, 3, 10, 9)
    assert gate(api, plan="mini", rule=FOREVER)["plan_code"] == "pro"
    shorter = {"subscription": {"activation_rules": [{**FOREVER, "timeout_hours": 72}]}}
    changed = api.put("/subscriptions/sub", shorter, status="pending")["subscription"]
    assert changed["activation_rules"][0]["timeout_hours"] == 72
    assert by_status(api) == {"active": "pro", "pending": "mini"}
    move(api, 2024, 4, 1, 1)
    waiting = now_of(api)
    assert (waiting["status"], waiting["activation_rules"][0]["expires_at"]) == (
        "incomplete",
        "2024-04-04T00:00:00Z",
    )
    assert [fees for _, fees, _ in shown(api)] == [2_700, 3_100]
    move(api, 2024, 4, 3, 15)
    pay(api, waiting, 930)
    assert by_status(api) == {"terminated": "pro", "active": "mini"}
    assert notes(api) == [("order_cancellation", 2_893), ("order_change", 62)]
    move(api, 2024, 5, 1, 1)
    assert shown(api)[-1] == ("2024-05-01", 930, 0)


@pytest.mark.parametrize(
    ("plan", "status"),
    [({"pay_in_advance": False}, "not_applicable"), ({"pay_in_advance": True}, "satisfied")],
)
def test_a_change_of_which_nothing_is_to_be_paid_is_made_at_once(
    running: Api, plan: Any, status: str
) -> None:
    api = running
    api.plan("other", amount_cents=6_200, **plan)
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "granted_credits": "90"}
    api.post("/wallets", {"wallet": wallet})
    move(api, 2024, 3, 10, 9)
    made = gate(api, plan="other")
    assert (made["status"], made["activation_rules"][0]["status"]) == ("active", status)
    assert made["started_at"] == "2024-03-10T09:00:00.000Z"
    assert by_status(api) == {"terminated": "pro", "active": "other"}
    assert notes(api) == [("order_cancellation", 2_200)]


def test_of_twenty_changes_and_twenty_payments_at_once_one_is_made(running: Api) -> None:
    api = running
    body = {
        "external_customer_id": "cus",
        "plan_code": "max",
        "external_id": "sub",
        "activation_rules": [RULE],
    }

    def together(path: str, body: Any) -> list[int]:
        with ThreadPoolExecutor(20) as threads:
            asked = [threads.submit(api.call, "POST", path, body) for _ in range(20)]
        return sorted(each.result().status_code for each in asked)

    move(api, 2024, 3, 10, 9)
    assert together("/subscriptions", {"subscription": body}) == [200] + [422] * 19
    waiting = now_of(api)
    paid = {
        "invoice_id": waiting["activation_rules"][0]["lago_invoice_id"],
        "amount_cents": 4_400,
        "reference": "x",
    }
    assert together("/payments", {"payment": paid}) == [200] + [422] * 19
    assert by_status(api) == {"terminated": "pro", "active": "max"}
    assert len(api.get("/payments")["payments"]) == 1
    assert notes(api) == [("order_cancellation", 2_200)], (
        "paid on its day, it is billed as one without a rule"
    )


def seats(units: int, amount: str, **fields: Any) -> dict[str, Any]:
    return {
        "add_on_code": "seat",
        "charge_model": "standard",
        "units": units,
        "properties": {"amount": amount},
        "pay_in_advance": True,
        "prorated": True,
        **fields,
    }


def add_seats(api: Api) -> None:
    for code in ("seat", "desk"):
        terms = {"name": code, "code": code, "amount_cents": 100, "amount_currency": "EUR"}
        api.post("/add_ons", {"add_on": terms})


def test_fixed_charges_in_advance_are_credited_for_the_days_before_the_payment(api: Api) -> None:
    """4 seats at 6.20 are 0.80 a day, 3 desks at 3.10 0.30, for 22 days, and a plate of 5.00 is no matter of days.

    Two days pass until the payment. The old plan has 2 seats at 3.10, 0.20 a day, which are paid to the month's end.
    """
    add_seats(api)
    api.plan("pro", fixed_charges=[seats(2, "3.1")])
    desks = seats(3, "3.1", add_on_code="desk")
    plate = seats(1, "5", add_on_code="desk", code="plate", prorated=False)
    api.plan("max", amount_cents=100, fixed_charges=[seats(4, "6.2"), desks, plate])
    api.customer(currency="EUR")
    api.subscribe()
    move(api, 2024, 3, 10, 9)
    waiting = gate(api, rule=FOREVER, plan="max")
    move(api, 2024, 3, 12, 9)
    pay(api, waiting, 22 * (80 - 20 + 30) + 500)
    (note,) = api.get("/credit_notes")["credit_notes"]
    assert note["reason"] == "order_change"
    assert sorted(each["amount_cents"] for each in note["items"]) == [2 * 30, 2 * (80 - 20)]


@pytest.mark.parametrize(
    ("days", "fee", "old", "new"),
    [
        ((10, 12), True, seats(2, "3.1"), seats(4, "6.2")),
        ((7, 29), True, seats(5, "1.73"), seats(7, "2.19")),
        ((11, 11), True, seats(1, "9.99"), seats(3, "0.47")),
        ((6, 30), False, seats(9, "4.44", prorated=False), seats(2, "8.08")),
        ((13, 21), False, seats(3, "2.5"), seats(3, "77.77", prorated=False)),
        ((9, 31), False, seats(3, "2.5", add_on_code="desk"), seats(11, "13.37")),
    ],
)
def test_a_change_that_waits_costs_what_it_costs_made_at_the_payment(
    api: Api, days: tuple[int, int], fee: bool, old: Any, new: Any
) -> None:
    asked, paid = days
    add_seats(api)
    api.plan("pro", amount_cents=310, pay_in_advance=fee, fixed_charges=[old])
    api.plan("max", amount_cents=930, pay_in_advance=fee, fixed_charges=[new])
    for customer in ("cus", "other"):
        api.customer(customer, currency="EUR")
        api.subscribe(customer, external_customer_id=customer)
    move(api, 2024, 3, asked, 9)
    waiting = gate(api, "cus", rule=FOREVER, plan="max")
    move(api, 2024, 3, paid, 9)
    pay(api, waiting, owed_of(api, waiting))
    api.subscribe("other", external_customer_id="other", plan="max")
    assert by_status_of(api, "cus") == by_status_of(api, "other") == {"terminated": "pro", "active": "max"}
    move(api, 2024, 4, 1, 1)
    assert cost(api, "cus") == cost(api, "other")


def by_status_of(api: Api, external_id: str) -> dict[str, str]:
    rows = api.get(
        "/subscriptions", external_customer_id=external_id, **{"status[]": ["active", "terminated"]}
    )
    return {each["status"]: each["plan_code"] for each in rows["subscriptions"]}


def cost(api: Api, customer: str) -> int:
    """What all invoices of a customer come to, less what notes have given back of them."""
    billed = api.get("/invoices", external_customer_id=customer)["invoices"]
    given = api.get("/credit_notes", external_customer_id=customer)["credit_notes"]
    fees: int = sum(each["fees_amount_cents"] for each in billed)
    return fees - sum(each["total_amount_cents"] for each in given)


@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("prorated", [True, False])
def test_units_that_change_while_a_payment_is_awaited_count_from_the_next_period_on(
    api: Api, follows: bool, prorated: bool
) -> None:
    """4 seats in advance and 2 desks in arrears, each at 31.00, or 1.00 a day: of April, and of the days from the 12th on."""
    add_seats(api)
    api.plan("pro")
    desks = seats(2, "31", add_on_code="desk", pay_in_advance=False, prorated=prorated)
    api.plan("max", fixed_charges=[seats(4, "31", prorated=prorated), desks])
    api.customer(currency="EUR")
    if follows:
        api.subscribe()
    move(api, 2024, 3, 10, 9)
    waiting = gate(api, rule=FOREVER, plan="max")
    for code, units in (("seat", 7), ("desk", 5)):
        changed = {"fixed_charge": {"units": units, "apply_units_immediately": True}}
        api.put(f"/plans/max/fixed_charges/{code}", changed)
    move(api, 2024, 3, 12, 9)
    pay(api, waiting, 4 * 22 * 100 if prorated else 4 * 3_100)
    move(api, 2024, 5, 1, 1)
    lines = [
        (invoice["issuing_date"], fee["item"]["code"], fee["units"], fee["amount_cents"])
        for row in api.get("/invoices")["invoices"]
        for invoice in [api.get(f"/invoices/{row['lago_id']}")["invoice"]]
        for fee in invoice["fees"]
        if fee["item"]["type"] == "fixed_charge"
    ]
    days = 20 if follows else 22
    assert sorted(lines) == [
        ("2024-03-12", "seat", "4.0", 4 * 2_200 if prorated else 4 * 3_100),
        ("2024-04-01", "desk", "2.0", 2 * days * 100 if prorated else 2 * 3_100),
        ("2024-04-01", "seat", "7.0", 7 * 3_100),
        ("2024-05-01", "desk", "5.0", 5 * 3_100),
        ("2024-05-01", "seat", "7.0", 7 * 3_100),
    ]


@pytest.mark.parametrize("days", [(10, 12), (7, 29)])
@pytest.mark.parametrize("prorated", [True, False])
def test_units_carried_over_cost_after_a_wait_what_they_cost_without_one(
    api: Api, send: Sender, days: tuple[int, int], prorated: bool
) -> None:
    """A recurring metric that both plans charge in advance."""
    recurring_plans(api, prorated=prorated, cents=930)
    for customer in ("cus", "other"):
        api.customer(customer, currency="EUR")
        api.subscribe(customer, external_customer_id=customer)
        send(datetime(2024, 3, 6, 8, tzinfo=UTC), customer, "seats", seats=4)
    asked, paid = days
    move(api, 2024, 3, asked, 9)
    waiting = gate(api, "cus", rule=FOREVER, plan="max")
    assert of_kinds(api, waiting) == ["subscription"]
    move(api, 2024, 3, paid, 9)
    pay(api, waiting, owed_of(api, waiting))
    api.subscribe("other", external_customer_id="other", plan="max")
    move(api, 2024, 5, 1, 1)
    assert cost(api, "cus") == cost(api, "other")


def test_units_carried_over_are_not_on_the_invoice_of_a_downgrade_that_waits(api: Api, send: Sender) -> None:
    """The old plan goes on and bills April's, so there are none to give back for the days until the payment."""
    recurring_plans(api, prorated=True, cents=155)
    api.customer(currency="EUR")
    api.subscribe()
    send(datetime(2024, 3, 6, 8, tzinfo=UTC), code="seats", seats=4)
    move(api, 2024, 3, 10, 9)
    gate(api, rule=FOREVER, plan="max")
    move(api, 2024, 4, 1, 1)
    waiting = now_of(api)
    assert (waiting["status"], of_kinds(api, waiting)) == ("incomplete", ["subscription"])
    move(api, 2024, 4, 3, 9)
    pay(api, waiting, 155)
    move(api, 2024, 4, 30, 9)
    renewed = [
        each["amount_cents"]
        for each in api.get("/fees", fee_type="charge", per_page=100)["fees"]
        if each["from_date"] >= "2024-04-01"
    ]
    assert renewed == [4 * 300]


def recurring_plans(api: Api, *, prorated: bool, cents: int) -> None:
    metric = api.metric("seats", aggregation_type="sum_agg", field_name="seats", recurring=True)
    for code, amount, fee in (("pro", "3", 310), ("max", "5", cents)):
        recurring = charge(metric, properties={"amount": amount}, pay_in_advance=True, prorated=prorated)
        api.plan(code, [recurring], amount_cents=fee, pay_in_advance=True)


def of_kinds(api: Api, waiting: Any) -> list[str]:
    """The kinds of fees on the invoice that a subscription waits for."""
    (kinds,) = api.row(
        "select array_agg(fee_type) from fee where invoice_id = %(id)s", id=invoice_of(waiting)
    )
    return sorted(kinds)


def owed_of(api: Api, waiting: Any) -> int:
    (owed,) = api.row("select total_amount_cents from invoice where id = %(id)s", id=invoice_of(waiting))
    return int(owed)


def invoice_of(waiting: Any) -> str:
    return str(waiting["activation_rules"][0]["lago_invoice_id"])
