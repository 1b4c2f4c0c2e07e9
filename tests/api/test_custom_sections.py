"""Custom sections: texts of the seller's own on invoices."""

from __future__ import annotations

from typing import Any

from .conftest import Api

ENTITY = "/billing_entities/default"


def section(api: Api, code: str, **fields: Any) -> Any:
    body = {
        "code": code,
        "name": code.title(),
        "display_name": f"About {code}",
        "details": "a\tb\n\\c",
        **fields,
    }
    return api.post("/invoice_custom_sections", {"invoice_custom_section": body})["invoice_custom_section"]


def choose(api: Api, *codes: str) -> Any:
    chosen = {"billing_entity": {"invoice_custom_section_codes": list(codes)}}
    return api.put(ENTITY, chosen)["billing_entity"]


def invoice(api: Api, customer: str = "cus") -> Any:
    body = {"external_customer_id": customer, "currency": "EUR", "fees": [{"add_on_code": "item"}]}
    return api.post("/invoices", {"invoice": body})["invoice"]


def printed(found: Any) -> list[tuple[str, str, str]]:
    return [
        (each["code"], each["display_name"], each["details"])
        for each in found["applied_invoice_custom_sections"]
    ]


def test_a_section_is_made_changed_and_deleted(api: Api) -> None:
    made = section(api, "bank", description="For us")
    assert api.get("/invoice_custom_sections/bank")["invoice_custom_section"] == made
    again = {"invoice_custom_section": {"code": "bank", "name": "n"}}
    assert api.details("POST", "/invoice_custom_sections", again) == {"code": ["value_already_exist"]}
    section(api, "legal")
    taken = {"invoice_custom_section": {"code": "legal"}}
    assert api.details("PUT", "/invoice_custom_sections/bank", taken) == {"code": ["value_already_exist"]}
    changed = api.put("/invoice_custom_sections/bank", {"invoice_custom_section": {"details": "new"}})
    assert changed["invoice_custom_section"] == {**made, "details": "new"}
    api.delete("/invoice_custom_sections/bank")
    listed = api.get("/invoice_custom_sections")["invoice_custom_sections"]
    assert [each["code"] for each in listed] == ["legal"]


def test_an_invoice_keeps_the_sections_of_its_customer_or_else_of_its_billing_entity(api: Api) -> None:
    api.post(
        "/add_ons", {"add_on": {"code": "item", "name": "I", "amount_cents": 5, "amount_currency": "EUR"}}
    )
    for code in ("bank", "legal", "own"):
        section(api, code)
    assert (
        api.call("PUT", ENTITY, {"billing_entity": {"invoice_custom_section_codes": ["x"]}}).status_code
        == 404
    )
    shown = choose(api, "legal", "bank")["selected_invoice_custom_sections"]
    assert [each["code"] for each in shown] == ["bank", "legal"]
    api.customer()
    first = invoice(api)
    assert printed(first) == [(code, f"About {code}", "a\tb\n\\c") for code in ("bank", "legal")]
    api.put("/invoice_custom_sections/legal", {"invoice_custom_section": {"details": "new"}})
    api.delete("/invoice_custom_sections/bank")
    assert printed(api.get(f"/invoices/{first['lago_id']}")["invoice"]) == printed(first)
    assert printed(invoice(api)) == [("legal", "About legal", "new")]

    def customer(**fields: Any) -> list[str]:
        found = api.post("/customers", {"customer": {"external_id": "cus", **fields}})["customer"]
        return [each["code"] for each in found["applicable_invoice_custom_sections"]]

    assert customer(invoice_custom_section_codes=["own"]) == ["own"]
    assert [code for code, *_ in printed(invoice(api))] == ["own"]
    assert customer(skip_invoice_custom_sections=True) == []
    assert printed(invoice(api)) == []
    assert customer(skip_invoice_custom_sections=False, invoice_custom_section_codes=[]) == ["legal"]


def test_a_draft_follows_its_customer_until_it_is_final(api: Api) -> None:
    section(api, "bank")
    api.plan(amount_cents=100, pay_in_advance=True)
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.subscribe("sub")
    (draft,) = api.get("/invoices")["invoices"]
    assert printed(api.get(f"/invoices/{draft['lago_id']}")["invoice"]) == []
    choose(api, "bank")
    final = api.put(f"/invoices/{draft['lago_id']}/finalize", {})["invoice"]
    assert [code for code, *_ in printed(final)] == ["bank"]
