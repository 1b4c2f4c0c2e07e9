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
from permille.core.level import AdvanceEvent, Reached, Standing
from permille.core.period import Period
from permille.core.plan import Charge, Plan
from permille.core.proration import Proration, proration_by
from permille.core.subscription import Subscription
from permille.core.usage import AggregationType
from permille.store import (
    advance as store,
    advance_levels,
    customers,
    metering,
    organizations,
    plans,
    subscriptions,
    usage,
)
from permille.store.advance import AdvanceWindow, Waiting
from permille.store.advance_levels import Kept, LevelKey

BATCH = 1_000
LEAST_KEPT = 200
"""Events of a period from which on their levels are kept."""
PARTS_PER_EVENT = 8
"""How large levels may be, by the events since they were last kept, to be kept again."""


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
    """The fees in the order in which their events arrived; what levels these have reached is kept."""
    histories = read_histories(conn, [(work.terms, work.billed.keys()) for work in works])
    made: list[tuple[int, _Work, Fee]] = []
    to_keep: list[tuple[LevelKey, Kept]] = []
    for work, history in zip(works, histories, strict=True):
        fees, reached = price(work.terms, history, billed=work.billed.keys())
        made += [(seq, work, replace(fee, event_transaction_id=work.billed[seq])) for seq, fee in fees]
        if history.is_worth_keeping(reached):
            to_keep.append((history.key, history.after(reached, until_seq=max(work.billed))))
    if to_keep:
        advance_levels.keep(conn, to_keep)
    return [(work, fee) for _, work, fee in sorted(made, key=lambda each: each[0])]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the events of a charge in a period are priced by: the levels reached so far, and the events since."""

    key: LevelKey
    kept: Kept
    events: Sequence[AdvanceEvent]
    """In the order of arrival."""
    standing: Mapping[Place, Standing]
    """What stood before the period."""

    @property
    def events_count(self) -> int:
        return self.kept.events_count + len(self.events)

    def is_worth_keeping(self, reached: Mapping[Place, Reached]) -> bool:
        """Whether there is more to spare than to write: many events, and levels of few parts or long not written."""
        parts = sum(1 + len(each.there) + len(each.first_values) for each in reached.values())
        return self.events_count >= LEAST_KEPT and parts <= PARTS_PER_EVENT * len(self.events)

    def after(self, reached: Mapping[Place, Reached], *, until_seq: int) -> Kept:
        """What is kept of it."""
        return Kept(
            stamp=self.kept.stamp, until_seq=until_seq, events_count=self.events_count, levels=reached
        )


def read_histories(conn: Connection[Any], wanted: Sequence[tuple[Terms, Collection[int]]]) -> list[History]:
    """For each terms what the events with these seqs are priced by, the last of them included; set-based."""
    recurring = [i for i, (terms, _) in enumerate(wanted) if terms.charge.metric.recurring]
    before = [
        standing_window(terms.row, [replace(terms.charge, pay_in_advance=False)], at=terms.period.from_)
        for terms, _ in (wanted[i] for i in recurring)
    ]

    def read() -> list[History]:
        standing: dict[int, Mapping[Place, Standing]] = defaultdict(dict)
        for i, found in zip(recurring, usage.usage_of_many(conn, before), strict=True):
            series = [(each.dimensions, each.partial) for each in found]
            standing[i] = standing_by_place(wanted[i][0].compiled, series)
        keys = [_level_key(terms, standing[i]) for i, (terms, _) in enumerate(wanted)]
        kept = [
            each if each.until_seq < min(seqs) else replace(each, until_seq=0, events_count=0, levels={})
            for each, (_, seqs) in zip(advance_levels.find(conn, keys), wanted, strict=True)
        ]
        windows = [_window(terms, max(seqs), each) for each, (terms, seqs) in zip(kept, wanted, strict=True)]
        return [
            History(key=keys[i], kept=kept[i], events=events, standing=standing[i])
            for i, events in enumerate(store.events_of(conn, windows))
        ]

    return metering.under_one_version(conn, read) if wanted else []


def _level_key(terms: Terms, standing: Mapping[Place, Standing]) -> LevelKey:
    """Whose levels they are, with the terms that say what an event does to them."""
    charge, metric = terms.charge, terms.charge.metric
    told = [
        charge.charge_model,
        charge.prorated and terms.customer.applicable_timezone,
        metric.aggregation_type,
        metric.field_name,
        sorted(metric.filters.items()),
        sorted(charge.properties.items()),
        [(each.id, sorted(each.values.items()), sorted(each.properties.items())) for each in charge.filters],
        sorted(
            repr((place, sorted(map(repr, each.values)))) for place, each in standing.items() if each.values
        ),
    ]
    return LevelKey(
        organization_id=terms.row.organization_id,
        external_subscription_id=terms.row.external_id,
        code=metric.code,
        subscription_id=terms.row.id,
        charge_id=terms.charge.id,
        from_=terms.period.from_,
        to=terms.period.to,
        terms=repr(told),
    )


def _window(terms: Terms, until_seq: int, kept: Kept) -> AdvanceWindow:
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
        after_seq=kept.until_seq,
        passed=kept.events_count,
    )


def price(
    terms: Terms, history: History, *, billed: Collection[int]
) -> tuple[list[tuple[int, Fee]], dict[Place, Reached]]:
    """The fees of the events with these seqs, and what levels the history ends with."""
    return event_fees(
        terms.compiled,
        history.events,
        billed=billed,
        standing=history.standing,
        reached=history.kept.levels,
        subscription_id=terms.row.id,
        period=terms.period,
        proration=terms.proration,
    )
