"""Credit notes for what was paid in advance and is not used any more.

Source: semantics-billing.md section 7.6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, facts_of, fixed_charges_period
from permille.core.contract.timeline import SubscriptionFacts, trial_end
from permille.core.fee_kind import FeeKind
from permille.core.invoice.credit_note import (
    CreditAmounts,
    Item,
    PaidPeriod,
    unused_amount,
)
from permille.core.invoice.crediting import BilledInvoice, CreditSplit, note_of, split_at_end, with_note
from permille.core.invoice.facts import PaidInAdvance
from permille.core.invoice.payment import PaymentStatus
from permille.core.invoice.steps.fixed_charges import paid_fee
from permille.core.mail import MailKind
from permille.core.money import ZERO, exact
from permille.core.period import INSTANT, Period, days_in, local_date, period_containing
from permille.core.rating.fixed_charge import FixedPeriod
from permille.store import (
    credit_notes,
    customers,
    fees as fee_store,
    fixed_charges,
    invoices,
    payments,
    plans,
    subscriptions,
    webhooks,
)
from permille.store.credit_notes import NewCreditNote
from permille.store.fees import StoredFee
from permille.store.invoices import StoredInvoice
from permille.usecases import dunning, payment_requests
from permille.usecases.invoices.billed import billed_invoices, credited_fee
from permille.usecases.mail import mail_new


def credit_unused(
    conn: Connection[Any],
    ended: Collection[Subscription],
    *,
    at: datetime,
    only_on: Mapping[UUID, UUID] | None = None,
) -> None:
    """Give back the days that plans paid in advance are not used, as credit for the invoices to come; set-based."""
    issue(conn, unused_credits(conn, ended, at=at, only_on=only_on))


def issue(conn: Connection[Any], notes: Sequence[NewCreditNote]) -> list[UUID]:
    """Save notes of one organization, take what they offset off their invoices, and queue their webhooks. Their ids."""
    if not notes:
        return []
    added = credit_notes.add(conn, notes)
    organization_id, at = notes[0].organization_id, notes[0].at
    offsets: dict[UUID, int] = defaultdict(int)
    for note in notes:
        offsets[note.invoice_id] += note.split.offset_cents
    settled = invoices.take_off_due(conn, {key: cents for key, cents in offsets.items() if cents}, now=at)
    if settled:
        payments.set_invoice_statuses(conn, settled, PaymentStatus.SUCCEEDED, now=at)
        webhooks.enqueue_of(conn, "invoice.payment_status_updated", organization_id, settled, now=at)
        paid = list(invoices.invoices_by_ids(conn, settled).values())
        payment_requests.settle(conn, paid, at)
        dunning.reset(conn, paid, at)
    webhooks.enqueue_of(conn, "credit_note.created", organization_id, added, now=at)
    mail_new(conn, organization_id, MailKind.CREDIT_NOTE, added, now=at)
    return added


def give_up(conn: Connection[Any], invoice_id: UUID, cents: int, *, now: datetime) -> None:
    """Give up so much credit of an invoice's notes, as far as it is not spent, the newest first."""
    given_up = {}
    for note in reversed(credit_notes.of_invoice(conn, invoice_id)):
        if (part := min(note.balance_amount_cents, cents)) > 0:
            given_up[note.id] = part
            cents -= part
    if given_up:
        credit_notes.give_up(conn, given_up, now=now)


def give_back(conn: Connection[Any], invoice_ids: Collection[UUID], now: datetime) -> None:
    """Give notes back what they have paid of these invoices, which will never be paid; set-based.

    Credit beyond what its own invoice was paid with is given up, as a void gives up what is not spent then, unless the
    invoice was made again: what its notes had given comes back of that one, without what was spent.
    """
    given_up = credit_notes.give_back(conn, invoice_ids, now)
    voided = invoices.invoices_by_ids(conn, given_up).values() if given_up else ()
    for invoice_id, billed in billed_invoices(conn, voided).items() if voided else ():
        give_up(conn, invoice_id, -billed.kept_cents - given_up[invoice_id], now=now)


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
    billed = billed_invoices(conn, billed_on.values())
    passed = credit_notes.passed_of_fees(conn, {fee.id for fee, _ in fees.values()})
    notes = []
    for row in ended:
        if row.id not in fees:
            continue
        fee, invoice_id = fees[row.id]
        timezone = payers[row.customer_id].applicable_timezone
        invoice, known = billed_on[invoice_id], billed[invoice_id]
        given = next(each.credited_cents for each in known.fees if each.fee.fee_id == fee.id)
        before = passed.get(fee.id, 0)
        facts = facts_of(
            row, known_plans[row.plan_id], timezone=timezone, first_started_at=first_starts.get(row.id)
        )
        amount = unused_amount(
            _paid_period(facts, fee, billed_in=invoice.timezone),
            ended_at=row.terminated_at or at,
            upgraded=row.upgraded,
            at_most=Decimal(fee.amount_cents - before),
            credited=Decimal(given - before),
        )
        amounts = note_of(known, [Item(fee=credited_fee(fee), precise_amount_cents=amount)])
        if amounts.total_amount_cents:  # coupons may have paid for all of it
            split = _split(row, fee, invoice, known, amounts, left=fee.amount_cents - given - amount)
            billed[invoice_id] = with_note(known, amounts, split)
            notes.append(
                note_to_issue(invoice, amounts, split, "order_cancellation", timezone=timezone, at=at)
            )
    return notes


def credit_days_before(
    conn: Connection[Any], started: Collection[Subscription], billed_on: Mapping[UUID, UUID], *, at: datetime
) -> None:
    """Give back as credit what plans were paid for until they took over from others, now.

    It is what they would not have cost had they taken over at once. `billed_on` is subscription -> invoice.
    """
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in started})
    payers = customers.by_ids(conn, {row.customer_id for row in started})
    first_starts = subscriptions.first_starts(conn, [row.id for row in started])
    paid_on = invoices.invoices_by_ids(conn, {billed_on[row.id] for row in started})
    fees, billed = fee_store.of_invoices(conn, paid_on.keys()), billed_invoices(conn, paid_on.values())
    paid_before = fixed_charges.paid_before(
        conn,
        [
            (row.id, row.previous_subscription_id, at, payers[row.customer_id].applicable_timezone)
            for row in started
            if known_plans[row.plan_id].fixed_charges and row.previous_subscription_id is not None
        ],
    )
    notes = []
    for row in started:
        invoice, timezone = paid_on[billed_on[row.id]], payers[row.customer_id].applicable_timezone
        plan = known_plans[row.plan_id]
        facts = facts_of(row, plan, timezone=timezone, first_started_at=first_starts.get(row.id))
        items = []
        for fee in fees[invoice.id]:
            if fee.subscription_id == row.id and fee.from_at is not None:
                amount = (
                    _fee_before(facts, fee, billed_in=invoice.timezone, at=at)
                    if fee.fee_type is FeeKind.SUBSCRIPTION
                    else _fixed_before(row, plan, fee, paid_before, billed_in=invoice.timezone, at=at)
                )
                items.append(Item(fee=credited_fee(fee), precise_amount_cents=amount))
        amounts = note_of(billed[invoice.id], [each for each in items if each.precise_amount_cents])
        if amounts.total_amount_cents:
            split = CreditSplit(credit_cents=amounts.total_amount_cents)
            billed[invoice.id] = with_note(billed[invoice.id], amounts, split)
            notes.append(note_to_issue(invoice, amounts, split, "order_change", timezone=timezone, at=at))
    issue(conn, notes)


def _fee_before(facts: SubscriptionFacts, fee: StoredFee, *, billed_in: str, at: datetime) -> Decimal:
    """What the plan's fee was for the days before `at`."""
    assert fee.from_at is not None, "a plan's fee has a period"
    paid = _paid_period(facts, fee, billed_in=billed_in)
    since, from_now = (
        unused_amount(paid, ended_at=day, upgraded=True, at_most=Decimal(fee.amount_cents))
        for day in (fee.from_at, at)
    )
    return since - from_now


def _fixed_before(
    row: Subscription,
    plan: Plan,
    fee: StoredFee,
    paid_before: Mapping[tuple[UUID, UUID], PaidInAdvance],
    *,
    billed_in: str,
    at: datetime,
) -> Decimal:
    """What more a fixed charge has cost, in cents, than it would for the days from `at` on; nothing unless it is prorated."""
    charge = next((each for each in plan.fixed_charges if fee.item_id in each.ids), None)
    if charge is None or not charge.prorated or fee.to_at is None:
        return ZERO
    whole = fixed_charges_period(row, plan, timezone=billed_in, now=fee.to_at - INSTANT)
    left = FixedPeriod(whole=whole, part=Period(at, fee.to_at), timezone=billed_in)
    now = paid_fee(charge, fee.units, left, paid_before, currency=fee.amount_currency, owner=row.id)
    return Decimal(max(fee.amount_cents - now.amount_cents, 0))


def note_to_issue(
    invoice: StoredInvoice,
    amounts: CreditAmounts,
    split: CreditSplit,
    reason: str,
    *,
    timezone: str,
    at: datetime,
    **more: Any,
) -> NewCreditNote:
    """A note on an invoice, dated in a timezone; `more` are other fields of the note."""
    return NewCreditNote(
        organization_id=invoice.organization_id,
        billing_entity_id=invoice.billing_entity_id,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        invoice_number=invoice.number,
        issuing_date=local_date(at, timezone),
        reason=reason,
        currency=invoice.currency,
        amounts=amounts,
        split=split,
        at=at,
        **more,
    )


def _split(
    row: Subscription,
    fee: StoredFee,
    invoice: StoredInvoice,
    billed: BilledInvoice,
    amounts: CreditAmounts,
    *,
    left: Decimal,
) -> CreditSplit:
    """`left` is what of the fee, in cents before taxes, is neither given back now nor before."""
    with exact():
        with_taxes = fee.amount_cents - fee.precise_coupons_amount_cents + fee.taxes_precise_amount_cents
        whole = invoice.sub_total_including_taxes_amount_cents
        paid = with_taxes / whole * invoice.total_paid_amount_cents if whole else ZERO
        return split_at_end(
            None if row.upgraded else row.on_termination_credit_note,
            total_cents=amounts.total_amount_cents,
            used_cents=with_taxes * left / fee.amount_cents,
            paid_cents=paid,
            refundable_cents=billed.paid_cents - billed.refunded_cents,
            due_cents=billed.due_cents,
        )


def _paid_period(ended: SubscriptionFacts, fee: StoredFee, *, billed_in: str) -> PaidPeriod:
    """`billed_in` is the timezone of the fee's invoice: the customer may have moved since."""
    assert fee.to_at is not None, "a subscription's fee has a period"
    last = fee.to_at - INSTANT
    whole = period_containing(
        last,
        interval=ended.interval,
        billing_time=ended.billing_time,
        anchor=ended.subscription_at,
        timezone=billed_in,
    )
    return PaidPeriod(
        plan_amount_cents=int(fee.amount_details["plan_amount_cents"]),
        days=days_in(whole, billed_in),
        last_day=local_date(last, billed_in),
        timezone=ended.timezone,
        trial_ends_at=trial_end(ended),
    )
