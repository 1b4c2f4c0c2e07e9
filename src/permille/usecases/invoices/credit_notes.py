"""Credit notes that are made by themselves: for what was paid in advance and is not used any more.

Source: semantics-billing.md section 7.6.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import trial_end
from permille.core.invoice.credit_note import CreditedFee, Item, PaidPeriod, credit_amounts, unused_amount
from permille.core.money import exact
from permille.core.period import INSTANT, BillingTime, Interval, days_in, local_date, period_containing
from permille.store import credit_notes, customers, invoices, plans, subscriptions, webhooks
from permille.store.credit_notes import NewCreditNote
from permille.store.invoices import StoredFee


def credit_unused(
    conn: Connection[Any], ended: Subscription, *, at: datetime, only_on: UUID | None = None
) -> None:
    """Give back the days that a plan paid in advance is not used, as credit for the invoices to come.

    Nothing is given back for a period whose fee was never billed, or whose invoice was voided or is a draft: that
    one is seen to when it is final, with `only_on` its id.
    """
    fee = invoices.newest_subscription_fee(conn, ended.id)
    if fee is None or not fee.amount_cents or fee.invoice_id is None:
        return
    if only_on not in (None, fee.invoice_id):
        return
    customer = customers.by_ids(conn, [ended.customer_id])[ended.customer_id]
    timezone = customer.applicable_timezone
    with exact():
        left = Decimal(fee.amount_cents) - credit_notes.credited_of_fee(conn, fee.id)
    amount = unused_amount(
        _paid_period(conn, ended, fee, timezone),
        ended_at=ended.terminated_at or at,
        upgraded=ended.upgraded,
        at_most=left,
    )
    if not amount:
        return
    credited = CreditedFee(
        fee_id=fee.id,
        amount_cents=fee.amount_cents,
        precise_coupons_amount_cents=fee.precise_coupons_amount_cents,
        taxes=[each.tax for each in fee.taxed.applied],
    )
    invoice = invoices.invoices_by_ids(conn, [fee.invoice_id])[fee.invoice_id]
    note_id = credit_notes.add(
        conn,
        NewCreditNote(
            organization_id=ended.organization_id,
            billing_entity_id=invoice.billing_entity_id,
            customer_id=ended.customer_id,
            invoice_id=invoice.id,
            invoice_number=invoice.number,
            issuing_date=local_date(at, timezone),
            reason="order_cancellation",
            currency=invoice.currency,
            amounts=credit_amounts([Item(fee=credited, precise_amount_cents=amount)]),
            at=at,
        ),
    )
    _tell(conn, ended.organization_id, note_id, at)


def _paid_period(conn: Connection[Any], ended: Subscription, fee: StoredFee, timezone: str) -> PaidPeriod:
    assert fee.to_at is not None, "a subscription's fee has a period"
    plan = plans.plan_by_id(conn, ended.plan_id)
    whole = period_containing(
        fee.to_at - INSTANT,
        interval=Interval(plan.interval),
        billing_time=BillingTime(ended.billing_time),
        anchor=ended.subscription_at,
        timezone=timezone,
    )
    first_started_at = subscriptions.first_starts(conn, [ended.id]).get(ended.id)
    facts = facts_of(ended, plan, timezone=timezone, first_started_at=first_started_at)
    return PaidPeriod(
        plan_amount_cents=int(fee.amount_details["plan_amount_cents"]),
        days=days_in(whole, timezone),
        to=fee.to_at,
        timezone=timezone,
        trial_ends_at=trial_end(facts),
    )


def _tell(conn: Connection[Any], organization_id: UUID, note_id: UUID, at: datetime) -> None:
    webhooks.enqueue(
        conn,
        organization_id=organization_id,
        webhook_type="credit_note.created",
        object_type="credit_note",
        object_ids=[note_id],
        payload=None,
        now=at,
    )
