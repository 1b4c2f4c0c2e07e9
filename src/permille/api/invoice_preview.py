"""POST /invoices/preview: an invoice that is not made. Source: semantics-billing.md section 4.11."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.coupons import read_previewed_coupons
from permille.api.customers import read_columns
from permille.api.fees import Surroundings
from permille.api.http import Call
from permille.api.invoices import render_with_lines
from permille.api.objects import invoice as objects
from permille.api.subscriptions import BILLING_TIMES
from permille.api.validation import INVALID, MANDATORY, Fields
from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import Subscription
from permille.core.coupon import Coupon
from permille.core.customer import BillingEntity, Customer
from permille.core.errors import BadRequest, NotFound
from permille.core.invoice.credit import CreditKind, InvoiceCredit
from permille.core.invoice.draft import InvoiceDraft
from permille.core.period import BillingTime
from permille.ids import new_id
from permille.store import (
    billing_entities,
    credit_notes,
    fee_items,
    fees as fee_store,
    invoices,
    plans,
    subscriptions,
)
from permille.store.fee_items import AddOnItem, FeeItem
from permille.store.fees import StoredFee
from permille.usecases.catalogue import customers as catalogue
from permille.usecases.invoice_preview import (
    InvoicePreview,
    preview_change,
    preview_next,
    preview_proposal,
    preview_termination,
)

SUBSCRIPTIONS_MAX = 100


def preview_invoice(call: Call) -> dict[str, Any]:
    """POST /invoices/preview: of subscriptions that a customer has, or of a plan that it might take; nothing is stored."""
    if not isinstance(call.body, dict):
        raise BadRequest("param is missing or the value is empty or invalid: customer")
    fields = Fields(call.body)
    coupons = read_previewed_coupons(call, fields)
    who = fields.nested("customer")
    if who is None and "customer" not in fields.errors:
        fields.refuse("customer", MANDATORY)
    chosen = fields.nested("subscriptions")
    fields.check()
    entity_code = fields.text("billing_entity_code")
    fields.check()
    entity = _entity(call, entity_code) if entity_code else None
    if chosen:
        return {"invoice": _existing(call, who, chosen, entity, coupons)}
    made = _proposal(call, fields, who, entity, coupons)
    return {"invoice": made}


def _existing(
    call: Call,
    who: Fields | None,
    chosen: Fields,
    entity: BillingEntity | None,
    coupons: Sequence[Coupon] | None,
) -> objects.InvoiceDetails:
    """The next invoice of running subscriptions, or that of their end or of a change of plan: by `entity`, where one is named."""
    names = chosen.texts("external_ids", limit=SUBSCRIPTIONS_MAX)
    if not names:
        chosen.refuse("external_ids", MANDATORY)
    at = chosen.instant("terminated_at", code="invalid_timestamp")
    if at is not None and at <= call.now:
        chosen.refuse("terminated_at", "cannot_be_in_past")
    code = chosen.text("plan_code")
    if code and (at is not None or len(names or ()) > 1):
        chosen.refuse("plan_code", INVALID)
    chosen.check()
    customer = _customer(call, who)
    rows = _running(call, customer, names or ())
    if code:
        plan = _plan(call, code)
        found = preview_change(call.conn, rows[0], plan, entity=entity, now=call.now, coupons=coupons)
    elif at is None:
        found = preview_next(call.conn, rows, coupons=coupons)
    else:
        found = preview_termination(call.conn, rows, at=at, coupons=coupons)
    return _render(found, customer, call)


def _running(call: Call, customer: Customer, names: Sequence[str]) -> list[Subscription]:
    found = [subscriptions.active(call.conn, call.organization.id, name) for name in dict.fromkeys(names)]
    rows = [row for row in found if row is not None and row.customer_id == customer.id]
    if len(rows) != len(found):
        raise NotFound("subscription")
    return rows


def _proposal(
    call: Call,
    fields: Fields,
    who: Fields | None,
    entity: BillingEntity | None,
    coupons: Sequence[Coupon] | None,
) -> objects.InvoiceDetails:
    """The first invoice of a subscription to a plan, also of somebody who is no customer yet."""
    billing_time = fields.choice("billing_time", BILLING_TIMES) or BillingTime.CALENDAR
    subscription_at = fields.instant("subscription_at") or call.now
    code = fields.text("plan_code")
    fields.check()
    plan = _plan(call, code or "")
    assert who is not None, "it was asked for"
    is_known = bool(who.given.get("external_id"))
    customer = _customer(call, who) if is_known else _stranger(call, who, entity)
    found = preview_proposal(
        call.conn,
        customer.billed_by(entity) if entity else customer,
        plan,
        billing_time=billing_time,
        subscription_at=subscription_at,
        coupons=coupons,
        now=call.now,
    )
    return _render(found, customer, call)


def _plan(call: Call, code: str) -> Plan:
    plan = plans.plan_by_code(call.conn, call.organization.id, code)
    if plan is None:
        raise NotFound("plan")
    return in_force(plan, call.now)


def _customer(call: Call, who: Fields | None) -> Customer:
    external_id = who.text("external_id") if who else None
    return catalogue.by_external_id(call.conn, call.organization.id, external_id or "")


def _entity(call: Call, code: str) -> BillingEntity:
    entity = billing_entities.by_code(call.conn, call.organization.id, code)
    if entity is None:
        raise NotFound("billing_entity")
    return entity


def _stranger(call: Call, who: Fields, entity: BillingEntity | None) -> Customer:
    """A customer as it would be made; it is not kept."""
    columns = read_columns(call.conn, call.organization.id, who, None, now=call.now)
    who.check()
    if entity:
        columns["billing_entity_id"] = entity.id
    with call.conn.transaction(force_rollback=True):
        name = str(new_id(call.now))
        return catalogue.add(call.conn, call.organization.id, name, columns=columns, now=call.now)


def _render(found: InvoicePreview, customer: Customer, call: Call) -> objects.InvoiceDetails:
    """The invoice as it would be shown; the ids of what does not exist lead nowhere."""
    draft = found.draft
    invoice, fees = invoices.unsaved_invoice(draft), fee_store.unsaved(draft)
    around = Surroundings(
        items=dict(_items(draft, fees)),
        customers={customer.id: customer},
        subscriptions={each.subscription.id: each.subscription for each in draft.billings},
        plans={each.plan.id: each.plan for each in draft.billings},
        payers={each.subscription.id: each.customer for each in draft.billings},
        add_ons=dict(_add_ons(draft, fees)),
    )
    periods, credits_ = invoices.unsaved_periods(draft), _credits(call.conn, found)
    issuer = draft.customer.billing_entity.code
    return render_with_lines(invoice, periods, fees, credits_, around, issuer=issuer)


def _items(draft: InvoiceDraft, fees: Sequence[StoredFee]) -> Iterator[tuple[UUID, FeeItem]]:
    for fee, line in zip(fees, draft.lines, strict=True):
        charge = next(
            (each for each in (line.plan.charges if line.plan else ()) if each.id == fee.charge_id), None
        )
        if charge is not None:
            yield fee.id, fee_items.item_of(charge, fee.charge_filter_id)


def _add_ons(draft: InvoiceDraft, fees: Sequence[StoredFee]) -> Iterator[tuple[UUID, AddOnItem]]:
    for fee, line in zip(fees, draft.lines, strict=True):
        for charge in line.plan.fixed_charges if line.plan else ():
            if charge.id == fee.item_id:
                yield fee.id, fee_items.add_on_of(fee.id, charge)


def _credits(conn: Connection[Any], found: InvoicePreview) -> list[InvoiceCredit]:
    draft = found.draft
    stored = credit_notes.by_ids(conn, [each.credit_note_id for each in draft.credits])
    numbers = {note_id: f"{note.invoice_number}-CN" for note_id, note in found.notes.items()}
    numbers |= {note.id: note.number for note in stored.values()}
    of_coupons = [
        InvoiceCredit(
            id=new_id(draft.at),
            invoice_id=draft.id,
            kind=CreditKind.COUPON,
            item_id=each.left.coupon_id,
            code=each.left.code,
            name=each.left.name,
            description=each.left.description,
            amount_cents=each.amount_cents,
        )
        for each in draft.coupons
    ]
    of_notes = [
        InvoiceCredit(
            id=new_id(draft.at),
            invoice_id=draft.id,
            kind=CreditKind.CREDIT_NOTE,
            item_id=each.credit_note_id,
            code=numbers[each.credit_note_id],
            name=numbers[each.credit_note_id],
            amount_cents=each.amount_cents,
        )
        for each in draft.credits
    ]
    return [*of_coupons, *of_notes]
