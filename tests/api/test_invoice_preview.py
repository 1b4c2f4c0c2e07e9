"""Previews of invoices: what is previewed is what is billed then, but for ids and numbers, and nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from .conftest import Api, charge
from .test_amendments import Sender
from .test_drafts import move

NUMBERS = frozenset({"number", "sequential_id"})


def bare(value: Any) -> Any:
    """What is shown, without ids and numbers."""
    if isinstance(value, dict):
        return {
            key: bare(each)
            for key, each in value.items()
            if not key.startswith("lago_") and key not in NUMBERS and not _is_number_of_note(value, key)
        }
    return [bare(each) for each in value] if isinstance(value, list) else value


def _is_number_of_note(item: dict[str, Any], key: str) -> bool:
    return item.get("type") == "credit_note" and key in ("code", "name")


def preview(api: Api, **body: Any) -> Any:
    before = stored(api)
    found = api.post("/invoices/preview", {"customer": {"external_id": "cus"}, **body})["invoice"]
    assert stored(api) == before, "nothing is stored"
    return found


def stored(api: Api) -> Any:
    return api.row(
        "select (select count(*) from invoice), (select count(*) from fee), (select count(*) from subscription),"
        " (select count(*) from customer), (select count(*) from credit_note), (select count(*) from webhook),"
        " (select sum(balance_amount_cents) from credit_note)"
    )


def newest(api: Api) -> Any:
    first = api.get("/invoices")["invoices"][0]
    return api.get(f"/invoices/{first['lago_id']}")["invoice"]


@pytest.fixture
def billed(api: Api) -> Api:
    """A customer with taxes and usage that is worth more, and less, than its charge's minimum."""
    for code, rate in (("vat", "20"), ("city", "5.5")):
        api.post("/taxes", {"tax": {"name": code, "code": code, "rate": rate}})
    metric = api.metric()
    api.plan(
        "pro",
        [
            charge(metric, properties={"amount": "0.0137", "grouped_by": ["model"]}, tax_codes=["city"]),
            charge(metric, code="least", properties={"amount": "0.001"}, min_amount_cents=5_000),
        ],
        amount_cents=3_100,
        tax_codes=["vat"],
    )
    api.customer(net_payment_term=14, currency="EUR")
    return api


def test_the_next_invoice_of_two_subscriptions(billed: Api, dsn: str) -> None:
    send = Sender(dsn, billed)
    for name in ("one", "two"):
        billed.subscribe(name)
    send(datetime(2024, 3, 6, tzinfo=UTC), sub="one", tokens=1_234, model="a")
    send(datetime(2024, 3, 7, tzinfo=UTC), sub="one", tokens=99, model="b")
    send.conn.close()
    found = preview(billed, subscriptions={"external_ids": ["one", "two"]})
    assert found["number"].endswith("-DRAFT")
    path = f"/invoices/{found['lago_id']}"
    assert billed.code(404, "GET", path) == "invoice_not_found", "its id leads nowhere"
    assert all(fee["lago_subscription_id"] for fee in found["fees"]), "the subscriptions exist"
    assert [fee["item"]["type"] for fee in found["fees"]].count("charge") == 6
    move(billed, 2024, 4, 1)
    assert bare(found) == bare(newest(billed))


def test_credit_pays_a_previewed_invoice(billed: Api) -> None:
    billed.plan("early", amount_cents=31_000, pay_in_advance=True)
    billed.subscribe("gone", "early")
    billed.subscribe("one")
    billed.delete("/subscriptions/gone")
    found = preview(billed, subscriptions={"external_ids": ["one"]})
    assert found["credit_notes_amount_cents"] == found["sub_total_including_taxes_amount_cents"] > 0
    assert found["credits"][0]["item"]["lago_item_id"], "the note exists"
    move(billed, 2024, 4, 1)
    assert bare(found) == bare(newest(billed))


def test_a_termination_is_paid_with_the_days_that_are_left(billed: Api) -> None:
    billed.plan("early", [charge(billed.metric("calls"))], amount_cents=31_000, pay_in_advance=True)
    billed.subscribe("sub", "early", ending_at="2024-03-20T00:00:00Z")
    at = "2024-03-20T00:00:00Z"
    chosen = {"external_ids": ["sub"]}
    found = preview(billed, subscriptions=chosen)
    assert bare(preview(billed, subscriptions={**chosen, "terminated_at": at}))["billing_periods"] == bare(
        found["billing_periods"]
    )
    move(billed, 2024, 3, 21)
    assert bare(found) == bare(newest(billed))


@pytest.mark.parametrize(("amount_cents", "when"), [(62_000, None), (100, (2024, 4, 1))])
@pytest.mark.parametrize("in_advance", [True, False])
def test_a_change_of_plan(billed: Api, amount_cents: int, when: Any, in_advance: bool) -> None:
    metric = billed.metric("calls")
    desks = fixed_charges(billed)
    billed.plan(
        "early", [charge(metric)], amount_cents=31_000, pay_in_advance=True, tax_codes=["vat"], **desks
    )
    billed.plan("other", amount_cents=amount_cents, pay_in_advance=in_advance, tax_codes=["city"], **desks)
    billed.subscribe("sub", "early")
    move(billed, 2024, 3, 11, 15)
    found = preview(billed, subscriptions={"external_ids": ["sub"], "plan_code": "other"})
    assert len([fee for fee in found["fees"] if fee["item"]["type"] == "fixed_charge"]) >= 2
    billed.subscribe("sub", "other")
    if when:
        waits = preview(billed, subscriptions={"external_ids": ["sub"]})
        move(billed, *when)
        assert bare(waits) == bare(newest(billed))
    assert bare(found) == bare(newest(billed))


def test_a_plan_that_waits_for_its_payment_too_takes_over_on_no_next_invoice(billed: Api) -> None:
    """Until it is paid, the plan before it goes on."""
    billed.plan("early", amount_cents=31_000, pay_in_advance=True, tax_codes=["vat"])
    billed.plan("other", amount_cents=100, pay_in_advance=True)
    billed.subscribe("sub", "early")
    billed.subscribe("sub", "other", activation_rules=[{"type": "payment", "timeout_hours": 48}])
    found = preview(billed, subscriptions={"external_ids": ["sub"]})
    assert [fee["amount_cents"] for fee in found["fees"]] == [31_000]
    move(billed, 2024, 4, 1)
    bills = [
        billed.get(f"/invoices/{each['lago_id']}")["invoice"]
        for each in billed.get("/invoices")["invoices"]
        if each["status"] == "finalized" and each["issuing_date"] == "2024-04-01"
    ]
    assert [bare(found)] == [bare(each) for each in bills]


def fixed_charges(api: Api) -> dict[str, Any]:
    """Desks that are paid before and after their period."""
    add_on = {"name": "Desk", "code": "desk", "amount_cents": 700, "amount_currency": "EUR"}
    api.post("/add_ons", {"add_on": add_on})
    own = {"add_on_code": "desk", "charge_model": "standard", "properties": {"amount": "7"}}
    return {
        "fixed_charges": [
            {**own, "code": f"desk-{units}", "units": units, "pay_in_advance": units > 3} for units in (3, 4)
        ]
    }


@pytest.mark.parametrize("in_advance", [True, False])
@pytest.mark.parametrize("billing_time", ["calendar", "anniversary"])
def test_a_plan_that_a_customer_might_take(billed: Api, in_advance: bool, billing_time: str) -> None:
    billed.plan(
        "new",
        [charge(billed.metric("calls"), min_amount_cents=700)],
        amount_cents=3_100,
        pay_in_advance=in_advance,
        tax_codes=["vat"],
    )
    found = preview(billed, plan_code="new", billing_time=billing_time)
    (subscription,) = found["subscriptions"]
    path = f"/subscriptions/{subscription['external_id']}"
    assert billed.code(404, "GET", path) == "subscription_not_found", "its id leads nowhere"
    billed.subscribe("sub", "new", billing_time=billing_time)
    if not in_advance:
        move(billed, 2024, 4, 5, 11)
    names = ("external_id", "external_subscription_id", "subscription_at", "started_at", "name")
    assert without(bare(found), names) == without(bare(newest(billed)), names)


def without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: without(each, names) for key, each in value.items() if key not in names}
    return [without(each, names) for each in value] if isinstance(value, list) else value


def test_somebody_who_is_no_customer(billed: Api) -> None:
    who = {"name": "Gavin", "currency": "EUR", "timezone": "Asia/Tokyo", "country": "JP"}
    found = preview(billed, customer=who, plan_code="pro", subscription_at="2024-03-01T00:00:00Z")
    customer = found["customer"]
    assert customer["name"] == "Gavin"
    path = f"/customers/{customer['external_id']}"
    assert billed.code(404, "GET", path) == "customer_not_found", "its id leads nowhere"
    assert found["fees_amount_cents"] == 3_100 + 5_000
    assert found["issuing_date"] == "2024-04-01"


def test_what_cannot_be_previewed(billed: Api) -> None:
    billed.subscribe("sub")
    billed.plan("weekly", interval="weekly")
    billed.subscribe("week", "weekly")
    billed.plan("dollars", amount_currency="USD")
    path, who = "/invoices/preview", {"external_id": "cus"}

    def details(**body: Any) -> Any:
        return billed.details("POST", path, {"customer": who, **body})

    def of(*names: str, **more: Any) -> dict[str, Any]:
        return {"subscriptions": {"external_ids": list(names), **more}}

    assert billed.details("POST", path, {"plan_code": "pro"}) == {"customer": ["value_is_mandatory"]}
    imagined = {"code": "x", "coupon_type": "percentage"}
    assert details(plan_code="pro", coupons=[imagined]) == {"percentage_rate": ["value_is_mandatory"]}
    assert details(**of()) == {"external_ids": ["value_is_mandatory"]}
    assert details(**of("sub", terminated_at="2024-03-01T00:00:00Z")) == {
        "terminated_at": ["cannot_be_in_past"]
    }
    assert details(**of("sub", terminated_at="soon")) == {"terminated_at": ["invalid_timestamp"]}
    assert details(**of("sub", "week")) == {"base": ["billing_periods_does_not_match"]}
    assert details(**of("sub", plan_code="pro")) == {
        "base": ["new_plan_should_be_different_from_existing_plan"]
    }
    assert details(**of("sub", plan_code="dollars")) == {"base": ["subscription_currencies_does_not_match"]}
    for body, code in (
        ({"customer": {"external_id": "nobody"}, "plan_code": "pro"}, "customer_not_found"),
        ({"customer": who, "plan_code": "none"}, "plan_not_found"),
        ({"customer": who, **of("none")}, "subscription_not_found"),
        ({"customer": who, **of("sub", plan_code="none")}, "plan_not_found"),
        ({"customer": {}, "plan_code": "pro", "billing_entity_code": "x"}, "billing_entity_not_found"),
    ):
        assert billed.code(404, "POST", path, body) == code


def test_a_preview_of_a_later_start_begins_with_its_day_as_the_subscription_does(api: Api) -> None:
    api.plan("tried", amount_cents=31_000, pay_in_advance=False, trial_period=10)
    api.customer(timezone="America/New_York")
    later = "2024-04-10T18:00:00Z"
    found = preview(api, customer={"external_id": "cus"}, plan_code="tried", subscription_at=later)
    api.subscribe(plan="tried", subscription_at=later)
    api.put("/test_clock", {"test_clock": {"now": "2024-05-01T05:00:00Z"}})
    (made,) = api.get("/invoices")["invoices"]
    assert found["fees_amount_cents"] == made["fees_amount_cents"] == 11_367, "11 of 30 days"


def test_a_preview_of_a_change_back_to_a_plan_whose_trial_is_over_has_its_fee(api: Api) -> None:
    api.plan("tried", amount_cents=3_100, pay_in_advance=True, trial_period=10)
    api.plan("large", amount_cents=3_200)
    api.customer()
    for name, then in (("tried", "2024-03-12T10:00:00Z"), ("large", "2024-03-20T10:00:00Z")):
        api.subscribe(plan=name)
        api.put("/test_clock", {"test_clock": {"now": then}})
    api.put("/plans/tried", {"plan": {"amount_cents": 6_200}})
    found = preview(api, subscriptions={"external_ids": ["sub"], "plan_code": "tried"})
    api.subscribe(plan="tried")
    made = api.get("/invoices")["invoices"][0]
    assert found["fees_amount_cents"] == made["fees_amount_cents"] > 2_400, "12 of 31 days, beside the end"


@pytest.mark.parametrize("apart", ["order", "alone", "end", "downgrade"])
def test_a_preview_of_what_is_invoiced_apart_is_refused(billed: Api, apart: str) -> None:
    """What is made are two invoices; one of each by itself is previewed as it is made."""
    billed.subscribe("one")
    fields: dict[str, Any] = {}
    if apart == "order":
        fields = {"purchase_order_number": "PO-7"}
    elif apart == "alone":
        fields = {"consolidate_invoice": False}
    elif apart == "end":
        fields = {"ending_at": "2024-04-01T00:00:00Z"}
    billed.subscribe("two", **fields)
    if apart == "downgrade":
        billed.plan("small", amount_cents=100)
        billed.subscribe("two", "small")
    together = {"customer": {"external_id": "cus"}, "subscriptions": {"external_ids": ["one", "two"]}}
    assert billed.details("POST", "/invoices/preview", together) == {
        "base": ["subscriptions_are_invoiced_apart"]
    }
    shown = [preview(billed, subscriptions={"external_ids": [name]}) for name in ("one", "two")]
    move(billed, 2024, 4, 1, 1)
    made = billed.get("/invoices")["invoices"]
    assert sorted(each["total_amount_cents"] for each in made) == sorted(
        each["total_amount_cents"] for each in shown
    )
