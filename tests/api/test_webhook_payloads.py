"""Webhooks of money carry the object as the API shows it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from permille.api.webhooks import RENDERERS
from permille.clock import system_now
from permille.config import Config
from permille.database.connections import encode_answer
from permille.out import webhooks as out
from permille.out.kind import Context
from permille.store import webhooks

from .conftest import Api

ADDRESSES = {"invoice": "/invoices", "credit_note": "/credit_notes"}


def queued(api: Api) -> list[tuple[str, Any]]:
    """Type and payload of each webhook of an invoice or a credit note."""
    api.conn.rollback()
    rows = api.conn.execute(
        "select webhook_type, object_type, object_id from webhook where organization_id = %s"
        " and object_type = any(%s)",
        [api.organization.id, list(ADDRESSES)],
    ).fetchall()
    found = []
    for kind, object_type, object_id in rows:
        rendered = RENDERERS[object_type](api.conn, [object_id])[object_id]
        payload = json.loads(encode_answer(rendered))
        shown = api.get(f"{ADDRESSES[object_type]}/{object_id}")[object_type]
        assert payload == shown, kind
        found.append((kind, payload))
    return found


def test_one_off_invoices_credit_notes_and_voids(api: Api) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "http://127.0.0.1:9/hook"}})
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    seat = {"name": "Seat", "code": "seat", "amount_cents": 1_000, "amount_currency": "EUR"}
    api.post("/add_ons", {"add_on": seat})
    api.customer(currency="EUR")
    sold = {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "seat", "units": 3}]}
    first, second = (api.post("/invoices", {"invoice": sold})["invoice"] for _ in range(2))
    item = {"fee_id": first["fees"][0]["lago_id"], "amount_cents": 500}
    note = {"invoice_id": first["lago_id"], "reason": "other", "items": [item]}
    made = api.post("/credit_notes", {"credit_note": {**note, "credit_amount_cents": 600}})["credit_note"]
    api.put(f"/credit_notes/{made['lago_id']}/void", None)
    api.post(f"/invoices/{second['lago_id']}/void", {"generate_credit_note": True, "credit_amount": 3_600})
    found = queued(api)
    assert sorted(kind for kind, _ in found) == sorted(
        [*["invoice.one_off_created"] * 2, "invoice.voided", *["credit_note.created"] * 2]
    )
    by_kind = dict(found)
    assert by_kind["invoice.one_off_created"]["invoice_type"] == "one_off"
    assert by_kind["invoice.voided"]["status"] == "voided"
    notes = {each["total_amount_cents"] for kind, each in found if kind == "credit_note.created"}
    assert notes == {600, 3_600}


def sent(api: Api, endpoint_id: str) -> list[dict[str, Any]]:
    """The bodies of what is to be sent to an endpoint, as the worker makes them."""
    now = system_now()
    api.conn.rollback()
    claimed = webhooks.claim(
        api.conn, UUID(endpoint_id), now=now, lease_until=now + timedelta(minutes=5), limit=100
    )
    context = Context(
        pool=cast("Any", None), config=Config(port=8123), renderers=RENDERERS, is_stopping=lambda: False
    )
    bodies = out._bodies(api.conn, claimed, context)
    api.conn.rollback()
    return [json.loads(cast("bytes", bodies[one.id])) for one in claimed]


def test_documents_are_announced_once_with_where_they_are(api: Api) -> None:
    types = ["invoice.generated", "credit_note.generated", "payment_receipt.generated"]
    endpoint = {"webhook_url": "http://127.0.0.1:9/hook", "event_types": types}
    made = api.post("/webhook_endpoints", {"webhook_endpoint": endpoint})["webhook_endpoint"]
    api.post(
        "/add_ons", {"add_on": {"name": "S", "code": "seat", "amount_cents": 700, "amount_currency": "EUR"}}
    )
    api.customer(currency="EUR", billing_configuration={"invoice_grace_period": 3})
    sold = {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "seat", "units": 3}]}
    invoice = api.post("/invoices", {"invoice": sold})["invoice"]
    paid = {"invoice_id": invoice["lago_id"], "amount_cents": 2_100, "reference": "bank"}
    api.post("/payments", {"payment": paid})
    item = {"fee_id": invoice["fees"][0]["lago_id"], "amount_cents": 500}
    note = {"invoice_id": invoice["lago_id"], "items": [item], "credit_amount_cents": 500}
    note = api.post("/credit_notes", {"credit_note": note})["credit_note"]
    assert [each["webhook_type"] for each in sent(api, made["lago_id"])] == ["payment_receipt.generated"]
    for _ in range(3):
        for path in (f"/invoices/{invoice['lago_id']}", f"/credit_notes/{note['lago_id']}"):
            api.post(f"{path}/download", None)
    found = {each["webhook_type"]: each for each in sent(api, made["lago_id"])}
    assert len(sent(api, made["lago_id"])) == len(types)
    (receipt,) = api.get("/payment_receipts")["payment_receipts"]
    for shown, name in ((invoice, "invoice"), (note, "credit_note"), (receipt, "payment_receipt")):
        body = found[f"{name}.generated"]
        url = f"/api/v1/{name}s/{shown['lago_id']}/pdf"
        assert body["object_type"] == name
        assert body[name]["lago_id"] == shown["lago_id"]
        assert body[name]["file_url"].endswith(url)
        assert api.client.get(url, headers={"Authorization": f"Bearer {api.key}"}).content.startswith(b"%PDF")
    current = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]
    assert {**found["invoice.generated"]["invoice"], "file_url": None} == current


def test_a_draft_is_announced_once_it_is_final(api: Api) -> None:
    endpoint = {"webhook_url": "http://127.0.0.1:9/hook", "event_types": ["invoice.generated"]}
    made = api.post("/webhook_endpoints", {"webhook_endpoint": endpoint})["webhook_endpoint"]
    api.plan(amount_cents=900, pay_in_advance=True)
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.subscribe()
    (draft,) = api.get("/invoices")["invoices"]
    path = f"/invoices/{draft['lago_id']}"
    api.post(f"{path}/download", None)
    assert sent(api, made["lago_id"]) == []
    api.put(f"{path}/finalize", None)
    api.post(f"{path}/download", None)
    assert [each["invoice"]["status"] for each in sent(api, made["lago_id"])] == ["finalized"]
