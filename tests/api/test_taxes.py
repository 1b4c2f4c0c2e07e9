"""Taxes over the API: made, applied at every level, on usage, fees, invoices and the PDF."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from pypdf import PdfReader

from permille.api.taxes import render_fee_taxes
from permille.core.instants import microseconds
from permille.core.invoice.draft import Line
from permille.core.record import replace
from permille.core.tax import Tax, tax_fee
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import fees
from tests.core.test_invoice_draft import AT, customer, draft, fee, plan

from .conftest import START, Api, charge


def tax(api: Api, code: str = "vat", rate: Any = "20", **fields: Any) -> Any:
    return api.post("/taxes", {"tax": {"name": code.upper(), "code": code, "rate": rate, **fields}})["tax"]


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    conn = open_connection(dsn)

    def one(transaction: str, tokens: int, code: str = "tokens") -> None:
        draft = Draft(transaction, code, "sub", microseconds(START), None, {"tokens": tokens})
        store(conn, Memory(), [Request(api.organization.id, [draft], microseconds(START))])

    yield one
    conn.close()


def close(api: Api) -> Any:
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    (listed,) = api.get("/invoices")["invoices"]
    return api.get(f"/invoices/{listed['lago_id']}")["invoice"]


def test_make_read_change_and_delete(api: Api) -> None:
    made = tax(api, description="French", rate=19.6)
    assert (made["code"], made["rate"], made["applied_to_organization"]) == ("vat", 19.6, False)
    assert api.get("/taxes/vat")["tax"] == made
    assert api.get("/taxes")["taxes"] == [made]
    changed = api.put("/taxes/vat", {"tax": {"rate": "21", "code": "btw"}})["tax"]
    assert (changed["rate"], changed["code"], changed["name"]) == (21.0, "btw", "VAT")
    assert [changed[name] for name in ("customers_count", "plans_count", "charges_count")] == [0, 0, 0]
    assert api.delete("/taxes/btw")["tax"]["code"] == "btw"
    assert api.code(404, "GET", "/taxes/btw") == "tax_not_found"


def test_bad_taxes_are_reported(api: Api) -> None:
    assert api.details("POST", "/taxes", {"tax": {"rate": "much"}}) == {
        "name": ["value_is_mandatory"],
        "code": ["value_is_mandatory"],
        "rate": ["value_is_invalid"],
    }
    body = {"tax": {"name": "n", "code": "c", "rate": -1}}
    assert api.details("POST", "/taxes", body) == {"rate": ["value_is_out_of_range"]}
    tax(api)
    body = {"tax": {"name": "n", "code": "vat", "rate": 1}}
    assert api.details("POST", "/taxes", body) == {"code": ["value_already_exist"]}


def test_the_organizations_taxes_are_those_of_its_default_entity(api: Api) -> None:
    def entities(code: str) -> Any:
        return api.get(f"/taxes/{code}")["tax"]["applied_to_billing_entities_codes"]

    made = tax(api, "general", applied_to_organization=True)
    assert made["applied_to_billing_entities_codes"] == ["default"]
    tax(api, "other")
    changed = api.put("/billing_entities/default", {"billing_entity": {"tax_codes": ["other"]}})
    assert [each["code"] for each in changed["billing_entity"]["taxes"]] == ["other"]
    assert (entities("general"), entities("other")) == ([], ["default"])
    api.put("/taxes/general", {"tax": {"applied_to_organization": True}})
    assert (entities("general"), entities("other")) == (["default"], ["default"])
    api.put("/taxes/general", {"tax": {"applied_to_organization": False}})
    assert entities("general") == []
    api.delete("/taxes/other")
    assert api.get("/billing_entities/default")["billing_entity"]["taxes"] == []
    tax(api, "other")
    assert entities("other") == [], "a new tax with the code of a deleted one is another one"


def test_tax_codes_can_be_changed_and_taken_away(api: Api) -> None:
    tax(api)
    tax(api, "local", 3)
    metric = api.metric()
    api.plan("pro", [charge(metric, tax_codes=["vat"])], tax_codes=["local", "vat"])
    shown = api.get("/plans/pro")["plan"]
    assert [each["code"] for each in shown["taxes"]] == ["local", "vat"]
    kept = api.put("/plans/pro", {"plan": {"name": "Pro"}})["plan"]
    assert (kept["taxes"], kept["charges"]) == (shown["taxes"], shown["charges"])
    gone = api.put("/plans/pro", {"plan": {"tax_codes": []}})["plan"]
    assert (gone["taxes"], gone["charges"]) == ([], shown["charges"])
    path = f"/plans/pro/charges/{shown['charges'][0]['code']}"
    changed = api.put(path, {"charge": {"tax_codes": ["local"]}})["charge"]
    assert [each["code"] for each in changed["taxes"]] == ["local"]
    api.customer(tax_codes=["vat"])
    assert [each["code"] for each in api.customer(name="New")["taxes"]] == ["vat"]
    assert [each["code"] for each in api.customer(tax_codes=None)["taxes"]] == ["vat"]
    assert api.customer(tax_codes=[])["taxes"] == []


def test_unknown_codes_are_refused_everywhere(api: Api) -> None:
    customer = {"customer": {"external_id": "c", "tax_codes": ["none"]}}
    assert api.code(404, "POST", "/customers", customer) == "tax_not_found"
    entity = {"billing_entity": {"tax_codes": ["none"]}}
    assert api.code(404, "PUT", "/billing_entities/default", entity) == "tax_not_found"
    metric = api.metric()
    plan = {
        "name": "p",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
    }
    assert api.code(404, "POST", "/plans", {"plan": {**plan, "tax_codes": ["none"]}}) == "tax_not_found"
    charges = [charge(metric, tax_codes=["none"])]
    assert api.code(404, "POST", "/plans", {"plan": {**plan, "charges": charges}}) == "tax_not_found"


def test_the_narrowest_taxes_are_on_fees_invoice_usage_and_pdf(api: Api, send: Any) -> None:
    for code, rate in (("general", "20"), ("plans", "10"), ("local", "1.5"), ("state", "4")):
        tax(api, code, rate, applied_to_organization=code == "general")
    metrics = [api.metric("tokens"), api.metric("images")]
    made = api.plan(
        "pro",
        [charge(metrics[0], tax_codes=["local", "state"]), charge(metrics[1])],
        amount_cents=1_000,
        tax_codes=["plans"],
    )
    assert [each["code"] for each in made["taxes"]] == ["plans"]
    assert [each["code"] for each in made["charges"][0]["taxes"]] == ["local", "state"]
    api.customer()
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    send("a", 33)
    send("b", 10, "images")
    path = "/customers/cus/current_usage"
    usage = api.get(path, external_subscription_id="sub")["customer_usage"]
    assert (usage["amount_cents"], usage["taxes_amount_cents"]) == (4_300, 282), "33 x 5.5 % and 10 x 10 %"
    assert usage["total_amount_cents"] == 4_582
    plain = api.get(path, external_subscription_id="sub", apply_taxes="false")["customer_usage"]
    assert plain["taxes_amount_cents"] == 0
    invoice = close(api)
    assert invoice["taxes_amount_cents"] == 382
    assert invoice["sub_total_including_taxes_amount_cents"] == invoice["total_amount_cents"] == 5_682
    applied = {each["tax_code"]: each["amount_cents"] for each in invoice["applied_taxes"]}
    assert applied == {"plans": 200, "local": 50, "state": 132}
    fees = {fee["item"]["code"]: fee for fee in invoice["fees"]}
    assert (fees["tokens"]["taxes_amount_cents"], fees["tokens"]["taxes_rate"]) == (182, 5.5)
    (on_fee,) = fees["pro"]["applied_taxes"]
    assert (on_fee["tax_code"], on_fee["lago_fee_id"]) == ("plans", fees["pro"]["lago_id"])
    assert "fees_amount_cents" not in on_fee
    assert invoice["applied_taxes"][0]["lago_invoice_id"] == invoice["lago_id"]
    assert fees["tokens"]["total_amount_cents"] == 3_482
    pdf = api.call("GET", f"/invoices/{invoice['lago_id']}/pdf")
    text = " ".join("".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages).split())
    assert "LOCAL (1.5%) on €33.00" in text
    assert "€56.82" in text


def test_a_customers_taxes_beat_the_organizations_and_a_deleted_tax_is_gone(api: Api, send: Any) -> None:
    tax(api, "general", applied_to_organization=True)
    tax(api, "own", "0")
    assert [each["code"] for each in api.get("/organizations")["organization"]["taxes"]] == ["general"]
    api.plan("pro", [charge(api.metric())])
    assert [each["code"] for each in api.customer(tax_codes=["own"])["taxes"]] == ["own"]
    api.subscribe()
    send("a", 10)
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["taxes_amount_cents"] == 0
    api.delete("/taxes/own")
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["taxes_amount_cents"] == 200
    api.put("/taxes/general", {"tax": {"code": "vat", "rate": 10}})
    assert close(api)["taxes_amount_cents"] == 100
    api.put("/taxes/vat", {"tax": {"applied_to_organization": False}})
    assert api.get("/organizations")["organization"]["taxes"] == []


def test_invoices_keep_the_tax_as_it_was(api: Api, send: Any) -> None:
    tax(api, applied_to_organization=True)
    api.plan("pro", [charge(api.metric())])
    api.customer()
    api.subscribe()
    send("a", 10)
    before = close(api)
    api.put("/taxes/vat", {"tax": {"rate": 50}})
    api.delete("/taxes/vat")
    after = api.get(f"/invoices/{before['lago_id']}")["invoice"]
    assert after["applied_taxes"] == before["applied_taxes"]
    assert after["total_amount_cents"] == before["total_amount_cents"] == 1_200


def test_two_taxes_add_up_to_the_total_on_every_document(api: Api, send: Any) -> None:
    """99.90 at 5 and 9.975 % is 114.86, and so are the lines of the invoice, of the draft, of the credit note, of the PDF."""
    tax(api, "gst", "5", applied_to_organization=True)
    tax(api, "qst", "9.975", applied_to_organization=True)
    api.plan("pro", [charge(api.metric())], amount_cents=9_990, pay_in_advance=True)
    api.customer(billing_configuration={"invoice_grace_period": 1})
    api.subscribe(billing_time="anniversary")
    (draft,) = api.get("/invoices")["invoices"]
    assert draft["status"] == "draft"
    final = api.put(f"/invoices/{draft['lago_id']}/finalize", {})["invoice"]
    for invoice in (api.get(f"/invoices/{draft['lago_id']}")["invoice"], final):
        assert [each["amount_cents"] for each in invoice["applied_taxes"]] == [499, 997]
        assert (invoice["taxes_amount_cents"], invoice["total_amount_cents"]) == (1_496, 11_486)
        (fee,) = invoice["fees"]
        assert fee["taxes_amount_cents"] == 1_496
    (listed,) = [fee for fee in api.get("/fees")["fees"] if fee["lago_id"] == fee["lago_id"]]
    assert sum(each["amount_cents"] for each in listed["applied_taxes"]) == listed["taxes_amount_cents"]
    pdf = api.call("GET", f"/invoices/{final['lago_id']}/pdf")
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages)
    assert all(amount in text for amount in ("99.90", "4.99", "9.97", "114.86"))
    api.delete("/subscriptions/sub")
    (note,) = api.get("/credit_notes")["credit_notes"]
    listed = sum(each["amount_cents"] for each in note["applied_taxes"])
    assert listed == note["taxes_amount_cents"]
    assert note["total_amount_cents"] == note["sub_total_excluding_taxes_amount_cents"] + listed


def test_a_tax_on_a_fee_has_one_id_and_old_rows_keep_theirs() -> None:
    vat = Tax(
        id=UUID(int=1),
        code="vat",
        name="VAT",
        description=None,
        rate=Decimal(20),
        applied_to_organization=False,
        created_at=AT,
    )
    line = Line(fee(100), plan(), taxed=tax_fee(100, Decimal(100), [vat]))
    (row,) = fees.unsaved(draft(line, customer=customer(organization_id=UUID(int=9))))
    (shown,) = render_fee_taxes(row)
    assert (shown.tax_code, shown.amount_cents, shown.amount_currency) == ("vat", 20, row.amount_currency)
    assert render_fee_taxes(row) == [shown]
    assert render_fee_taxes(replace(row, id=UUID(int=2)))[0].lago_id != shown.lago_id
    old = replace(row, applied_taxes=[{**row.applied_taxes[0], "lago_id": "kept"}])
    assert render_fee_taxes(old)[0].lago_id == "kept"
