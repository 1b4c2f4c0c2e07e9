"""What a charge's fee that is billed already would come to with the events and the prices of now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge, compile_renewal, renewal_charge
from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import pricing_plan
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.period import Period
from permille.core.rating.charge import CompiledCharge, series_place, shown_group
from permille.core.rating.fee import Fee, carry_fee_on
from permille.core.rating.minimum_charge import true_up_fee
from permille.core.rating.proration import rated_period
from permille.core.rating.rate import rate
from permille.core.record import Record, replace
from permille.events.engine import event_log, usage
from permille.events.log import StoredEvent
from permille.events.usage import SeriesUsage, UsageQuery
from permille.store import customers, plans, subscriptions
from permille.store.fees import StoredFee
from permille.usecases.usage.levels import AdvanceTerms, price, read_histories, terms_of
from permille.usecases.usage.windows import (
    carried_over_query,
    usage_windows,
    whole_period,
)

ChargeOnce = tuple[Any, ...]
"""A charge in one period of a subscription: all of its fees there."""


class Basis(Record, kw_only=True):
    """What a fee is reckoned from, of the whole charge in its period."""

    subscription: Subscription
    plan: Plan
    customer: Customer
    charge: Charge
    compiled: CompiledCharge
    period: Period
    windows: Sequence[UsageQuery]
    since: datetime | None
    """From when events count, None from the first one."""
    until: datetime


class ChargeNow(NamedTuple):
    """What a charge is reckoned from in a period, and its fees at the prices of now."""

    basis: Basis
    fees: Sequence[Fee]


def bases(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[UUID, Basis]:
    """Fee -> basis, without those whose charge is gone, and those of no charge; set-based."""
    rows = subscriptions.by_ids(conn, {fee.subscription_id for fee in fees if fee.subscription_id})
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    parents = plans.plans_by_ids(conn, {plan.parent_id for plan in known.values() if plan.parent_id})
    payers = customers.by_ids(conn, {fee.customer_id for fee in fees})
    found: dict[UUID, Basis] = {}
    for fee in fees:
        row = rows.get(fee.subscription_id) if fee.subscription_id else None
        if row is None or fee.late_usage_id is not None:
            continue
        plan = known[row.plan_id]
        if fee.from_at is None or fee.to_at is None:
            continue
        parent = parents[plan.parent_id] if plan.parent_id else None
        charges = pricing_plan(plan, parent, fee.from_at).charges
        charge = next((each for each in charges if each.id == fee.charge_id), None)
        if charge is not None:
            period = Period(fee.from_at, fee.to_at)
            found[fee.id] = _basis(
                fee, period, row=row, plan=plan, customer=payers[fee.customer_id], charge=charge
            )
    return found


def _basis(
    fee: StoredFee, period: Period, *, row: Subscription, plan: Plan, customer: Customer, charge: Charge
) -> Basis:
    currency = fee.amount_currency
    charge = replace(charge, rounding=fee.rounding)
    basis = charge_basis(charge, period, row=row, plan=plan, customer=customer, currency=currency)
    if not fee.pay_in_advance or fee.event_transaction_id is not None:
        return basis
    is_whole = period == whole_period(row, plan, customer, period)
    renewed = renewal_charge(charge, is_whole=is_whole)
    return replace(
        basis,
        charge=renewed,
        compiled=compile_renewal(renewed, currency=currency),
        windows=[carried_over_query(row, [renewed], at=period.from_)],
        until=period.from_,
    )


def charge_basis(
    charge: Charge, period: Period, *, row: Subscription, plan: Plan, customer: Customer, currency: str
) -> Basis:
    """What the fees of a charge in a period are priced from, but for renewals in advance."""
    return Basis(
        subscription=row,
        plan=plan,
        customer=customer,
        charge=charge,
        compiled=compile_plan_charge(charge, currency=currency),
        period=period,
        windows=[
            each
            for window in usage_windows(row, [charge], period, timezone=customer.applicable_timezone)
            for each in window.apart()
        ],
        since=None if charge.metric.recurring else period.from_,
        until=period.to,
    )


def is_behind(fee: StoredFee, basis: Basis, dimensions: Mapping[str, str | None]) -> bool:
    """Whether the fee's bucket and group take events with these dimensions."""
    texts = tuple(dimensions.get(key) for key in basis.compiled.filter_keys)
    bucket = basis.compiled.buckets[basis.compiled.bucket_of(texts)]
    if bucket.charge_filter_id != fee.charge_filter_id:
        return False
    _, group = series_place(basis.compiled, dimensions)
    return shown_group(basis.compiled, group) == dict(fee.grouped_by)


def fees_now(basis: Basis, found: Sequence[SeriesUsage]) -> list[Fee]:
    """All fees of the charge in the period, with the true-up fee of its minimum charge."""
    row = basis.subscription
    rated = rated_period(
        basis.period,
        whole_period(row, basis.plan, basis.customer, basis.period),
        basis.customer.applicable_timezone,
        upgraded=row.upgraded,
        terminated_at=row.terminated_at,
    )
    fees = rate(
        basis.compiled,
        [(each.dimensions, each.partial) for each in found],
        subscription_id=row.id,
        rated=rated,
    )
    true_up = true_up_fee(basis.compiled, fees, rated=rated) if basis.compiled.min_amount_cents else None
    return [*fees, true_up] if true_up else fees


def same_place(fee: StoredFee, fees: Sequence[Fee]) -> Fee | None:
    """The one in the place of the stored fee, None when there is nothing there now."""
    is_true_up = fee.true_up_parent_fee_id is not None
    return next(
        (
            each
            for each in fees
            if each.is_true_up == is_true_up
            and each.charge_filter_id == fee.charge_filter_id
            and dict(each.grouped_by) == dict(fee.grouped_by)
        ),
        None,
    )


def recompute(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[UUID, Fee | None]:
    """Fee -> what is in its place now, None when nothing is; without those that have no basis."""
    return usage.under_one_metering(
        conn, {fee.organization_id for fee in fees}, lambda: _recompute(conn, fees)
    )


def repriced(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[ChargeOnce, ChargeNow]:
    """A charge in a period -> what all its fees come to now, for the charges of fees that are of no single event.

    Those whose charge is gone are not in it.
    """
    return usage.under_one_metering(
        conn, {fee.organization_id for fee in fees}, lambda: _repriced(conn, fees, bases(conn, fees))
    )


def _repriced(
    conn: Connection[Any], fees: Collection[StoredFee], found: Mapping[UUID, Basis]
) -> dict[ChargeOnce, ChargeNow]:
    groups = {
        charge_once(fee): found[fee.id]
        for fee in fees
        if fee.id in found and fee.event_transaction_id is None
    }
    windows = [(key, window) for key, basis in groups.items() for window in basis.windows]
    read: dict[ChargeOnce, list[SeriesUsage]] = {key: [] for key in groups}
    used = usage.usage_of_many(conn, [window for _, window in windows])
    for (key, _), series in zip(windows, used, strict=True):
        read[key] += series
    return {key: ChargeNow(basis, fees_now(basis, read[key])) for key, basis in groups.items()}


def _recompute(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[UUID, Fee | None]:
    found = bases(conn, fees)
    by_event = {fee.id for fee in fees if fee.event_transaction_id is not None}
    now = _repriced(conn, fees, found)
    recomputed = {
        fee.id: same_place(fee, now[charge_once(fee)].fees)
        for fee in fees
        if fee.id in found and fee.id not in by_event
    }
    return recomputed | _of_events(conn, [fee for fee in fees if fee.id in by_event], found)


def charge_once(fee: StoredFee) -> ChargeOnce:
    """The charge and the period that a fee is of, with what its fees were rounded and converted by."""
    place = fee.subscription_id, fee.charge_id, fee.from_at, fee.to_at
    return *place, fee.pay_in_advance, fee.amount_currency, fee.rounding


def _of_events(
    conn: Connection[Any], fees: Sequence[StoredFee], found: Mapping[UUID, Basis]
) -> dict[UUID, Fee | None]:
    recomputed: dict[UUID, Fee | None] = {fee.id: None for fee in fees if fee.id in found}
    wanted: list[tuple[StoredFee, AdvanceTerms, int]] = []
    for fee in fees:
        event = event_of(conn, fee, found[fee.id]) if fee.id in found else None
        if event is not None:
            wanted.append((fee, event_terms(found[fee.id], event[1]), event[0]))
    histories = read_histories(conn, [(terms, {seq}) for _, terms, seq in wanted])
    for (fee, terms, seq), history in zip(wanted, histories, strict=True):
        made, _ = price(terms, history, billed={seq})
        if made and fee.earlier is not None:
            per_unit = terms.compiled.subunits
            recomputed[fee.id] = carry_fee_on(made[0][1], fee.earlier, per_unit=per_unit)
        else:
            recomputed[fee.id] = made[0][1] if made else None
    return recomputed


def event_of(conn: Connection[Any], fee: StoredFee, basis: Basis) -> tuple[int, StoredEvent] | None:
    """The event that made a fee in advance, as it counts now, with its place in the order of arrival."""
    assert fee.event_transaction_id is not None, "only such a fee is of one event"
    found = event_log.counted(
        conn,
        organization_id=basis.subscription.organization_id,
        external_subscription_id=basis.subscription.external_id,
        transaction_ids=[fee.event_transaction_id],
    )
    return found.get(fee.event_transaction_id)


def event_terms(basis: Basis, event: StoredEvent) -> AdvanceTerms:
    """What the event is priced by, also when its subscription has ended since."""
    running = replace(basis.subscription, status="active")
    code = basis.charge.metric.code
    charges = terms_of(
        running,
        replace(basis.plan, charges=(basis.charge,), price_versions=()),
        basis.customer,
        code=code,
        at=event.at,
    )
    return next(iter(charges))
