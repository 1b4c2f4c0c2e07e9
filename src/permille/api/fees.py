"""Fees over the Lago API. Source: semantics-billing.md 11.2, semantics-metering.md 5.16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import fee as objects
from permille.api.render import MICROSECOND, breakdowns, exact_numbers, instant
from permille.api.taxes import render_fee_taxes
from permille.api.validation import Fields, parse_uuid
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.errors import Invalid
from permille.core.fee_kind import FeeKind
from permille.core.instants import parse_instant
from permille.core.invoice.payment import PaymentStatus
from permille.core.money import decimal_text, exact, subunits, whole_cents
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.record import Record, field
from permille.store import (
    customers,
    fee_items,
    fees as fee_store,
    invoice_search,
    plans,
    subscriptions,
)
from permille.store.fee_items import AddOnItem, FeeItem
from permille.store.fees import StoredFee
from permille.store.invoice_search import FeeSearch
from permille.usecases.invoices import single

OF_ADD_ONS = (FeeKind.FIXED_CHARGE, FeeKind.ADD_ON)
"""The types of fees whose item is an add-on."""


class Surroundings(Record, kw_only=True):
    """What the fees of an answer refer to, by id; read once for all of them."""

    items: Mapping[UUID, FeeItem]
    customers: Mapping[UUID, Customer]
    subscriptions: Mapping[UUID, Subscription]
    plans: Mapping[UUID, Plan]
    payers: Mapping[UUID, Customer]
    """Subscription -> its customer, as the billing entity of the subscription bills it."""
    true_ups: Mapping[UUID, UUID] = field(default_factory=dict)
    """Fee -> its true-up, which fills it up to the charge's minimum."""
    add_ons: Mapping[UUID, AddOnItem] = field(default_factory=dict)
    """Fee of an add-on, or of a fixed charge -> what it is for."""


def surroundings(
    conn: Connection[Any],
    fees: Sequence[StoredFee],
    *,
    customer_ids: Iterable[UUID] = (),
    subscription_ids: Iterable[UUID] = (),
) -> Surroundings:
    """What the fees refer to, and these customers and subscriptions, with their plans."""
    subscribed = {fee.subscription_id for fee in fees if fee.subscription_id}
    rows = subscriptions.by_ids(conn, subscribed.union(subscription_ids))
    of_add_ons = [fee.id for fee in fees if fee.fee_type in OF_ADD_ONS]
    paying = {row.customer_id for row in rows.values()}
    known = customers.by_ids(conn, paying.union((fee.customer_id for fee in fees), customer_ids))
    return Surroundings(
        items=fee_items.of_fees(conn, fees),
        add_ons=fee_items.add_ons_of_fees(conn, of_add_ons) if of_add_ons else {},
        customers=known,
        subscriptions=rows,
        payers=customers.of_subscriptions(conn, rows.values(), known),
        plans=plans.terms_by_ids(conn, {row.plan_id for row in rows.values()}),
        true_ups=fee_store.true_ups_of(conn, [fee.id for fee in fees]),
    )


def list_fees(call: Call) -> dict[str, Any]:
    """GET /fees."""
    query = call.query

    def text(name: str) -> str | None:
        return (query.get(name) or "").replace("\0", "") or None

    search = FeeSearch(
        external_subscription_id=text("external_subscription_id"),
        external_customer_id=text("external_customer_id"),
        currency=text("currency"),
        fee_type=text("fee_type"),
        billable_metric_code=text("billable_metric_code"),
        payment_status=text("payment_status"),
        event_transaction_id=text("event_transaction_id"),
        created_at_from=_instant(call, "created_at_from"),
        created_at_to=_instant(call, "created_at_to"),
        succeeded_at_from=_instant(call, "succeeded_at_from"),
        succeeded_at_to=_instant(call, "succeeded_at_to"),
        failed_at_from=_instant(call, "failed_at_from"),
        failed_at_to=_instant(call, "failed_at_to"),
        refunded_at_from=_instant(call, "refunded_at_from"),
        refunded_at_to=_instant(call, "refunded_at_to"),
    )
    page = call.page()
    rows, total = invoice_search.fees(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    around = surroundings(call.conn, rows)
    return {"fees": [render_fee(row, around) for row in rows], "meta": page.meta(total)}


def _instant(call: Call, name: str) -> datetime | None:
    value = call.query.get(name)
    found = parse_instant(value) if value else None
    if value and found is None:
        raise Invalid({name: ["invalid_date"]})
    return found


def show_fee(call: Call) -> dict[str, Any]:
    """GET /fees/{lago_id}."""
    fee = fee_of(call)
    return {"fee": render_fee(fee, surroundings(call.conn, [fee]))}


def update_fee(call: Call) -> dict[str, Any]:
    """PUT /fees/{lago_id}: what became of the payment of a fee on no invoice.

    Raises NotAllowed (invoiced_fee) for one on an invoice: that one is paid there.
    """
    given = Fields(call.root("fee"))
    fee = fee_of(call)
    status = given.choice("payment_status", objects.PAYMENT_STATUSES)
    given.check()
    fee = single.pay_fee(
        call.conn, fee, payment_status=PaymentStatus(status) if status else None, now=call.now
    )
    return {"fee": render_fee(fee, surroundings(call.conn, [fee]))}


def delete_fee(call: Call) -> dict[str, Any]:
    """DELETE /fees/{lago_id}: a fee on no invoice, as it was. Its event makes no other.

    Raises NotAllowed (invoiced_fee) for one on an invoice.
    """
    fee = fee_of(call)
    shown = render_fee(fee, surroundings(call.conn, [fee]))
    single.delete_fee(call.conn, fee)
    return {"fee": shown}


def fee_of(call: Call) -> StoredFee:
    """The fee that the address names. Raises NotFound."""
    return single.fee_by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def render_fee(fee: StoredFee, around: Surroundings) -> objects.Fee:
    """Lago's fee, and beside it `invoice_display_name`: the name of its line on the invoice."""
    item = around.items.get(fee.id)
    subscription = around.subscriptions.get(fee.subscription_id) if fee.subscription_id else None
    plan = around.plans[subscription.plan_id] if subscription else None
    customer = around.customers[fee.customer_id]
    sold = around.add_ons.get(fee.id)
    shown = render_charge_item(item, grouped_by=fee.grouped_by) if item else _other_item(fee, plan, sold)
    return objects.Fee(
        lago_id=fee.id,
        lago_charge_id=fee.charge_id,
        lago_charge_filter_id=fee.charge_filter_id,
        lago_fixed_charge_id=sold.fixed_charge_id if sold else None,
        lago_invoice_id=fee.invoice_id,
        lago_true_up_fee_id=around.true_ups.get(fee.id),
        lago_true_up_parent_fee_id=fee.true_up_parent_fee_id,
        lago_original_fee_id=fee.original_fee_id,
        lago_late_usage_id=fee.late_usage_id,
        lago_subscription_id=fee.subscription_id,
        external_subscription_id=subscription.external_id if subscription else None,
        lago_customer_id=customer.id,
        external_customer_id=customer.external_id,
        invoice_display_name=shown.filter_invoice_display_name or shown.invoice_display_name,
        item=shown,
        pay_in_advance=plan.pay_in_advance if plan and not (item or sold) else fee.pay_in_advance,
        invoiceable=item.charge_invoiceable if item else True,
        **_amounts(fee),
        description=fee.description,
        events_count=fee.events_count,
        is_unpriced=fee.is_unpriced,
        payment_status=fee.payment_status,
        created_at=instant(fee.created_at),
        succeeded_at=instant(fee.succeeded_at),
        failed_at=instant(fee.failed_at),
        refunded_at=instant(fee.refunded_at),
        amount_details=exact_numbers(fee.amount_details),
        self_billed=customer.is_self_billed,
        pricing_unit_details=fee.pricing_unit_details,
        presentation_breakdowns=_breakdowns(fee.presentation),
        from_date=_offset_instant(fee.from_at),
        to_date=_offset_instant(fee.to_at - MICROSECOND if fee.to_at else None),
        event_transaction_id=fee.event_transaction_id,
        applied_taxes=render_fee_taxes(fee),
    )


def _breakdowns(presentation: Mapping[str, Any] | None) -> list[objects.PresentationBreakdown]:
    """Units by the properties that an invoice shows, those that differ in the others alone added up."""
    if presentation is None or not presentation["on_invoice"]:
        return []
    return breakdowns(
        ({name: each["presentation_by"][name] for name in presentation["on_invoice"]}, Decimal(each["units"]))
        for each in presentation["breakdowns"]
    )


def _offset_instant(at: datetime | None) -> str | None:
    """The form of the two period fields: with +00:00 instead of Z."""
    text = instant(at)
    return text.replace("Z", "+00:00") if text else None


def _amounts(fee: StoredFee) -> dict[str, Any]:
    unit = subunits(fee.amount_currency)
    amount, taxes = fee.precise_amount_cents, fee.taxes_precise_amount_cents
    coupons = fee.precise_coupons_amount_cents
    with exact():
        precise = decimal_text(amount / unit)
        return {
            "amount_cents": fee.amount_cents,
            "amount_currency": fee.amount_currency,
            "precise_amount": precise,
            "precise_total_amount": decimal_text((amount + taxes) / unit) if taxes else precise,
            "taxes_amount_cents": fee.taxes_amount_cents,
            "taxes_precise_amount": decimal_text(taxes / unit),
            "taxes_rate": _number(fee.taxes_rate),
            "total_aggregated_units": _text(fee.total_aggregated_units),
            "total_amount_cents": fee.amount_cents + fee.taxes_amount_cents,
            "total_amount_currency": fee.amount_currency,
            "units": decimal_text(fee.units),
            "precise_unit_amount": decimal_text(fee.precise_unit_amount),
            "precise_coupons_amount_cents": decimal_text(coupons),
            "sub_total_excluding_taxes_amount_cents": whole_cents(fee.amount_cents - coupons)
            if coupons
            else fee.amount_cents,
            "sub_total_excluding_taxes_precise_amount_cents": decimal_text(amount - coupons),
        }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def _number(value: Decimal) -> float:
    """Lago sends rates, and only rates, as JSON numbers."""
    return float(value)


def render_charge_item(item: FeeItem, *, grouped_by: Mapping[str, str | None]) -> objects.FeeItem:
    """What the fee of a charge is for."""
    return objects.FeeItem(
        type=FeeKind.CHARGE,
        code=item.metric_code,
        name=item.metric_name,
        description=item.metric_description,
        invoice_display_name=item.charge_invoice_display_name or item.metric_name,
        filters=item.filter_values,
        filter_invoice_display_name=filter_name(item),
        lago_item_id=item.metric_id,
        item_type="BillableMetric",
        grouped_by=grouped_by,
    )


def filter_name(item: FeeItem) -> str | None:
    """The filter's own name, else its values, with the key in place of all values."""
    if item.filter_values is None:
        return None
    if item.filter_invoice_display_name:
        return item.filter_invoice_display_name
    return ", ".join(
        value if value != ALL_FILTER_VALUES else key
        for key, values in item.filter_values.items()
        for value in values
    )


def _credit_item(fee: StoredFee) -> objects.FeeItem:
    """Credits of a wallet that are bought: the fee has the transaction's name."""
    return objects.FeeItem(
        type=fee.fee_type,
        code="credit",
        name="credit",
        description=None,
        invoice_display_name=fee.invoice_display_name,
        filters=None,
        filter_invoice_display_name=None,
        lago_item_id=fee.item_id,
        item_type="WalletTransaction",
        grouped_by={},
    )


def _other_item(fee: StoredFee, plan: Plan | None, sold: AddOnItem | None) -> objects.FeeItem:
    """What a fee is for that is none of a charge: an add-on, or the plan itself."""
    if fee.fee_type is FeeKind.CREDIT:
        return _credit_item(fee)
    if sold is None:
        return _plan_item(fee, plan)
    return objects.FeeItem(
        type=fee.fee_type,
        code=sold.code,
        name=sold.name,
        description=sold.description,
        invoice_display_name=fee.invoice_display_name or sold.display_name,
        filters=None,
        filter_invoice_display_name=None,
        lago_item_id=sold.add_on_id,
        item_type="AddOn",
        grouped_by={},
    )


def _plan_item(fee: StoredFee, plan: Plan | None) -> objects.FeeItem:
    if fee.fee_type is FeeKind.COMMITMENT:
        name: str | None = fee.invoice_display_name or "Minimum commitment"
    else:
        name = fee.own_name or ((plan.invoice_display_name or plan.name) if plan else None)
    return objects.FeeItem(
        type=fee.fee_type,
        code=plan.code if plan else None,
        name=plan.name if plan else None,
        description=plan.description if plan else None,
        invoice_display_name=name,
        filters=None,
        filter_invoice_display_name=None,
        lago_item_id=fee.subscription_id,
        item_type="Subscription",
        grouped_by={},
    )
