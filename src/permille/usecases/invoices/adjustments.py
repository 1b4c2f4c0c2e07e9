"""Late usage that was decided to be billed, as fees of the invoices that take it along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.price_versions import pricing_plan
from permille.core.contract.subscription import Subscription
from permille.core.invoice.billing import InvoicingReason, SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft
from permille.core.invoice.late_usage import LateUsageFees, adjustment_fee
from permille.core.period import Period
from permille.store import late_usage as store, plans, subscriptions
from permille.store.late_usage import LateUsage


def of_drafts(
    conn: Connection[Any], drafts: Sequence[InvoiceDraft]
) -> Mapping[UUID, Sequence[LateUsageFees]]:
    """The subscription whose new invoice takes late usage along, or the draft that has it already -> its fees."""
    stored = [draft.id for draft in drafts if draft.dates is not None]
    new = (billing for draft in drafts if draft.dates is None for billing in draft.billings)
    return {**_scheduled(conn, new), **(_on_invoices(conn, stored) if stored else {})}


def _scheduled(
    conn: Connection[Any], billings: Iterable[SubscriptionBilling]
) -> Mapping[UUID, Sequence[LateUsageFees]]:
    """Subscription -> what its invoice bills of earlier periods, its own and those of the plans before it.

    A bill at a period's end or at the subscription's end takes it along, in the currency that it was used in.
    """
    taking = {
        (each.customer.id, each.subscription.external_id, each.plan.amount_currency): each.subscription.id
        for each in billings
        if each.reason in (InvoicingReason.PERIODIC, InvoicingReason.TERMINATING)
    }
    found: dict[UUID, list[LateUsageFees]] = defaultdict(list)
    if not taking:
        return found
    for row, late, fees in fees_of(
        conn, store.scheduled(conn, {customer_id for customer_id, _, _ in taking})
    ):
        taker = taking.get((late.customer_id, row.external_id, late.currency))
        if taker is not None:
            found[taker].append(fees)
    return found


def _on_invoices(
    conn: Connection[Any], invoice_ids: Collection[UUID]
) -> Mapping[UUID, Sequence[LateUsageFees]]:
    """Invoice -> the late usage that it bills already: a draft that is priced again keeps it as it was decided."""
    found: dict[UUID, list[LateUsageFees]] = defaultdict(list)
    for _, late, fees in fees_of(conn, store.on_invoices(conn, invoice_ids)):
        assert late.adjusting_invoice_id is not None, late.id
        found[late.adjusting_invoice_id].append(fees)
    return found


def fees_of(
    conn: Connection[Any], found: Sequence[LateUsage]
) -> Iterator[tuple[Subscription, LateUsage, LateUsageFees]]:
    """The fees of late usage, each with the subscription that used it."""
    rows = subscriptions.by_ids(conn, {late.subscription_id for late in found})
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    parents = plans.plans_by_ids(conn, {plan.parent_id for plan in known.values() if plan.parent_id})
    for late in found:
        row = rows[late.subscription_id]
        plan = known[row.plan_id]
        plan = pricing_plan(plan, parents.get(plan.parent_id) if plan.parent_id else None, late.from_at)
        charge = next((each for each in plan.charges if each.id == late.charge_id), None)
        fees = [
            adjustment_fee(
                line,
                late_usage_id=late.id,
                subscription_id=row.id,
                charge_id=late.charge_id,
                period=Period(late.from_at, late.to_at),
                currency=late.currency,
                applied=charge.applied_pricing_unit if charge else None,
            )
            for line in store.lines_of(late)
        ]
        yield row, late, LateUsageFees(late_usage_id=late.id, plan=plan, fees=fees)
