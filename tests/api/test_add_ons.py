"""Add-ons over the API: made, changed, deleted, and what is refused."""

from __future__ import annotations

from typing import Any

from .conftest import Api


def add_on(api: Api, code: str = "setup", **fields: Any) -> Any:
    body = {"name": code, "code": code, "amount_cents": 12_345, "amount_currency": "EUR", **fields}
    return api.post("/add_ons", {"add_on": body})["add_on"]


def test_make_read_change_and_delete(api: Api) -> None:
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "19"}})
    made = add_on(api, description="Once", invoice_display_name="Setup fee", tax_codes=["vat"])
    assert (made["amount_cents"], made["amount_currency"], made["description"]) == (12_345, "EUR", "Once")
    assert [tax["code"] for tax in made["taxes"]] == ["vat"]
    other = add_on(api, "seat")
    assert api.get("/add_ons/setup")["add_on"] == made
    assert {each["lago_id"] for each in api.get("/add_ons")["add_ons"]} == {
        made["lago_id"],
        other["lago_id"],
    }
    changed = api.put("/add_ons/setup", {"add_on": {"code": "start", "amount_cents": 1, "tax_codes": []}})[
        "add_on"
    ]
    assert changed == {**made, "code": "start", "amount_cents": 1, "taxes": []}
    assert api.delete("/add_ons/start")["add_on"] == changed
    assert api.code(404, "GET", "/add_ons/start") == "add_on_not_found"
    assert api.get("/add_ons")["meta"]["total_count"] == 1


def test_bad_add_ons_are_reported(api: Api) -> None:
    assert api.details("POST", "/add_ons", {"add_on": {"description": "d"}}) == {
        name: ["value_is_mandatory"] for name in ("name", "code", "amount_cents", "amount_currency")
    }
    add_on(api)
    add_on(api, "other")
    taken = {"code": ["value_already_exist"]}
    empty = {"name": "n", "code": "setup", "amount_cents": 1, "amount_currency": ""}
    assert api.details("POST", "/add_ons", {"add_on": empty}) == {"amount_currency": ["value_is_invalid"]}
    body = {"name": "n", "code": "setup", "amount_cents": 1, "amount_currency": "EUR"}
    assert api.details("POST", "/add_ons", {"add_on": body}) == taken
    assert api.details("PUT", "/add_ons/other", {"add_on": {"code": "setup"}}) == taken
    assert api.details("PUT", "/add_ons/other", {"add_on": {"amount_cents": -1}}) == {
        "amount_cents": ["value_is_out_of_range"]
    }
    body = {"add_on": {**body, "code": "third", "tax_codes": ["none"]}}
    assert api.code(404, "POST", "/add_ons", body) == "tax_not_found"
