"""Late usage that was decided to be billed: as lines of the subscription's next invoice, or on one of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import BillingPeriods, InvoicePlan
from permille.core.invoice.late_usage import adjustment_fee
from permille.core.period import Period
from permille.store import customers, late_usage as store, plans, subscriptions
from permille.store.late_usage import LateUsage
from permille.usecases.invoices.invoicing import (
    LATE_USAGE,
    PERIODIC,
    TERMINATING,
    Adjustment,
    Part,
    group_of,
    write,
)


def scheduled(conn: Connection[Any], parts: Sequence[Part]) -> dict[UUID, list[Adjustment]]:
    """Subscription -> what its invoice bills of earlier periods, its own and those of the plans before it.

    A bill at a period's end or at the subscription's end takes it along, in the currency that it was used in.
    """
    taking = {
        (part.customer.id, part.row.external_id, part.plan.amount_currency): part.row.id
        for part in parts
        if part.reason in (PERIODIC, TERMINATING)
    }
    found: dict[UUID, list[Adjustment]] = defaultdict(list)
    if not taking:
        return found
    for row, late, adjustment in _adjustments(
        conn, store.scheduled(conn, {customer_id for customer_id, _, _ in taking})
    ):
        by = taking.get((late.customer_id, row.external_id, late.currency))
        if by is not None:
            found[by].append(adjustment)
    return found


def on_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[Adjustment]]:
    """Invoice -> the late usage that it bills already: a draft that is priced again keeps it as it was decided."""
    found: dict[UUID, list[Adjustment]] = defaultdict(list)
    for _, late, adjustment in _adjustments(conn, store.on_invoices(conn, invoice_ids)):
        assert late.adjusting_invoice_id is not None, late.id
        found[late.adjusting_invoice_id].append(adjustment)
    return found


def bill_over(conn: Connection[Any], customer_id: UUID, *, at: datetime) -> None:
    """Bill at once, each on an invoice of its own, what is scheduled of a customer's subscriptions that are over."""
    waiting = store.scheduled(conn, [customer_id])
    if not waiting:
        return
    customer = customers.by_ids(conn, [customer_id])[customer_id]
    groups = []
    for row, late, adjustment in _adjustments(conn, waiting):
        if any(
            each.status == "active"
            for each in subscriptions.history(conn, row.organization_id, row.external_id)
        ):
            continue
        period = Period(late.from_at, late.to_at)
        part = Part(
            row=row,
            plan=adjustment.plan,
            customer=customer,
            facts=facts_of(
                row, adjustment.plan, timezone=customer.applicable_timezone, first_started_at=None
            ),
            at=at,
            reason=LATE_USAGE,
            planned=InvoicePlan(
                periods=BillingPeriods(subscription=period, charges=None),
                fee=None,
                fee_billed_until=row.fee_billed_until,
                charges_billed_until=row.charges_billed_until,
            ),
        )
        groups.append(group_of([part], {row.id: []}, [adjustment]))
    write(conn, groups)


def _adjustments(
    conn: Connection[Any], found: Sequence[LateUsage]
) -> Iterator[tuple[Subscription, LateUsage, Adjustment]]:
    """Each with the subscription that used it."""
    rows = subscriptions.by_ids(conn, {late.subscription_id for late in found})
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    parents = plans.plans_by_ids(conn, {plan.parent_id for plan in known.values() if plan.parent_id})
    for late in found:
        row = rows[late.subscription_id]
        plan = in_force(known[row.plan_id], late.from_at)
        if plan.parent_id is not None:  # it may have been used before the plan became its own
            parent = in_force(parents[plan.parent_id], late.from_at)
            plan = replace(plan, charges=(*plan.charges, *parent.charges))
        plan = replace(plan, price_versions=())
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
        yield row, late, Adjustment(late_usage_id=late.id, plan=plan, fees=fees)
