"""Payments over HTTP: what is paid, what is overdue, and what is requested together."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.store.invoices import invoices_by_ids
from permille.usecases import payments

from .conftest import Api

NOBODY = "11111111-2222-3333-4444-555555555555"


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def billed(api: Api, external_id: str = "cus", *, cents: int = 3_100, **customer: Any) -> Any:
    """A final invoice of 5 March, of a plan that is paid in advance by anniversaries."""
    code = f"{external_id}-{cents}"
    api.plan(code, amount_cents=cents, pay_in_advance=True)
    api.customer(external_id, **customer)
    api.subscribe(f"sub-{code}", external_customer_id=external_id, plan=code, billing_time="anniversary")
    move(api, 2024, 3, 5, 11)
    return api.get(f"/customers/{external_id}/invoices")["invoices"][0]


def pay(api: Api, invoice: Any, cents: Any, **fields: Any) -> Any:
    payment = {"invoice_id": invoice["lago_id"], "amount_cents": cents, "reference": "ref", **fields}
    return api.call("POST", "/payments", {"payment": payment})


def shown(api: Api, invoice: Any) -> Any:
    return api.get(f"/invoices/{invoice['lago_id']}")["invoice"]


def webhooks(api: Api) -> list[str]:
    api.conn.rollback()
    rows = api.conn.execute(
        "select webhook_type from webhook where organization_id = %s order by created_at, id",
        [api.organization.id],
    )
    return [row[0] for row in rows]


def test_parts_of_an_invoice_are_paid_until_nothing_is_due(api: Api) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    invoice = billed(api)
    first = pay(api, invoice, 1_000, paid_at="2024-03-04").json()["payment"]
    assert (first["type"], first["payment_status"], first["reference"]) == ("manual", "succeeded", "ref")
    assert (first["invoice_ids"], first["invoice_numbers"]) == ([invoice["lago_id"]], [invoice["number"]])
    assert first["created_at"] == "2024-03-04T00:00:00Z"
    now = shown(api, invoice)
    assert (now["payment_status"], now["total_paid_amount_cents"], now["total_due_amount_cents"]) == (
        "pending",
        1_000,
        2_100,
    )
    assert pay(api, invoice, 2_101).json()["error_details"] == {"amount_cents": ["value_is_out_of_range"]}
    second = pay(api, invoice, 2_100).json()["payment"]
    now = shown(api, invoice)
    assert (now["payment_status"], now["total_due_amount_cents"]) == ("succeeded", 0)
    assert [fee["payment_status"] for fee in now["fees"]] == ["succeeded"]
    for path in ("/payments", "/customers/cus/payments", f"/invoices/{invoice['lago_id']}/payments"):
        assert [each["lago_id"] for each in api.get(path)["payments"]] == [
            second["lago_id"],
            first["lago_id"],
        ]
    assert api.get("/payments", invoice_id=NOBODY)["payments"] == []
    assert api.get(f"/payments/{first['lago_id']}")["payment"] == first
    receipts = api.get("/payment_receipts", invoice_id=invoice["lago_id"])["payment_receipts"]
    slug = api.get("/customers/cus")["customer"]["slug"]
    assert {each["number"] for each in receipts} == {f"{slug}-001", f"{slug}-002"}
    assert api.get(f"/payment_receipts/{receipts[0]['lago_id']}")["payment_receipt"] == receipts[0]
    sent = Counter(webhooks(api))
    assert sent["payment.succeeded"] == sent["payment_receipt.created"] == 2
    assert sent["invoice.payment_status_updated"] == 1


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"invoice_id": None}, {"invoice_id": ["value_is_mandatory"]}),
        ({"amount_cents": 0}, {"amount_cents": ["invalid_value"]}),
        ({"amount_cents": "12"}, {"amount_cents": ["invalid_value"]}),
        ({"amount_cents": 1.5}, {"amount_cents": ["invalid_value"]}),
        ({"amount_cents": 10**40}, {"amount_cents": ["value_is_out_of_range"]}),
        ({"reference": ""}, {"reference": ["value_is_mandatory"]}),
        ({"reference": "r" * 41}, {"reference": ["value_is_too_long"]}),
        ({"paid_at": "soon"}, {"paid_at": ["invalid_date"]}),
    ],
)
def test_a_payment_that_cannot_be_is_refused_by_field(
    api: Api, fields: dict[str, Any], problems: dict[str, Any]
) -> None:
    answer = pay(api, billed(api), 1, **fields)
    assert (answer.status_code, answer.json()["error_details"]) == (422, problems)
    assert "percentage" not in answer.json()["message"]


def test_only_final_invoices_are_paid(api: Api) -> None:
    draft = billed(api, billing_configuration={"invoice_grace_period": 5})
    assert draft["status"] == "draft"
    refused = pay(api, draft, 1)
    assert (refused.status_code, refused.json()["code"]) == (403, "invoice_is_not_final")
    assert pay(api, {"lago_id": NOBODY}, 1).status_code == 404


def test_twenty_payments_at_once_never_come_to_more_than_is_due(api: Api) -> None:
    invoice = billed(api, cents=3_150)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: pay(api, invoice, 300), range(20)))
    assert sorted(each.status_code for each in answers) == [200] * 10 + [422] * 10
    assert shown(api, invoice)["total_due_amount_cents"] == 150
    assert pay(api, invoice, 150).status_code == 200
    assert shown(api, invoice)["payment_status"] == "succeeded"
    numbers = [each["number"] for each in api.get("/payment_receipts")["payment_receipts"]]
    assert len(set(numbers)) == 11


def test_what_follows_a_payment_is_done_once_and_with_the_paid_invoices(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def follow(_conn: Any, rows: Any, _now: datetime) -> None:
        seen.append([(row.id, row.payment_status) for row in rows])

    invoice = billed(api)
    with monkeypatch.context() as patch:
        patch.setattr(payments, "FOLLOWS", (follow,))
        pay(api, invoice, 3_000)
        pay(api, invoice, 100)
        api.put(f"/invoices/{invoice['lago_id']}", {"invoice": {"payment_status": "succeeded"}})
    ((known, status),) = seen[0]
    assert (str(known), status, len(seen)) == (invoice["lago_id"], "succeeded", 1)
    assert invoices_by_ids(api.conn, [known])[known].total_paid_amount_cents == 3_100


def test_an_invoice_is_overdue_after_its_due_date_in_the_customers_timezone(api: Api) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    invoice = billed(api, timezone="America/New_York", net_payment_term=2)
    assert invoice["payment_due_date"] == "2024-03-07"
    move(api, 2024, 3, 8, 4, 59)
    assert api.get("/invoices", payment_overdue="true")["invoices"] == []
    move(api, 2024, 3, 8, 5, 1)
    (found,) = api.get("/invoices", payment_overdue="true")["invoices"]
    assert (found["lago_id"], found["payment_overdue"]) == (invoice["lago_id"], True)
    move(api, 2024, 3, 12)
    assert webhooks(api).count("invoice.payment_overdue") == 1
    path = f"/invoices/{invoice['lago_id']}"
    api.put(path, {"invoice": {"payment_status": "succeeded"}})
    now = shown(api, invoice)
    assert (now["payment_overdue"], now["total_paid_amount_cents"]) == (False, 0)
    api.put(path, {"invoice": {"payment_status": "failed"}})
    move(api, 2024, 3, 13)
    assert shown(api, invoice)["payment_overdue"]


def test_what_is_due_of_overdue_invoices_is_requested_together(api: Api) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    one, other = billed(api, email="cus@example.com"), billed(api, cents=500)
    stranger = billed(api, "else", cents=700)
    ids = [one["lago_id"], other["lago_id"]]
    body: dict[str, Any] = {"external_customer_id": "cus", "lago_invoice_ids": ids}
    wanted = {"payment_request": body}
    assert api.code(405, "POST", "/payment_requests", wanted) == "invoices_not_overdue"
    move(api, 2024, 3, 7)
    pay(api, one, 600)
    made = api.post("/payment_requests", wanted)["payment_request"]
    assert (made["amount_cents"], made["amount_currency"], made["payment_status"]) == (
        3_000,
        "EUR",
        "pending",
    )
    assert made["email"] == "cus@example.com"
    assert sorted(each["lago_id"] for each in made["invoices"]) == sorted(ids)
    assert api.get(f"/payment_requests/{made['lago_id']}")["payment_request"] == made
    assert api.get("/customers/cus/payment_requests")["payment_requests"] == [made]
    assert api.get("/payment_requests", payment_status="succeeded")["payment_requests"] == []
    pay(api, one, 2_500)
    assert api.get("/payment_requests", payment_status="succeeded")["payment_requests"] == []
    pay(api, other, 500)
    (paid,) = api.get("/payment_requests", payment_status="succeeded")["payment_requests"]
    assert paid["lago_id"] == made["lago_id"]
    assert sorted(each for each in webhooks(api) if each.startswith("payment_request.")) == [
        "payment_request.created",
        "payment_request.payment_status_updated",
    ]
    body["lago_invoice_ids"] = [stranger["lago_id"]]
    assert api.code(404, "POST", "/payment_requests", wanted) == "invoice_not_found"
    body["lago_invoice_ids"] = []
    assert api.details("POST", "/payment_requests", wanted) == {"lago_invoice_ids": ["value_is_mandatory"]}


@pytest.mark.parametrize("first", ["paid", "void"])
def test_a_request_has_succeeded_once_all_that_is_not_void_of_it_is_paid(api: Api, first: str) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    paid, void = billed(api), billed(api, cents=500)
    move(api, 2024, 3, 7)
    body = {"external_customer_id": "cus", "lago_invoice_ids": [paid["lago_id"], void["lago_id"]]}
    api.post("/payment_requests", {"payment_request": body})
    for step in (first, "void" if first == "paid" else "paid"):
        if step == "paid":
            pay(api, paid, 3_100)
        else:
            api.post(f"/invoices/{void['lago_id']}/void", {})
    assert [each["payment_status"] for each in api.get("/payment_requests")["payment_requests"]] == [
        "succeeded"
    ]
    assert webhooks(api).count("payment_request.payment_status_updated") == 1


def test_a_request_of_which_all_is_void_was_not_paid(api: Api) -> None:
    void = billed(api)
    move(api, 2024, 3, 7)
    body = {"external_customer_id": "cus", "lago_invoice_ids": [void["lago_id"]]}
    api.post("/payment_requests", {"payment_request": body})
    api.post(f"/invoices/{void['lago_id']}/void", {})
    assert api.get("/payment_requests")["payment_requests"][0]["payment_status"] == "pending"


def test_invoices_in_two_currencies_are_not_requested_together(api: Api) -> None:
    euros = billed(api)
    api.plan("usd", amount_cents=100, amount_currency="USD", pay_in_advance=True)
    api.post("/customers", {"customer": {"external_id": "cus", "currency": None}})
    api.subscribe("in-usd", plan="usd", billing_time="anniversary")
    move(api, 2024, 3, 7)
    rows = api.get("/customers/cus/invoices", payment_overdue="true")["invoices"]
    assert {each["currency"] for each in rows} == {"EUR", "USD"}
    assert euros["lago_id"] in {each["lago_id"] for each in rows}
    body = {"external_customer_id": "cus", "lago_invoice_ids": [each["lago_id"] for each in rows]}
    refused = api.code(405, "POST", "/payment_requests", {"payment_request": body})
    assert refused == "invoices_have_different_currencies"


def test_without_a_provider_nothing_is_collected_and_the_answer_says_so(api: Api) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    invoice = billed(api)
    path = f"/invoices/{invoice['lago_id']}"
    none = {"base": ["no_linked_payment_provider"]}
    assert api.details("POST", f"{path}/payment_url", None) == none
    assert api.details("POST", "/customers/cus/checkout_url", None) == none
    assert api.get("/customers/cus/payment_methods")["payment_methods"] == []
    assert api.call("POST", f"{path}/retry_payment").status_code == 200
    assert webhooks(api)[-1] == "invoice.payment_failure"
    pay(api, invoice, 3_100)
    assert api.code(405, "POST", f"{path}/retry_payment") == "invalid_status"
