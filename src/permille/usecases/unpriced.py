"""Values without a price are noticed: recorded for the home page, and said once by webhook.

It looks at series, of which there are few new ones, never at events, and beside the hot path: the roll-up and changes
of the catalogue say which.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.plan import Charge, Plan, leaves_unpriced
from permille.core.metering.event import PlacedEvent
from permille.core.money import ZERO, exact
from permille.core.rating.charge import CompiledCharge, compile_plan_charge
from permille.database.connections import exact_json
from permille.events.engine import event_log, usage
from permille.store import organizations, plans, unpriced as store, webhooks
from permille.store.unpriced import Candidate, ShownUnpriced, Unpriced
from permille.usecases import fences

TASK = "Looking for usage without a price"
WEBHOOK = "usage.unpriced"
SERIES_AT_ONCE = 10_000
BATCHES_AT_ONCE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced:
    """A charge of a plan, ready to say which of its prices an event gets."""

    plan: Plan
    charge: Charge
    compiled: CompiledCharge

    def values_of(self, candidate: Candidate) -> dict[str, str | None]:
        """Its values of the metric's dimensions."""
        texts = candidate.texts
        return {key: texts.get(key) for key in sorted(self.charge.metric.filters)}

    def leaves_unpriced(self, values: Mapping[str, str | None]) -> bool:
        """Whether these values of the metric's dimensions have no price."""
        texts = tuple(values.get(key) for key in self.compiled.filter_keys)
        is_listed = self.compiled.bucket_of(texts) < len(self.charge.filters)
        return leaves_unpriced(self.charge) and not is_listed


def look_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Look at what waits in any organization, in test mode too; how many batches that was. `now` is the system's clock."""
    with pool.connection() as conn:
        changed = store.organizations_waiting(conn)
        waiting = sorted({*changed, *event_log.organizations_with_new_series(conn)})

    def look(organization_id: UUID) -> int:
        batches = 0
        while batches < BATCHES_AT_ONCE:
            with pool.connection() as conn:
                if not look_some(conn, organization_id, now=now):
                    break
            batches += 1
        return batches

    return fences.for_each(pool, TASK, waiting, look, now=now)


def look_some(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> bool:
    """Look at a batch of an organization's series; False when nothing waits. `now` is the system's clock."""
    has_changed = store.claim_organization(conn, organization_id)
    if has_changed:
        event_log.look_again(conn, organization_id, codes=store.undecided_codes(conn, organization_id))
        _forget_priced(conn, organization_id)
    series = event_log.claim_new_series(conn, organization_id, limit=SERIES_AT_ONCE)
    organization = organizations.by_id(conn, organization_id)
    if series and organization is not None:
        candidates = store.candidates(conn, series)
        charges = _charges(conn, {each.plan_id for each in candidates})
        if found := _unpriced_of(candidates, charges):
            at = organization.now(now)
            new = store.add(conn, organization_id, found, now=at)
            for each in new:
                _notify(conn, charges[each.charge_id], each, at)
    return has_changed or bool(series)


def unpriced_by(conn: Connection[Any], events: Sequence[PlacedEvent]) -> dict[UUID, list[str]]:
    """Event -> the codes of the charges under which it has no price, of those of the events that have any."""
    candidates = store.candidates_of_events(conn, events)
    charges = _charges(conn, {each.plan_id for each in candidates})
    found: dict[UUID, list[str]] = defaultdict(list)
    for each in candidates:
        priced = charges.get(each.charge_id)
        if each.event_identity and priced and priced.leaves_unpriced(priced.values_of(each)):
            found[each.event_identity].append(priced.charge.code)
    return found


def _charges(conn: Connection[Any], plan_ids: Collection[UUID]) -> dict[UUID, _Priced]:
    return {
        charge.id: _Priced(
            plan=plan, charge=charge, compiled=compile_plan_charge(charge, currency=plan.amount_currency)
        )
        for plan in plans.plans_by_ids(conn, plan_ids).values()
        for charge in plan.charges
    }


def _unpriced_of(
    candidates: Sequence[Candidate], charges: Mapping[UUID, _Priced]
) -> dict[Unpriced, list[int]]:
    """Values without a price -> their series."""
    found: dict[Unpriced, list[int]] = defaultdict(list)
    for each in candidates:
        priced = charges.get(each.charge_id)
        if priced is None:
            continue
        values = priced.values_of(each)
        if priced.leaves_unpriced(values):
            unpriced = Unpriced(
                charge_id=each.charge_id,
                digest=UUID(bytes=hashlib.sha256(exact_json(values).encode()).digest()[:16]),
                code=priced.charge.metric.code,
                values=values,
            )
            found[unpriced].append(each.series_id)
    return found


def _forget_priced(conn: Connection[Any], organization_id: UUID) -> None:
    """Whatever has a price now, or is of dimensions or charges that are not there any more."""
    known = store.known(conn, organization_id)
    charges = _charges(conn, {each.plan_id for each in known if each.plan_id})
    gone = [
        each
        for each in known
        if (priced := charges.get(each.charge_id)) is None
        or each.values.keys() != priced.charge.metric.filters.keys()
        or not priced.leaves_unpriced(each.values)
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
            "unlisted_values": priced.charge.unlisted_values,
            "noticed_at": now.isoformat().replace("+00:00", "Z"),
        },
        now=now,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedUsage:
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
