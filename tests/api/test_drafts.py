"""Drafts over HTTP: refreshed, made final by hand, and when the grace period changes."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from .conftest import Api


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def invoices(api: Api) -> list[Any]:
    found: list[Any] = api.get("/invoices")["invoices"]
    return found


@pytest.fixture
def drafted(api: Api) -> Api:
    api.plan("pro", amount_cents=3_100)
    api.customer(billing_configuration={"invoice_grace_period": 5})
    api.subscribe()
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    move(api, 2024, 4, 1, 1)
    return api


def test_a_draft_is_shown_and_made_final_by_hand(drafted: Api) -> None:
    api = drafted
    (draft,) = invoices(api)
    assert (draft["status"], draft["sequential_id"], draft["fees_amount_cents"]) == ("draft", None, 2_700)
    assert draft["number"].endswith("-DRAFT")
    assert invoices(api) == api.get("/invoices", status="draft")["invoices"]
    path = f"/invoices/{draft['lago_id']}"
    pdf = PdfReader(BytesIO(api.call("GET", f"{path}/pdf").content)).pages[0].extract_text()
    assert "DRAFT" in pdf
    api.put("/plans/pro", {"plan": {"amount_cents": 6_200}})
    assert api.put(f"{path}/refresh", {})["invoice"]["fees_amount_cents"] == 5_400
    final = api.put(f"{path}/finalize", {})["invoice"]
    assert (final["status"], final["sequential_id"], final["fees_amount_cents"]) == ("finalized", 1, 5_400)
    assert final["issuing_date"] == "2024-04-01"
    assert api.code(404, "PUT", f"{path}/finalize", {}) == "invoice_not_found"
    assert api.put(f"{path}/refresh", {})["invoice"] == final, "a final invoice stays as it is"
    (told,) = api.row(
        "select array_agg(webhook_type order by created_at, webhook_type) from webhook"
        " where organization_id = %(organization)s and object_type = 'invoice'"
    )
    assert sorted(told) == ["invoice.created", "invoice.drafted", "invoice.ready_to_finalize"]


def test_payment_and_metadata_are_of_final_invoices_and_a_new_payment_status_is_reported_once(
    drafted: Api,
) -> None:
    api = drafted
    (draft,) = invoices(api)
    path = f"/invoices/{draft['lago_id']}"
    paid = {"invoice": {"payment_status": "succeeded"}}
    noted = {"invoice": {"metadata": [{"key": "k", "value": "v"}]}}
    assert api.code(405, "PUT", path, paid) == "payment_status_update_on_draft_invoice"
    assert api.code(405, "PUT", path, noted) == "metadata_on_draft_invoice"
    api.put(f"{path}/finalize", {})
    assert api.put(path, noted)["invoice"]["metadata"][0]["value"] == "v"
    for _ in range(2):
        assert api.put(path, paid)["invoice"]["payment_status"] == "succeeded"
    (count,) = api.row(
        "select count(*) from webhook where organization_id = %(organization)s"
        " and webhook_type = 'invoice.payment_status_updated'"
    )
    assert count == 1


def test_without_grace_any_more_drafts_become_final(drafted: Api) -> None:
    api = drafted
    api.customer(billing_configuration={"invoice_grace_period": 0})
    move(api, 2024, 4, 1, 2)
    (final,) = invoices(api)
    assert (final["status"], final["issuing_date"]) == ("finalized", "2024-04-01")


def test_a_draft_for_nothing_that_nobody_wants_is_closed_by_hand_too(api: Api) -> None:
    api.plan("pro")
    api.customer(billing_configuration={"invoice_grace_period": 5}, finalize_zero_amount_invoice="skip")
    api.subscribe("sub")
    move(api, 2024, 4, 1)
    (draft,) = invoices(api)
    path = f"/invoices/{draft['lago_id']}"
    assert api.put(f"{path}/finalize", {})["invoice"]["status"] == "closed"
    assert api.code(404, "GET", path) == "invoice_not_found"
    assert not invoices(api)


def test_a_longer_grace_period_of_the_entity_is_inherited(api: Api) -> None:
    api.plan("pro", amount_cents=3_100)
    api.customer()
    api.put("/organizations", {"organization": {"billing_configuration": {"invoice_grace_period": 2}}})
    api.subscribe()
    move(api, 2024, 4, 1, 1)
    api.put("/organizations", {"organization": {"billing_configuration": {"invoice_grace_period": 9}}})
    move(api, 2024, 4, 9, 23)
    assert [each["status"] for each in invoices(api)] == ["draft"]
    move(api, 2024, 4, 10)
    assert [each["status"] for each in invoices(api)] == ["finalized"]


PERIOD_END = "subscription_invoice_issuing_date_anchor"
ADJUSTED = "subscription_invoice_issuing_date_adjustment"


def test_the_issuing_date_follows_the_customers_own_rules(api: Api) -> None:
    own = {PERIOD_END: "current_period_end", ADJUSTED: "keep_anchor"}
    api.plan("pro", amount_cents=3_100)
    api.customer(net_payment_term=7, billing_configuration={**own, "invoice_grace_period": 5})
    api.subscribe()
    move(api, 2024, 4, 1, 1)

    def dates() -> Any:
        (only,) = invoices(api)
        return only["status"], only["issuing_date"], only["payment_due_date"]

    assert dates() == ("draft", "2024-03-31", "2024-04-07")
    api.customer(net_payment_term=30, billing_configuration={PERIOD_END: "next_period_start"})
    assert dates() == ("draft", "2024-04-01", "2024-05-01")
    api.customer(billing_configuration={ADJUSTED: None})
    assert dates() == ("draft", "2024-04-06", "2024-05-06"), "inherited: it goes with the grace period"
    entity = {"net_payment_term": 1, "billing_configuration": {**own, "invoice_grace_period": 9}}
    api.put("/organizations", {"organization": entity})
    assert dates() == ("draft", "2024-04-01", "2024-05-01"), "a term and a day of its own stay"
    api.customer(net_payment_term=None, billing_configuration={PERIOD_END: None})
    assert dates() == ("draft", "2024-03-31", "2024-04-01")
    move(api, 2024, 4, 6, 1)
    assert dates() == ("finalized", "2024-03-31", "2024-04-01")


def test_a_draft_whose_terms_change_has_the_dates_of_one_that_was_made_with_them(api: Api) -> None:
    def billing(anchor: str, adjustment: str, grace: int) -> dict[str, Any]:
        return {PERIOD_END: anchor, ADJUSTED: adjustment, "invoice_grace_period": grace}

    anchors, adjustments = (
        ("next_period_start", "current_period_end"),
        ("keep_anchor", "align_with_finalization_date"),
    )
    terms = [
        {"net_payment_term": 3 * grace, "billing_configuration": billing(anchor, adjustment, grace)}
        for anchor in anchors for adjustment in adjustments for grace in (1, 4, 9)
    ]  # fmt: skip
    api.plan("pro", amount_cents=3_100)
    for number, each in enumerate([*terms, terms[0]]):
        api.customer(f"cus{number}", **each, timezone="Asia/Tokyo")
        api.subscribe(f"sub{number}", external_customer_id=f"cus{number}")
    move(api, 2024, 3, 31, 16)

    def dates(number: int) -> Any:
        (draft,) = api.get("/invoices", external_customer_id=f"cus{number}")["invoices"]
        days = ("issuing_date", "payment_due_date", "net_payment_term")
        return draft["status"], *(draft[name] for name in days)

    of_terms = [dates(number) for number in range(len(terms))]
    assert len(set(of_terms)) >= 9, "they differ"
    for each, expected in zip(terms, of_terms, strict=True):
        api.customer(f"cus{len(terms)}", **each)
        assert dates(len(terms)) == expected, each


@pytest.mark.parametrize("is_billed_before", [True, False], ids=["billed before", "not billed before"])
@pytest.mark.parametrize(("ends_by", "last_day"), [("upgrade", 0), ("termination", 100)])
def test_the_fee_of_a_period_is_billed_once_where_a_subscription_ends_on_the_day_after_it(
    api: Api, ends_by: str, last_day: int, is_billed_before: bool
) -> None:
    """30.00 of March, and 1 of April's 30 days, which an upgrade leaves to the dearer plan.

    Where March is not billed before the end, its fee is on the last invoice and the day itself is free.
    """
    api.plan("pro", amount_cents=3_000)
    api.plan("max", amount_cents=6_000)
    api.customer(billing_configuration={"invoice_grace_period": 5})
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    if is_billed_before:
        move(api, 2024, 4, 1, 1)
    else:
        api.conn.execute(
            "update subscription set next_billing_at = '2024-04-01 13:00Z' where organization_id = %s",
            [api.organization.id],
        )
        api.conn.commit()
    move(api, 2024, 4, 1, 12)
    if ends_by == "upgrade":
        api.subscribe(plan="max")
    else:
        api.delete("/subscriptions/sub")
    move(api, 2024, 4, 1, 13)
    expected = [last_day, 3_000] if is_billed_before else [3_000]
    assert [each["fees_amount_cents"] for each in invoices(api)] == expected
    for each in invoices(api):
        api.put(f"/invoices/{each['lago_id']}/refresh", {})
    assert [each["fees_amount_cents"] for each in invoices(api)] == expected
    move(api, 2024, 4, 8)
    assert [(each["status"], each["fees_amount_cents"]) for each in invoices(api)] == [
        ("finalized", cents) for cents in expected
    ]


def test_drafts_that_become_final_together_are_paid_with_what_older_ones_give_back(api: Api) -> None:
    """Each start costs 27.00 of March's 31 days, and an end on its first day gives 26.00 of it back."""
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer(billing_configuration={"invoice_grace_period": 5})
    for name in ("first", "second", "stays"):
        api.subscribe(name)
        if name != "stays":
            api.delete(f"/subscriptions/{name}", on_termination_invoice="skip")
    move(api, 2024, 3, 11)
    paid = [(each["sequential_id"], each["credit_notes_amount_cents"]) for each in invoices(api)]
    assert sorted(paid) == [(1, 0), (2, 2_600), (3, 2_600)]


def test_drafts_of_a_customer_become_final_in_the_order_in_which_they_were_made(api: Api) -> None:
    """The second invoice of a subscription comes before the first one of another: its number, and what a wallet has left."""
    fixed = {"add_on_code": "seat", "code": "seat", "charge_model": "standard", "units": 1}
    api.post(
        "/add_ons", {"add_on": {"name": "seat", "code": "seat", "amount_cents": 1, "amount_currency": "EUR"}}
    )
    ahead, after = ({"pay_in_advance": True}, "1"), ({"pay_in_advance": False}, "31")
    charges = [
        {**fixed, **when, "code": f"seat{price}", "properties": {"amount": price}}
        for when, price in (ahead, after)
    ]
    api.plan("pro", fixed_charges=charges)
    api.customer(billing_configuration={"invoice_grace_period": 5})
    api.post(
        "/wallets",
        {
            "wallet": {
                "external_customer_id": "cus",
                "currency": "EUR",
                "rate_amount": "1",
                "granted_credits": "30",
            }
        },
    )
    api.subscribe("ends")
    api.delete("/subscriptions/ends")
    api.subscribe("stays")
    move(api, 2024, 3, 11)
    found = [
        (each["sequential_id"], each["fees_amount_cents"], each["prepaid_credit_amount_cents"])
        for each in invoices(api)
    ]
    assert sorted(found) == [(1, 100, 100), (2, 3_100, 2_900), (3, 100, 0)]


def test_the_end_of_the_customer_makes_drafts_final(drafted: Api) -> None:
    api = drafted
    api.delete("/customers/cus")
    assert {each["status"] for each in invoices(api)} == {"finalized"}


def test_others_can_neither_refresh_nor_finalize(drafted: Api, stranger: Api) -> None:
    (draft,) = invoices(drafted)
    for what in ("refresh", "finalize"):
        assert stranger.code(404, "PUT", f"/invoices/{draft['lago_id']}/{what}", {}) == "invoice_not_found"
    assert invoices(drafted)[0]["status"] == "draft"
