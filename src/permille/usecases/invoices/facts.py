"""Load what the steps of a batch of invoices need to know, set-based."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.custom_section import SectionChoice
from permille.core.customer import Customer
from permille.core.invoice.billing import (
    BillingRequest,
    InvoicingReason,
    SubscriptionBilling,
)
from permille.core.invoice.cohort import Cohorts
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind
from permille.core.invoice.facts import Facts, PlanPrices, Usage
from permille.core.invoice.late_usage import LateUsageFees
from permille.core.invoice.progressive import BilledBefore
from permille.core.metering.event import Arrival
from permille.core.rating.commitment import COUNTED
from permille.core.record import Record, field, replace
from permille.events.engine import usage
from permille.events.usage import UsageQuery
from permille.ids import new_id, ordered_ids
from permille.store import (
    customers,
    fees,
    fixed_charges,
    plans,
    progressive,
    section_choices,
    subscriptions,
)
from permille.usecases.invoices import adjustments, balances
from permille.usecases.usage.windows import carried_over_query, usage_windows


class Contracts(Record, kw_only=True):
    """The plans and customers of a batch of subscriptions."""

    plans: Mapping[UUID, Plan]
    payers: Mapping[UUID, Customer]
    """Subscription -> its customer, as the billing entity of the subscription bills it."""
    first_starts: Mapping[UUID, datetime]
    """Subscription -> when its external id first ran, where the plan has a trial."""
    cohorts: Cohorts = field(default_factory=Cohorts)

    def billing(self, request: BillingRequest, *, arrival: Arrival | None = None) -> SubscriptionBilling:
        """What is due of a subscription. `arrival` says which events its usage is read with."""
        row = request.subscription
        return self.cohorts.billing(
            request,
            plan=self.plans[row.plan_id],
            customer=self.payers[row.id],
            first_started_at=self.first_starts.get(row.id),
            next_plan=self.plans[request.next_plan_id] if request.next_plan_id else None,
            arrival=arrival,
        )


def load_contracts(
    conn: Connection[Any], rows: Sequence[Subscription], more_plans: Collection[UUID] = ()
) -> Contracts:
    """The plans, customers and first starts of these subscriptions, and plans that take over."""
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows} | set(more_plans))
    with_trial = [row.id for row in rows if known_plans[row.plan_id].trial_period]
    return Contracts(
        plans=known_plans,
        payers=customers.of_subscriptions(conn, rows),
        first_starts=subscriptions.first_starts(conn, with_trial) if with_trial else {},
    )


def drafts_of(groups: Sequence[tuple[SubscriptionBilling, ...]]) -> list[InvoiceDraft]:
    """A draft for the billings of each group; their ids ascend among those of one instant."""
    counts = Counter([group[0].at for group in groups])
    ids = {at: iter(ordered_ids(at, count)) for at, count in counts.items()}
    return [draft_of(group, invoice_id=next(ids[group[0].at])) for group in groups]


def draft_of(
    billings: tuple[SubscriptionBilling, ...],
    *,
    kind: InvoiceKind = InvoiceKind.SUBSCRIPTION,
    invoice_id: UUID | None = None,
) -> InvoiceDraft:
    """A draft without lines yet for subscriptions that go on one invoice."""
    first = billings[0]
    kind = InvoiceKind.ACTIVATION if first.awaits_payment else kind
    waits = kind is InvoiceKind.SUBSCRIPTION and first.customer.applicable_invoice_grace_period
    return InvoiceDraft(
        id=invoice_id or new_id(first.at),
        kind=kind,
        customer=first.customer,
        currency=first.plan.amount_currency,
        at=first.at,
        made_at=first.at,
        billings=billings,
        awaits_payment=first.awaits_payment,
        has_grace_period=bool(waits),
    )


def load_facts(
    conn: Connection[Any],
    drafts: Sequence[InvoiceDraft],
    *,
    late_usage: Mapping[UUID, Sequence[LateUsageFees]] | None = None,
) -> Facts:
    """What the steps need for these drafts. Call it under one metering; `late_usage` is known to the caller."""
    of_periods = (InvoiceKind.SUBSCRIPTION, InvoiceKind.ACTIVATION)
    billed = [draft for draft in drafts if draft.kind in of_periods]
    with_usage = [*billed, *(draft for draft in drafts if draft.kind is InvoiceKind.PROGRESSIVE)]
    billings = [billing for draft in with_usage for billing in draft.billings]
    ending = [billing for draft in billed for billing in draft.billings]
    known_plans = {billing.plan.id: billing.plan for billing in billings}
    facts = Facts(
        prices={plan_id: PlanPrices.of(plan) for plan_id, plan in known_plans.items()},
        late_usage=adjustments.of_drafts(conn, billed) if late_usage is None else late_usage,
        **balances.load(conn, drafts),
    )
    return replace(
        facts,
        usage=_usage(conn, billings, facts),
        **_fixed_charges(conn, billings),
        carried_over=_carried_over(conn, billings, facts),
        section_choices=load_section_choices(conn, drafts),
        counted_cents=_counted_cents(conn, ending, [draft.id for draft in billed]),
        billed_before=_billed_before(conn, with_usage),
    )


def load_section_choices(
    conn: Connection[Any], drafts: Iterable[InvoiceDraft]
) -> Mapping[UUID, SectionChoice]:
    """What the subscriptions on these invoices have chosen to print."""
    billed = {
        billing.subscription.id for draft in drafts if draft.is_on_invoice for billing in draft.billings
    }
    return section_choices.of(conn, billed)


def _fixed_charges(conn: Connection[Any], billings: Sequence[SubscriptionBilling]) -> dict[str, Any]:
    """The facts on fixed charges; nothing is read where no plan has any."""
    billed = [billing for billing in billings if billing.plan.fixed_charges]
    if not billed:
        return {}
    taken_over = [
        (row.id, row.previous_subscription_id, billing.at, billing.facts.timezone)
        for billing in billed
        for row in [billing.subscription]
        if billing.reason is InvoicingReason.STARTING and row.previous_subscription_id is not None
    ]
    return {
        "fixed_units": fixed_charges.units_of(conn, {billing.subscription.id for billing in billed}),
        "paid_before": fixed_charges.paid_before(conn, taken_over),
    }


def _billed_before(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> Mapping[UUID, BilledBefore]:
    """What invoices at thresholds have billed of the periods; one look where the organization has none."""
    periods = {
        billing.subscription.id: period
        for draft in drafts
        for billing in draft.billings
        if (period := billing.usage_period)
    }
    if not periods:
        return {}
    organization_id = drafts[0].customer.organization_id
    made = [draft.id for draft in drafts]
    return progressive.billed_before(conn, organization_id, periods, without=made)


def _counted_cents(
    conn: Connection[Any], billings: Sequence[SubscriptionBilling], made: Collection[UUID]
) -> Mapping[UUID, int]:
    """What is billed already of the periods with a commitment; no statement where no plan has one."""
    periods = {
        billing.subscription.id: ended.whole
        for billing in billings
        if billing.plan.minimum_commitment and (ended := billing.committed_period)
    }
    return fees.counted_cents(conn, periods, kinds=COUNTED, without=made) if periods else {}


def _usage(
    conn: Connection[Any], billings: Sequence[SubscriptionBilling], facts: Facts
) -> Mapping[UUID, Usage]:
    windows: list[tuple[UUID, UsageQuery]] = []
    of_cohort: dict[int, list[UsageQuery]] = {}
    for billing in billings:
        row, cohort = billing.subscription, id(billing.shared)
        if cohort not in of_cohort:
            of_cohort[cohort] = _usage_queries(billing, facts)
        windows += [(row.id, window.of(row.external_id)) for window in of_cohort[cohort]]
    return _read(conn, windows)


def _usage_queries(billing: SubscriptionBilling, facts: Facts) -> list[UsageQuery]:
    charges = [charge for charge, _ in facts.charges_in_arrears(billing)]
    if billing.usage_period is None or not charges:
        return []
    return usage_windows(billing.subscription, charges, billing.usage_period, timezone=billing.facts.timezone)


def _carried_over(
    conn: Connection[Any], billings: Sequence[SubscriptionBilling], facts: Facts
) -> Mapping[UUID, Usage]:
    windows = []
    for billing in billings:
        charges = [charge for charge, _ in facts.renewed_charges(billing)]
        period = billing.begun_period if charges else None
        if period is not None:
            row = billing.subscription
            windows.append((row.id, carried_over_query(row, charges, at=period.from_)))
    return _read(conn, windows)


def _read(conn: Connection[Any], windows: Sequence[tuple[UUID, UsageQuery]]) -> Mapping[UUID, Usage]:
    """Subscription -> code of a metric -> its series."""
    used: dict[UUID, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    if windows:
        read = usage.usage_of_many(conn, [window for _, window in windows])
        for (owner, _), found in zip(windows, read, strict=True):
            for each in found:
                used[owner][each.code].append((each.dimensions, each.partial))
    return used
