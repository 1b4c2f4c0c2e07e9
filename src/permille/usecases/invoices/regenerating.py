"""Make a voided invoice again, with what is changed of its fees. Source: semantics-billing.md section 4.9.

The new invoice bills the periods of the voided one, which keeps their rows: no usage is billed twice, and none is looked at
again. Taxes are those of today, and coupons, credit notes and wallets pay it like any other invoice. What had come back of
fees before the void comes back of those that stay as they were (docs/decisions/020-voids-give-back-once.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import pricing_plan
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.errors import NotAllowed, NotFound, Unbillable
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import (
    InvoiceDraft,
    InvoiceKind,
    InvoiceStatus,
    Line,
    ReplacedInvoice,
    out_of_range,
)
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.invoice.progressive import BilledBefore
from permille.core.invoice.regenerated import AddedFee, FeeChange, added_fee, changed_fee
from permille.core.period import Period
from permille.core.rating.fee import Fee
from permille.core.record import Record, replace
from permille.core.tax import Tax
from permille.ids import new_id
from permille.store import (
    billing_entities,
    customers,
    fees as fee_store,
    invoices,
    plans,
    progressive,
    section_choices,
    subscriptions,
)
from permille.store.fees import StoredFee
from permille.store.invoices import InvoiceSubscription, StoredInvoice
from permille.usecases.invoices import balances, single
from permille.usecases.invoices.credited_again import credit_again
from permille.usecases.invoices.save import save


class _Billed(Record, kw_only=True):
    """The subscriptions of a voided invoice, with the plans that price them."""

    rows: Mapping[UUID, Subscription]
    plans: Mapping[UUID, Plan]
    """With the plans that others are copies of."""
    periods: Mapping[UUID, InvoiceSubscription]

    def plan_of(self, subscription_id: UUID | None, at: datetime) -> Plan | None:
        """The plan that prices a fee of a period that begins at `at`."""
        row = self.rows.get(subscription_id) if subscription_id else None
        if row is None:
            return None
        plan = self.plans[row.plan_id]
        return pricing_plan(plan, self.plans[plan.parent_id] if plan.parent_id else None, at)


def regenerate(
    conn: Connection[Any],
    invoice: StoredInvoice,
    *,
    changes: Sequence[FeeChange] = (),
    added: Sequence[AddedFee] = (),
    now: datetime,
) -> StoredInvoice:
    """The final invoice that replaces a voided one of subscriptions. Fees that are not named stay as they were.

    Raises NotAllowed for any other invoice and for one that was replaced already, NotFound for unknown fees and charges,
    and Invalid or Unbillable for units and amounts that cannot be.
    """
    customers.lock(conn, invoice.customer_id)
    voided = single.by_id(conn, invoice.organization_id, invoice.id)
    if voided.invoice_type != "subscription":
        raise NotAllowed("type_not_regenerable")
    if voided.status is not InvoiceStatus.VOIDED:
        raise NotAllowed("not_regenerable")
    if invoices.replacement_of(conn, voided.id) is not None:
        raise NotAllowed("already_regenerated")
    billed, stored = _billed(conn, voided), fee_store.of_invoices(conn, [voided.id])[voided.id]
    customer, chosen = _payer(conn, voided), section_choices.of(conn, billed.rows.keys())
    draft = InvoiceDraft(
        id=new_id(now),
        kind=InvoiceKind.REGENERATED,
        customer=customer,
        currency=voided.currency,
        at=now,
        made_at=now,
        custom_sections=customer.printed_sections([chosen.get(row_id) for row_id in billed.rows] or [None]),
        replaces=ReplacedInvoice(
            id=voided.id,
            original_id=voided.original_invoice_id or voided.id,
            purchase_order_number=voided.purchase_order_number,
        ),
        lines=(*_lines(stored, changes, billed), *_added(added, billed, voided.currency)),
    )
    facts = Facts(billed_before=_billed_before(conn, voided, billed), **balances.load(conn, [draft]))
    made = make([draft], facts)
    if not made:
        raise NotFound("fees")
    for reason in out_of_range(made).values():
        raise Unbillable(reason)
    save(conn, made)
    again = invoices.invoices_by_ids(conn, [draft.id])[draft.id]
    if credit_again(conn, voided, stored, again, now=now):
        again = invoices.invoices_by_ids(conn, [draft.id])[draft.id]
    return again


def _payer(conn: Connection[Any], voided: StoredInvoice) -> Customer:
    """The customer as it is now, billed by the entity that had issued the voided invoice.

    Its days are those of the timezone in which the periods were billed: it may have moved since.
    """
    payer = customers.by_ids(conn, [voided.customer_id])[voided.customer_id]
    entity = billing_entities.by_ids(conn, [voided.billing_entity_id])[voided.billing_entity_id]
    return replace(payer, billing_entity=entity, timezone=voided.timezone)


def _billed(conn: Connection[Any], voided: StoredInvoice) -> _Billed:
    periods = {each.subscription_id: each for each in invoices.subscriptions_of(conn, [voided.id])[voided.id]}
    rows = subscriptions.by_ids(conn, periods.keys())
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    parents = plans.plans_by_ids(conn, {plan.parent_id for plan in known.values() if plan.parent_id})
    return _Billed(rows=rows, plans={**parents, **known}, periods=periods)


def _billed_before(
    conn: Connection[Any], voided: StoredInvoice, billed: _Billed
) -> Mapping[UUID, BilledBefore]:
    """What invoices at thresholds have billed of the periods: the voided invoice takes nothing off for it any more."""
    periods = {
        row_id: Period(each.charges_from_at, each.charges_to_at)
        for row_id, each in billed.periods.items()
        if each.charges_from_at is not None and each.charges_to_at is not None
    }
    return progressive.billed_before(conn, voided.organization_id, periods)


def _lines(stored: Sequence[StoredFee], changes: Sequence[FeeChange], billed: _Billed) -> Iterator[Line]:
    """The voided lines in their order, changed where it is said. Raises NotFound for a fee that is none of them."""
    change_of = {each.fee_id: each for each in changes}
    if change_of.keys() - {fee.id for fee in stored}:
        raise NotFound("fee")
    for row in stored:
        change = change_of.get(row.id)
        if change is not None and change.is_removed:
            continue
        fee = replace(row.as_fee, original_id=row.id)
        plan = billed.plan_of(row.subscription_id, fee.from_)
        if change is not None:
            charge = next((each for each in plan.charges if each.id == row.charge_id), None) if plan else None
            fee = changed_fee(fee, change.change, charge=charge, currency=row.amount_currency)
        yield Line(fee, plan, own_taxes=_own_taxes(fee, plan))


def _own_taxes(fee: Fee, plan: Plan | None) -> tuple[Tax, ...]:
    """The taxes of what the fee is for, where that has its own."""
    if plan is None:
        return ()
    if fee.kind is FeeKind.COMMITMENT and plan.minimum_commitment is not None:
        return plan.minimum_commitment.taxes
    return next((each.taxes for each in plan.fixed_charges if each.id == fee.item_id), ())


def _added(added: Sequence[AddedFee], billed: _Billed, currency: str) -> Iterator[Line]:
    """Usage that the voided invoice did not bill, for its period. Raises NotFound."""
    for each in added:
        period = billed.periods.get(each.subscription_id)
        if period is None:
            raise NotFound("subscription")
        from_, to = period.charges_from_at or period.billed_at, period.charges_to_at or period.billed_at
        plan = billed.plan_of(each.subscription_id, from_)
        charge = next((own for own in plan.charges if own.id == each.charge_id), None) if plan else None
        if charge is None:
            raise NotFound("charge")
        yield Line(added_fee(each, charge=charge, from_=from_, to=to, currency=currency), plan)
