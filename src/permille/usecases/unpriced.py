"""Values without a price are noticed: recorded for the home page, and said once by webhook.

It looks at series, of which there are few new ones, never at events, and beside the hot path: the roll-up and changes
of the catalogue say which.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge, Plan, leaves_unpriced
from permille.core.contract.price_versions import (
    longest_period,
    next_look,
    versions_of,
    versions_running,
)
from permille.core.metering.event import PlacedEvent
from permille.core.money import ZERO, exact
from permille.core.period import Interval
from permille.core.rating.charge import CompiledCharge, series_place
from permille.core.rating.models import Quantity, model_of
from permille.core.rating.models.catalogue import terms_of
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import Record, replace
from permille.database.connections import exact_json
from permille.events.engine import event_log, usage
from permille.store import customers, organizations, plans, subscriptions, unpriced as store, webhooks
from permille.store.unpriced import Candidate, ShownUnpriced, Unpriced
from permille.usecases import fences
from permille.usecases.fences import Task
from permille.usecases.usage.windows import running_version

WEBHOOK = "usage.unpriced"
SERIES_AT_ONCE = 10_000
BATCHES_AT_ONCE = 10
PAUSE_OF_FAILED = timedelta(minutes=10)
"""After that, all is looked at again where it failed for a customer."""


class _Priced(Record, kw_only=True):
    """A charge of a plan, ready to say which of its prices an event gets."""

    plan: Plan
    charge: Charge
    compiled: CompiledCharge

    def values_of(self, candidate: Candidate) -> dict[str, str | None]:
        """Its values of the metric's dimensions."""
        texts = candidate.texts
        return {key: texts.get(key) for key in sorted(self.keys)}

    @property
    def keys(self) -> AbstractSet[str]:
        """The metric's dimensions, and what a price of the catalogue depends on."""
        return {*self.charge.metric.filters, *model_of(self.charge.charge_model).priced_by}

    @property
    def unlisted_values(self) -> UnlistedValues:
        """What is done with usage without a price."""
        if not model_of(self.charge.charge_model).dated_by:
            return self.charge.unlisted_values
        return UnlistedValues.HELD if terms_of(self.charge.properties).holds else UnlistedValues.FREE

    def leaves_unpriced(self, values: Mapping[str, str | None], at: datetime) -> bool:
        """Whether these values have no price at an instant."""
        dated_by = model_of(self.charge.charge_model).dated_by
        if dated_by is not None:
            on = at.astimezone(UTC).date().isoformat()
            index, group = series_place(self.compiled, {**values, dated_by: on})
            one = Quantity(units=Decimal(1), group=dict(group))
            with exact():
                return self.compiled.buckets[index].pricer(one).is_unpriced
        texts = tuple(values.get(key) for key in self.compiled.filter_keys)
        is_listed = self.compiled.bucket_of(texts) < len(self.charge.filters)
        return leaves_unpriced(self.charge) and not is_listed


def look_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Look at what waits in any organization, in test mode too; how many batches that was. `now` is the system's clock."""
    with pool.connection() as conn:
        changed = store.organizations_waiting(conn, now)
        waiting = sorted({*changed, *event_log.organizations_with_new_series(conn)})

    def look(organization_id: UUID) -> int:
        batches = 0
        while batches < BATCHES_AT_ONCE:
            with pool.connection() as conn:
                if not look_some(conn, organization_id, now=now):
                    break
            batches += 1
        return batches

    return fences.for_each(pool, Task.UNPRICED, waiting, look, now=now)


def look_some(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> bool:
    """Look at a batch of an organization's series; False when nothing waits, or its clock is being moved.

    `now` is the system's clock.
    """
    at = organizations.hold_clock(conn, organization_id, system_now=now)
    if at is None:
        return False
    has_changed = store.claim_organization(conn, organization_id, now=at)
    if has_changed:
        event_log.look_again(conn, organization_id, codes=store.undecided_codes(conn, organization_id))
        _forget_priced(conn, organization_id, at)
        _look_at_next_change(conn, organization_id, at)
    series = event_log.claim_new_series(conn, organization_id, limit=SERIES_AT_ONCE)
    if series:
        candidates = store.candidates(conn, series, at=at)
        if candidates and fences.for_each_customer(
            conn,
            Task.UNPRICED,
            organization_id,
            candidates,
            lambda some: _record(conn, organization_id, some, at),
            customer_of=lambda each: each.customer_id,
            now=now,
        ):
            store.recheck_at(conn, organization_id, at + PAUSE_OF_FAILED)
    return has_changed or bool(series)


def _look_at_next_change(conn: Connection[Any], organization_id: UUID, now: datetime) -> None:
    ends = store.ends_of_versions(conn, organization_id, since=now - longest_period(Interval.YEARLY))
    if at := next_look(ends, now):
        store.recheck_at(conn, organization_id, at)


def _record(
    conn: Connection[Any], organization_id: UUID, candidates: Sequence[Candidate], now: datetime
) -> None:
    """Record the values of series that have no price in the running periods, and say once what is new."""
    found: dict[Unpriced, list[int]] = defaultdict(list)
    priced_by: dict[Unpriced, _Priced] = {}
    for each, priced, values in _unpriced_of(conn, candidates):
        unpriced = Unpriced(
            charge_id=priced.charge.id,
            digest=UUID(bytes=hashlib.sha256(exact_json(values).encode()).digest()[:16]),
            code=each.code,
            values=values,
        )
        found[unpriced].append(each.series_id)
        priced_by[unpriced] = priced
    if found:
        for unpriced in store.add(conn, organization_id, found, now=now):
            _notify(conn, priced_by[unpriced], unpriced, now)


def unpriced_by(conn: Connection[Any], events: Sequence[PlacedEvent]) -> dict[UUID, list[str]]:
    """Event -> the codes of the charges under which it has no price, of those of the events that have any."""
    found: dict[UUID, list[str]] = defaultdict(list)
    for each, priced, _ in _unpriced_of(conn, store.candidates_of_events(conn, events)):
        if each.event_identity:
            found[each.event_identity].append(priced.charge.code)
    return found


def _unpriced_of(
    conn: Connection[Any], candidates: Sequence[Candidate]
) -> Iterator[tuple[Candidate, _Priced, dict[str, str | None]]]:
    """The candidates that have no price, under which charges, and their values of the metric's dimensions.

    The prices are those of the period that each falls in.
    """
    known = plans.plans_by_ids(conn, {each.plan_id for each in candidates})
    numbers = _versions_of_candidates(conn, known, candidates)
    charges: dict[tuple[UUID, int], list[_Priced]] = {}
    for each, number in zip(candidates, numbers, strict=True):
        key = (each.plan_id, number)
        if key not in charges:
            plan = known[each.plan_id]
            charges[key] = [_priced(plan, charge) for charge in versions_of(plan)[number].charges]
        for priced in charges[key]:
            values = priced.values_of(each)
            if priced.charge.metric.code == each.code and priced.leaves_unpriced(values, each.at):
                yield each, priced, values


def _versions_of_candidates(
    conn: Connection[Any], known: Mapping[UUID, Plan], candidates: Sequence[Candidate]
) -> list[int]:
    """The place among the versions of its plan's prices of the one that prices each candidate."""
    takers = subscriptions.by_ids(
        conn, {each.subscription_id for each in candidates if known[each.plan_id].price_versions}
    )
    owners = customers.by_ids(conn, {taker.customer_id for taker in takers.values()})

    @cache
    def version(subscription_id: UUID, at: datetime) -> int:
        taker = takers[subscription_id]
        running = replace(taker, status="active")
        return running_version(running, known[taker.plan_id], owners[taker.customer_id], at=at)

    return [
        version(each.subscription_id, each.at) if each.subscription_id in takers else 0 for each in candidates
    ]


def _priced(plan: Plan, charge: Charge) -> _Priced:
    return _Priced(
        plan=plan, charge=charge, compiled=compile_plan_charge(charge, currency=plan.amount_currency)
    )


def _forget_priced(conn: Connection[Any], organization_id: UUID, now: datetime) -> None:
    """Whatever has a price in every running period, or is of dimensions or charges that are not there any more."""
    known = store.known(conn, organization_id)
    charges: dict[UUID, list[_Priced]] = defaultdict(list)
    for plan in plans.plans_by_ids(conn, {each.plan_id for each in known if each.plan_id}).values():
        for version in versions_running(plan, now):
            for charge in version.charges:
                charges[charge.id].append(_priced(plan, charge))
    gone = [
        each
        for each in known
        if not any(
            each.values.keys() == priced.keys and priced.leaves_unpriced(each.values, now)
            for priced in charges[each.charge_id]
        )
    ]
    if gone:
        store.forget(conn, gone)


def _notify(conn: Connection[Any], priced: _Priced, found: Unpriced, now: datetime) -> None:
    webhooks.enqueue(
        conn,
        organization_id=priced.plan.organization_id,
        webhook_type=WEBHOOK,
        object_type="unpriced_usage",
        object_ids=[found.charge_id],
        payload={
            "lago_charge_id": str(found.charge_id),
            "charge_code": priced.charge.code,
            "plan_code": priced.plan.code,
            "billable_metric_code": found.code,
            "values": found.values,
            "unlisted_values": priced.unlisted_values,
            "noticed_at": now.isoformat().replace("+00:00", "Z"),
        },
        now=now,
    )


class UnpricedUsage(Record, kw_only=True):
    """A combination of values without a price, and how much was used of it, as far as rolled up."""

    of: ShownUnpriced
    units: Decimal | int
    """The sum of the values where the metric adds them up, else the number of events."""


def newest(conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[UnpricedUsage]:
    """The combinations without a price that were noticed last, with what was used of them."""
    found = store.newest(conn, organization_id, limit=limit)
    sums = usage.sums(conn, {series_id for each in found for series_id in each.series_ids})
    shown = []
    for each in found:
        used = [sums[series_id] for series_id in each.series_ids if series_id in sums]
        with exact():
            total = sum((value for value, _ in used), ZERO)
        units = total if each.is_sum else sum(count for _, count in used)
        shown.append(UnpricedUsage(of=each, units=units))
    return shown
