"""The invoice run: load what is due, plan and price it in core, write it with one statement a table.

Everything happens in the caller's transaction and as of the instant that was due, however late it is run.
What is billed is a diff (core.invoice), so that a run that is killed or repeated bills nothing twice.
Source: semantics-billing.md sections 3.10, 4.2 to 4.7; docs/decisions/007.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import in_force, version_at, versions_of
from permille.core.contract.subscription import Subscription, due, facts_of
from permille.core.contract.timeline import (
    BillingPeriods,
    next_billing_at,
    plan_invoice,
    trial_end,
)
from permille.core.customer import Customer
from permille.core.period import (
    INSTANT,
    Period,
    charges_interval,
    local_date,
    period_containing,
    seconds_of,
)
from permille.core.rating.fee import (
    CompiledCharge,
    Fee,
    charge_fees,
    compile_plan_charge,
    compile_standing_charge,
    true_up_fee,
)
from permille.core.rating.proration import Proration, is_cut_by_upgrade, proration_by
from permille.database.connections import is_passing
from permille.events.postgres import metering, rollup, usage as usage_store
from permille.events.postgres.window import Window
from permille.store import customers, invoices, plans, subscriptions, webhooks
from permille.store.invoices import InvoiceSubscription, Settled
from permille.usecases import holds
from permille.usecases.invoices import adjustments
from permille.usecases.invoices.invoicing import (
    PERIODIC,
    STARTING,
    TERMINATING,
    AdvanceFee,
    Part,
    beyond_bounds,
    groups_of,
    write,
    write_alone,
)
from permille.usecases.invoices.regrouping import regroup
from permille.usecases.usage.usage import Series
from permille.usecases.usage.windows import renewed_fees, standing_charge, standing_window, usage_windows

BATCH = 2_000

Priced = Sequence[tuple[Charge, CompiledCharge]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The plans and customers of a batch, with the prices made ready."""

    plans: Mapping[UUID, Plan]
    customers: Mapping[UUID, Customer]
    charges: Mapping[UUID, Sequence[Priced]]
    """Plan -> for each version of its prices the charges that an invoice at a period's end has."""
    renewed: Mapping[UUID, Sequence[Priced]]
    """Plan -> likewise the charges in advance of which what stands is paid anew for each period, as a whole."""
    first_starts: Mapping[UUID, datetime]
    """Subscription -> when its external id first ran, where the plan has a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owed:
    """A subscription that is to be billed at an instant."""

    row: Subscription
    at: datetime
    reason: str | None = None
    """None where the instant tells it: a period's end or a trial's."""
    is_change: bool = False
    next_plan_id: UUID | None = None
    """Of the plan that takes over."""
    pays_what_stands: bool = False
    """Whether it takes over where another plan's period ended: what stands is to be paid for the next one."""


def bill_due(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    until: datetime,
    limit: int = BATCH,
    wait: bool = False,
    now: datetime | None = None,
) -> int:
    """Bill the subscriptions that are due the longest, about `limit` of them; returns how many were due.

    A customer's subscriptions that are due at the same instant are taken together, and of several instants
    the first. What another run is at is left to it, unless told to wait. 0 when there is nothing (left).
    A customer whose bill comes to an amount beyond all bounds is held, by the organization's clock `now`; by default
    that shows `until`.
    """
    while payers := invoices.claim_payers(conn, organization_id, until=until, limit=limit, wait=wait):
        rows = invoices.claim_due(conn, payers, until=until)
        owed = [_Owed(row=row, at=row.next_billing_at) for row in rows if row.next_billing_at]
        if owed:
            failures = holds.do_apart(
                conn,
                owed,
                lambda some: _bill(conn, some),
                customer_of=lambda each: each.row.customer_id,
                known=lambda some: _beyond_bounds(conn, some),
            )
            holds.hold(
                conn,
                organization_id,
                failures,
                due_at=lambda each: each.at,
                named=lambda each: {"external_subscription_id": each.row.external_id},
                now=now or until,
            )
            return len(owed)
    return 0


def bill_start(conn: Connection[Any], *, subscription_ids: Collection[UUID], at: datetime) -> None:
    """Bill what plans paid in advance cost from their start on; usage is left to the period's end."""
    rows = subscriptions.for_update(conn, subscription_ids).values()
    _bill(conn, [_Owed(row=row, at=at, reason=STARTING) for row in rows])


def bill_termination(conn: Connection[Any], *, subscription_id: UUID, at: datetime) -> None:
    """Bill what a subscription that ends at `at` still owes, unless it says that this is skipped.

    Periods that ended on an earlier day and were not billed by then, as the run came late, are billed
    before, as of their own ends.
    """
    row = subscriptions.for_update(conn, [subscription_id])[subscription_id]
    if row.on_termination_invoice != "generate":
        owed = _Owed(row=row, at=at, reason=TERMINATING)
        regroup(conn, [_plan_part(owed, _load(conn, [row]))], only_ended=False)
        return
    row = _catch_up(conn, row, at)
    _bill(conn, [_Owed(row=row, at=at, reason=TERMINATING)])


def bill_change(
    conn: Connection[Any], *, old_id: UUID, new_id: UUID, at: datetime, owes_at_start: bool
) -> None:
    """Bill a change of plan on one invoice: what the old plan still owes, and what the new one costs from its start.

    Periods of the old plan that were missed are billed before, as at a termination.
    """
    rows = subscriptions.for_update(conn, [old_id, new_id])
    old, new = _catch_up(conn, rows[old_id], at), rows[new_id]
    owed = [_Owed(row=old, at=at, reason=TERMINATING, next_plan_id=new.plan_id)]
    if owes_at_start or not old.upgraded:
        pays_what_stands = not old.upgraded
        owed.append(_Owed(row=new, at=at, reason=STARTING, is_change=True, pays_what_stands=pays_what_stands))
    _bill(conn, owed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebilled:
    """A subscription on a draft, to be priced again as of when it was billed."""

    on: InvoiceSubscription
    row: Subscription
    has_fee: bool
    """Whether the draft has the plan's own fee."""
    next_plan_id: UUID | None
    follows_upgrade: bool
    """Whether it took over before the end of another plan's period."""


def price_again(
    conn: Connection[Any], drafted: Sequence[Rebilled]
) -> tuple[list[Part], dict[UUID, list[Fee]]]:
    """What is billed of these subscriptions for the periods that are on their drafts, each of them once.

    Fees that stand alone are not made again.
    """
    return metering.under_one_metering(conn, lambda: _price_again(conn, drafted))


def _price_again(
    conn: Connection[Any], drafted: Sequence[Rebilled]
) -> tuple[list[Part], dict[UUID, list[Fee]]]:
    upgraded = {each.next_plan_id for each in drafted if each.next_plan_id and each.row.upgraded}
    known = _load(conn, [each.row for each in drafted], upgraded)
    parts = [_part_again(each, known) for each in drafted]
    fees = _fees(conn, parts, known)
    _renew(conn, parts, known, fees)
    return parts, fees


def _part_again(drafted: Rebilled, known: _Known) -> Part:
    on = drafted.on
    ends = on.invoicing_reason == TERMINATING and drafted.row.upgraded
    part = _plan_part(
        _Owed(
            row=replace(
                drafted.row, fee_billed_until=_fee_billed_before(drafted), charges_billed_until=None
            ),
            at=on.billed_at,
            reason=on.invoicing_reason,
            next_plan_id=drafted.next_plan_id if ends else None,
            pays_what_stands=_took_over(drafted),
        ),
        known,
    )
    periods = BillingPeriods(
        subscription=_period_of(on.from_at, on.to_at),
        charges=_period_of(on.charges_from_at, on.charges_to_at),
    )
    fee = part.planned.fee if drafted.has_fee else None
    return replace(part, row=drafted.row, planned=replace(part.planned, periods=periods, fee=fee))


def _fee_billed_before(drafted: Rebilled) -> datetime | None:
    """Up to where the plan's own fee is billed on earlier invoices: to the start of the draft's period."""
    since, started_at = drafted.on.from_at, drafted.row.started_at
    is_first = since is None or started_at is None or since <= started_at
    return None if is_first else since


def _took_over(drafted: Rebilled) -> bool:
    """Whether it is on the draft as what follows a plan that went to its period's end."""
    row = drafted.row
    follows = row.previous_subscription_id is not None and not drafted.follows_upgrade
    return follows and drafted.on.invoicing_reason == STARTING and drafted.on.billed_at == row.started_at


def _period_of(from_: datetime | None, to: datetime | None) -> Period | None:
    return Period(from_, to) if from_ is not None and to is not None else None


def _catch_up(conn: Connection[Any], row: Subscription, ended_at: datetime) -> Subscription:
    """Bill the periods that ended on an earlier day than the subscription and were not billed by then."""
    for missed in _missed(conn, row, ended_at):
        running = replace(row, status="active", terminated_at=None)
        _bill(conn, [_Owed(row=running, at=missed)])
        row = subscriptions.by_ids(conn, [row.id])[row.id]
    return row


def _missed(conn: Connection[Any], row: Subscription, ended_at: datetime) -> Iterator[datetime]:
    """The billing days before the day of the end that no run has come to."""
    plan = plans.plan_by_id(conn, row.plan_id)
    timezone = customers.by_ids(conn, [row.customer_id])[row.customer_id].applicable_timezone
    running = replace(row, status="active", terminated_at=None)
    first_started_at = subscriptions.first_starts(conn, [row.id]).get(row.id)
    facts = facts_of(running, plan, timezone=timezone, first_started_at=first_started_at)
    missed = due(
        running, plan, timezone=timezone, now=row.created_at, first_started_at=first_started_at
    ).next_billing_at
    while missed is not None and local_date(missed, timezone) < local_date(ended_at, timezone):
        yield missed
        missed = next_billing_at(facts, after=missed)


def _bill(conn: Connection[Any], owed: Sequence[_Owed]) -> None:
    """Plan, price and write. Raises Unbillable."""
    with holds.refusing_unbillable():
        _bill_owed(conn, owed)


def _bill_owed(conn: Connection[Any], owed: Sequence[_Owed]) -> None:
    arrival = rollup.arrival(conn)
    parts, fees, alone = metering.under_one_metering(conn, lambda: _price(conn, owed))
    parts = [replace(part, arrival=arrival) for part in parts]
    adjusted = adjustments.scheduled(conn, parts)
    owing = [
        part for part in parts if fees[part.row.id] or part.row.id in adjusted or not part.planned.is_empty
    ]
    write(conn, groups_of(owing, fees, adjusted))
    write_alone(conn, alone)
    regroup(conn, [part for part in parts if part.reason == PERIODIC], only_ended=True)
    regroup(conn, [part for part in parts if part.reason == TERMINATING], only_ended=False)
    settled = [_settled(part) for part in parts]
    invoices.settle(conn, settled)
    _tell_of_trials(conn, parts, settled)


def _beyond_bounds(conn: Connection[Any], owed: Sequence[_Owed]) -> dict[UUID, str]:
    """Customer -> why, of those whose bill comes to too much; none where it cannot even be reckoned."""
    try:
        with conn.transaction(), holds.refusing_unbillable():
            parts, fees, alone = metering.under_one_metering(conn, lambda: _price(conn, owed))
            return beyond_bounds(groups_of(parts, fees, adjustments.scheduled(conn, parts)), alone)
    except Exception as error:
        if is_passing(error):
            raise
        return {}


def _price(
    conn: Connection[Any], owed: Sequence[_Owed]
) -> tuple[list[Part], dict[UUID, list[Fee]], list[AdvanceFee]]:
    """What is billed of each, the fees by subscription, and the fees that stand alone."""
    known = _load(
        conn, [each.row for each in owed], {each.next_plan_id for each in owed if each.next_plan_id}
    )
    parts = [_plan_part(each, known) for each in owed]
    fees = _fees(conn, parts, known)
    return parts, fees, _renew(conn, parts, known, fees)


def _tell_of_trials(conn: Connection[Any], parts: Sequence[Part], settled: Sequence[Settled]) -> None:
    for part, done in zip(parts, settled, strict=True):
        if done.trial_ended_at is not None and part.row.trial_ended_at is None:
            webhooks.enqueue(
                conn,
                organization_id=part.row.organization_id,
                webhook_type="subscription.trial_ended",
                object_type="subscription",
                object_ids=[part.row.id],
                payload=None,
                now=part.at,
            )


def _load(conn: Connection[Any], rows: Sequence[Subscription], more_plans: Collection[UUID] = ()) -> _Known:
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows} | set(more_plans))
    with_trial = [row.id for row in rows if known_plans[row.plan_id].trial_period]
    return _Known(
        plans=known_plans,
        customers=customers.by_ids(conn, {row.customer_id for row in rows}),
        charges={plan.id: _compiled(plan) for plan in known_plans.values()},
        renewed={plan.id: _renewed(plan) for plan in known_plans.values()},
        first_starts=subscriptions.first_starts(conn, with_trial) if with_trial else {},
    )


def _compiled(plan: Plan) -> list[Priced]:
    """For each version of the plan's prices."""
    return [
        [
            (charge, compile_plan_charge(charge, currency=plan.amount_currency))
            for charge in version.charges
            if not charge.pay_in_advance
        ]
        for version in versions_of(plan)
    ]


def _renewed(plan: Plan, *, is_whole: bool = True) -> list[Priced]:
    """Likewise."""
    return [
        [
            (standing, compile_standing_charge(standing, currency=plan.amount_currency))
            for charge in version.charges
            for standing in [standing_charge(charge, is_whole=is_whole)]
            if charge.pay_in_advance and charge.metric.recurring
        ]
        for version in versions_of(plan)
    ]


def _charges(part: Part, known: _Known) -> Priced:
    """The charges that price the period of usage that is billed; none where none is."""
    period = part.planned.periods.charges
    return known.charges[part.plan.id][version_at(part.plan, period.from_)] if period else ()


def _plan_part(owed: _Owed, known: _Known) -> Part:
    row, at, reason = owed.row, owed.at, owed.reason
    plan, customer = known.plans[row.plan_id], known.customers[row.customer_id]
    facts = facts_of(
        row,
        plan,
        timezone=customer.applicable_timezone,
        first_started_at=known.first_starts.get(row.id),
    )
    # A start later today is billed now.
    begins = (row.started_at or at) if reason == STARTING else at
    planned = plan_invoice(facts, at=max(at, begins))
    ends_trial = planned.periods.charges is None and trial_end(facts) == at
    part = Part(
        row=row,
        plan=plan,
        customer=customer,
        facts=facts,
        at=at,
        reason=reason or (STARTING if ends_trial else PERIODIC),
        planned=planned,
        is_change=owed.is_change or owed.next_plan_id is not None,
        pays_what_stands=owed.pays_what_stands,
        carried_over=carried_over(row, known.plans.get(owed.next_plan_id) if owed.next_plan_id else None, at),
    )
    if part.pays_what_stands and planned.periods.subscription is None:
        shown = replace(planned.periods, subscription=_begun_period(part))
        return replace(part, planned=replace(planned, periods=shown))
    return part


def carried_over(row: Subscription, next_plan: Plan | None, at: datetime) -> frozenset[UUID]:
    """What an upgrade leaves to the new plan: recurring metrics that are priced there too, at its period's end."""
    if next_plan is None or not row.upgraded:
        return frozenset()
    return frozenset(
        charge.metric.id
        for charge in in_force(next_plan, at).charges
        if charge.metric.recurring and not charge.pay_in_advance
    )


def _fees(conn: Connection[Any], parts: Sequence[Part], known: _Known) -> dict[UUID, list[Fee]]:
    """Subscription -> its fees in the order of the invoice: the plan's own, then those of the charges."""
    used = _usage(conn, parts, known)
    fees: dict[UUID, list[Fee]] = {}
    for part in parts:
        own = [] if part.planned.fee is None else [part.planned.fee]
        fees[part.row.id] = own + _charge_fees(part, known, used.get(part.row.id, {}))
    return fees


def _usage(conn: Connection[Any], parts: Sequence[Part], known: _Known) -> dict[UUID, dict[str, list[Any]]]:
    """Subscription -> code of a metric -> its series."""
    windows = []
    for part in parts:
        period = part.planned.periods.charges
        charges = [charge for charge, _ in _charges(part, known)]
        if period is not None and charges:
            wanted = usage_windows(part.row, charges, period, timezone=part.facts.timezone)
            windows += [(part.row.id, window) for window in wanted]
    return _read_usage(conn, windows)


def _read_usage(
    conn: Connection[Any], windows: Sequence[tuple[UUID, Window]]
) -> dict[UUID, dict[str, list[Any]]]:
    """Subscription -> code of a metric -> its series."""
    used: dict[UUID, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    if windows:
        read = usage_store.usage_of_many(conn, [window for _, window in windows])
        for (owner, _), found in zip(windows, read, strict=True):
            for each in found:
                used[owner][each.code].append((each.dimensions, each.partial))
    return used


def _charge_fees(part: Part, known: _Known, used: Mapping[str, Series]) -> list[Fee]:
    period = part.planned.periods.charges
    if period is None:
        return []
    whole = _whole_period(part, period)
    proration = proration_by(
        whole,
        part.facts.timezone,
        spares_last_day=is_cut_by_upgrade(
            period, upgraded=part.facts.upgraded, terminated_at=part.facts.terminated_at
        ),
    )
    fees: list[Fee] = []
    for charge, compiled in _charges(part, known):
        if charge.metric.id in part.carried_over and not charge.prorated:
            continue
        own = charge_fees(
            compiled,
            used.get(charge.metric.code, ()),
            subscription_id=part.row.id,
            period=period,
            period_seconds=seconds_of(whole),
            proration=proration,
            with_idle=compiled.min_amount_cents > 0,
        )
        fees += _made_up(compiled, own, period, proration)
    return fees


def _renew(
    conn: Connection[Any], parts: Sequence[Part], known: _Known, fees: Mapping[UUID, list[Fee]]
) -> list[AdvanceFee]:
    """Bill what stands of recurring metrics for the period that begins, where it is paid in advance.

    Fees of charges that are invoiceable are added to those of the invoice, the others are returned.
    """
    begun = {
        part.row.id: period
        for part in parts
        if any(known.renewed[part.plan.id]) and (period := _begun_period(part)) is not None
    }
    renewing = [
        (part, begun[part.row.id], charges)
        for part in parts
        if part.row.id in begun and (charges := _standing(part, begun[part.row.id], known))
    ]
    used = _read_usage(
        conn,
        [
            (part.row.id, standing_window(part.row, [charge for charge, _ in charges], at=period.from_))
            for part, period, charges in renewing
        ],
    )
    alone = []
    for part, period, charges in renewing:
        for charge, compiled in charges:
            own = charge_fees(
                compiled,
                used.get(part.row.id, {}).get(charge.metric.code, ()),
                subscription_id=part.row.id,
                period=period,
                proration=proration_by(_whole_period(part, period), part.facts.timezone),
                with_idle=False,
            )
            made = [replace(fee, pay_in_advance=True) for fee in renewed_fees(charge, compiled, own)]
            if charge.invoiceable:
                fees[part.row.id].extend(made)
            else:
                alone += [
                    AdvanceFee(row=part.row, plan=part.plan, customer=part.customer, fee=fee, at=part.at)
                    for fee in made
                ]
    return alone


def _begun_period(part: Part) -> Period | None:
    """The period for which what stands is paid anew, None when none begins."""
    if part.reason == PERIODIC and part.planned.periods.charges:
        begins_at = part.planned.periods.charges.to
        return _whole_period(part, Period(begins_at, begins_at + INSTANT))
    if part.pays_what_stands:
        return Period(part.at, _whole_period(part, Period(part.at, part.at + INSTANT)).to)
    return None


def _standing(part: Part, period: Period, known: _Known) -> Priced:
    """The charges in advance that pay for the whole of this period, or for what is left of it."""
    is_whole = period == _whole_period(part, period)
    renewed = known.renewed[part.plan.id] if is_whole else _renewed(part.plan, is_whole=False)
    return renewed[version_at(part.plan, period.from_)]


def _made_up(
    compiled: CompiledCharge, fees: Sequence[Fee], period: Period, proration: Proration
) -> list[Fee]:
    """The fees that an invoice shows, with the one that makes them up to the charge's least amount."""
    missing = None
    if compiled.min_amount_cents:
        missing = true_up_fee(compiled, fees, period=period, proration=proration)
    if missing is None:
        return [fee for fee in fees if compiled.is_billed(fee)]
    parent = next(fee for fee in fees if fee.charge_filter_id is None)
    return [*(fee for fee in fees if fee is parent or compiled.is_billed(fee)), missing]


def _whole_period(part: Part, period: Period) -> Period:
    """The whole period, of which only a part may be subscribed."""
    return period_containing(
        period.to - INSTANT,
        interval=charges_interval(part.facts.interval, part.facts.bill_charges_monthly),
        billing_time=part.facts.billing_time,
        anchor=part.facts.subscription_at,
        timezone=part.facts.timezone,
    )


def _settled(part: Part) -> Settled:
    """How far the subscription is billed now, and when it is due again."""
    row = part.row
    next_at = row.next_billing_at
    if part.reason != TERMINATING and next_at is not None and next_at <= part.at:
        next_at = next_billing_at(part.facts, after=part.at)
    trial_ended_at = row.trial_ended_at
    if part.plan.trial_period and trial_ended_at is None:
        ends = trial_end(part.facts)
        trial_ended_at = ends if ends is not None and ends <= part.at else None
    return Settled(
        subscription_id=row.id,
        next_billing_at=next_at,
        fee_billed_until=part.planned.fee_billed_until,
        charges_billed_until=part.planned.charges_billed_until,
        trial_ended_at=trial_ended_at,
    )
