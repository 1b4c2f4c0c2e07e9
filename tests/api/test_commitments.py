"""Minimum commitments over the API: a part of plans and of plans of single subscriptions, billed as a fee."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Api, charge, plan_body
from .test_drafts import invoices, move


def fees(api: Api, invoice: Any, kind: str = "commitment") -> list[Any]:
    return [
        each
        for each in api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
        if each["item"]["type"] == kind
    ]


def test_a_commitment_is_added_changed_and_taken_away(api: Api) -> None:
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    asked = {"amount_cents": 5_000, "invoice_display_name": "At least", "tax_codes": ["vat"]}
    made = api.plan(minimum_commitment=asked)["minimum_commitment"]
    assert (made["amount_cents"], made["invoice_display_name"], made["plan_code"], made["interval"]) == (
        5_000, "At least", "pro", "monthly",
    )  # fmt: skip
    assert [each["code"] for each in made["taxes"]] == ["vat"]
    assert made["created_at"] == made["updated_at"]

    def put(wanted: Any) -> Any:
        return api.put("/plans/pro", {"plan": wanted})["plan"]["minimum_commitment"]

    assert put({"name": "Pro"}) == put({"minimum_commitment": None}) == made
    move(api, 2024, 3, 6)
    changed = put({"minimum_commitment": {"amount_cents": 7_000, "tax_codes": []}})
    assert changed == {**made, "amount_cents": 7_000, "taxes": [], "updated_at": "2024-03-06T00:00:00Z"}
    assert put({"minimum_commitment": {}}) is None
    assert api.get("/plans/pro")["plan"]["minimum_commitment"] is None


@pytest.mark.parametrize(
    ("wanted", "details"),
    [
        ({"amount_cents": 0}, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_cents": "much"}, {"amount_cents": ["value_is_invalid"]}),
        ({"invoice_display_name": "x"}, {"amount_cents": ["value_is_mandatory"]}),
        ([1], {"minimum_commitment": ["value_is_invalid"]}),
    ],
)
def test_commitments_that_cannot_be(api: Api, wanted: Any, details: Any) -> None:
    assert api.details("POST", "/plans", {"plan": plan_body(minimum_commitment=wanted)}) == details


def test_a_plan_of_a_subscriptions_own_has_the_commitment_that_its_overrides_say(api: Api) -> None:
    api.plan(charges=[charge(api.metric())], minimum_commitment={"amount_cents": 5_000})
    api.customer()
    assert api.subscribe("a", plan_overrides={"amount_cents": 1})["plan"]["minimum_commitment"] is None
    agreed = {"minimum_commitment": {"amount_cents": 9_000}}
    own = api.subscribe("b", plan_overrides=agreed)["plan"]
    assert own["minimum_commitment"]["amount_cents"] == 9_000
    assert api.get("/plans/pro")["plan"]["minimum_commitment"]["amount_cents"] == 5_000
    again = api.subscribe("b", plan_overrides=agreed)["plan"]
    assert again["lago_id"] == own["lago_id"], "the same terms again change nothing"
    api.subscribe("c")
    api.put("/subscriptions/c/charges/tokens", {"charge": {"properties": {"amount": "2"}}})
    kept = api.get("/subscriptions/c")["subscription"]["plan"]
    assert kept["parent_id"], "a price of its own"
    assert kept["minimum_commitment"]["amount_cents"] == 5_000, "and what was agreed stays"


@pytest.mark.parametrize(("in_advance", "due"), [(True, [None, 8_000]), (False, [8_000, 8_000])])
def test_a_start_in_the_past_commits_in_advance_from_its_first_fee_on(
    api: Api, in_advance: bool, due: list[int | None]
) -> None:
    """The first invoice is of a period for which no fee in advance was billed; in arrears that fee is on it."""
    api.plan(amount_cents=2_000, pay_in_advance=in_advance, minimum_commitment={"amount_cents": 10_000})
    api.customer()
    api.subscribe(subscription_at="2022-02-28T00:00:00Z")
    found: list[int | None] = []
    for month in (4, 5):
        move(api, 2024, month, 2)
        own = fees(api, invoices(api)[0])
        found.append(own[0]["amount_cents"] if own else None)
    assert found == due


def test_a_draft_that_is_priced_again_bills_it_once(api: Api) -> None:
    """27 of March's 31 days: 8,710 of 10,000, less 2,700 of 3,100 for the plan."""
    api.plan(amount_cents=3_100, minimum_commitment={"amount_cents": 10_000})
    api.customer(billing_configuration={"invoice_grace_period": 5})
    api.subscribe()
    move(api, 2024, 4, 1, 1)
    (draft,) = invoices(api)
    assert [each["amount_cents"] for each in fees(api, draft)] == [6_010]
    api.put("/plans/pro", {"plan": {"minimum_commitment": {"amount_cents": 20_000}}})
    api.put(f"/invoices/{draft['lago_id']}/refresh", {})
    (fee,) = fees(api, draft)
    assert (fee["amount_cents"], fee["units"], fee["invoice_display_name"]) == (
        14_719,
        "1.0",
        "Minimum commitment",
    )
    move(api, 2024, 4, 7)
    (final,) = invoices(api)
    assert (final["status"], final["fees_amount_cents"]) == ("finalized", 17_419)


def test_in_advance_it_is_due_with_the_next_invoice_and_at_the_latest_at_the_end(api: Api) -> None:
    """Monthly in advance, 31.00 a month: March's is due in April, that of April's first 10 days at the end."""
    api.plan(amount_cents=3_100, pay_in_advance=True, minimum_commitment={"amount_cents": 31_000})
    api.customer()
    api.subscribe()
    move(api, 2024, 4, 1, 1)
    move(api, 2024, 4, 10, 12)
    api.delete("/subscriptions/sub", on_termination_credit_note="skip")
    found = [[each["amount_cents"] for each in fees(api, invoice)] for invoice in reversed(invoices(api))]
    assert found == [[], [27_000 - 2_700], [10_333 - 3_100]]


def test_a_preview_shows_it(api: Api) -> None:
    api.plan(amount_cents=3_100, minimum_commitment={"amount_cents": 10_000})
    api.customer()
    shown = api.post(
        "/invoices/preview",
        {"customer": {"external_id": "cus"}, "plan_code": "pro", "billing_time": "anniversary"},
    )["invoice"]
    assert shown["fees_amount_cents"] == 10_000
