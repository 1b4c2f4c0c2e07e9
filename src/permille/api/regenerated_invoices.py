"""POST /invoices/{lago_id}/regenerate: a voided invoice is made again. Source: semantics-billing.md section 4.9."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.invoices import render_whole
from permille.api.validation import LONG_TEXT, MANDATORY, Fields, parse_uuid
from permille.core.errors import NotFound
from permille.core.invoice.regenerated import AddedFee, FeeChange, LineChange
from permille.usecases.invoices import regenerating, single

UNITS_MAX = UNIT_AMOUNT_MAX = 10**15
PLACES = 15


def regenerate_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/{lago_id}/regenerate."""
    invoice = single.by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))
    changes, added = read_fee_changes(Fields(call.body if isinstance(call.body, dict) else {}))
    made = regenerating.regenerate(call.conn, invoice, changes=changes, added=added, now=call.now)
    return {"invoice": render_whole(call.conn, made)}


def read_fee_changes(fields: Fields) -> tuple[list[FeeChange], list[AddedFee]]:
    """The entries of `fees`: those with an `id` change a fee, the others add one. Raises Invalid and NotFound."""
    changes, added = [], []
    for entry in fields.objects("fees") or []:
        if entry.given.get("id") is not None:
            changes.append(_change_of(entry))
        else:
            added.append(_added(entry))
    fields.check()
    return changes, added


def _change_of(entry: Fields) -> FeeChange:
    fee_id = entry.uuid("id")
    if fee_id is None:
        raise NotFound("fee")
    return FeeChange(fee_id=fee_id, change=_line(entry), is_removed=entry.flag("remove") or False)


def _added(entry: Fields) -> AddedFee:
    subscription_id, charge_id = entry.uuid("subscription_id"), entry.uuid("charge_id")
    filter_id = entry.uuid("charge_filter_id")
    if subscription_id is None:
        raise NotFound("subscription")
    if charge_id is None:
        raise NotFound("charge")
    if filter_id is None and entry.given.get("charge_filter_id") is not None:
        raise NotFound("charge_filter")
    line = _line(entry)
    if line.units is None and "units" not in entry.errors:
        entry.refuse("units", MANDATORY)
    return AddedFee(
        subscription_id=subscription_id, charge_id=charge_id, charge_filter_id=filter_id, change=line
    )


def _line(entry: Fields) -> LineChange:
    return LineChange(
        units=entry.decimal("units", minimum=0, maximum=UNITS_MAX, places=PLACES),
        unit_amount_cents=entry.decimal(
            "unit_amount_cents", minimum=0, maximum=UNIT_AMOUNT_MAX, places=PLACES
        ),
        invoice_display_name=entry.text("invoice_display_name") or None,
        description=entry.text("description", limit=LONG_TEXT) or None,
    )
