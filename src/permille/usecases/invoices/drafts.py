"""Drafts: invoices that wait out their customer's grace period, are priced again, and become final.

Until then late events and changed prices still count, and nothing is numbered or paid by credit.
Source: semantics-billing.md sections 4.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.timeline import payment_due_date
from permille.core.errors import Unpriced
from permille.core.period import local_date
from permille.events.postgres import rollup
from permille.store import credit_notes, customers, invoices, subscriptions
from permille.store.invoices import DueDraft, InvoiceSubscription, NewInvoice, StoredInvoice
from permille.usecases import holds
from permille.usecases.invoices import adjustments, run
from permille.usecases.invoices.credit_notes import credit_unused
from permille.usecases.invoices.invoicing import (
    Group,
    Numbers,
    credited,
    group_of,
    new_invoice,
    number_of,
    tell,
)
from permille.usecases.invoices.run import Rebilled


def refresh(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Price drafts again, from the events, the prices and the taxes that there are now. Raises Unbillable."""
    with holds.refusing_unbillable():
        _refresh(conn, invoice_ids, now=now)


def _refresh(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    for stored, groups in _rounds(conn, invoice_ids):
        again = [_still_draft(stored[invoice_id], group, now) for invoice_id, group in groups.items()]
        invoices.rewrite(conn, again, finalized_at=None, now=now)


def _still_draft(stored: StoredInvoice, group: Group, now: datetime) -> NewInvoice:
    waits = group.waits_for_price
    return replace(
        new_invoice(group, stored.id, None, None),
        status="draft",
        issuing_date=stored.issuing_date,
        payment_due_date=stored.payment_due_date,
        expected_finalization_date=stored.expected_finalization_date,
        finalizes_at=stored.finalizes_at,
        price_retry_at=now + holds.pause(since=stored.created_at, now=now) if waits else None,
    )


def finalize_due(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool, now: datetime
) -> int:
    """Finalize the drafts whose day has come; how many those were. What someone else is at is left to him, unless told
    to wait.

    Customers with one that comes to an amount beyond all bounds are held, by the organization's clock `now`. One with
    usage that is held until it has a price stays a draft, and is tried again after a while; it becomes final as of now.
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
    arrival = rollup.arrival(conn)
    for stored, every in _rounds(conn, invoice_ids):
        groups = {invoice_id: group for invoice_id, group in every.items() if not group.waits_for_price}
        held = [
            _still_draft(stored[invoice_id], every[invoice_id], now)
            for invoice_id in every
            if invoice_id not in groups
        ]
        invoices.rewrite(conn, held, finalized_at=None, now=now)
        waiting += len(held)
        if not groups:
            continue
        customers.lock_all(conn, {group.customer.id for group in groups.values()})
        numbers = Numbers.take(conn, [group for group in groups.values() if group.is_final])
        final = [_finalized(stored[invoice_id], group, numbers, at) for invoice_id, group in groups.items()]
        paid, spent = credited(conn, final)
        invoices.rewrite(conn, paid, finalized_at=at, now=at)
        invoices.set_arrival(conn, groups.keys(), arrival)
        if spent:
            credit_notes.take(conn, spent)
        told = [(at, invoice.id) for invoice in paid if invoice.status == "finalized"]
        tell(conn, "invoice", paid[0].organization_id, told)
        _give_back(conn, groups, at)
    return waiting


def _finalized(stored: StoredInvoice, group: Group, numbers: Numbers, at: datetime) -> NewInvoice:
    customer = group.customer
    own, of_entity = numbers.next_of(customer) if group.is_final else (None, None)
    new = new_invoice(group, stored.id, own, of_entity)
    adjustment = customer.billing_entity.subscription_invoice_issuing_date_adjustment
    stays = group.parts[0].recurring and adjustment == "keep_anchor"
    issued_on = stored.issuing_date if stays else local_date(at, customer.applicable_timezone)
    return replace(
        new,
        status="finalized" if group.is_final else "closed",
        number=number_of(customer, at, own, of_entity),
        issuing_date=issued_on,
        payment_due_date=payment_due_date(issued_on, net_payment_term=new.net_payment_term),
        expected_finalization_date=stored.expected_finalization_date,
        finalizes_at=None,
    )


def _give_back(conn: Connection[Any], groups: Mapping[UUID, Group], at: datetime) -> None:
    """Credit notes for subscriptions that ended while the invoice of their period was a draft."""
    for invoice_id, group in groups.items():
        for part in group.parts:
            row = part.row
            if row.status == "terminated" and row.on_termination_credit_note not in (None, "skip"):
                credit_unused(conn, row, at=at, only_on=invoice_id)


def _rounds(
    conn: Connection[Any], invoice_ids: Collection[UUID]
) -> Iterator[tuple[dict[UUID, StoredInvoice], dict[UUID, Group]]]:
    """The drafts and what they come to now, the oldest first, no subscription twice in a round."""
    waiting = list(invoice_ids)
    while waiting:
        billed = invoices.subscriptions_of(conn, waiting)
        stored = invoices.invoices_by_ids(conn, waiting)
        taken: set[UUID] = set()
        chosen: list[UUID] = []
        for invoice in sorted(stored.values(), key=lambda each: (each.created_at, each.id)):
            own = {each.subscription_id for each in billed[invoice.id]}
            if not own & taken:
                chosen.append(invoice.id)
                taken |= own
        yield stored, _groups(conn, {invoice_id: billed[invoice_id] for invoice_id in chosen})
        waiting = [invoice_id for invoice_id in waiting if invoice_id not in chosen]


def _groups(conn: Connection[Any], billed: Mapping[UUID, Sequence[InvoiceSubscription]]) -> dict[UUID, Group]:
    """Invoice -> its parts, with their fees of now."""
    every = [each for own in billed.values() for each in own]
    rows = subscriptions.by_ids(conn, {each.subscription_id for each in every})
    next_plans = subscriptions.next_plan_ids(conn, rows.keys())
    previous = {row.id: row.previous_subscription_id for row in rows.values() if row.previous_subscription_id}
    before = subscriptions.by_ids(conn, previous.values())
    after_upgrade = {row_id for row_id, previous_id in previous.items() if before[previous_id].upgraded}
    with_fee = invoices.with_subscription_fee(conn, billed.keys())
    parts, fees = run.price_again(
        conn,
        [
            Rebilled(
                on=each,
                row=rows[each.subscription_id],
                has_fee=(each.invoice_id, each.subscription_id) in with_fee,
                next_plan_id=next_plans.get(each.subscription_id),
                follows_upgrade=each.subscription_id in after_upgrade,
            )
            for each in every
        ],
    )
    part_of = {part.row.id: part for part in parts}
    adjusted = adjustments.on_invoices(conn, billed.keys())
    groups = {}
    for invoice_id, own in billed.items():
        mine = sorted(
            (part_of[each.subscription_id] for each in own),
            key=lambda part: (part.row.created_at, part.row.id),
        )
        groups[invoice_id] = group_of(mine, fees, adjusted.get(invoice_id, ()))
    return groups
