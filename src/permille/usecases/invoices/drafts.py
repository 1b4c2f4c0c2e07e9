"""Drafts: invoices that wait out their customer's grace period, are priced again, and become final.

Until then late events and changed prices still count, and nothing is numbered or paid by credit.
Source: semantics-billing.md sections 4.4 and 4.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription, as_unbilled
from permille.core.contract.timeline import BillingPeriods
from permille.core.customer import Customer
from permille.core.errors import Unpriced
from permille.core.invoice.billing import BillingRequest, InvoicingReason, SubscriptionBilling, in_order
from permille.core.invoice.draft import InvoiceDates, InvoiceDraft, InvoiceStatus, changed
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.invoice.steps.dates import dates_by_terms
from permille.core.mail import MailKind
from permille.core.period import Period
from permille.core.record import Record, replace
from permille.events.engine import event_log, usage
from permille.store import billing_entities, customers, fees as fee_store, invoices, subscriptions, wallets
from permille.store.invoices import DatedDraft, DueDraft, InvoiceSubscription, StoredInvoice
from permille.usecases import holds
from permille.usecases.invoices import balances
from permille.usecases.invoices.credit_notes import credit_unused
from permille.usecases.invoices.excess import credit_excess, has_excess
from permille.usecases.invoices.facts import Contracts, draft_of, load_contracts, load_facts
from permille.usecases.invoices.save import queue_webhooks, with_numbers
from permille.usecases.mail import mail_new

DATED_AT_ONCE = 1_000


def refresh(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Price drafts again, from the events, the prices and the taxes that there are now. Raises Unbillable."""
    with holds.refusing_unbillable():
        for made in _rounds(conn, invoice_ids, made_at=now, stays_draft=True):
            invoices.rewrite(conn, [_to_retry(draft, now) for draft in made])
            if made:
                payers = {draft.customer.id for draft in made}
                wallets.mark_customers(conn, made[0].customer.organization_id, payers)


def _to_retry(draft: InvoiceDraft, now: datetime) -> InvoiceDraft:
    """A draft that stays one: with usage that waits for a price it is tried again after a while."""
    retry_at = now + holds.pause(since=draft.at, now=now) if draft.waits_for_price else None
    return changed(draft, made_at=now, price_retry_at=retry_at)


def finalize_due(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool, now: datetime
) -> int:
    """Finalize drafts whose grace period has ended and return their number.

    Rows that another worker has locked are skipped unless `wait` is set. Customers with an amount that does not fit into
    64 bits are held, by the organization's clock `now`. A draft with usage that is held until it has a price stays one,
    and is tried again after a while; it becomes final as of now.
    """
    due = invoices.claim_drafts(conn, organization_id, until=until, limit=limit, wait=wait)

    def finish(drafts: Sequence[DueDraft]) -> None:
        with holds.refusing_unbillable():
            for has_waited, at in ((False, until), (True, now)):
                chosen = [draft.id for draft in drafts if draft.waits_for_price is has_waited]
                _finalize(conn, chosen, at=at, now=now)

    if due:
        failures = holds.do_apart(conn, due, finish, customer_of=lambda draft: draft.customer_id)
        holds.hold(
            conn,
            organization_id,
            failures,
            due_at=lambda draft: draft.finalizes_at,
            named=lambda draft: {"lago_invoice_id": str(draft.id)},
            now=now,
        )
    return len(due)


def finalize_of_subscriptions(
    conn: Connection[Any], subscription_ids: Collection[UUID], *, at: datetime
) -> None:
    """Finalize all drafts with any of these subscriptions, as they or their plan go. Raises Unbillable, Unpriced."""
    finalize(conn, invoices.drafts_of(conn, subscription_ids), at=at)


def finalize(conn: Connection[Any], invoice_ids: Collection[UUID], *, at: datetime) -> None:
    """Price drafts a last time, number them, pay them by credit, and give back what was paid in advance for nothing.

    Raises Unbillable, and Unpriced where usage is held until it has a price.
    """
    with holds.refusing_unbillable():
        if _finalize(conn, invoice_ids, at=at, now=at):
            raise Unpriced


def _finalize(conn: Connection[Any], invoice_ids: Collection[UUID], *, at: datetime, now: datetime) -> int:
    """How many stay drafts, as there is usage on them that waits for a price."""
    waiting = 0
    arrival = event_log.arrival(conn)
    for made in _rounds(conn, invoice_ids, made_at=at, stays_draft=False):
        held = [_to_retry(draft, now) for draft in made if draft.status is InvoiceStatus.DRAFT]
        final = [draft for draft in made if draft.status is not InvoiceStatus.DRAFT]
        waiting += len(held)
        numbered = with_numbers(conn, final)
        invoices.rewrite(conn, [*held, *numbered])
        if numbered:
            invoices.set_arrival(conn, [draft.id for draft in numbered], arrival)
            balances.take(conn, numbered)
            shown = [(at, draft.id) for draft in numbered if draft.status is InvoiceStatus.FINALIZED]
            organization_id = numbered[0].customer.organization_id
            queue_webhooks(conn, "invoice.created", organization_id, shown)
            mail_new(conn, organization_id, MailKind.INVOICE, [invoice_id for _, invoice_id in shown], now=at)
            credit_excess(conn, numbered)
            _give_back(conn, numbered, at)
    return waiting


def _give_back(conn: Connection[Any], drafts: Sequence[InvoiceDraft], at: datetime) -> None:
    """Credit notes for subscriptions that ended while the invoice of their period was a draft."""
    ended = {row.id: (row, draft.id) for draft in drafts for row in _ended_with_note(draft)}
    if ended:
        only_on = {row_id: invoice_id for row_id, (_, invoice_id) in ended.items()}
        credit_unused(conn, [row for row, _ in ended.values()], at=at, only_on=only_on)


def _ended_with_note(draft: InvoiceDraft) -> Iterator[Subscription]:
    """Subscriptions on a draft that have ended and give back the days that are not used."""
    for billing in draft.billings:
        row = billing.subscription
        if row.status == "terminated" and row.on_termination_credit_note not in (None, "skip"):
            yield row


def date_again(conn: Connection[Any], found: Sequence[DatedDraft], *, now: datetime) -> None:
    """Date drafts by the terms that their customers have now: final so many days after they were billed, now at the earliest."""
    for start in range(0, len(found), DATED_AT_ONCE):
        some = found[start : start + DATED_AT_ONCE]
        entities = billing_entities.by_ids(conn, {draft.billing_entity_id for draft in some})
        payers = customers.by_ids(conn, {draft.customer_id for draft in some})
        invoices.set_draft_dates(
            conn,
            {
                draft.id: _dated(
                    draft, payers[draft.customer_id].billed_by(entities[draft.billing_entity_id]), now
                )
                for draft in some
            },
        )


def _dated(draft: DatedDraft, customer: Customer, now: datetime) -> InvoiceDates:
    dates = dates_by_terms(customer, draft.billed_at, timezone=draft.timezone, recurring=draft.recurring)
    if dates.expected_finalization_date == draft.expected_finalization_date:
        return replace(dates, finalizes_at=draft.finalizes_at)
    assert dates.finalizes_at is not None, "a draft becomes final"
    return replace(dates, finalizes_at=max(dates.finalizes_at, now))


def _rounds(
    conn: Connection[Any], invoice_ids: Collection[UUID], *, made_at: datetime, stays_draft: bool
) -> Iterator[list[InvoiceDraft]]:
    """The drafts as they come to now, those of a customer oldest first, no subscription twice in a round.

    Those that become final are paid with what older ones of the customer have given back.
    """
    waiting = list(invoice_ids)
    giving: set[UUID] = set()
    while waiting:
        billed = invoices.subscriptions_of(conn, waiting)
        chosen = _round(invoices.invoices_by_ids(conn, waiting), billed, giving)
        if not stays_draft:
            customers.lock_all(conn, {invoice.customer_id for invoice in chosen})
        made = _made_again(conn, chosen, billed, made_at=made_at, stays_draft=stays_draft)
        if not stays_draft:
            made = _up_to_given_back(made, giving)
        yield made
        done = {draft.id for draft in made}
        waiting = [invoice_id for invoice_id in waiting if invoice_id not in done]


def _round(
    stored: Mapping[UUID, StoredInvoice],
    billed: Mapping[UUID, Sequence[InvoiceSubscription]],
    giving: Collection[UUID],
) -> list[StoredInvoice]:
    """The oldest drafts of each customer, up to one with a subscription that is in the round; of customers in `giving` one."""
    chosen: list[StoredInvoice] = []
    taken: set[UUID] = set()
    full: set[UUID] = set()
    for invoice in sorted(stored.values(), key=lambda each: (each.created_at, each.id)):
        own = {each.subscription_id for each in billed[invoice.id]}
        is_next = invoice.customer_id not in full and not own & taken
        if is_next:
            chosen.append(invoice)
            taken |= own
        if not is_next or invoice.customer_id in giving:
            full.add(invoice.customer_id)
    return chosen


def _up_to_given_back(drafts: Sequence[InvoiceDraft], giving: set[UUID]) -> list[InvoiceDraft]:
    """The drafts without those that follow one of their customer which gives something back; adds such customers to `giving`."""
    kept: list[InvoiceDraft] = []
    over: set[UUID] = set()
    for draft in drafts:
        if draft.customer.id in over:
            continue
        kept.append(draft)
        is_final = draft.status is not InvoiceStatus.DRAFT
        if is_final and (any(_ended_with_note(draft)) or has_excess(draft)):
            over.add(draft.customer.id)
    giving |= over
    return kept


def _made_again(
    conn: Connection[Any],
    stored: Sequence[StoredInvoice],
    billed: Mapping[UUID, Sequence[InvoiceSubscription]],
    *,
    made_at: datetime,
    stays_draft: bool,
) -> list[InvoiceDraft]:
    """The drafts for the same periods, made by the same steps as when they were billed."""

    def load() -> tuple[list[InvoiceDraft], Facts]:
        billings = _billings(conn, [each for invoice in stored for each in billed[invoice.id]])
        entities = billing_entities.by_ids(conn, {invoice.billing_entity_id for invoice in stored})
        made = [
            (invoice, draft_of(tuple(in_order(billings[invoice.id])), invoice_id=invoice.id))
            for invoice in stored
        ]
        drafts = [
            replace(
                draft,
                customer=draft.customer.billed_by(entities[invoice.billing_entity_id]),
                made_at=made_at,
                has_grace_period=stays_draft,
                dates=_dates(invoice),
            )
            for invoice, draft in made
        ]
        return drafts, load_facts(conn, drafts)

    organization_ids = {invoice.organization_id for invoice in stored}
    return make(*usage.under_one_metering(conn, organization_ids, load))


def _dates(invoice: StoredInvoice) -> InvoiceDates:
    return InvoiceDates(
        issuing_date=invoice.issuing_date,
        payment_due_date=invoice.payment_due_date,
        expected_finalization_date=invoice.expected_finalization_date,
        net_payment_term=invoice.net_payment_term,
        finalizes_at=invoice.finalizes_at,
    )


class _Rebilled(Record, kw_only=True):
    """A subscription on a stored draft, with what decides how it is billed again."""

    on: InvoiceSubscription
    row: Subscription
    has_fee: bool
    """Whether the draft has the plan's own fee."""
    next_plan_id: UUID | None
    follows_upgrade: bool
    """Whether it took over before the end of another plan's period."""

    @property
    def renews_at_start(self) -> bool:
        """Whether it is on the draft as what follows a plan that went to its period's end."""
        follows = self.row.previous_subscription_id is not None and not self.follows_upgrade
        starts = self.on.invoicing_reason == InvoicingReason.STARTING
        return follows and starts and self.on.billed_at == self.row.started_at

    @property
    def row_then(self) -> Subscription:
        """The subscription as it was billed: an end at the very instant of its bill came after it."""
        is_end = self.on.invoicing_reason == InvoicingReason.TERMINATING
        if is_end or self.row.terminated_at != self.on.billed_at:
            return self.row
        return replace(self.row, status="active", terminated_at=None, upgraded=False)

    @property
    def fee_billed_before(self) -> datetime | None:
        """Up to where earlier invoices have the plan's own fee: to the start of the draft's period."""
        since, started_at = self.on.from_at, self.row.started_at
        is_first = since is None or started_at is None or since <= started_at
        return None if is_first else since


def _billings(
    conn: Connection[Any], billed: Sequence[InvoiceSubscription]
) -> Mapping[UUID, Sequence[SubscriptionBilling]]:
    """Invoice -> its billings, as of the instants at which they were made."""
    rows = subscriptions.by_ids(conn, {each.subscription_id for each in billed})
    next_plans = subscriptions.next_plan_ids(conn, rows.keys())
    previous = {row.id: row.previous_subscription_id for row in rows.values() if row.previous_subscription_id}
    before = subscriptions.by_ids(conn, previous.values())
    with_fee = fee_store.with_subscription_fee(conn, {each.invoice_id for each in billed})
    rebilled = [
        _Rebilled(
            on=each,
            row=rows[each.subscription_id],
            has_fee=(each.invoice_id, each.subscription_id) in with_fee,
            next_plan_id=next_plans.get(each.subscription_id),
            follows_upgrade=each.subscription_id in previous
            and before[previous[each.subscription_id]].upgraded,
        )
        for each in billed
    ]
    upgraded = {each.next_plan_id for each in rebilled if each.next_plan_id and each.row.upgraded}
    contracts = load_contracts(conn, list(rows.values()), upgraded)
    found: dict[UUID, list[SubscriptionBilling]] = defaultdict(list)
    for each in rebilled:
        found[each.on.invoice_id].append(_billing(each, contracts))
    return found


def _billing(rebilled: _Rebilled, contracts: Contracts) -> SubscriptionBilling:
    on, row = rebilled.on, rebilled.row
    reason = InvoicingReason(on.invoicing_reason)
    ends = reason is InvoicingReason.TERMINATING and row.upgraded
    billing = contracts.billing(
        BillingRequest(
            subscription=replace(as_unbilled(rebilled.row_then), fee_billed_until=rebilled.fee_billed_before),
            at=on.billed_at,
            reason=reason,
            next_plan_id=rebilled.next_plan_id if ends else None,
            renews_at_start=rebilled.renews_at_start,
        )
    )
    periods = BillingPeriods(
        subscription=_period_of(on.from_at, on.to_at),
        charges=_period_of(on.charges_from_at, on.charges_to_at),
        **_fixed_periods(on, billing.planned.periods),
    )
    fee = billing.planned.fee if rebilled.has_fee else None
    planned = replace(billing.planned, periods=periods, fee=fee)
    return replace(billing, subscription=row, planned=planned, shared={})


def _fixed_periods(on: InvoiceSubscription, planned: BillingPeriods) -> dict[str, Period | None]:
    """The periods of fixed charges, as they were billed."""
    shown = _period_of(on.fixed_charges_from_at, on.fixed_charges_to_at)
    if shown is None:
        return {}
    begun = planned.fixed_charges_in_advance
    is_begun = begun is not None and shown.from_ >= begun.from_
    return {"fixed_charges": None if is_begun else shown, "fixed_charges_in_advance": begun}


def _period_of(from_: datetime | None, to: datetime | None) -> Period | None:
    return Period(from_, to) if from_ is not None and to is not None else None
