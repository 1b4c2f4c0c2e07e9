"""Several billing entities: their customers, their numbers, and invoices that stay with whom issued them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .conftest import Api
from .test_payments import billed, move


def second(api: Api, **fields: Any) -> Any:
    body = {"code": "second", "name": "Second Ltd", "document_number_prefix": "sec-2", **fields}
    return api.post("/billing_entities", {"billing_entity": body})["billing_entity"]


def test_a_billing_entity_is_made_once(api: Api) -> None:
    made = second(api, net_payment_term=7, timezone="Europe/Paris")
    assert (made["code"], made["is_default"], made["document_number_prefix"]) == ("second", False, "SEC-2")
    assert api.get("/billing_entities/second")["billing_entity"] == made
    assert [each["code"] for each in api.get("/billing_entities")["billing_entities"]] == [
        "default",
        "second",
    ]
    again = {"billing_entity": {"code": "second", "name": "n"}}
    assert api.details("POST", "/billing_entities", again) == {"code": ["value_already_exist"]}
    missing = api.details("POST", "/billing_entities", {"billing_entity": {"name": "n"}})
    assert missing == {"code": ["value_is_mandatory"]}
    invoice = billed(api, billing_entity_code="second")
    assert (invoice["billing_entity_code"], invoice["number"]) == ("second", "SEC-2-001-001")
    assert invoice["payment_due_date"] == "2024-03-12"


def test_a_customer_moves_with_its_drafts_and_its_final_invoices_stay(api: Api) -> None:
    second(api)
    final = billed(api)
    grace: Any = {"billing_configuration": {"invoice_grace_period": 9}}
    draft = billed(api, cents=500, **grace)
    assert (final["billing_entity_code"], draft["status"]) == ("default", "draft")
    api.post("/customers", {"customer": {"external_id": "cus", "billing_entity_code": "second"}})
    path = f"/invoices/{draft['lago_id']}"
    done = api.put(f"{path}/finalize", {})["invoice"]
    assert (done["billing_entity_code"], done["number"]) == ("second", "SEC-2-001-001")
    kept = api.get(f"/invoices/{final['lago_id']}")["invoice"]
    assert (kept["billing_entity_code"], kept["number"]) == ("default", final["number"])
    assert kept["customer"]["billing_entity_code"] == "second"


def test_numbers_go_on_from_the_number_of_invoices_whenever_the_mode_is_switched(api: Api) -> None:
    entity = "/billing_entities/default"
    api.put(entity, {"billing_entity": {"document_number_prefix": "ONE"}})
    modes = ("per_customer", "per_billing_entity", "per_customer", "per_billing_entity")
    numbers = []
    for month, mode in enumerate(modes, start=3):
        api.put(entity, {"billing_entity": {"document_numbering": mode}})
        if month == 3:
            api.plan(amount_cents=100, pay_in_advance=True)
            for name in ("a", "b", "c"):
                api.customer(name)
                api.subscribe(name, external_customer_id=name, billing_time="anniversary")
        move(api, 2024, month, 5, 12)
        found = api.get("/invoices", issuing_date_from=f"2024-{month:02}-05")["invoices"]
        numbers.append(sorted(each["number"] for each in found))
    assert numbers == [
        ["ONE-001-001", "ONE-002-001", "ONE-003-001"],
        ["ONE-202404-004", "ONE-202404-005", "ONE-202404-006"],
        ["ONE-001-003", "ONE-002-003", "ONE-003-003"],
        ["ONE-202406-010", "ONE-202406-011", "ONE-202406-012"],
    ]


def test_twenty_finalizations_at_once_leave_no_gap(api: Api) -> None:
    per_entity = {"document_numbering": "per_billing_entity", "document_number_prefix": "ONE"}
    api.put("/billing_entities/default", {"billing_entity": per_entity})
    api.plan(amount_cents=100, pay_in_advance=True)
    for each in range(20):
        api.customer(f"c{each}", billing_configuration={"invoice_grace_period": 9})
        api.subscribe(f"s{each}", external_customer_id=f"c{each}", billing_time="anniversary")
    move(api, 2024, 3, 5, 12)
    drafts = api.get("/invoices", status="draft")["invoices"]
    assert len(drafts) == 20
    with ThreadPoolExecutor(20) as threads:
        answers = list(
            threads.map(lambda each: api.call("PUT", f"/invoices/{each['lago_id']}/finalize", {}), drafts)
        )
    numbers = sorted(each.json()["invoice"]["number"] for each in answers)
    assert numbers == [f"ONE-202403-{each:03}" for each in range(1, 21)]


def test_a_partners_invoices_are_self_billed_and_numbered_for_the_partner(api: Api) -> None:
    per_entity = {"document_numbering": "per_billing_entity", "document_number_prefix": "ONE"}
    api.put("/billing_entities/default", {"billing_entity": per_entity})
    own, other = billed(api, "partner", account_type="partner"), billed(api, "other")
    assert (own["self_billed"], own["number"]) == (True, "ONE-001-001")
    assert (other["self_billed"], other["number"]) == (False, "ONE-202403-001")
    kept = api.post("/customers", {"customer": {"external_id": "partner", "account_type": "customer"}})
    assert kept["customer"]["account_type"] == "partner"
