"""Credit notes that follow from an end or an upgrade, over HTTP, and the invoices that they pay."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from .conftest import Api


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def notes(api: Api, **search: Any) -> list[Any]:
    found: list[Any] = api.get("/credit_notes", **search)["credit_notes"]
    return found


@pytest.fixture
def subscribed(api: Api) -> Api:
    """31.00 a month in advance with 20 % of tax, paid for March from the 5th: 27 days."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer()
    api.subscribe()
    return api


def test_the_days_that_are_left_come_back_as_credit(subscribed: Api) -> None:
    api = subscribed
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    (note,) = notes(api)
    assert (note["sub_total_excluding_taxes_amount_cents"], note["taxes_amount_cents"]) == (1_000, 200)
    assert (note["total_amount_cents"], note["credit_amount_cents"], note["balance_amount_cents"]) == (
        1_200,
    ) * 3
    assert (note["credit_status"], note["reason"], note["refund_status"]) == (
        "available",
        "order_cancellation",
        None,
    )
    assert note["issuing_date"] == "2024-03-21"
    (item,) = note["items"]
    assert (item["amount_cents"], item["precise_amount_cents"]) == (1_000, "1000.0")
    assert item["fee"]["item"]["type"] == "subscription"
    (applied,) = note["applied_taxes"]
    assert (applied["tax_code"], applied["base_amount_cents"], applied["amount_cents"]) == ("vat", 1_000, 200)
    invoice = api.get(f"/invoices/{note['lago_invoice_id']}")["invoice"]
    assert note["number"] == f"{invoice['number']}-CN001"
    assert api.get(f"/credit_notes/{note['lago_id']}")["credit_note"] == note


def test_what_a_note_by_hand_has_given_back_comes_off_what_an_end_gives_back(subscribed: Api) -> None:
    api = subscribed
    (invoice,) = api.get("/invoices")["invoices"]
    (fee,) = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    items = [{"fee_id": fee["lago_id"], "amount_cents": 300}]
    body = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": 360}
    api.post("/credit_notes", {"credit_note": body})
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    assert sorted(note["total_amount_cents"] for note in notes(api)) == [360, (1_000 - 300) * 120 // 100]


def test_a_balance_pays_the_next_invoices_until_it_is_spent(subscribed: Api) -> None:
    api = subscribed
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    api.plan("small", amount_cents=620, pay_in_advance=True)
    api.subscribe("next", plan="small")
    (first,) = [each for each in api.get("/invoices")["invoices"] if each["fees_amount_cents"] == 220]
    # 11 of 31 days of 6.20, and 20 %
    assert first["taxes_amount_cents"] == 44
    assert (first["credit_notes_amount_cents"], first["total_amount_cents"], first["payment_status"]) == (
        264,
        0,
        "succeeded",
    )
    move(api, 2024, 4, 1, 1)
    move(api, 2024, 5, 1, 1)
    paid = [each for each in api.get("/invoices")["invoices"] if each["credit_notes_amount_cents"]]
    assert sorted(each["credit_notes_amount_cents"] for each in paid) == [192, 264, 744]
    (last,) = [each for each in paid if each["credit_notes_amount_cents"] == 192]
    assert (last["total_amount_cents"], last["payment_status"]) == (552, "pending")
    (note,) = notes(api)
    assert (note["balance_amount_cents"], note["credit_status"]) == (0, "consumed")
    (credit,) = api.get(f"/invoices/{last['lago_id']}")["invoice"]["credits"]
    assert (credit["amount_cents"], credit["item"]["code"], credit["before_taxes"]) == (
        192,
        note["number"],
        False,
    )
    text = (
        PdfReader(BytesIO(api.call("GET", f"/invoices/{last['lago_id']}/pdf").content))
        .pages[0]
        .extract_text()
    )
    assert "Credit notes" in text
    assert "1.92" in text


def test_an_upgrade_gives_its_own_day_back(subscribed: Api) -> None:
    api = subscribed
    api.plan("max", amount_cents=31_000, pay_in_advance=True)
    move(api, 2024, 3, 22, 12)
    api.subscribe(plan="max")
    (note,) = notes(api)
    assert (note["total_amount_cents"], note["balance_amount_cents"]) == (1_200, 0)
    (invoice,) = [each for each in api.get("/invoices")["invoices"] if each["credit_notes_amount_cents"]]
    assert (invoice["fees_amount_cents"], invoice["credit_notes_amount_cents"]) == (10_000, 1_200)


def test_what_a_note_by_hand_has_given_back_comes_off_what_an_upgrade_gives_back(subscribed: Api) -> None:
    """10 of 31 days are left: 10.00, of which 1.50 came back before."""
    api = subscribed
    (invoice,) = api.get("/invoices")["invoices"]
    (fee,) = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    items = [{"fee_id": fee["lago_id"], "amount_cents": 150}]
    body = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": 180}
    api.post("/credit_notes", {"credit_note": body})
    api.plan("max", amount_cents=31_000, pay_in_advance=True)
    move(api, 2024, 3, 22, 12)
    api.subscribe(plan="max")
    assert sorted(note["total_amount_cents"] for note in notes(api)) == [180, (1_000 - 150) * 120 // 100]


def test_the_note_that_gives_back_the_last_takes_up_how_the_taxes_of_all_were_rounded(
    subscribed: Api,
) -> None:
    """27.00 with 5.40 of tax: two notes by hand on 0.03 have 0.01 of it each, and exactly 0.006."""
    api = subscribed
    (invoice,) = api.get("/invoices")["invoices"]
    (fee,) = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    for _ in range(2):
        items = [{"fee_id": fee["lago_id"], "amount_cents": 3}]
        body = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": 4}
        api.post("/credit_notes", {"credit_note": body})
    api.plan("max", amount_cents=31_000, pay_in_advance=True)
    api.subscribe(plan="max")
    assert sorted(note["total_amount_cents"] for note in notes(api)) == [4, 4, 3_240 - 8]


@pytest.mark.parametrize("upgraded", [True, False])
@pytest.mark.parametrize(("before", "after"), [("UTC", "Asia/Tokyo"), ("Asia/Tokyo", "America/Los_Angeles")])
def test_the_days_of_a_customer_that_has_moved_are_those_that_it_was_billed(
    api: Api, before: str, after: str, upgraded: bool
) -> None:
    """45.00 for the 30 days of April; the end is on the 20th there where the customer is then."""
    api.plan("pro", amount_cents=4_500, pay_in_advance=True)
    api.plan("max", amount_cents=9_000, pay_in_advance=True)
    api.customer(timezone=before)
    api.subscribe()
    move(api, 2024, 4, 2)
    api.customer(timezone=after)
    move(api, 2024, 4, 20, 12)
    if upgraded:
        api.subscribe(plan="max")
    else:
        api.delete("/subscriptions/sub")
    (note,) = notes(api)
    assert note["total_amount_cents"] == (11 if upgraded else 10) * 150


@pytest.mark.parametrize(("billed", "given_back"), [(4_000, 1_650), (1_000, 1_000), (9_000, 1_650)])
@pytest.mark.parametrize("upgraded", [True, False])
def test_a_fee_that_was_billed_again_at_another_price_is_given_back_at_the_price_of_its_plan(
    api: Api, billed: int, given_back: int, upgraded: bool
) -> None:
    """11 or 10 days of 45.00 for the 30 of April, at most what was billed for them."""
    api.plan("pro", amount_cents=4_500, pay_in_advance=True)
    api.plan("max", amount_cents=90_000, pay_in_advance=True)
    api.customer()
    api.subscribe()
    move(api, 2024, 4, 2)
    first = max(api.get("/invoices")["invoices"], key=lambda each: each["fees_amount_cents"])
    (fee,) = api.get(f"/invoices/{first['lago_id']}")["invoice"]["fees"]
    api.post(f"/invoices/{first['lago_id']}/void", {})
    changes = {"fees": [{"id": fee["lago_id"], "unit_amount_cents": billed}]}
    made = api.post(f"/invoices/{first['lago_id']}/regenerate", changes)["invoice"]
    assert made["fees_amount_cents"] == billed
    explained = api.get(f"/fees/{made['fees'][0]['lago_id']}/explanation")["fee_explanation"]
    assert not [step for step in explained["formula"] if "plan" in step["text"]]
    move(api, 2024, 4, 20, 12)
    if upgraded:
        api.subscribe(plan="max")
    else:
        api.delete("/subscriptions/sub")
    (note,) = notes(api)
    assert note["total_amount_cents"] == (given_back if upgraded else min(given_back, 1_500))


def test_nothing_comes_back_when_it_is_skipped_or_used_up(subscribed: Api) -> None:
    api = subscribed
    api.subscribe("other")
    move(api, 2024, 3, 31, 12)
    api.delete("/subscriptions/sub")
    api.delete("/subscriptions/other", on_termination_credit_note="skip")
    assert notes(api) == []


def test_no_note_is_made_of_a_fee_that_coupons_have_paid(api: Api) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer()
    whole = {"coupon_type": "percentage", "percentage_rate": "100", "frequency": "once"}
    body = {"name": "All", "code": "all", "expiration": "no_expiration", **whole}
    api.post("/coupons", {"coupon": body})
    api.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "all"}})
    api.subscribe()
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    assert notes(api) == []


def test_lists_are_narrowed_and_kept_apart(subscribed: Api, stranger: Api) -> None:
    api = subscribed
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    (note,) = notes(
        api,
        external_customer_id="cus",
        credit_status="available",
        amount_from="1200",
        issuing_date_to="2024-03-21",
    )
    assert (
        notes(api, external_customer_id="else")
        == notes(api, currency="USD")
        == notes(api, amount_from=1201)
        == []
    )
    assert notes(api, invoice_number=note["invoice_number"], reason="order_cancellation") == [note]
    assert api.details("GET", "/credit_notes", None, issuing_date_from="soon", amount_to="much") == {
        "issuing_date_from": ["invalid_date"],
        "amount_to": ["value_is_invalid"],
    }
    assert notes(stranger) == []
    assert stranger.code(404, "GET", f"/credit_notes/{note['lago_id']}") == "credit_note_not_found"
    assert api.code(404, "GET", "/credit_notes/nonsense") == "credit_note_not_found"


def test_a_webhook_names_the_note(subscribed: Api) -> None:
    api = subscribed
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    move(api, 2024, 3, 21, 12)
    api.delete("/subscriptions/sub")
    (told,) = api.row(
        "select count(*) from webhook where organization_id = %(organization)s and webhook_type = 'credit_note.created'"
    )
    assert told == 1


def test_notes_of_one_instant_are_spent_in_the_order_in_which_they_were_made(api: Api) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.plan("small", amount_cents=620, pay_in_advance=True)
    api.customer()
    api.subscribe()
    (invoice,) = api.get("/invoices")["invoices"]
    fee = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"][0]["lago_id"]
    for cents in (90, 80, 70, 60):
        items = [{"fee_id": fee, "amount_cents": cents}]
        note = {
            "invoice_id": invoice["lago_id"],
            "reason": "other",
            "credit_amount_cents": cents,
            "items": items,
        }
        api.post("/credit_notes", {"credit_note": note})
    move(api, 2024, 3, 26, 12)
    api.subscribe("next", plan="small")
    # 6 of 31 days of 6.20 are 1.20: all of the first note and 30 of the second
    left = {each["number"][-5:]: each["balance_amount_cents"] for each in notes(api)}
    assert left == {"CN001": 0, "CN002": 50, "CN003": 70, "CN004": 60}


def test_of_notes_of_one_instant_the_first_is_spent_first_whatever_its_number(api: Api) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.plan("small", amount_cents=620, pay_in_advance=True)
    api.customer()
    api.subscribe("one")
    move(api, 2024, 3, 6)
    api.subscribe("two")
    for invoice in api.get("/invoices")["invoices"]:
        fee = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"][0]["lago_id"]
        items = [{"fee_id": fee, "amount_cents": 100}]
        note = {"reason": "other", "credit_amount_cents": 100, "items": items}
        api.post("/credit_notes", {"credit_note": {"invoice_id": invoice["lago_id"], **note}})
    move(api, 2024, 3, 26, 12)
    api.subscribe("next", plan="small")
    left = {each["number"][-9:]: each["balance_amount_cents"] for each in notes(api)}
    assert left == {"002-CN001": 0, "001-CN001": 80}
