"""Credit notes that somebody issues, estimates and voids over HTTP, and the choices at the end of a subscription."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from pypdf import PdfReader

from .conftest import Api
from .test_credit_notes import move, notes


@pytest.fixture
def invoice(api: Api) -> Any:
    """70.00 and 19 % of tax for a subscription that is paid for 31 days from March 5th."""
    tax = {"name": "VAT", "code": "vat", "rate": "19", "applied_to_organization": True}
    api.post("/taxes", {"tax": tax})
    api.plan("pro", amount_cents=7_000, pay_in_advance=True)
    api.customer()
    api.subscribe(billing_time="anniversary")
    return newest_invoice(api)


def newest_invoice(api: Api) -> Any:
    return api.get(f"/invoices/{api.get('/invoices')['invoices'][0]['lago_id']}")["invoice"]


def asked(invoice: Any, cents: int | None = None, **fields: Any) -> Any:
    (fee,) = invoice["fees"]
    items = [{"fee_id": fee["lago_id"], "amount_cents": fee["amount_cents"] if cents is None else cents}]
    return {"credit_note": {"invoice_id": invoice["lago_id"], "items": items, **fields}}


def issue(api: Api, invoice: Any, cents: int, **fields: Any) -> Any:
    return api.post("/credit_notes", asked(invoice, cents, **fields))["credit_note"]


def pay(api: Api, invoice: Any, cents: int) -> None:
    if cents:
        body = {"invoice_id": invoice["lago_id"], "amount_cents": cents, "reference": "bank"}
        api.post("/payments", {"payment": body})


def test_an_estimate_says_what_a_note_comes_to_and_saves_nothing(api: Api, invoice: Any) -> None:
    found = api.post("/credit_notes/estimate", asked(invoice, 1_003))["estimated_credit_note"]
    assert (found["sub_total_excluding_taxes_amount_cents"], found["taxes_amount_cents"]) == (1_003, 191)
    assert found["precise_taxes_amount_cents"] == 190.57
    assert found["max_creditable_amount_cents"] == found["max_offsettable_amount_cents"] == 1_194
    assert found["max_refundable_amount_cents"] == 0
    assert [each["tax_code"] for each in found["applied_taxes"]] == ["vat"]
    assert notes(api) == []


def test_a_note_is_credit_and_what_is_left_of_it_can_be_voided(api: Api, invoice: Any) -> None:
    note = issue(
        api,
        invoice,
        1_000,
        credit_amount_cents=1_190,
        reason="order_change",
        description="Wrong",
        metadata={"ticket": "7"},
    )
    assert (note["total_amount_cents"], note["balance_amount_cents"]) == (1_190, 1_190)
    assert (note["credit_status"], note["refund_status"], note["reason"]) == (
        "available",
        None,
        "order_change",
    )
    assert (note["description"], note["metadata"]) == ("Wrong", {"ticket": "7"})
    assert notes(api, search_term="cus")[0]["lago_id"] == note["lago_id"]
    own = api.get("/customers/cus/credit_notes", reason="order_change")["credit_notes"]
    assert [each["lago_id"] for each in own] == [note["lago_id"]]
    path = f"/credit_notes/{note['lago_id']}"
    url = api.post(f"{path}/download", {})["credit_note"]["file_url"]
    assert url.endswith(f"/api/v1{path}/pdf")
    text = PdfReader(BytesIO(api.call("GET", f"{path}/pdf").content)).pages[0].extract_text()
    assert "Credit note" in text
    assert note["number"] in text
    assert "11.90" in text
    voided = api.put(f"{path}/void", {})["credit_note"]
    assert (voided["credit_status"], voided["balance_amount_cents"]) == ("voided", 0)
    assert api.code(405, "PUT", f"{path}/void") == "no_voidable_amount"
    move(api, 2024, 4, 1, 1)
    assert newest_invoice(api)["credit_notes_amount_cents"] == 0


def test_an_offset_comes_off_what_is_due_until_the_invoice_is_settled(api: Api, invoice: Any) -> None:
    path = f"/invoices/{invoice['lago_id']}"
    issue(api, invoice, 1_000, offset_amount_cents=1_190)
    shown = api.get(path)["invoice"]
    assert (shown["total_due_amount_cents"], shown["total_offsetted_credit_note_amount_cents"]) == (
        7_140,
        1_190,
    )
    assert shown["payment_status"] == "pending"
    body = asked(invoice, 6_000, offset_amount_cents=7_141)
    assert "offset_amount_cents" in api.details("POST", "/credit_notes", body)
    move(api, 2024, 3, 20)
    wanted = {"external_customer_id": "cus", "email": "a@b.test", "lago_invoice_ids": [invoice["lago_id"]]}
    request = api.post("/payment_requests", {"payment_request": wanted})["payment_request"]
    issue(api, invoice, 6_000, offset_amount_cents=7_140)
    shown = api.get(path)["invoice"]
    assert (shown["total_due_amount_cents"], shown["payment_status"]) == (0, "succeeded")
    assert shown["fees"][0]["payment_status"] == "succeeded"
    found = api.get(f"/payment_requests/{request['lago_id']}")["payment_request"]
    assert found["payment_status"] == "succeeded"


def test_many_small_notes_come_to_no_more_than_the_invoice(api: Api, invoice: Any) -> None:
    """The tax of three cents is 0.57, which each note by itself rounds up; of 30 cents it is 5.70."""
    add_on = {"name": "Setup", "code": "setup", "amount_cents": 30, "amount_currency": "EUR"}
    api.post("/add_ons", {"add_on": add_on})
    body = {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "setup"}]}
    small = api.post("/invoices", {"invoice": body})["invoice"]
    assert small["total_amount_cents"] == 36
    totals = []
    for _ in range(10):
        found = api.post("/credit_notes/estimate", asked(small, 3))["estimated_credit_note"]
        total = found["max_creditable_amount_cents"]
        note = issue(api, small, 3, credit_amount_cents=total)
        assert (note["total_amount_cents"], note["taxes_amount_cents"]) == (
            total,
            found["taxes_amount_cents"],
        )
        totals.append(total)
    assert totals == [4] * 6 + [3] * 4


def test_a_refund_is_at_most_what_was_paid_and_is_recorded_when_it_is_done(api: Api, invoice: Any) -> None:
    body = asked(invoice, 1_000, refund_amount_cents=1_190)
    assert api.details("POST", "/credit_notes", body) == {
        "refund_amount_cents": ["cannot_refund_unpaid_invoice"]
    }
    pay(api, invoice, 2_000)
    note = issue(api, invoice, 1_000, refund_amount_cents=1_190)
    assert (note["credit_status"], note["refund_status"], note["balance_amount_cents"]) == (
        None,
        "pending",
        0,
    )
    changed = api.put(f"/credit_notes/{note['lago_id']}", {"credit_note": {"refund_status": "succeeded"}})
    assert changed["credit_note"]["refund_status"] == "succeeded"
    assert "refund_amount_cents" in api.details("POST", "/credit_notes", body)
    wrong = {"credit_note": {"refund_status": "paid"}}
    assert api.details("PUT", f"/credit_notes/{note['lago_id']}", wrong) == {
        "refund_status": ["value_is_invalid"]
    }


def test_what_is_wrong_with_a_note_is_said_by_field(api: Api, invoice: Any) -> None:
    def refused(body: Any) -> Any:
        return api.details("POST", "/credit_notes", body)

    assert refused(asked(invoice, 7_001, credit_amount_cents=8_331)) == {
        "amount_cents": ["higher_than_remaining_fee_amount"]
    }
    assert refused(asked(invoice, 100, credit_amount_cents=100)) == {"base": ["does_not_match_item_amounts"]}
    assert refused(asked(invoice, 100)) == {"base": ["total_amount_must_be_positive"]}
    assert refused(asked(invoice, 100, reason="why", credit_amount_cents=119)) == {
        "reason": ["value_is_invalid"]
    }
    wrong: tuple[Any, ...] = ({}, [], [1], None)
    for items in wrong:
        body = {"credit_note": {"invoice_id": invoice["lago_id"], "items": items}}
        assert refused(body) == {"items": ["must_be_an_array"]}
    unknown = {
        "credit_note": {
            "invoice_id": invoice["lago_id"],
            "items": [{"fee_id": str(uuid4()), "amount_cents": 1}],
        }
    }
    assert api.code(404, "POST", "/credit_notes", unknown) == "fee_not_found"
    nowhere = asked({**invoice, "lago_id": str(uuid4())}, 100)
    assert api.code(404, "POST", "/credit_notes/estimate", nowhere) == "invoice_not_found"


def test_metadata_of_a_note(api: Api, invoice: Any) -> None:
    path = f"/credit_notes/{issue(api, invoice, 100, credit_amount_cents=119)['lago_id']}/metadata"
    assert api.post(path, {"metadata": {"a": "1", "b": None}})["metadata"] == {"a": "1", "b": None}
    assert api.call("PATCH", path, {"metadata": {"c": "3"}}).json()["metadata"] == {
        "a": "1",
        "b": None,
        "c": "3",
    }
    assert api.delete(f"{path}/b")["metadata"] == {"a": "1", "c": "3"}
    assert api.code(404, "DELETE", f"{path}/b") == "metadata_not_found"
    assert api.delete(path)["metadata"] is None


@pytest.mark.parametrize(
    ("choice", "paid", "parts"),
    [
        ("credit", 7_000, (4_031, 0, 0)),
        ("refund", 7_000, (1_330, 2_701, 0)),
        ("refund", 0, (4_031, 0, 0)),
        ("offset", 7_000, (0, 2_701, 1_330)),
        ("offset", 0, (0, 0, 4_031)),
    ],
)
def test_the_choice_at_the_end(api: Api, invoice: Any, choice: str, paid: int, parts: Any) -> None:
    """15 of 31 days are left, which are 33.87 and 6.44 of tax; 42.99 with taxes are used."""
    pay(api, invoice, paid)
    move(api, 2024, 3, 20, 12)
    api.delete("/subscriptions/sub", on_termination_credit_note=choice)
    (note,) = notes(api)
    found = [note[f"{part}_amount_cents"] for part in ("credit", "refund", "offset")]
    assert (tuple(found), note["total_amount_cents"]) == (parts, 4_031)
    shown = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]
    assert shown["total_due_amount_cents"] == 8_330 - paid - parts[2]


def test_a_void_invoice_is_credited_refunded_and_written_off(api: Api, invoice: Any) -> None:
    pay(api, invoice, 3_000)
    path = f"/invoices/{invoice['lago_id']}"
    body = {"generate_credit_note": True, "credit_amount": 1_111, "refund_amount": 2_222}
    too_much = {"credit_refund_amount": ["total_amount_exceeds_invoice_amount"]}
    for credit, refund in ((8_331, 0), (0, 3_001), (5_331, 3_000)):
        wrong = {**body, "credit_amount": credit, "refund_amount": refund}
        assert api.details("POST", f"{path}/void", wrong) == too_much
    voided = api.post(f"{path}/void", body)["invoice"]
    assert (voided["status"], voided["number"]) == ("voided", invoice["number"])
    assert (voided["total_due_amount_cents"], voided["voided_at"]) == (0, "2024-03-05T10:00:00Z")
    rest, kept = sorted(notes(api), key=lambda each: each["refund_amount_cents"])
    assert (kept["credit_amount_cents"], kept["refund_amount_cents"]) == (1_111, 2_222)
    assert (kept["total_amount_cents"], kept["credit_status"]) == (3_333, "available")
    assert (rest["total_amount_cents"], rest["credit_status"]) == (8_330 - 3_333, "voided")
    assert kept["taxes_amount_cents"] + rest["taxes_amount_cents"] == invoice["taxes_amount_cents"]
    assert (
        api.code(405, "PUT", path, {"invoice": {"payment_status": "succeeded"}}) == "update_on_voided_invoice"
    )
    lost = api.post(f"{path}/lose_dispute", {})["invoice"]
    assert lost["payment_dispute_lost_at"] == "2024-03-05T10:00:00Z"
    assert api.code(405, "POST", f"{path}/retry") == "invalid_status"


def test_a_refund_of_prepaid_credits_empties_their_wallet(api: Api) -> None:
    api.customer()
    body = {"external_customer_id": "cus", "rate_amount": "2", "currency": "EUR", "paid_credits": "10"}
    wallet = api.post("/wallets", {"wallet": body})["wallet"]
    sold = newest_invoice(api)
    assert (sold["invoice_type"], sold["total_amount_cents"]) == ("credit", 2_000)
    unpaid = asked(sold, 500, refund_amount_cents=500)
    assert api.code(405, "POST", "/credit_notes", unpaid) == "invalid_type_or_status"
    pay(api, sold, 2_000)
    assert "credit_amount_cents" in api.details(
        "POST", "/credit_notes", asked(sold, 500, credit_amount_cents=500)
    )
    note = issue(api, sold, 500, refund_amount_cents=500)
    path = f"/wallets/{wallet['lago_id']}"
    left = api.get(path)["wallet"]
    assert (left["balance_cents"], left["credits_balance"]) == (1_500, "7.5")
    (voided,) = api.get(f"{path}/wallet_transactions", transaction_status="voided")["wallet_transactions"]
    assert (voided["lago_credit_note_id"], voided["credit_amount"]) == (note["lago_id"], "2.5")
    api.delete(path)
    gone = asked(sold, 1, refund_amount_cents=1)
    assert api.code(405, "POST", "/credit_notes", gone) == "invalid_type_or_status"


@pytest.mark.parametrize("is_gated", [False, True])
def test_what_is_paid_for_a_wallet_that_has_ended_can_be_refunded(api: Api, is_gated: bool) -> None:
    """Its credits pay for nothing, so that the money would be lost."""
    api.customer()
    body = {"external_customer_id": "cus", "rate_amount": "2", "currency": "EUR", "granted_credits": "1"}
    bought = {"paid_credits": "10", "invoice_requires_successful_payment": is_gated}
    wallet = api.post("/wallets", {"wallet": {**body, **bought}})["wallet"]
    path = f"/wallets/{wallet['lago_id']}"
    (sold,) = api.get(f"{path}/wallet_transactions", transaction_status="purchased")["wallet_transactions"]
    api.delete(path)
    api.put("/test_clock", {"test_clock": {"now": "2024-03-05T11:00:00Z"}})
    pay(api, {"lago_id": sold["lago_invoice_id"]}, 2_000)
    paid = api.get(f"/invoices/{sold['lago_invoice_id']}")["invoice"]
    issue(api, paid, 1_500, refund_amount_cents=1_500)
    issue(api, paid, 500, refund_amount_cents=500)
    assert api.get(path)["wallet"]["balance_cents"] == 200
    assert api.details("POST", "/credit_notes", asked(paid, 1, refund_amount_cents=1))


def test_a_void_of_prepaid_credits_gives_back_nothing_as_they_are_in_their_wallet(api: Api) -> None:
    api.customer()
    body = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "paid_credits": "10"}
    wallet = api.post("/wallets", {"wallet": body})["wallet"]
    sold = newest_invoice(api)
    pay(api, sold, 1_000)
    path = f"/invoices/{sold['lago_id']}/void"
    for amounts in ({"credit_amount": 1}, {"refund_amount": 1}):
        wanted = {"generate_credit_note": True, **amounts}
        assert api.details("POST", path, wanted) == {
            "credit_refund_amount": ["total_amount_exceeds_invoice_amount"]
        }
    assert api.post(path, {"generate_credit_note": True})["invoice"]["status"] == "voided"
    assert notes(api) == []
    assert api.get(f"/wallets/{wallet['lago_id']}")["wallet"]["balance_cents"] == 1_000


def test_an_invoice_is_voided_once(api: Api, invoice: Any) -> None:
    path = f"/invoices/{invoice['lago_id']}/void"
    body = {"generate_credit_note": True, "credit_amount": 1_000}
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: api.call("POST", path, body), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [405] * 19
    assert sorted(each["total_amount_cents"] for each in notes(api)) == [1_000, 7_330]


def test_a_fee_is_credited_once(api: Api, invoice: Any) -> None:
    body = asked(invoice, 7_000, credit_amount_cents=8_330)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: api.call("POST", "/credit_notes", body), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 19
    assert [each["number"] for each in notes(api)] == [f"{invoice['number']}-CN001"]
