"""Levels of what is paid in advance: how high a charge's usage was in a period, read from what is kept of them and
the events since. Fees of events, estimates and current usage are priced by it.

Source: semantics-metering.md section 5.12.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge, renewal_charge
from permille.core.contract.plan import Charge, Plan
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.metering.aggregations import Needs
from permille.core.metering.billable_metric import BillableMetric
from permille.core.metering.custom_aggregation import aggregator_of
from permille.core.metering.usage import AdvanceEvent
from permille.core.period import Period
from permille.core.rating.advance import carried_over_by_place, event_fees
from permille.core.rating.charge import CompiledCharge, Place
from permille.core.rating.fee import Fee, carry_fee_on
from permille.core.rating.level import NOTHING_CARRIED_OVER, CarriedOver, LevelState, PaidLevel, paid_level_at
from permille.core.rating.proration import Proration, proration_by
from permille.core.rating.rounding import NOTHING_EARLIER, Earlier, Rounding
from permille.core.record import Record, replace
from permille.events.engine import event_log, usage
from permille.events.usage import AdvanceWindow
from permille.store import advance_levels, advance_rounding
from permille.store.advance_levels import KeptLevels, LevelKey
from permille.store.advance_rounding import RoundingKey
from permille.usecases.usage.windows import carried_over_query, running_plan, usage_period, whole_period

LAST_SEQ = 2**63 - 1
"""The seq of an event that comes after all that have arrived."""
LEAST_KEPT = 200
"""Events of a period from which on their levels are kept."""
PARTS_PER_EVENT = 8
"""How large levels may be, by the events since they were last kept, to be kept again."""


class AdvanceTerms(Record, kw_only=True):
    """What an event of a subscription is priced by: a charge of its plan, in the period of the event."""

    row: Subscription
    plan: Plan
    customer: Customer
    charge: Charge
    compiled: CompiledCharge
    period: Period
    proration: Proration

    @property
    def rounding_key(self) -> RoundingKey:
        """What its fees are rounded within, where the charge rounds them together."""
        return self.row.id, self.charge.id, self.period.from_, self.period.to

    @property
    def rounds_together(self) -> bool:
        return self.compiled.rounding is Rounding.PER_CHARGE


def terms_of(
    row: Subscription, plan: Plan, customer: Customer, *, code: str, at: datetime
) -> Iterable[AdvanceTerms]:
    """The terms of an event of a metric's code at an instant: one for each charge in advance on it."""
    for charge in running_plan(row, plan, customer, at=at).charges:
        if charge.pay_in_advance and charge.metric.code == code:
            yield terms_of_charge(row, plan, customer, charge, at=at)


def terms_of_charge(
    row: Subscription, plan: Plan, customer: Customer, charge: Charge, *, at: datetime
) -> AdvanceTerms:
    """Those of one charge in advance, in the period of an instant."""
    timezone = customer.applicable_timezone
    period = usage_period(row, plan, timezone=timezone, now=at)
    return AdvanceTerms(
        row=row,
        plan=plan,
        customer=customer,
        charge=charge,
        compiled=compile_plan_charge(charge, currency=plan.amount_currency),
        period=period,
        proration=proration_by(whole_period(row, plan, customer, period), timezone),
    )


class History(Record, kw_only=True):
    """What the events of a charge in a period are priced by: the levels reached so far, and the events since."""

    key: LevelKey
    kept: KeptLevels
    events: Sequence[AdvanceEvent]
    """In the order of arrival."""
    carried_over: Mapping[Place, CarriedOver]
    """What is carried over into the period."""

    @property
    def events_count(self) -> int:
        return self.kept.events_count + len(self.events)

    def is_worth_keeping(self, reached: Mapping[Place, LevelState]) -> bool:
        """Whether there is more to spare than to write: many events, and levels of few parts or long not written."""
        parts = sum(1 + len(each.there) + len(each.first_values) for each in reached.values())
        return self.events_count >= LEAST_KEPT and parts <= PARTS_PER_EVENT * len(self.events)

    def after(self, reached: Mapping[Place, LevelState], *, until_seq: int) -> KeptLevels:
        """What is kept of it."""
        return KeptLevels(
            stamp=self.kept.stamp, until_seq=until_seq, events_count=self.events_count, levels=reached
        )


def read_histories(
    conn: Connection[Any], wanted: Sequence[tuple[AdvanceTerms, Collection[int]]]
) -> list[History]:
    """For each terms what the events with these seqs are priced by, the last of them included; set-based."""
    recurring = [i for i, (terms, _) in enumerate(wanted) if terms.charge.metric.recurring]
    before = [
        carried_over_query(terms.row, [renewal_charge(terms.charge, is_whole=False)], at=terms.period.from_)
        for terms, _ in (wanted[i] for i in recurring)
    ]

    def read() -> list[History]:
        carried_over: dict[int, Mapping[Place, CarriedOver]] = defaultdict(dict)
        for i, used in zip(recurring, usage.usage_of_many(conn, before), strict=True):
            series = [(each.dimensions, each.partial) for each in used]
            carried_over[i] = carried_over_by_place(wanted[i][0].compiled, series)
        keys = [_level_key(terms, carried_over[i]) for i, (terms, _) in enumerate(wanted)]
        revisions = event_log.revisions(
            conn, [(key.organization_id, key.external_subscription_id, key.code) for key in keys]
        )
        found = advance_levels.find(conn, keys, revisions)
        kept = [
            each if each.until_seq < min(seqs) else replace(each, until_seq=0, events_count=0, levels={})
            for each, (_, seqs) in zip(found, wanted, strict=True)
        ]
        windows = [_window(terms, max(seqs), each) for each, (terms, seqs) in zip(kept, wanted, strict=True)]
        return [
            History(key=keys[i], kept=kept[i], events=events, carried_over=carried_over[i])
            for i, events in enumerate(usage.events_of(conn, windows))
        ]

    organization_ids = {terms.row.organization_id for terms, _ in wanted}
    return usage.under_one_version(conn, organization_ids, read) if wanted else []


def _level_key(terms: AdvanceTerms, carried_over: Mapping[Place, CarriedOver]) -> LevelKey:
    """Whose levels they are, with the terms that say what an event does to them."""
    charge, metric = terms.charge, terms.charge.metric
    seen = [(place, _seen(each, metric)) for place, each in carried_over.items()]
    terms_seen = [
        charge.charge_model,
        charge.prorated and terms.customer.applicable_timezone,
        metric.aggregation_type,
        metric.field_name,
        sorted((metric.custom_aggregator or {}).items()),
        sorted(metric.filters.items()),
        sorted(charge.properties.items()),
        [(each.id, sorted(each.values.items()), sorted(each.properties.items())) for each in charge.filters],
        sorted(repr(each) for each in seen if each[1]),
    ]
    return LevelKey(
        organization_id=terms.row.organization_id,
        external_subscription_id=terms.row.external_id,
        code=metric.code,
        subscription_id=terms.row.id,
        charge_id=terms.charge.id,
        from_=terms.period.from_,
        to=terms.period.to,
        terms=repr(terms_seen),
    )


def _seen(carried_over: CarriedOver, metric: BillableMetric) -> str:
    """What an event's change depends on of what is carried over: all that rules see, or the values that are present."""
    if metric.custom_aggregator:
        return repr((carried_over.units, carried_over.amount))
    return repr(sorted(map(repr, carried_over.values))) if carried_over.values else ""


def _window(terms: AdvanceTerms, until_seq: int, kept: KeptLevels) -> AdvanceWindow:
    metric = terms.charge.metric
    aggregator = aggregator_of(metric)
    return AdvanceWindow(
        organization_id=terms.row.organization_id,
        external_subscription_id=terms.row.external_id,
        code=metric.code,
        field_name=metric.field_name if metric.aggregation.needs is Needs.UNIQUES else None,
        from_=terms.period.from_,
        to=terms.period.to,
        until_seq=until_seq,
        after_seq=kept.until_seq,
        passed=kept.events_count,
        names=aggregator.properties if aggregator else (),
    )


def price(
    terms: AdvanceTerms, history: History, *, billed: Collection[int]
) -> tuple[list[tuple[int, Fee]], dict[Place, LevelState]]:
    """The fees of the events with these seqs, and what levels the history ends with."""
    return event_fees(
        terms.compiled,
        history.events,
        billed=billed,
        carried_over=history.carried_over,
        reached=history.kept.levels,
        subscription_id=terms.row.id,
        period=terms.period,
        proration=terms.proration,
    )


def read_paid_levels(conn: Connection[Any], every: Sequence[AdvanceTerms]) -> list[dict[Place, PaidLevel]]:
    """For each terms what the running period is priced by, of all events that have arrived; set-based."""
    found: list[dict[Place, PaidLevel]] = []
    histories = read_histories(conn, [(terms, {LAST_SEQ}) for terms in every])
    for terms, history in zip(every, histories, strict=True):
        _, reached = price(terms, history, billed=())
        found.append(
            {
                place: paid_level_at(
                    history.carried_over.get(place, NOTHING_CARRIED_OVER),
                    reached.get(place, LevelState()),
                    period=terms.period,
                    proration=terms.proration if terms.charge.prorated else None,
                )
                for place in reached.keys() | history.carried_over.keys()
            }
        )
    return found


@dataclass(slots=True, kw_only=True)
class Carried:
    """What the fees of events come to so far, where their charges round them together."""

    sums: dict[RoundingKey, Earlier]

    @classmethod
    def read(cls, conn: Connection[Any], every: Iterable[AdvanceTerms]) -> Carried:
        keys = {terms.rounding_key for terms in every if terms.rounds_together}
        return cls(sums=advance_rounding.find(conn, list(keys)))

    def next(self, terms: AdvanceTerms, fee: Fee) -> Fee:
        """The fee as it is rounded after those before it; the following ones carry on from it."""
        if not terms.rounds_together:
            return fee
        earlier = self.sums.get(terms.rounding_key, NOTHING_EARLIER)
        carried = carry_fee_on(fee, earlier, per_unit=terms.compiled.subunits)
        self.sums[terms.rounding_key] = earlier.with_line(carried.owed)
        return carried

    def keep(self, conn: Connection[Any]) -> None:
        """Write how far the fees have come. Call in the transaction that writes them."""
        advance_rounding.keep(conn, self.sums)
