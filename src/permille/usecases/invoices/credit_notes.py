"""Credit notes for what was paid in advance and is not used any more.

Source: semantics-billing.md section 7.6.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import trial_end
from permille.core.invoice.credit_note import CreditedFee, Item, PaidPeriod, credit_amounts, unused_amount
from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, BillingTime, Interval, days_in, local_date, period_containing
from permille.store import (
    credit_notes,
    customers,
    fees as fee_store,
    invoices,
    plans,
    subscriptions,
    webhooks,
)
from permille.store.credit_notes import NewCreditNote
from permille.store.fees import StoredFee


def credit_unused(
    conn: Connection[Any],
    ended: Collection[Subscription],
    *,
    at: datetime,
    only_on: Mapping[UUID, UUID] | None = None,
) -> None:
    """Give back the days that plans paid in advance are not used, as credit for the invoices to come; set-based."""
    notes = unused_credits(conn, ended, at=at, only_on=only_on)
    if not notes:
        return
    added = credit_notes.add(conn, notes)
    webhooks.enqueue_of(conn, "credit_note.created", notes[0].organization_id, added, now=at)


def unused_credits(
    conn: Connection[Any],
    ended: Collection[Subscription],
    *,
    at: datetime,
    only_on: Mapping[UUID, UUID] | None = None,
) -> list[NewCreditNote]:
    """The notes for days that are paid and not used, of subscriptions of one organization that end.

    Nothing is given back for a period whose fee was never billed, or whose invoice was voided or is a draft: that
    one is seen to when it is final; `only_on` is then subscription -> invoice.
    """
    found = fee_store.newest_subscription_fees(conn, {row.id for row in ended})
    fees = {
        row_id: (fee, fee.invoice_id)
        for row_id, fee in found.items()
        if fee.amount_cents and fee.invoice_id and (only_on is None or only_on[row_id] == fee.invoice_id)
    }
    if not fees:
        return []
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in ended})
    payers = customers.by_ids(conn, {row.customer_id for row in ended})
    first_starts = subscriptions.first_starts(conn, fees.keys())
    billed_on = invoices.invoices_by_ids(conn, {invoice_id for _, invoice_id in fees.values()})
    credited = credit_notes.credited_of_fees(conn, {fee.id for fee, _ in fees.values()})
    notes = []
    for row in ended:
        if row.id not in fees:
            continue
        fee, invoice_id = fees[row.id]
        timezone = payers[row.customer_id].applicable_timezone
        with exact():
            left = Decimal(fee.amount_cents) - credited.get(fee.id, ZERO)
        paid = _paid_period(row, known_plans[row.plan_id], fee, timezone, first_starts.get(row.id))
        ended_at = row.terminated_at or at
        amount = unused_amount(paid, ended_at=ended_at, upgraded=row.upgraded, at_most=left)
        if amount:
            invoice = billed_on[invoice_id]
            notes.append(
                NewCreditNote(
                    organization_id=row.organization_id,
                    billing_entity_id=invoice.billing_entity_id,
                    customer_id=row.customer_id,
                    invoice_id=invoice.id,
                    invoice_number=invoice.number,
                    issuing_date=local_date(at, timezone),
                    reason="order_cancellation",
                    currency=invoice.currency,
                    amounts=credit_amounts([Item(fee=credited_fee(fee), precise_amount_cents=amount)]),
                    at=at,
                )
            )
    return notes


def credited_fee(fee: StoredFee) -> CreditedFee:
    """A billed fee of which something comes back."""
    return CreditedFee(
        fee_id=fee.id,
        amount_cents=fee.amount_cents,
        precise_coupons_amount_cents=fee.precise_coupons_amount_cents,
        taxes=[each.tax for each in fee.taxed.applied],
    )


def _paid_period(
    ended: Subscription, plan: Plan, fee: StoredFee, timezone: str, first_started_at: datetime | None
) -> PaidPeriod:
    assert fee.to_at is not None, "a subscription's fee has a period"
    whole = period_containing(
        fee.to_at - INSTANT,
        interval=Interval(plan.interval),
        billing_time=BillingTime(ended.billing_time),
        anchor=ended.subscription_at,
        timezone=timezone,
    )
    facts = facts_of(ended, plan, timezone=timezone, first_started_at=first_started_at)
    return PaidPeriod(
        plan_amount_cents=int(fee.amount_details["plan_amount_cents"]),
        days=days_in(whole, timezone),
        to=fee.to_at,
        timezone=timezone,
        trial_ends_at=trial_end(facts),
    )
