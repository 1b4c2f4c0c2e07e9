"""Paid fees that stood alone, gathered on an invoice when their subscription is billed.

What events made without an invoice, and was reported as paid since, goes on an invoice of type advance_charges: the
sums of the fees and of their taxes, nothing computed anew, and paid. Fees that are paid later wait for the next one.
Source: semantics-billing.md section 6.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.timeline import BillingPeriods, InvoicePlan
from permille.core.invoice.tax import Taxed, add_up_taxes, tax_of_json
from permille.core.money import exact
from permille.core.period import Period
from permille.store import invoices, plans, subscriptions
from permille.store.invoices import StoredFee
from permille.usecases.invoices.invoicing import IN_ADVANCE_PERIODIC, Group, Part, write


def regroup(conn: Connection[Any], parts: Sequence[Part], *, only_ended: bool) -> None:
    """Gather what is paid of these subscriptions, by customer, instant and currency.

    The parts' customers are locked. `only_ended` leaves fees of a running period to its end.
    """
    by_name = {
        (part.row.organization_id, part.row.external_id): part for part in parts if _period(part) is not None
    }
    found = invoices.paid_alone(
        conn, {name: part.at for name, part in by_name.items()}, only_ended=only_ended
    )
    if not found:
        return
    rows = subscriptions.by_ids(conn, {fee.subscription_id for fee in found if fee.subscription_id})
    together: dict[tuple[datetime, UUID, str], list[tuple[Part, StoredFee]]] = defaultdict(list)
    for fee in found:
        assert fee.subscription_id is not None, fee.id
        row = rows[fee.subscription_id]
        part = by_name[row.organization_id, row.external_id]
        together[part.at, part.customer.id, fee.amount_currency].append((part, fee))
    groups = [_group(conn, each) for each in together.values()]
    made = write(conn, groups)
    invoices.attach(
        conn,
        {
            fee.id: (invoice.id, position)
            for invoice, each in zip(made, together.values(), strict=True)
            for position, (_, fee) in enumerate(each)
        },
    )


def _period(part: Part) -> Period | None:
    return part.planned.periods.charges


def _group(conn: Connection[Any], fees: Sequence[tuple[Part, StoredFee]]) -> Group:
    """One invoice: a part for each subscription that fees are of, each with the period that is billed."""
    rows = subscriptions.by_ids(conn, {fee.subscription_id for _, fee in fees if fee.subscription_id})
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    billed_by = {fee.subscription_id: part for part, fee in fees}
    parts = [
        replace(
            billed_by[row.id],
            row=row,
            plan=known_plans[row.plan_id],
            reason=IN_ADVANCE_PERIODIC,
            planned=_planned(billed_by[row.id]),
        )
        for row in sorted(rows.values(), key=lambda row: (row.created_at, row.id))
    ]
    return Group(
        parts=parts,
        fees=[],
        taxes=[],
        fees_amount_cents=sum(fee.amount_cents for _, fee in fees),
        invoice_type="advance_charges",
        is_paid=True,
        taxed=_taxed([fee for _, fee in fees]),
    )


def _planned(part: Part) -> InvoicePlan:
    period = _period(part)
    return replace(part.planned, periods=BillingPeriods(subscription=period, charges=period))


def _taxed(fees: Sequence[StoredFee]) -> Taxed:
    """The sums of what is on the fees."""
    with exact():
        return add_up_taxes(
            amount_cents=sum(fee.taxes_amount_cents for fee in fees),
            precise_amount_cents=sum((fee.taxes_precise_amount_cents for fee in fees), Decimal(0)),
            fees_amount_cents=sum(fee.amount_cents for fee in fees),
            applied=[
                (tax_of_json(each), each["amount_cents"], each["fees_amount_cents"])
                for fee in fees
                for each in fee.applied_taxes
            ],
        )
