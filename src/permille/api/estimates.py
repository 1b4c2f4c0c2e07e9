"""What events would cost: POST /events/estimate_fees and the two instant estimates.

Source: semantics-metering.md sections 1.9, 1.10 and 5.16.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from permille.api.fees import Surroundings, render_charge_item, render_fee
from permille.api.http import Call
from permille.api.objects import fee as objects
from permille.core.errors import Invalid
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, Line
from permille.core.invoice.payment import PaymentStatus
from permille.core.metering.event import numeric_value, timestamp_microseconds
from permille.core.money import ZERO, decimal_text, exact, subunits
from permille.core.record import replace
from permille.events.draft import properties_errors
from permille.store import fees
from permille.store.fee_items import FeeItem, item_of
from permille.usecases.usage.estimates import (
    Estimate,
    EstimatedEvent,
    InstantEstimate,
    estimate,
    estimate_instantly,
)

_NOWHERE = UUID(int=0)


def estimate_fees(call: Call) -> dict[str, Any]:
    """POST /events/estimate_fees: nothing is stored. The transaction id and the timestamp count for nothing."""
    event = read_event(call.root("event"))
    found = estimate(call.conn, call.organization.id, event, now=call.now)
    return {"fees": [render_estimate(each, now=call.now) for each in found]}


def estimate_instant_fees(call: Call) -> dict[str, Any]:
    """POST /events/estimate_instant_fees."""
    event = read_event(call.root("event"))
    found = estimate_instantly(call.conn, call.organization.id, [event], now=call.now)
    return {"fees": [_render_instant(each) for each in found]}


def batch_estimate_instant_fees(call: Call) -> dict[str, Any]:
    """POST /events/batch_estimate_instant_fees: as many events as a batch may have."""
    sent = call.body.get("events") if isinstance(call.body, dict) else None
    if not isinstance(sent, list) or not sent or not all(isinstance(each, dict) for each in sent):
        raise Invalid({"events": ["no_events"]})
    if len(sent) > call.engine.config.events_batch_max:
        raise Invalid({"events": ["too_many_events"]})
    events = [read_event(each) for each in sent]
    found = estimate_instantly(call.conn, call.organization.id, events, now=call.now)
    return {"fees": [_render_instant(each) for each in found]}


def read_event(sent: Mapping[str, Any]) -> EstimatedEvent:
    """What is no name at all is read as the empty one, which nothing has. Raises Invalid for properties of no event."""
    errors = properties_errors(sent.get("properties")) if isinstance(sent.get("properties"), dict) else {}
    if errors:
        raise Invalid(errors)
    properties, transaction_id, at = sent.get("properties"), sent.get("transaction_id"), sent.get("timestamp")
    precise = numeric_value(sent.get("precise_total_amount_cents"))
    return EstimatedEvent(
        code=_name(sent.get("code")),
        transaction_id=transaction_id if isinstance(transaction_id, str) else None,
        external_subscription_id=_name(sent.get("external_subscription_id")),
        is_timed=at is None or timestamp_microseconds(at) is not None,
        properties=properties if isinstance(properties, dict) else {},
        precise_amount_cents=precise or ZERO,
    )


def _name(sent: Any) -> str:
    return sent if isinstance(sent, str) and "\0" not in sent else ""


def _item(one: Estimate | InstantEstimate) -> FeeItem:
    return item_of(one.terms.charge, one.fee.charge_filter_id)


def render_estimate(one: Estimate, *, now: datetime) -> objects.Fee:
    """Lago's fee object, without an identity."""
    terms = one.terms
    draft = InvoiceDraft(
        id=_NOWHERE,
        kind=InvoiceKind.FEES_ALONE,
        customer=terms.customer,
        currency=terms.plan.amount_currency,
        at=now,
        made_at=now,
        lines=(Line(replace(one.fee, pay_in_advance=True), terms.plan, taxed=one.taxed),),
    )
    (fee,) = fees.unsaved(draft)
    around = Surroundings(
        items={fee.id: _item(one)},
        customers={terms.customer.id: terms.customer},
        subscriptions={terms.row.id: terms.row},
        plans={terms.plan.id: terms.plan},
        payers={terms.row.id: terms.customer},
    )
    return msgspec.structs.replace(render_fee(fee, around), lago_id=None, created_at=None)


def _render_instant(one: InstantEstimate) -> objects.InstantFee:
    """Lago's own shape for these: amounts as texts, the unit's in cents, the others' in major units."""
    fee, terms = one.fee, one.terms
    charge, currency = terms.charge, terms.plan.amount_currency
    item = _item(one)
    with exact():
        amount = decimal_text(fee.precise_amount_cents / subunits(currency))
        unit_cents = decimal_text(fee.precise_unit_amount * subunits(currency))
    cents = decimal_text(Decimal(fee.amount_cents))
    return objects.InstantFee(
        lago_id=None,
        lago_charge_id=charge.id,
        lago_charge_filter_id=item.filter_id,
        lago_invoice_id=None,
        lago_true_up_fee_id=None,
        lago_true_up_parent_fee_id=None,
        lago_subscription_id=terms.row.id,
        external_subscription_id=terms.row.external_id,
        lago_customer_id=terms.customer.id,
        external_customer_id=terms.customer.external_id,
        item=render_charge_item(item, grouped_by={}),
        pay_in_advance=True,
        invoiceable=charge.invoiceable,
        amount_cents=cents,
        amount_currency=currency,
        precise_amount=amount,
        precise_total_amount=amount,
        taxes_amount_cents=0,
        taxes_precise_amount="0.0",
        taxes_rate=0,
        total_amount_cents=cents,
        total_amount_currency=currency,
        units=decimal_text(fee.units),
        description=None,
        precise_unit_amount=unit_cents,
        precise_coupons_amount_cents="0.0",
        events_count=1,
        payment_status=PaymentStatus.PENDING,
        created_at=None,
        succeeded_at=None,
        failed_at=None,
        refunded_at=None,
        amount_details={},
        event_transaction_id=one.event.transaction_id,
    )
