"""One-off invoices over HTTP, and drafts that are deleted."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from .conftest import Api
from .test_credit_notes import move


@pytest.fixture
def sold(api: Api) -> Api:
    """An add-on of 12.50 with a tax of its own, a customer with another one, and a general one."""
    for code, rate in (("own", "7"), ("theirs", "8"), ("line", "5.5"), ("more", "2")):
        api.post("/taxes", {"tax": {"name": code, "code": code, "rate": rate}})
    add_on = {
        "name": "Setup",
        "code": "setup",
        "amount_cents": 1_250,
        "amount_currency": "EUR",
        "description": "Once",
    }
    api.post("/add_ons", {"add_on": {**add_on, "tax_codes": ["own"]}})
    api.post("/add_ons", {"add_on": {**add_on, "code": "plain", "invoice_display_name": "Plain thing"}})
    api.customer(tax_codes=["theirs"])
    return api


def body(*fees: Any, **fields: Any) -> Any:
    return {"invoice": {"external_customer_id": "cus", "currency": "EUR", "fees": list(fees), **fields}}


def test_lines_have_their_own_price_name_taxes_and_period(sold: Api) -> None:
    api = sold
    given = {
        "add_on_code": "plain",
        "units": "2.5",
        "unit_amount_cents": 333,
        "description": "Half a day more",
        "invoice_display_name": "Work",
        "tax_codes": ["line", "more"],
        "from_datetime": "2024-02-01T00:00:00Z",
        "to_datetime": "2024-02-29T23:59:59Z",
    }
    made = api.post("/invoices", body({"add_on_code": "setup"}, given, {"add_on_code": "plain"}))["invoice"]
    assert (made["invoice_type"], made["status"], made["payment_status"]) == (
        "one_off",
        "finalized",
        "pending",
    )
    assert made["number"].endswith("-001-001")
    assert (made["issuing_date"], made["currency"]) == ("2024-03-05", "EUR")
    setup, work, plain = made["fees"]
    assert [fee["amount_cents"] for fee in made["fees"]] == [1_250, 833, 1_250]  # 832.5
    assert [fee["taxes_amount_cents"] for fee in made["fees"]] == [88, 62, 100]  # 7 %, 7.5 %, 8 %
    assert (made["fees_amount_cents"], made["taxes_amount_cents"], made["total_amount_cents"]) == (
        3_333,
        250,
        3_583,
    )
    assert (setup["item"]["type"], setup["item"]["code"], setup["item"]["item_type"]) == (
        "add_on",
        "setup",
        "AddOn",
    )
    assert (setup["invoice_display_name"], setup["description"], setup["units"]) == ("Setup", "Once", "1.0")
    assert (work["invoice_display_name"], work["description"]) == ("Work", "Half a day more")
    assert work["units"] == "2.5"
    assert work["precise_unit_amount"] == "3.33"
    assert (work["from_date"], work["to_date"]) == ("2024-02-01T00:00:00+00:00", "2024-02-29T23:59:59+00:00")
    assert plain["invoice_display_name"] == "Plain thing"
    assert plain["from_date"] == plain["to_date"] == "2024-03-05T10:00:00+00:00"
    assert api.get(f"/invoices/{made['lago_id']}")["invoice"] == made
    assert api.get("/customers/cus")["customer"]["currency"] == "EUR"
    printed = printed_words(api, made)
    assert "Work Half a day more; Feb 1 – 29, 2024 2.5 €3.33 €8.33" in printed
    assert "Plain thing Once; March 5, 2024 1 €12.50 €12.50" in printed


def printed_words(api: Api, invoice: Any) -> str:
    pdf = PdfReader(BytesIO(api.call("GET", f"/invoices/{invoice['lago_id']}/pdf").content))
    return " ".join(" ".join(page.extract_text() for page in pdf.pages).split())


def test_the_price_of_little_is_as_it_was_agreed(sold: Api) -> None:
    made = sold.post(
        "/invoices", body({"add_on_code": "plain", "units": "0.0025", "unit_amount_cents": 9_999})
    )["invoice"]
    assert "0.0025 €99.99 €0.25" in printed_words(sold, made)  # 0.249975


def test_a_partners_invoice_is_from_the_partner(sold: Api) -> None:
    entity = {"legal_name": "Seller Inc", "email": "seller@example.com", "bank_details": "IBAN OURS"}
    sold.put("/billing_entities/default", {"billing_entity": entity})
    sold.customer("partner", name="Partner SARL", email="partner@example.com", account_type="partner")
    given = body({"add_on_code": "plain"}, external_customer_id="partner")
    made = sold.post("/invoices", given)["invoice"]
    assert made["self_billed"]
    words = printed_words(sold, made)
    assert "Invoice (self-billing)" in words
    assert words.index("Partner SARL") < words.index("Seller Inc")
    assert "Partner SARL · partner@example.com" in words
    assert "IBAN" not in words


def test_credit_pays_no_one_off_invoice(sold: Api) -> None:
    api = sold
    first = api.post("/invoices", body({"add_on_code": "setup", "tax_codes": ["more"]}))["invoice"]
    items = [{"fee_id": first["fees"][0]["lago_id"], "amount_cents": 1_250}]
    note = {"invoice_id": first["lago_id"], "items": items, "credit_amount_cents": 1_275}
    api.post("/credit_notes", {"credit_note": note})
    second = api.post("/invoices", body({"add_on_code": "setup"}))["invoice"]
    assert (second["credit_notes_amount_cents"], second["total_amount_cents"]) == (0, 1_338)


def test_what_is_wrong_is_said(sold: Api) -> None:
    api = sold

    def refused(*fees: Any, **fields: Any) -> Any:
        return api.details("POST", "/invoices", body(*fees, **fields))

    one = {"add_on_code": "setup"}
    assert api.code(404, "POST", "/invoices", body()) == "fees_not_found"
    assert api.code(404, "POST", "/invoices", body({"add_on_code": "other"})) == "add_on_not_found"
    assert api.code(404, "POST", "/invoices", body({**one, "tax_codes": ["?"]})) == "tax_not_found"
    assert api.code(404, "POST", "/invoices", body(one, external_customer_id="?")) == "customer_not_found"
    assert (
        api.code(404, "POST", "/invoices", body(one, billing_entity_code="?")) == "billing_entity_not_found"
    )
    half = {**one, "from_datetime": "2024-02-01T00:00:00Z"}
    assert refused(half) == {"boundaries": ["values_are_invalid"]}
    assert refused({**one, "units": "many"}) == {"units": ["value_is_invalid"]}
    assert refused({**one, "units": -1}) == {"units": ["value_is_out_of_range"]}
    assert refused(one, currency="USD") == {"currency": ["currencies_does_not_match"]}
    assert refused({**one, "units": 10**15, "unit_amount_cents": 10**15}) == {"base": ["amount_out_of_range"]}
    assert api.get("/invoices")["invoices"] == []


def test_a_customer_is_billed_in_another_currency_by_prices_that_are_given(sold: Api) -> None:
    sold.customer(currency="EUR")
    priced = {"add_on_code": "setup", "units": 3, "unit_amount_cents": 101}
    dollars = sold.post("/invoices", body(priced, currency="USD"))["invoice"]
    assert (dollars["currency"], dollars["fees_amount_cents"]) == ("USD", 303)
    assert {fee["amount_currency"] for fee in dollars["fees"]} == {"USD"}
    assert sold.get("/customers/cus")["customer"]["currency"] == "EUR"


def test_a_draft_is_deleted_and_no_other_invoice(sold: Api) -> None:
    api = sold
    final = api.post("/invoices", body({"add_on_code": "setup"}))["invoice"]
    assert api.code(405, "DELETE", f"/invoices/{final['lago_id']}") == "not_deletable"
    api.post(
        "/customers",
        {"customer": {"external_id": "cus", "billing_configuration": {"invoice_grace_period": 3}}},
    )
    api.plan("pro", amount_cents=3_100)
    api.subscribe(billing_time="anniversary")
    move(api, 2024, 4, 5, 12)
    (draft,) = api.get("/invoices", status="draft")["invoices"]
    api.delete(f"/invoices/{draft['lago_id']}")
    assert api.code(404, "GET", f"/invoices/{draft['lago_id']}") == "invoice_not_found"
    move(api, 2024, 5, 9, 12)
    assert [each["status"] for each in api.get("/invoices")["invoices"]] == ["finalized", "finalized"]
