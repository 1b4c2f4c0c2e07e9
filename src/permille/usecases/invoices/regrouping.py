"""Paid fees that were on no invoice, gathered on one when their subscription is billed.

They go on an invoice of type advance_charges, which is paid: the sums of the fees and of their taxes, nothing computed
again. Fees that are paid later wait for the next one. Source: semantics-billing.md section 6.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.contract.timeline import BillingPeriods
from permille.core.invoice.billing import InvoicingReason, SubscriptionBilling, in_order
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, Line, changed
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.record import replace
from permille.store import fees as fee_store, plans, subscriptions
from permille.store.fees import StoredFee
from permille.usecases.invoices.facts import draft_of, load_section_choices
from permille.usecases.invoices.save import save


def regroup(conn: Connection[Any], billings: Iterable[SubscriptionBilling], *, only_ended: bool) -> None:
    """Gather the paid fees of these subscriptions, by customer, billing entity, instant and currency.

    The customers are locked. `only_ended` leaves fees of a running period to its end.
    """
    by_name = {
        (each.subscription.organization_id, each.subscription.external_id): each
        for each in billings
        if each.usage_period is not None
    }
    fees = fee_store.paid_alone(
        conn, {name: each.at for name, each in by_name.items()}, only_ended=only_ended
    )
    if not fees:
        return
    rows = subscriptions.by_ids(conn, {fee.subscription_id for fee in fees if fee.subscription_id})
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    together: dict[tuple[datetime, UUID, UUID, str], list[tuple[SubscriptionBilling, StoredFee]]] = (
        defaultdict(list)
    )
    for fee in fees:
        assert fee.subscription_id is not None, fee.id
        row = rows[fee.subscription_id]
        found = by_name[row.organization_id, row.external_id]
        billing = _billing(found, row, known_plans[row.plan_id])
        payer = billing.customer
        place = billing.at, payer.id, payer.billing_entity.id, fee.amount_currency
        together[place].append((billing, fee))
    drafts = [_draft(each) for each in together.values()]
    save(conn, make(drafts, Facts(section_choices=load_section_choices(conn, drafts))))


def _billing(found: SubscriptionBilling, row: Subscription, plan: Plan) -> SubscriptionBilling:
    """The subscription that the fee is of, for the period that is billed: it may be an earlier one of the same name."""
    periods = BillingPeriods(subscription=found.usage_period, charges=found.usage_period)
    planned = replace(found.planned, periods=periods)
    return replace(
        found, subscription=row, plan=plan, reason=InvoicingReason.IN_ADVANCE_PERIODIC, planned=planned
    )


def _draft(fees: Sequence[tuple[SubscriptionBilling, StoredFee]]) -> InvoiceDraft:
    billings: Mapping[UUID, SubscriptionBilling] = {billing.subscription.id: billing for billing, _ in fees}
    draft = draft_of(tuple(in_order(billings.values())), kind=InvoiceKind.PAID_FEES)
    lines = tuple(Line(fee.as_fee, billing.plan, taxed=fee.taxed, fee_id=fee.id) for billing, fee in fees)
    return changed(draft, currency=fees[0][1].amount_currency, lines=lines)
