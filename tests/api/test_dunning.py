"""Dunning over HTTP: customers with overdue invoices are asked, as the campaign that applies to them says."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api
from .test_payments import billed, move, pay, shown, webhooks

CAMPAIGN: dict[str, Any] = {
    "code": "late",
    "name": "Late payers",
    "thresholds": [{"currency": "EUR", "amount_cents": 3_500}, {"currency": "USD", "amount_cents": 50}],
    "days_between_attempts": 2,
    "max_attempts": 2,
}


@pytest.fixture
def dunning(api: Api) -> Api:
    """A campaign that applies to all customers of the default billing entity."""
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    api.post("/dunning_campaigns", {"dunning_campaign": CAMPAIGN})
    api.put("/billing_entities/default", {"billing_entity": {"dunning_campaign_code": "late"}})
    return api


def requests(api: Api, customer: str = "cus") -> list[tuple[int, str]]:
    found = api.get(f"/customers/{customer}/payment_requests")["payment_requests"]
    return [(each["amount_cents"], each["created_at"]) for each in reversed(found)]


def test_what_is_overdue_is_requested_from_the_threshold_on_until_the_attempts_are_used_up(
    dunning: Api,
) -> None:
    first = billed(dunning, cents=3_100, net_payment_term=1)
    move(dunning, 2024, 3, 8)
    assert requests(dunning) == []
    dunning.plan("more", amount_cents=500, pay_in_advance=True)
    dunning.subscribe("more", plan="more", billing_time="anniversary")
    move(dunning, 2024, 3, 10, 1)
    assert requests(dunning) == [(3_600, "2024-03-10T00:00:00Z")]
    pay(dunning, first, 100)
    move(dunning, 2024, 3, 11, 23, 59)
    assert len(requests(dunning)) == 1
    move(dunning, 2024, 3, 30)
    assert requests(dunning) == [(3_600, "2024-03-10T00:00:00Z"), (3_500, "2024-03-12T00:00:00Z")]
    assert webhooks(dunning).count("dunning_campaign.finished") == 1
    pay(dunning, first, 3_000)
    move(dunning, 2024, 4, 3)
    assert len(requests(dunning)) == 2


def test_who_pays_what_was_requested_has_all_attempts_again(dunning: Api) -> None:
    first = billed(dunning, cents=4_000)
    billed(dunning, cents=3_800)
    move(dunning, 2024, 3, 20)
    assert [amount for amount, _ in requests(dunning)] == [7_800, 7_800]
    pay(dunning, first, 4_000)
    move(dunning, 2024, 3, 30)
    assert [amount for amount, _ in requests(dunning)] == [7_800, 7_800, 3_800, 3_800]
    assert webhooks(dunning).count("dunning_campaign.finished") == 2


@pytest.mark.parametrize("by", ["offset", "void"])
def test_who_owes_what_was_requested_no_longer_has_all_attempts_again(dunning: Api, by: str) -> None:
    first = billed(dunning, cents=4_000)
    move(dunning, 2024, 3, 20)
    assert [amount for amount, _ in requests(dunning)] == [4_000, 4_000]
    if by == "void":
        dunning.post(f"/invoices/{first['lago_id']}/void", {})
    else:
        (fee,) = shown(dunning, first)["fees"]
        items = [{"fee_id": fee["lago_id"], "amount_cents": 4_000}]
        note = {"invoice_id": first["lago_id"], "offset_amount_cents": 4_000, "items": items}
        dunning.post("/credit_notes", {"credit_note": note})
    dunning.plan("next", amount_cents=3_800, pay_in_advance=True)
    dunning.subscribe("next", plan="next", billing_time="anniversary")
    move(dunning, 2024, 3, 30)
    assert [amount for amount, _ in requests(dunning)] == [4_000, 4_000, 3_800, 3_800]
    assert webhooks(dunning).count("dunning_campaign.finished") == 2


@pytest.mark.parametrize(("currency", "cents"), [("EUR", 4_000), ("USD", 60)])
def test_each_currency_is_requested_by_itself_and_the_end_is_reported_once_in_the_customers(
    dunning: Api, currency: str, cents: int
) -> None:
    billed(dunning, cents=4_000, currency=currency)
    dunning.plan("usd", amount_cents=60, amount_currency="USD", pay_in_advance=True)
    dunning.subscribe("usd", plan="usd", billing_time="anniversary")
    move(dunning, 2024, 3, 25)
    assert sorted(amount for amount, _ in requests(dunning)) == [60, 60, 4_000, 4_000]
    (payload,) = dunning.row(
        "select payload::jsonb -> 'dunning_campaign' from webhook where organization_id = %(organization)s"
        " and webhook_type = 'dunning_campaign.finished'"
    )
    assert payload == {
        "external_customer_id": "cus",
        "dunning_campaign_code": "late",
        "overdue_balance_cents": cents,
        "overdue_balance_currency": currency,
        "overdue_balances": [
            {"currency": "EUR", "amount_cents": 4_000},
            {"currency": "USD", "amount_cents": 60},
        ],
    }


def test_the_end_is_reported_where_the_last_currency_with_attempts_left_is_paid(dunning: Api) -> None:
    """The other one has none left, and nothing else will look at it."""
    billed(dunning, cents=4_000)
    move(dunning, 2024, 3, 6, 1)
    dunning.plan("usd", amount_cents=60, amount_currency="USD", pay_in_advance=True)
    dunning.subscribe("usd", plan="usd", billing_time="anniversary")
    second = dunning.get("/invoices", currency="USD")["invoices"][0]
    move(dunning, 2024, 3, 8, 12)
    assert sorted(amount for amount, _ in requests(dunning)) == [60, 4_000, 4_000]
    assert webhooks(dunning).count("dunning_campaign.finished") == 0
    pay(dunning, second, 60)
    for day in (9, 20):
        move(dunning, 2024, 3, day)
        assert webhooks(dunning).count("dunning_campaign.finished") == 1
    dunning.subscribe("other", plan="usd", billing_time="anniversary")
    move(dunning, 2024, 4, 1)
    assert webhooks(dunning).count("dunning_campaign.finished") == 2
    assert len(requests(dunning)) == 5


def test_what_is_paid_after_the_end_reports_no_other_end(dunning: Api) -> None:
    billed(dunning, cents=4_000)
    dunning.plan("usd", amount_cents=60, amount_currency="USD", pay_in_advance=True)
    dunning.subscribe("usd", plan="usd", billing_time="anniversary")
    second = dunning.get("/invoices", currency="USD")["invoices"][0]
    move(dunning, 2024, 3, 20)
    pay(dunning, second, 60)
    move(dunning, 2024, 3, 25)
    assert webhooks(dunning).count("dunning_campaign.finished") == 1


def test_a_customer_is_excluded_or_has_a_campaign_of_its_own(dunning: Api) -> None:
    own = {**CAMPAIGN, "code": "own", "thresholds": [{"currency": "EUR", "amount_cents": 10}]}
    dunning.post("/dunning_campaigns", {"dunning_campaign": own})
    billed(dunning, "out", cents=9_000, exclude_from_dunning_campaign=True)
    billed(dunning, "own", cents=100, dunning_campaign_code="own")
    move(dunning, 2024, 3, 6, 1)
    assert requests(dunning, "out") == []
    assert [amount for amount, _ in requests(dunning, "own")] == [100]
    dunning.post("/customers", {"customer": {"external_id": "out", "exclude_from_dunning_campaign": False}})
    move(dunning, 2024, 3, 6, 2)
    assert [amount for amount, _ in requests(dunning, "out")] == [9_000]
    dunning.delete("/dunning_campaigns/own")
    move(dunning, 2024, 3, 20)
    assert len(requests(dunning, "own")) == 1
    assert dunning.get("/customers/own")["customer"]["lago_dunning_campaign_id"] is None


def test_a_changed_campaign_begins_again(dunning: Api) -> None:
    billed(dunning, cents=3_100)
    move(dunning, 2024, 3, 8)
    assert requests(dunning) == []
    path, lower = "/dunning_campaigns/late", [{"currency": "EUR", "amount_cents": 3_100}]
    changed = dunning.put(path, {"dunning_campaign": {"thresholds": lower}})["dunning_campaign"]
    assert (changed["thresholds"], changed["max_attempts"]) == (lower, 2)
    assert dunning.get("/dunning_campaigns")["dunning_campaigns"] == [changed]
    move(dunning, 2024, 3, 8, 1)
    assert [amount for amount, _ in requests(dunning)] == [3_100]


def test_another_name_asks_nobody_again(dunning: Api) -> None:
    billed(dunning, cents=4_000)
    move(dunning, 2024, 3, 20)
    assert len(requests(dunning)) == 2
    same = {"name": "Other", "bcc_emails": ["cfo@example.com"], "max_attempts": 2}
    dunning.put("/dunning_campaigns/late", {"dunning_campaign": same})
    move(dunning, 2024, 3, 30)
    assert len(requests(dunning)) == 2


def test_who_loses_its_own_campaign_is_asked_by_that_of_its_billing_entity(dunning: Api) -> None:
    own = {**CAMPAIGN, "code": "own", "max_attempts": 1}
    dunning.post("/dunning_campaigns", {"dunning_campaign": own})
    billed(dunning, cents=4_000, dunning_campaign_code="own")
    move(dunning, 2024, 3, 20)
    assert len(requests(dunning)) == 1
    dunning.delete("/dunning_campaigns/own")
    move(dunning, 2024, 3, 30)
    assert len(requests(dunning)) == 3


def test_a_changed_campaign_begins_again_for_who_owes_nothing_at_that_moment(dunning: Api) -> None:
    first = billed(dunning, cents=4_000)
    move(dunning, 2024, 3, 20)
    assert len(requests(dunning)) == 2
    dunning.post(f"/invoices/{first['lago_id']}/void", {})
    dunning.put("/dunning_campaigns/late", {"dunning_campaign": {"days_between_attempts": 1}})
    dunning.plan("next", amount_cents=3_800, pay_in_advance=True)
    dunning.subscribe("next", plan="next", billing_time="anniversary")
    move(dunning, 2024, 3, 30)
    assert [amount for amount, _ in requests(dunning)] == [4_000, 4_000, 3_800, 3_800]


def test_a_campaign_that_cannot_be_is_refused_by_field(api: Api) -> None:
    body = {"dunning_campaign": {"code": "c", "thresholds": [{"currency": "XXX"}], "max_attempts": 0}}
    assert api.details("POST", "/dunning_campaigns", body) == {
        "name": ["value_is_mandatory"],
        "days_between_attempts": ["value_is_mandatory"],
        "max_attempts": ["value_is_out_of_range"],
        "currency": ["value_is_invalid"],
        "amount_cents": ["value_is_mandatory"],
    }
    api.post("/dunning_campaigns", {"dunning_campaign": CAMPAIGN})
    again = api.details("POST", "/dunning_campaigns", {"dunning_campaign": CAMPAIGN})
    assert again == {"code": ["value_already_exist"]}
    unknown = {"customer": {"external_id": "cus", "dunning_campaign_code": "none"}}
    assert api.code(404, "POST", "/customers", unknown) == "dunning_campaign_not_found"
