"""Subscriptions over the API: semantics-billing.md sections 3.1 to 3.4 and 11.3."""

from datetime import UTC, datetime
from typing import Any

import pytest

from permille.store import organizations
from tests.api.conftest import Api
from tests.api.test_drafts import move

LAGO_FIELDS = {
    "lago_id", "external_id", "lago_customer_id", "external_customer_id", "billing_entity_code", "name",
    "plan_code", "plan_amount_cents", "plan_amount_currency", "status", "billing_time", "subscription_at",
    "started_at", "trial_ended_at", "ending_at", "terminated_at", "canceled_at", "activated_at", "created_at",
    "previous_plan_code", "next_plan_code", "downgrade_plan_date", "current_billing_period_started_at",
    "current_billing_period_ending_at", "on_termination_credit_note", "on_termination_invoice",
    "progressive_billing_disabled", "consolidate_invoice", "purchase_order_number", "cancellation_reason",
    "payment_method", "entitlements", "usage_threshold", "applicable_usage_thresholds",
    "applied_invoice_custom_sections", "activation_rules",
}  # fmt: skip


@pytest.fixture
def api(api: Api) -> Api:
    api.plan("pro", amount_cents=3_100)
    api.plan("max", amount_cents=9_900)
    return api


def due(api: Api, external_id: str = "sub"):
    """(next_billing_at, activates_at, ends_at), as texts."""
    row = api.row(
        "select next_billing_at, activates_at, ends_at from subscription where external_id = %(id)s"
        " and organization_id = %(organization)s order by created_at desc limit 1",
        id=external_id,
    )
    return tuple(at and at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") for at in row)


def at(api: Api, *when: Any) -> None:
    """Move the organization's clock without running what is due."""
    organizations.set_clock(
        api.conn, organization_id=api.organization.id, now=datetime(*when).replace(tzinfo=UTC)
    )
    api.conn.commit()


def test_a_subscription_runs_at_once_and_makes_its_customer(api: Api):
    made = api.subscribe(name="Mine")
    shown = api.get("/subscriptions/sub")["subscription"]
    assert shown == made
    assert set(made) == {*LAGO_FIELDS, "plan"}
    assert made["plan"]["code"] == "pro"
    assert (made["status"], made["billing_time"], made["name"]) == ("active", "calendar", "Mine")
    assert made["started_at"] == "2024-03-05T10:00:00.000Z"
    assert made["subscription_at"] == made["created_at"] == made["activated_at"] == "2024-03-05T10:00:00Z"
    assert made["current_billing_period_started_at"] == "2024-03-05T10:00:00Z"
    assert made["current_billing_period_ending_at"] == "2024-03-31T23:59:59Z"
    assert (made["on_termination_credit_note"], made["on_termination_invoice"]) == (None, "generate")
    assert due(api) == ("2024-04-01T00:00", None, None)
    assert api.get("/customers/cus")["customer"]["currency"] == "EUR"
    (listed,) = api.get("/subscriptions")["subscriptions"]
    assert listed == {name: made[name] for name in LAGO_FIELDS}


def test_the_same_plan_again_changes_nothing(api: Api):
    first = api.subscribe(name="A")
    assert api.subscribe(name="B", billing_time="anniversary") == first
    assert api.row("select count(*) from subscription where organization_id = %(organization)s") == (1,)


def test_a_dearer_plan_takes_over_at_once(api: Api):
    first = api.subscribe(name="A")
    second = api.subscribe(plan="max", name="B", billing_time="anniversary")
    assert second["lago_id"] != first["lago_id"]
    assert (second["status"], second["name"], second["billing_time"]) == ("active", "B", "calendar")
    assert (second["previous_plan_code"], second["next_plan_code"]) == ("pro", None)
    old = api.get("/subscriptions/sub", status="terminated")["subscription"]
    assert (old["lago_id"], old["next_plan_code"]) == (first["lago_id"], "max")


def test_a_cheaper_plan_waits_for_the_end_of_the_period(api: Api):
    first = api.subscribe(plan="max")
    again = api.subscribe(plan="pro", name="later")
    assert (again["lago_id"], again["status"], again["plan_code"]) == (first["lago_id"], "active", "max")
    assert (again["next_plan_code"], again["downgrade_plan_date"]) == ("pro", "2024-04-01")
    (waiting,) = api.get("/subscriptions", status="pending")["subscriptions"]
    assert (waiting["plan_code"], waiting["name"], waiting["started_at"]) == ("pro", "later", None)
    api.subscribe(plan="pro", name="sooner")
    (waiting,) = api.get("/subscriptions", status="pending")["subscriptions"]
    assert waiting["name"] == "sooner", "another terms takes the place of the first"
    api.put("/test_clock", {"test_clock": {"now": "2024-04-01T00:00:00Z"}})
    running = api.get("/subscriptions/sub")["subscription"]
    assert (running["lago_id"], running["started_at"]) == (waiting["lago_id"], "2024-04-01T00:00:00.000Z")
    assert running["previous_plan_code"] == "max"


def test_an_upgrade_and_an_end_call_off_the_downgrade(api: Api):
    api.plan("top", amount_cents=1_000_000)
    api.subscribe(plan="max")
    api.subscribe(plan="pro")
    api.subscribe(plan="top")
    assert api.get("/subscriptions", status="pending")["subscriptions"] == []
    api.subscribe(plan="pro")
    api.delete("/subscriptions/sub")
    assert api.get("/subscriptions", status="pending")["subscriptions"] == []


def test_a_downgrade_that_a_new_amount_makes_an_upgrade_happens_at_once(api: Api):
    before = api.subscribe(plan="max")
    api.subscribe(plan="pro")
    api.put("/plans/pro", {"plan": {"amount_cents": 9_899}})
    assert api.get("/subscriptions/sub")["subscription"]["plan_code"] == "max"
    api.put("/plans/pro", {"plan": {"amount_cents": 9_900}})
    running = api.get("/subscriptions/sub")["subscription"]
    assert (running["plan_code"], running["status"]) == ("pro", "active")
    assert running["lago_id"] != before["lago_id"]
    (ended,) = api.get("/subscriptions", **{"status[]": "terminated"})["subscriptions"]
    assert (ended["lago_id"], ended["next_plan_code"]) == (before["lago_id"], "pro")


def test_a_downgrade_is_called_off_once_the_running_plan_costs_no_more(api: Api):
    """Who asked for less does not come to pay more than now."""
    api.subscribe("own", plan="max")
    api.subscribe("own", plan="pro")
    api.subscribe(plan="max")
    api.subscribe(plan="pro")
    api.put("/subscriptions/own", {"subscription": {"plan_overrides": {"amount_cents": 3_000}}})
    (waiting,) = api.get("/subscriptions", status="pending")["subscriptions"]
    assert waiting["external_id"] == "sub"
    api.put("/plans/max", {"plan": {"amount_cents": 3_101}})
    assert len(api.get("/subscriptions", status="pending")["subscriptions"]) == 1
    api.put("/plans/max", {"plan": {"amount_cents": 3_100}})
    for name in ("own", "sub"):
        running = api.get(f"/subscriptions/{name}")["subscription"]
        assert (running["plan_code"], running["next_plan_code"]) == ("max", None)
    assert len(api.get("/subscriptions", **{"status[]": "canceled"})["subscriptions"]) == 2


def test_a_downgrade_moves_with_the_timezone(api: Api):
    api.subscribe(plan="max")
    api.subscribe(plan="pro")
    api.post("/customers", {"customer": {"external_id": "cus", "timezone": "America/Los_Angeles"}})
    at = api.row(
        "select activates_at from subscription where status = 'pending' and organization_id = %(organization)s"
    )
    assert at[0] == datetime(2024, 4, 1, 7, tzinfo=UTC)


def test_deleting_the_plan_of_a_downgrade_calls_it_off(api: Api):
    api.subscribe(plan="max")
    api.subscribe(plan="pro")
    api.delete("/plans/pro")
    shown = api.get("/subscriptions/sub")["subscription"]
    assert (shown["plan_code"], shown["next_plan_code"]) == ("max", None)


def test_a_pending_subscription_only_swaps_its_plan(api: Api):
    first = api.subscribe(subscription_at="2024-03-09T00:00:00Z", name="A")
    second = api.subscribe(plan="max", name="B")
    assert (second["lago_id"], second["plan_code"], second["name"]) == (first["lago_id"], "max", "B")
    assert second["status"] == "pending"


def test_an_external_id_belongs_to_one_customer(api: Api):
    api.subscribe()
    wanted = {"external_customer_id": "other", "plan_code": "pro", "external_id": "sub"}
    assert api.details("POST", "/subscriptions", {"subscription": wanted}) == {
        "external_id": ["value_already_exist"]
    }
    assert api.code(404, "GET", "/customers/other") == "customer_not_found"


def test_every_bad_field_is_reported_at_once(api: Api):
    wanted: dict[str, Any] = {
        "external_customer_id": "",
        "external_id": None,
        "billing_time": "lunar",
        "subscription_at": "yesterday",
        "ending_at": "2024-03-05T23:00:00Z",
        "on_termination_invoice": "maybe",
        "usage_thresholds": [{}],
    }
    assert api.details("POST", "/subscriptions", {"subscription": wanted}) == {
        "external_customer_id": ["value_is_mandatory"],
        "external_id": ["value_is_mandatory"],
        "billing_time": ["value_is_invalid"],
        "subscription_at": ["invalid_date"],
        "ending_at": ["invalid_date"],
        "on_termination_invoice": ["invalid_value"],
        "usage_thresholds": ["missing_amount_cents"],
    }


def test_an_unknown_plan_is_not_found_and_makes_no_customer(api: Api):
    wanted = {"subscription": {"external_customer_id": "new", "plan_code": "none", "external_id": "s"}}
    assert api.code(404, "POST", "/subscriptions", wanted) == "plan_not_found"
    assert api.code(404, "GET", "/customers/new") == "customer_not_found"


@pytest.mark.parametrize(
    ("timezone", "subscription_at", "status", "expected"),
    [
        ("UTC", "2024-03-05T23:00:00Z", "active", ("2024-04-01T00:00", None, None)),
        ("UTC", "2024-03-06T00:00:00Z", "pending", (None, "2024-03-06T00:00", None)),
        ("UTC", "2024-02-10", "active", ("2024-04-01T00:00", None, None)),
        ("Asia/Tokyo", "2024-03-05T15:00:00Z", "pending", (None, "2024-03-05T15:00", None)),
        ("Asia/Tokyo", "2024-03-05T14:00:00Z", "active", ("2024-03-31T15:00", None, None)),
        # the 6th at 08:00 UTC is still the 5th in Los Angeles at 00:00
        ("America/Los_Angeles", "2024-03-06T07:59:00Z", "active", ("2024-04-01T07:00", None, None)),
    ],
)
def test_the_customers_day_decides_when_it_starts(api: Api, timezone, subscription_at, status, expected):
    api.customer(timezone=timezone)
    assert api.subscribe(subscription_at=subscription_at)["status"] == status
    assert due(api) == expected


@pytest.mark.parametrize(
    ("interval", "billing_time", "subscription_at", "expected"),
    [
        ("weekly", "calendar", "2024-03-05", "2024-03-11T00:00"),
        ("weekly", "anniversary", "2024-03-05", "2024-03-12T00:00"),
        ("monthly", "anniversary", "2024-01-31", "2024-03-31T00:00"),
        ("quarterly", "calendar", "2024-03-05", "2024-04-01T00:00"),
        ("semiannual", "anniversary", "2023-10-07", "2024-04-07T00:00"),
        ("yearly", "calendar", "2024-03-05", "2025-01-01T00:00"),
        # entered on a billing day: that very day bills it
        ("weekly", "anniversary", "2024-02-27", "2024-03-05T00:00"),
        ("monthly", "anniversary", "2024-02-05", "2024-03-05T00:00"),
    ],
)
def test_the_next_billing_follows_the_anchor(api: Api, interval, billing_time, subscription_at, expected):
    api.plan("p", interval=interval)
    api.subscribe(plan="p", billing_time=billing_time, subscription_at=subscription_at)
    assert due(api)[0] == expected


def test_a_yearly_plan_with_monthly_usage_is_due_monthly(api: Api):
    api.plan("p", interval="yearly", bill_charges_monthly=True)
    made = api.subscribe(plan="p")
    assert due(api)[0] == "2024-04-01T00:00"
    assert made["current_billing_period_ending_at"] == "2024-03-31T23:59:59Z"


def test_the_end_of_a_trial_is_due(api: Api):
    api.plan("p", pay_in_advance=True, trial_period=10)
    api.subscribe(plan="p")
    assert due(api)[0] == "2024-03-15T10:00"


def test_a_change_of_timezone_moves_what_is_due(api: Api):
    api.customer(timezone="Asia/Tokyo")
    api.subscribe(ending_at="2024-06-01T00:00:00Z")
    assert due(api) == ("2024-03-31T15:00", None, "2024-05-31T15:00")
    api.customer(timezone="America/Los_Angeles")
    assert due(api) == ("2024-04-01T07:00", None, "2024-05-31T07:00")
    api.customer(timezone=None)
    assert due(api) == ("2024-04-01T00:00", None, "2024-06-01T00:00")
    api.put("/organizations", {"organization": {"timezone": "Europe/Paris"}})
    assert due(api) == ("2024-03-31T22:00", None, "2024-05-31T22:00")


def bill_until(api: Api, end: str) -> None:
    api.conn.execute(
        "update subscription set charges_billed_until = %s where organization_id = %s",
        [end, api.organization.id],
    )


def test_what_is_already_billed_is_not_due_again_after_a_change_of_timezone(api: Api):
    api.customer(timezone="Asia/Tokyo")
    api.subscribe(subscription_at="2024-01-10")
    bill_until(api, "2024-02-29T15:00Z")
    at(api, 2024, 2, 29, 20)
    api.customer(timezone="America/Los_Angeles")
    assert due(api)[0] == "2024-03-01T08:00"
    bill_until(api, "2024-03-01T08:00Z")
    at(api, 2024, 3, 1, 9)
    api.customer(timezone="Asia/Tokyo")
    assert due(api)[0] == "2024-03-31T15:00"


def test_ending_at_is_a_later_day(api: Api):
    made = api.subscribe(ending_at="2024-05-01T12:00:00Z")
    assert made["ending_at"] == "2024-05-01T12:00:00Z"
    assert due(api)[2] == "2024-05-01T00:00"
    after = api.put("/subscriptions/sub", {"subscription": {"ending_at": None}})["subscription"]
    assert (after["ending_at"], due(api)[2]) == (None, None)
    wanted = {"subscription": {"ending_at": "2024-03-05T23:59:59Z"}}
    assert api.details("PUT", "/subscriptions/sub", wanted) == {"ending_at": ["invalid_date"]}


def test_a_pending_subscription_is_moved_and_starts(api: Api):
    api.subscribe(subscription_at="2024-03-20T00:00:00Z")
    assert api.code(404, "GET", "/subscriptions/sub") == "subscription_not_found"
    moved = api.put("/subscriptions/sub", {"subscription": {"subscription_at": "2024-03-25T06:00:00Z"}})
    assert moved["subscription"]["status"] == "pending"
    assert moved["subscription"]["payment_method"] == {
        "payment_method_id": None,
        "payment_method_type": "provider",
    }
    assert due(api) == (None, "2024-03-25T00:00", None)
    assert api.get("/subscriptions/sub", status="pending")["subscription"]["started_at"] is None
    past = api.put("/subscriptions/sub", {"subscription": {"subscription_at": "2024-02-25T06:00:00Z"}})
    assert past["subscription"]["status"] == "active"
    assert past["subscription"]["started_at"] == "2024-02-25T06:00:00.000Z"
    ignored = api.put("/subscriptions/sub", {"subscription": {"subscription_at": "2024-01-01", "name": "N"}})
    assert ignored["subscription"]["subscription_at"] == "2024-02-25T06:00:00Z"
    assert ignored["subscription"]["name"] == "N"


def test_a_canceled_subscription(api: Api):
    api.subscribe(subscription_at="2024-03-20T00:00:00Z")
    assert api.code(404, "DELETE", "/subscriptions/sub") == "subscription_not_found"
    gone = api.delete("/subscriptions/sub", status="pending")["subscription"]
    assert (gone["status"], gone["canceled_at"]) == ("canceled", "2024-03-05T10:00:00Z")
    assert due(api) == (None, None, None)


def test_termination_and_a_new_start_after_it(api: Api):
    api.subscribe(subscription_at="2024-02-01T00:00:00Z")
    gone = api.delete("/subscriptions/sub", on_termination_credit_note="refund")["subscription"]
    assert (gone["status"], gone["terminated_at"]) == ("terminated", "2024-03-05T10:00:00Z")
    assert gone["on_termination_credit_note"] is None
    assert gone["current_billing_period_started_at"] is None
    assert due(api) == (None, None, None)
    assert api.get("/subscriptions")["subscriptions"] == []
    assert api.get("/subscriptions/sub", status="terminated")["subscription"]["lago_id"] == gone["lago_id"]
    renamed = api.put("/subscriptions/sub", {"subscription": {"name": "Old"}})["subscription"]
    assert (renamed["name"], renamed["status"]) == ("Old", "terminated")
    order = {"subscription": {"purchase_order_number": "1"}}
    assert api.code(405, "PUT", "/subscriptions/sub", order) == "purchase_order_number_not_editable"
    at(api, 2024, 3, 9)
    again = api.subscribe(subscription_at="2024-02-01T00:00:00Z")
    assert again["lago_id"] != gone["lago_id"]
    assert again["started_at"] == "2024-03-05T10:00:00.000Z"


@pytest.mark.parametrize("day", [4, 5])
def test_what_an_end_has_billed_is_not_of_the_next_start_though_that_is_dated_before_it(api: Api, day: int):
    """On the very day of the end too."""
    api.subscribe(subscription_at="2024-03-04T00:00:00Z")
    api.delete("/subscriptions/sub")
    at(api, 2024, 3, 5, 11)
    again = api.subscribe(subscription_at=f"2024-03-0{day}T00:00:00Z")
    assert again["started_at"] == "2024-03-05T10:00:00.000Z"


def test_termination_options(api: Api):
    api.subscribe()
    for option in ("on_termination_credit_note", "on_termination_invoice"):
        assert api.details("DELETE", "/subscriptions/sub", None, **{option: "no"}) == {
            option: ["invalid_value"]
        }
    gone = api.delete("/subscriptions/sub", on_termination_invoice="skip")["subscription"]
    assert gone["on_termination_invoice"] == "skip"


def test_a_plan_in_advance_keeps_what_happens_to_its_fee(api: Api):
    api.plan("adv", pay_in_advance=True)
    assert api.subscribe(plan="adv")["on_termination_credit_note"] == "credit"
    changed = {"on_termination_credit_note": "refund", "consolidate_invoice": False}
    after = api.put("/subscriptions/sub", {"subscription": changed})["subscription"]
    assert (after["on_termination_credit_note"], after["consolidate_invoice"]) == ("refund", False)


def test_the_list_is_narrowed(api: Api):
    api.subscribe("a")
    api.subscribe("b", plan="max", subscription_at="2024-02-01")
    api.subscribe("c", subscription_at="2024-04-01")
    api.subscribe("d", external_customer_id="other")
    api.delete("/subscriptions/a")

    def found(**params):
        return [row["external_id"] for row in api.get("/subscriptions", **params)["subscriptions"]]

    assert found() == ["d", "b"]
    assert found(**{"status[]": ["pending", "terminated"]}) == ["c", "a"]
    assert found(**{"status[]": "weird"}) == ["c", "d", "a", "b"] or found(**{"status[]": "weird"}) == [
        "c",
        "a",
        "d",
        "b",
    ]
    assert found(plan_code="max") == ["b"]
    assert found(external_customer_id="other") == ["d"]
    assert found(currency="USD") == []
    rows = api.get("/customers/cus/subscriptions", **{"status[]": "pending"})["subscriptions"]
    assert [row["external_id"] for row in rows] == ["c"]
    assert api.code(404, "GET", "/customers/none/subscriptions") == "customer_not_found"


def test_deleting_a_plan_ends_its_subscriptions(api: Api):
    api.subscribe("a")
    api.subscribe("b", subscription_at="2024-04-01")
    api.delete("/plans/pro")
    assert api.get("/subscriptions/a", status="terminated")["subscription"]["plan_code"] == "pro"
    assert api.get("/subscriptions/b", status="canceled")["subscription"]["status"] == "canceled"
    wanted = {"subscription": {"external_customer_id": "cus", "plan_code": "pro", "external_id": "z"}}
    assert api.code(404, "POST", "/subscriptions", wanted) == "plan_not_found"


def test_subscriptions_are_the_organizations_own(api: Api, stranger: Api):
    api.subscribe()
    assert stranger.code(404, "GET", "/subscriptions/sub") == "subscription_not_found"
    assert stranger.code(404, "DELETE", "/subscriptions/sub") == "subscription_not_found"
    stranger.plan()
    stranger.subscribe()
    assert api.get("/subscriptions")["meta"]["total_count"] == 1


@pytest.mark.parametrize(
    ("plan", "fields", "invoices"),
    [
        ({"pay_in_advance": True}, {}, 1),
        ({"pay_in_advance": True}, {"subscription_at": "2024-03-05T23:00:00Z"}, 1),
        ({"pay_in_advance": True}, {"subscription_at": "2024-03-04T23:00:00Z"}, 0),
        ({"pay_in_advance": True}, {"subscription_at": "2024-03-06T00:00:00Z"}, 0),
        ({"pay_in_advance": True, "trial_period": 3}, {}, 0),
        ({"pay_in_advance": False}, {}, 0),
    ],
)
def test_what_is_paid_in_advance_is_billed_when_it_starts_today(api: Api, plan, fields, invoices):
    api.plan("p", amount_cents=1_000, **plan)
    api.subscribe(plan="p", **fields)
    assert invoices_of(api) == invoices


def invoices_of(api: Api) -> int:
    (count,) = api.row("select count(*) from invoice where organization_id = %(organization)s")
    return count


@pytest.mark.parametrize(("option", "invoices"), [("generate", 1), ("skip", 0), (None, 1)])
def test_a_termination_bills_what_is_still_owed(api: Api, option, invoices):
    api.subscribe()
    at(api, 2024, 3, 9)
    api.delete("/subscriptions/sub", **({"on_termination_invoice": option} if option else {}))
    assert invoices_of(api) == invoices


def test_what_a_subscription_says_about_its_end_counts(api: Api):
    api.subscribe(on_termination_invoice="skip")
    at(api, 2024, 3, 9)
    assert api.delete("/subscriptions/sub")["subscription"]["on_termination_invoice"] == "skip"
    assert invoices_of(api) == 0


def test_a_pending_subscription_moved_to_today_is_billed(api: Api):
    api.plan("p", amount_cents=1_000, pay_in_advance=True)
    api.subscribe(plan="p", subscription_at="2024-03-20")
    assert invoices_of(api) == 0
    api.put("/subscriptions/sub", {"subscription": {"subscription_at": "2024-03-05T18:00:00Z"}})
    assert invoices_of(api) == 1


def test_the_end_of_a_subscription_is_announced_twice(api: Api) -> None:
    """The last day is 30 June in Tokyo: it is announced on 16 May and 15 June there."""

    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/"}})
    api.customer(timezone="Asia/Tokyo")
    api.subscribe(ending_at="2024-06-29T20:00:00Z")
    api.subscribe("endless")

    def announced() -> list[str]:
        rows = "select w.created_at from webhook w where w.webhook_type = 'subscription.termination_alert'"
        api.conn.rollback()
        found = api.conn.execute(f"{rows} and w.organization_id = %s order by 1", [api.organization.id])
        return [f"{at.astimezone(UTC):%m-%d %H:%M}" for (at,) in found]

    move(api, 2024, 5, 15, 14)
    assert announced() == []
    move(api, 2024, 5, 15, 15)
    assert announced() == ["05-15 15:00"]
    api.put("/subscriptions/sub", {"subscription": {"ending_at": "2024-07-09T20:00:00Z"}})
    move(api, 2024, 7, 11)
    assert announced() == ["05-15 15:00", "05-25 15:00", "06-24 15:00"]
    assert api.call("GET", "/subscriptions/sub").status_code == 404
