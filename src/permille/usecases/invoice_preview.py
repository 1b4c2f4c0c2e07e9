"""Previews of invoices: the same facts and steps as when they are made, without the save.

Source: semantics-billing.md section 4.11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan, sold_plan_id, yearly_amount_cents
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import (
    Start,
    Subscription,
    as_unbilled,
    due,
    owes_at_start,
    plan_period_end,
    start_of,
)
from permille.core.coupon import Coupon, applied_to, in_order as applied_in_order
from permille.core.custom_section import SectionChoice
from permille.core.customer import BillingEntity, Customer
from permille.core.errors import Invalid
from permille.core.invoice.billing import (
    BillingRequest,
    InvoicingReason,
    SubscriptionBilling,
    change_requests,
    grouped,
    in_order,
    progress_after,
)
from permille.core.invoice.draft import InvoiceDraft, changed
from permille.core.invoice.kinds import make
from permille.core.period import local_date, start_of_day
from permille.core.record import Record, asdict, replace
from permille.events.engine import usage
from permille.ids import new_id
from permille.store import activation_rules, subscriptions
from permille.store.credit_notes import NewCreditNote
from permille.usecases.invoices.credit_notes import unused_credits
from permille.usecases.invoices.facts import Contracts, draft_of, load_contracts, load_facts
from permille.usecases.subscriptions import SubscriptionTerms, note_on_termination, pending


class InvoicePreview(Record, kw_only=True):
    """An invoice that nobody has saved."""

    draft: InvoiceDraft
    notes: dict[UUID, NewCreditNote]
    """The credit notes that would be made with it, by the ids that its credits name them by."""


Coupons = Sequence[Coupon] | None
"""What a preview takes off as if the customer had it; None: what the customer has."""


def preview_next(
    conn: Connection[Any], rows: Sequence[Subscription], *, coupons: Coupons = None
) -> InvoicePreview:
    """The next invoice of running subscriptions, with the events that there are by now. Raises Invalid."""
    following = subscriptions.following(conn, [row.id for row in rows])
    gated = activation_rules.of_subscriptions(conn, [row.id for row in following])
    waiting = {each.previous_subscription_id: each for each in following}
    contracts = load_contracts(conn, [*rows, *waiting.values()])
    requests = [
        request for row in rows for request in _next_requests(contracts, row, waiting.get(row.id), gated)
    ]
    if len({request.at for request in requests}) > 1:
        raise Invalid({"base": ["billing_periods_does_not_match"]})
    return _preview(conn, contracts, requests, coupons=coupons)


def _next_requests(
    contracts: Contracts, row: Subscription, waiting: Subscription | None, gated: Collection[UUID]
) -> list[BillingRequest]:
    """Its end is billed where that comes first, and another plan that waits for its place.

    One that is `gated` takes over once it is paid: until then the old plan goes on.
    """
    at = row.next_billing_at
    assert at is not None, "a running subscription is due some day"
    if row.ends_at is not None and row.ends_at <= at:
        return [_termination(row, row.ends_at)]
    if waiting is not None and waiting.activates_at is not None and waiting.activates_at <= at:
        takes_over_at = waiting.activates_at
        ended = replace(row, status="terminated", terminated_at=takes_over_at)
        started = replace(waiting, status="active", started_at=takes_over_at, activated_at=takes_over_at)
        owes = _owes_at_start(contracts, started, at=takes_over_at)
        if not owes or waiting.id not in gated:
            return change_requests(ended, started, at=takes_over_at, owes_at_start=owes)
    return [BillingRequest(subscription=row, at=at)]


def _owes_at_start(contracts: Contracts, started: Subscription, *, at: datetime) -> bool:
    return owes_at_start(
        started,
        contracts.plans[started.plan_id],
        timezone=contracts.payers[started.id].applicable_timezone,
        first_started_at=contracts.first_starts.get(started.id),
        now=at,
    )


def preview_termination(
    conn: Connection[Any], rows: Sequence[Subscription], *, at: datetime, coupons: Coupons = None
) -> InvoicePreview:
    """The invoice of running subscriptions that end at an instant to come. Raises Invalid."""
    contracts = load_contracts(conn, rows)
    requests = [_termination(_billed_before(contracts, row, at), at) for row in rows]
    ended = [request.subscription for request in requests]
    credited = [row for row in ended if row.on_termination_credit_note not in (None, "skip")]
    notes = unused_credits(conn, credited, at=at)
    return _preview(conn, contracts, requests, notes, coupons=coupons)


def _termination(row: Subscription, at: datetime) -> BillingRequest:
    ended = replace(row, status="terminated", terminated_at=at)
    return BillingRequest(subscription=ended, at=at, reason=InvoicingReason.TERMINATING)


def _billed_before(contracts: Contracts, row: Subscription, until: datetime) -> Subscription:
    """The subscription as it will be once the periods that end on days before are billed."""
    timezone = contracts.payers[row.id].applicable_timezone
    while row.next_billing_at and local_date(row.next_billing_at, timezone) < local_date(until, timezone):
        billing = contracts.billing(BillingRequest(subscription=row, at=row.next_billing_at))
        progress = asdict(progress_after(billing))
        del progress["subscription_id"]
        row = replace(row, **progress)
    return row


def preview_change(
    conn: Connection[Any],
    row: Subscription,
    plan: Plan,
    *,
    entity: BillingEntity | None = None,
    now: datetime,
    coupons: Coupons = None,
) -> InvoicePreview:
    """The invoice of a running subscription that goes over to another plan: now, or at the end of its period.

    `entity` bills the new plan, otherwise the one that bills the old. Raises Invalid.
    """
    contracts = load_contracts(conn, [row], [plan.id])
    before, payer = contracts.plans[row.plan_id], contracts.payers[row.id]
    if sold_plan_id(before) == sold_plan_id(plan):
        raise Invalid({"base": ["new_plan_should_be_different_from_existing_plan"]})
    timezone = payer.applicable_timezone
    upgraded = yearly_amount_cents(plan) >= yearly_amount_cents(in_force(before, now))
    at = now if upgraded else plan_period_end(row, before, timezone=timezone, now=now)
    ended = replace(
        _billed_before(contracts, row, at), status="terminated", terminated_at=at, upgraded=upgraded
    )
    started = replace(
        as_unbilled(row),
        id=new_id(at),
        plan_id=plan.id,
        billing_entity_id=entity.id if entity else row.billing_entity_id,
        previous_subscription_id=row.id,
        started_at=at,
        activated_at=at,
        created_at=now,
        trial_ended_at=None,
        on_termination_credit_note=note_on_termination(None, plan),
    )
    first = subscriptions.first_starts(conn, [row.id]).get(row.id, row.started_at)
    contracts = replace(
        contracts,
        payers={**contracts.payers, started.id: payer.billed_by(entity) if entity else payer},
        first_starts={**contracts.first_starts, **({started.id: first} if first else {})},
    )
    notes = unused_credits(conn, [ended], at=at) if ended.on_termination_credit_note is not None else []
    owes = _owes_at_start(contracts, started, at=at)
    requests = change_requests(ended, started, at=at, owes_at_start=owes)
    return _preview(conn, contracts, requests, notes, coupons=coupons)


def preview_proposal(
    conn: Connection[Any],
    customer: Customer,
    plan: Plan,
    *,
    billing_time: str,
    subscription_at: datetime,
    coupons: Coupons = None,
    now: datetime,
) -> InvoicePreview:
    """The first invoice of a subscription that the customer does not have; one to come begins with its day. Raises Invalid."""
    timezone = customer.applicable_timezone
    is_to_come = start_of(subscription_at, now=now, timezone=timezone) is Start.FUTURE
    started_at = start_of_day(subscription_at, timezone) if is_to_come else subscription_at
    terms = SubscriptionTerms(
        external_id=str(new_id(subscription_at)),
        name=None,
        billing_time=billing_time,
        subscription_at=subscription_at,
        ending_at=None,
        on_termination_credit_note=None,
        on_termination_invoice="generate",
        consolidate_invoice=True,
        purchase_order_number=None,
        progressive_billing_disabled=False,
    )
    row = replace(
        pending(customer, plan, terms, subscription_at),
        status="active",
        started_at=started_at,
        activated_at=started_at,
    )
    contracts = Contracts(plans={plan.id: plan}, payers={row.id: customer}, first_starts={row.id: started_at})
    request = BillingRequest(subscription=row, at=started_at, reason=InvoicingReason.STARTING)
    if not owes_at_start(row, plan, timezone=timezone, first_started_at=started_at, now=started_at):
        next_at = due(row, plan, timezone=timezone, now=started_at).next_billing_at
        assert next_at is not None, "a running subscription is due some day"
        request = BillingRequest(subscription=row, at=next_at)
    return _preview(conn, contracts, [request], coupons=coupons)


def _inherited(
    billings: Sequence[SubscriptionBilling], chosen: Mapping[UUID, SectionChoice]
) -> Mapping[UUID, SectionChoice]:
    """The choices with those of subscriptions that a plan would take over from: they stay."""
    previous = {each.subscription.id: each.subscription.previous_subscription_id for each in billings}
    kept = {row_id: chosen[before] for row_id, before in previous.items() if before and before in chosen}
    return {**kept, **chosen}


def _preview(
    conn: Connection[Any],
    contracts: Contracts,
    requests: Sequence[BillingRequest],
    notes: Sequence[NewCreditNote] = (),
    *,
    coupons: Coupons,
) -> InvoicePreview:
    """Run the steps for one invoice as it will be when it is final. Raises Invalid where nothing is due, or it would be two."""
    billings = tuple(in_order(contracts.billing(request) for request in requests))
    if len({billing.plan.amount_currency for billing in billings}) > 1:
        raise Invalid({"base": ["subscription_currencies_does_not_match"]})
    if len({billing.customer.billing_entity.id for billing in billings}) > 1:
        raise Invalid({"base": ["subscription_billing_entities_do_not_match"]})
    if len(grouped(billings)) > 1:
        raise Invalid({"base": ["subscriptions_are_invoiced_apart"]})
    draft = changed(draft_of(billings), has_grace_period=False)
    organization_id = draft.customer.organization_id
    facts = usage.under_one_metering(conn, [organization_id], lambda: load_facts(conn, [draft]))
    facts = replace(facts, section_choices=_inherited(billings, facts.section_choices))
    if coupons is not None:
        had = [applied_to(each, draft.customer.id, applied_id=new_id(draft.at)) for each in coupons]
        facts = replace(facts, coupons={draft.customer.id: applied_in_order(had)})
    named = {new_id(note.at): note for note in notes}
    more = [(note_id, note.split.credit_cents) for note_id, note in named.items()]
    place = draft.customer.id, draft.currency
    balances = {**facts.balances, place: [*facts.balances.get(place, ()), *more]}
    made = make([draft], replace(facts, balances=balances))
    if not made:
        raise Invalid({"base": ["nothing_to_bill"]})
    return InvoicePreview(draft=made[0], notes=named)
