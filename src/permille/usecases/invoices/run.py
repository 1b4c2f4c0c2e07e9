"""The invoice run: bill what is due.

Requests become billings, these become drafts; what the steps need to know is loaded, the steps run (core/invoice), and
what they have made is saved. Everything happens in the caller's transaction and as of the instant that was due, however
late it is run. What is billed is a difference (core/contract/timeline.py), so that a run that is killed or repeated
bills nothing twice. Source: semantics-billing.md sections 3.10, 4.2 to 4.7; docs/decisions/007.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import carries_over
from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import BillingPeriods, InvoicePlan, next_billing_at, running_period
from permille.core.customer import Customer
from permille.core.invoice.billing import (
    BillingProgress,
    BillingRequest,
    InvoicingReason,
    SubscriptionBilling,
    change_requests,
    grouped,
    progress_after,
)
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, Line, changed, out_of_range
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.metering.event import Arrival
from permille.core.period import Period, local_date
from permille.core.rating.fee import Fee
from permille.core.record import Record, replace
from permille.core.tax import Tax
from permille.database.connections import is_passing
from permille.events.engine import event_log, usage
from permille.memory import paused_collector
from permille.store import customers, invoices, late_usage, subscriptions
from permille.usecases import holds
from permille.usecases.invoices import adjustments
from permille.usecases.invoices.facts import Contracts, draft_of, drafts_of, load_contracts, load_facts
from permille.usecases.invoices.regrouping import regroup
from permille.usecases.invoices.save import queue_webhooks, save
from permille.usecases.price_change import amounts_changed

BATCH = 2_000


class Batch(Record, kw_only=True):
    """What is billed together: the billings in the order of their requests, and the drafts with all facts for them."""

    billings: Sequence[SubscriptionBilling]
    drafts: Sequence[InvoiceDraft]
    facts: Facts

    def make(self) -> list[InvoiceDraft]:
        """Run the steps."""
        return make(self.drafts, self.facts)


def bill_due(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    until: datetime,
    limit: int = BATCH,
    wait: bool = False,
    now: datetime | None = None,
) -> int:
    """Bill the subscriptions that are due the longest, about `limit` of them; returns how many were due, 0 for none.

    A customer's subscriptions that are due at the same instant are billed together, and of several instants the first.
    Rows that another worker has locked are skipped unless `wait` is set. A customer with an amount that does not fit
    into 64 bits is held, by the organization's clock `now`, which is `until` by default.
    """
    while payers := invoices.claim_payers(conn, organization_id, until=until, limit=limit, wait=wait):
        rows = invoices.claim_due(conn, payers, until=until)
        requests = [
            BillingRequest(subscription=row, at=row.next_billing_at) for row in rows if row.next_billing_at
        ]
        if requests:
            failures = holds.do_apart(
                conn,
                requests,
                lambda some: _bill(conn, some),
                customer_of=lambda each: each.subscription.customer_id,
                known=lambda some: _out_of_range(conn, some),
            )
            holds.hold(
                conn,
                organization_id,
                failures,
                due_at=lambda each: each.at,
                named=lambda each: {"external_subscription_id": each.subscription.external_id},
                now=now or until,
            )
            return len(requests)
    return 0


def bill_starts(conn: Connection[Any], subscription_ids: Sequence[UUID], *, at: datetime) -> None:
    """Bill what plans paid in advance cost from their start on, each on its own invoice; usage is left to the period's end."""
    rows = subscriptions.for_update(conn, subscription_ids)
    _bill(
        conn,
        [
            BillingRequest(subscription=rows[row_id], at=at, reason=InvoicingReason.STARTING, group=group)
            for group, row_id in enumerate(subscription_ids)
        ],
    )


def bill_activations(conn: Connection[Any], rows: Sequence[Subscription], *, at: datetime) -> None:
    """As bill_starts, for subscriptions that only run once that is paid: their invoices wait, unseen, for it."""
    _bill(
        conn,
        [
            BillingRequest(
                subscription=replace(row, status="active"),
                at=at,
                reason=InvoicingReason.STARTING,
                awaits_payment=True,
                group=group,
            )
            for group, row in enumerate(rows)
        ],
    )


def bill_terminations(conn: Connection[Any], subscription_ids: Sequence[UUID], *, at: datetime) -> None:
    """Bill what subscriptions that end at `at` still owe, each on its own invoice, unless they say that this is skipped."""
    known = subscriptions.for_update(conn, subscription_ids)
    rows = [known[row_id] for row_id in subscription_ids]
    skipped = [row for row in rows if row.on_termination_invoice != "generate"]
    if skipped:
        contracts = load_contracts(conn, skipped)
        requests = [
            BillingRequest(subscription=row, at=at, reason=InvoicingReason.TERMINATING) for row in skipped
        ]
        regroup(conn, [contracts.billing(each) for each in requests], only_ended=False)
    owing = [row for row in rows if row.on_termination_invoice == "generate"]
    _bill(
        conn,
        [
            BillingRequest(subscription=row, at=at, reason=InvoicingReason.TERMINATING, group=group)
            for group, row in enumerate(owing)
        ],
    )


class PlanChange(Record, kw_only=True):
    """A subscription that ends because another plan takes over, and the one that begins."""

    old_id: UUID
    new_id: UUID
    owes_at_start: bool


def bill_changes(conn: Connection[Any], changes: Sequence[PlanChange], *, at: datetime) -> None:
    """Bill changes of plan, each on one invoice: what the old plan still owes, and what the new one costs from its start."""
    rows = subscriptions.for_update(
        conn, [each for change in changes for each in (change.old_id, change.new_id)]
    )
    requests = [
        replace(request, group=group)
        for group, change in enumerate(changes)
        for request in change_requests(
            rows[change.old_id], rows[change.new_id], at=at, owes_at_start=change.owes_at_start
        )
    ]
    _bill(conn, requests)


def bill_missed(conn: Connection[Any], subscription_ids: Sequence[UUID], *, until: datetime) -> None:
    """Call it before subscriptions end: bill their periods that ended before the day of `until`, where the run comes late.

    Each is billed as of its own end: it was due before anything ended.
    """
    rows = subscriptions.for_update(conn, subscription_ids).values()
    behind = [row for row in rows if row.next_billing_at is not None and row.next_billing_at < until]
    if not behind:
        return
    contracts = load_contracts(conn, behind)
    for row in behind:
        for missed in _missed(contracts, row, until):
            current = subscriptions.by_ids(conn, [row.id])[row.id]
            _bill(conn, [BillingRequest(subscription=current, at=missed)])


def _missed(contracts: Contracts, row: Subscription, until: datetime) -> Iterator[datetime]:
    """The billing days before that of `until` that no run has come to."""
    plan, timezone = contracts.plans[row.plan_id], contracts.payers[row.id].applicable_timezone
    facts = facts_of(row, plan, timezone=timezone, first_started_at=contracts.first_starts.get(row.id))
    missed = row.next_billing_at
    while missed is not None and local_date(missed, timezone) < local_date(until, timezone):
        yield missed
        missed = next_billing_at(facts, after=missed)


def _bill(conn: Connection[Any], requests: Sequence[BillingRequest]) -> None:
    """Load, run the steps, save. Raises Unbillable."""
    if not requests:
        return
    with holds.refusing_unbillable(), paused_collector():
        _bill_requests(conn, requests)


def _bill_requests(conn: Connection[Any], requests: Sequence[BillingRequest]) -> None:
    arrival = event_log.arrival(conn)
    batch = load_batch(conn, requests, arrival=arrival)
    save(conn, batch.make())
    billings = batch.billings
    regroup(conn, [each for each in billings if each.recurring], only_ended=True)
    ended = [each for each in billings if each.reason is InvoicingReason.TERMINATING]
    regroup(conn, ended, only_ended=False)
    progress = [progress_after(billing) for billing in billings]
    invoices.settle(conn, progress)
    amounts_changed(conn, [each.subscription for each in billings if carries_over(each.plan)])
    _queue_ended_trials(conn, billings, progress)


def load_batch(
    conn: Connection[Any], requests: Sequence[BillingRequest], *, arrival: Arrival | None = None
) -> Batch:
    """The drafts for these requests, with all facts that their steps need."""
    organization_ids = {each.subscription.organization_id for each in requests}
    return usage.under_one_metering(conn, organization_ids, lambda: _load_batch(conn, requests, arrival))


def _load_batch(conn: Connection[Any], requests: Sequence[BillingRequest], arrival: Arrival | None) -> Batch:
    taking_over = {each.next_plan_id for each in requests if each.next_plan_id}
    contracts = load_contracts(conn, [each.subscription for each in requests], taking_over)
    billings = [contracts.billing(each, arrival=arrival) for each in requests]
    drafts = drafts_of(grouped(billings))
    facts = load_facts(conn, drafts)
    alone = [
        draft_of((billing,), kind=InvoiceKind.FEES_ALONE)
        for billing in billings
        if any(not charge.invoiceable for charge, _ in facts.renewed_charges(billing))
    ]
    return Batch(billings=billings, drafts=[*drafts, *alone], facts=facts)


def _out_of_range(conn: Connection[Any], requests: Sequence[BillingRequest]) -> dict[UUID, str]:
    """Customer -> why, of those whose bill comes to too much; none where it cannot even be computed."""
    try:
        with conn.transaction(), holds.refusing_unbillable():
            return out_of_range(load_batch(conn, requests).make())
    except Exception as error:
        if is_passing(error):
            raise
        return {}


def _queue_ended_trials(
    conn: Connection[Any], billings: Sequence[SubscriptionBilling], progress: Sequence[BillingProgress]
) -> None:
    for billing, after in zip(billings, progress, strict=True):
        row = billing.subscription
        if after.trial_ended_at is not None and row.trial_ended_at is None:
            queue_webhooks(conn, "subscription.trial_ended", row.organization_id, [(billing.at, row.id)])


def bill_late_usage(conn: Connection[Any], customer_ids: Collection[UUID], *, at: datetime) -> None:
    """Bill at once, each on an invoice of its own, scheduled late usage of these customers' subscriptions that have ended."""
    waiting = late_usage.scheduled(conn, customer_ids)
    if not waiting:
        return
    found = list(adjustments.fees_of(conn, waiting))
    payers = customers.of_subscriptions(conn, [row for row, _, _ in found])
    billed = {}
    for row, late, fees in found:
        history = subscriptions.history(conn, row.organization_id, row.external_id)
        if any(each.status == "active" for each in history):
            continue
        billing = _billing_of_period(
            row,
            fees.plan,
            payers[row.id],
            at=at,
            reason=InvoicingReason.LATE_USAGE,
            periods=BillingPeriods(subscription=Period(late.from_at, late.to_at), charges=None),
        )
        draft = draft_of((billing,), kind=InvoiceKind.LATE_USAGE)
        billed[draft.id] = draft, [fees]
    drafts = [draft for draft, _ in billed.values()]
    facts = load_facts(conn, drafts, late_usage={key: fees for key, (_, fees) in billed.items()})
    save(conn, make(drafts, facts))


def advance_draft(
    row: Subscription, plan: Plan, customer: Customer, fee: Fee, *, at: datetime, invoiceable: bool
) -> InvoiceDraft:
    """A fee that an event made: on an invoice of its own, or on none."""
    period = Period(fee.from_, fee.to)
    billing = _billing_of_period(
        row,
        plan,
        customer,
        at=at,
        reason=InvoicingReason.IN_ADVANCE,
        periods=BillingPeriods(subscription=period, charges=period),
    )
    draft = draft_of((billing,), kind=InvoiceKind.IN_ADVANCE if invoiceable else InvoiceKind.FEES_ALONE)
    return changed(draft, billings=(billing,) if invoiceable else (), lines=(Line(fee, plan),))


def units_draft(
    row: Subscription,
    plan: Plan,
    customer: Customer,
    fees: Sequence[tuple[Fee, tuple[Tax, ...]]],
    *,
    at: datetime,
) -> InvoiceDraft:
    """Fees, with their own taxes, for units of fixed charges that changed inside a period: on an invoice of their own."""
    periods = [Period(fee.from_, fee.to) for fee, _ in fees]
    billing = _billing_of_period(
        row,
        plan,
        customer,
        at=at,
        reason=InvoicingReason.IN_ADVANCE,
        periods=BillingPeriods(subscription=periods[0], charges=None, fixed_charges_in_advance=periods[0]),
    )
    draft = draft_of((billing,), kind=InvoiceKind.IN_ADVANCE)
    return changed(draft, lines=tuple(Line(fee, plan, own_taxes=taxes) for fee, taxes in fees))


def progressive_billing(
    row: Subscription, plan: Plan, customer: Customer, usage_period: Period, *, at: datetime, arrival: Arrival
) -> SubscriptionBilling:
    """A billing of the period that runs, up to now."""
    facts = facts_of(row, plan, timezone=customer.applicable_timezone, first_started_at=None)
    billing = _billing_of_period(
        row,
        plan,
        customer,
        at=at,
        reason=InvoicingReason.PROGRESSIVE,
        periods=BillingPeriods(subscription=running_period(facts, at=at), charges=usage_period),
    )
    return replace(billing, arrival=arrival, shared={})


def bill_in_advance(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Bill fees that events made: invoices that are final at once, and fees alone."""
    save(conn, make(drafts, load_facts(conn, drafts)))


def _billing_of_period(
    row: Subscription,
    plan: Plan,
    customer: Customer,
    *,
    at: datetime,
    reason: InvoicingReason,
    periods: BillingPeriods,
) -> SubscriptionBilling:
    """A billing that leaves the subscription's own progress as it is."""
    return SubscriptionBilling(
        subscription=row,
        plan=plan,
        customer=customer,
        facts=facts_of(row, plan, timezone=customer.applicable_timezone, first_started_at=None),
        at=at,
        reason=reason,
        planned=InvoicePlan(
            periods=periods,
            fee=None,
            fee_billed_until=row.fee_billed_until,
            charges_billed_until=row.charges_billed_until,
            fixed_charges_billed_until=row.fixed_charges_billed_until,
            fixed_charges_paid_until=row.fixed_charges_paid_until,
        ),
    )
