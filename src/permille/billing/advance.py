"""Charges paid in advance: events that wait for their fee are priced and billed, a batch at a time.

The event is stored and answered before; its fee follows at once, from the queue that the same transaction has put
it into. Whoever bills a customer holds its lock, so that each event is priced after those that came before it.
Source: semantics-metering.md section 5.12, semantics-billing.md section 6.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.billing.invoicing import AdvanceFee, write_in_advance
from permille.billing.usage import standing_window, usage_period, whole_period
from permille.core.advance import Place, event_fees, standing_by_place
from permille.core.customer import Customer
from permille.core.fee import CompiledCharge, Fee, compile_plan_charge
from permille.core.level import AdvanceEvent, Standing
from permille.core.period import Period
from permille.core.plan import Charge, Plan
from permille.core.proration import Proration, proration_by
from permille.core.subscription import Subscription
from permille.core.usage import AggregationType
from permille.store import advance as store, customers, metering, organizations, plans, subscriptions, usage
from permille.store.advance import AdvanceWindow, Waiting

BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an event of a subscription is priced by: a charge of its plan, in the period of the event."""

    row: Subscription
    plan: Plan
    customer: Customer
    charge: Charge
    compiled: CompiledCharge
    period: Period
    proration: Proration


@dataclass(slots=True, kw_only=True)
class _Work:
    """Events that are to be billed under the same terms: seq -> transaction id."""

    terms: Terms
    billed: dict[int, str] = field(default_factory=dict)


def bill_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Bill what waits in any organization, as of its own clock, a transaction a batch; how many events that was."""
    with pool.connection() as conn:
        waiting = store.organizations_waiting(conn)
    done = 0
    for organization_id in waiting:
        with pool.connection() as conn:
            organization = organizations.by_id(conn, organization_id)
            if organization is not None:
                done += bill_events(conn, organization_id, now=organization.now(now), wait=False)
    return done


def bill_all(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Bill all that waits in an organization, in the caller's transaction."""
    while bill_events(conn, organization_id, now=now, wait=True):
        pass


def bill_customer(conn: Connection[Any], organization_id: UUID, customer_id: UUID, *, now: datetime) -> None:
    """Bill what waits of a customer, whose subscription is about to change, and of others that are free."""
    if store.is_any_waiting(conn, organization_id):
        customers.lock(conn, customer_id)
    while bill_events(conn, organization_id, now=now, wait=False):
        pass


def bill_events(conn: Connection[Any], organization_id: UUID, *, now: datetime, wait: bool) -> int:
    """Bill the events that have waited the longest; how many were taken off the queue.

    An event of no running subscription, or of none of its charges, makes no fee. What is billed by someone else
    at the moment is left to him, unless told to wait.
    """
    if not store.is_any_waiting(conn, organization_id):
        return 0
    waiting = store.claim(conn, organization_id, limit=BATCH, wait=wait)
    fees = metering.under_one_metering(conn, lambda: _made(conn, _works(conn, waiting)))
    invoiced: list[AdvanceFee] = []
    alone: list[AdvanceFee] = []
    for work, fee in fees:
        made = AdvanceFee(
            row=work.terms.row, plan=work.terms.plan, customer=work.terms.customer, fee=fee, at=now
        )
        (invoiced if work.terms.charge.invoiceable else alone).append(made)
    write_in_advance(conn, invoiced, alone)
    return len(waiting)


def _works(conn: Connection[Any], waiting: Sequence[Waiting]) -> list[_Work]:
    rows = subscriptions.by_ids(conn, {each.subscription_id for each in waiting if each.subscription_id})
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    payers = customers.by_ids(conn, {row.customer_id for row in rows.values()})
    works: dict[tuple[UUID, UUID, datetime], _Work] = {}
    for each in waiting:
        row = rows.get(each.subscription_id) if each.subscription_id else None
        if row is None or row.status != "active":
            continue
        plan, customer = known_plans[row.plan_id], payers[row.customer_id]
        for terms in terms_of(row, plan, customer, code=each.code, at=each.at):
            key = (row.id, terms.charge.id, terms.period.from_)
            works.setdefault(key, _Work(terms=terms)).billed[each.seq] = each.transaction_id
    return list(works.values())


def terms_of(
    row: Subscription, plan: Plan, customer: Customer, *, code: str, at: datetime
) -> Iterable[Terms]:
    """The terms of an event of a metric's code at an instant: one for each charge in advance on it."""
    timezone = customer.applicable_timezone
    for charge in plan.charges:
        if charge.pay_in_advance and charge.metric.code == code:
            period = usage_period(row, plan, timezone=timezone, now=at)
            yield Terms(
                row=row,
                plan=plan,
                customer=customer,
                charge=charge,
                compiled=compile_plan_charge(charge, currency=plan.amount_currency),
                period=period,
                proration=proration_by(whole_period(row, plan, customer, period), timezone),
            )


def _made(conn: Connection[Any], works: Sequence[_Work]) -> list[tuple[_Work, Fee]]:
    """The fees in the order in which their events arrived."""
    histories = read_histories(conn, [(work.terms, max(work.billed)) for work in works])
    made = [
        (seq, work, replace(fee, event_transaction_id=work.billed[seq]))
        for work, (events, standing) in zip(works, histories, strict=True)
        for seq, fee in price(work.terms, events, standing, billed=work.billed.keys())
    ]
    return [(work, fee) for _, work, fee in sorted(made, key=lambda each: each[0])]


History = tuple[Sequence[AdvanceEvent], Mapping[Place, Standing]]
"""The events of a period in the order of arrival, and what stood before it."""


def read_histories(conn: Connection[Any], wanted: Sequence[tuple[Terms, int]]) -> list[History]:
    """For each terms what they price by, up to the event with that seq; set-based."""
    windows = [_window(terms, until) for terms, until in wanted]
    recurring = [i for i, (terms, _) in enumerate(wanted) if terms.charge.metric.recurring]
    before = [
        standing_window(terms.row, [replace(terms.charge, pay_in_advance=False)], at=terms.period.from_)
        for terms, _ in (wanted[i] for i in recurring)
    ]

    def read() -> tuple[list[list[AdvanceEvent]], list[list[usage.SeriesUsage]]]:
        return store.events_of(conn, windows), usage.usage_of_many(conn, before)

    if not windows:
        return []
    events, stood = metering.under_one_version(conn, read)
    standing: dict[int, Mapping[Place, Standing]] = defaultdict(dict)
    for i, found in zip(recurring, stood, strict=True):
        series = [(each.dimensions, each.partial) for each in found]
        standing[i] = standing_by_place(wanted[i][0].compiled, series)
    return [(own, standing[i]) for i, own in enumerate(events)]


def _window(terms: Terms, until_seq: int) -> AdvanceWindow:
    metric = terms.charge.metric
    is_unique = metric.aggregation_type == AggregationType.UNIQUE_COUNT
    return AdvanceWindow(
        organization_id=terms.row.organization_id,
        external_subscription_id=terms.row.external_id,
        code=metric.code,
        field_name=metric.field_name if is_unique else None,
        from_=terms.period.from_,
        to=terms.period.to,
        until_seq=until_seq,
    )


def price(
    terms: Terms,
    events: Iterable[AdvanceEvent],
    standing: Mapping[Place, Standing],
    *,
    billed: Collection[int],
) -> list[tuple[int, Fee]]:
    """The fees of the events with these seqs."""
    return event_fees(
        terms.compiled,
        events,
        billed=billed,
        standing=standing,
        subscription_id=terms.row.id,
        period=terms.period,
        proration=terms.proration,
    )
