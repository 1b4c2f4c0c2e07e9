"""Webhooks of money carry the object as the API shows it."""

from __future__ import annotations

import json
from typing import Any

from permille.api.webhooks import RENDERERS
from permille.database.connections import encode_answer

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
