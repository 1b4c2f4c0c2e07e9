"""Explain a fee: its formula, the price that matched, the events behind it, and whether it comes out the same now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection

from permille.billing.advance import price, read_histories, terms_of
from permille.billing.usage import standing_window, usage_windows, whole_period
from permille.core.explanation import Step, charge_steps, rounding_step
from permille.core.fee import CompiledCharge, Fee, charge_fees, compile_plan_charge
from permille.core.filters import group_of
from permille.core.money import exact, subunits
from permille.core.period import Period, seconds_of
from permille.core.plan import Charge, Plan, PlanFilter
from permille.core.pricing import ChargeModel
from permille.core.proration import proration_by
from permille.core.subscription import Subscription
from permille.store import customers, events, metering, plans, subscriptions, usage
from permille.store.events import Digest, Place, StoredEvent
from permille.store.invoices import StoredFee
from permille.store.usage import SeriesUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Of one fee. For a fee without a charge there are only the steps."""

    steps: tuple[Step, ...]
    charge: Charge | None = None
    filter: PlanFilter | None = None
    """The price that matched; None is the charge's own."""
    digest: Digest | None = None
    listed: Sequence[StoredEvent] = ()
    next_place: Place | None = None
    recomputed: Fee | None = None
    """What the same events come to with the prices of now; None when the charge is gone, or there is nothing."""
    is_same: bool = True


def explain(conn: Connection[Any], fee: StoredFee, *, after: Place | None, limit: int) -> Explanation:
    """The fee explained, with a page of its events from `after` on."""
    charge, subscription, plan = _priced(conn, fee)
    if charge is None or subscription is None or plan is None or fee.from_at is None or fee.to_at is None:
        return Explanation(steps=_own_steps(fee))
    if fee.event_transaction_id is not None:
        return _of_event(conn, fee, charge, subscription, plan)
    period = Period(fee.from_at, fee.to_at)
    until = period.to
    if fee.pay_in_advance:  # what stood when the period began, paid for all of it
        charge, until = replace(charge, pay_in_advance=False, prorated=False), period.from_
        windows = [standing_window(subscription, [charge], at=until)]
    else:
        windows = usage_windows(subscription, [charge], period)
    compiled = compile_plan_charge(charge, currency=fee.amount_currency)
    since = None if charge.metric.recurring else period.from_

    def read() -> tuple[list[SeriesUsage], Digest, list[StoredEvent]]:
        found = usage.series_usage(conn, windows)
        ids = sorted({each.series_id for each in found if _is_behind(fee, compiled, each)})
        digest = events.digest(conn, ids, from_=since, to=until)
        listed = events.after(conn, ids, from_=since, to=until, place=after, limit=limit + 1)
        return found, digest, listed

    found, digest, listed = metering.under_one_version(conn, read)
    customer = customers.by_ids(conn, [fee.customer_id])[fee.customer_id]
    whole = whole_period(subscription, plan, customer, period)
    recomputed = _recomputed(fee, compiled, found, whole, customer.applicable_timezone)
    return Explanation(
        steps=_steps(fee, charge),
        charge=charge,
        filter=next((each for each in charge.filters if each.id == fee.charge_filter_id), None),
        digest=digest,
        listed=listed[:limit],
        next_place=_place(listed[limit - 1]) if len(listed) > limit else None,
        recomputed=recomputed,
        is_same=_is_same(fee, recomputed),
    )


def _of_event(
    conn: Connection[Any], fee: StoredFee, charge: Charge, subscription: Subscription, plan: Plan
) -> Explanation:
    """Of a fee that one event made: what was owed after it, less what was owed before."""
    assert fee.event_transaction_id is not None, "only such a fee is explained by its event"
    customer = customers.by_ids(conn, [fee.customer_id])[fee.customer_id]
    found = events.with_seq(
        conn,
        organization_id=subscription.organization_id,
        external_subscription_id=subscription.external_id,
        transaction_id=fee.event_transaction_id,
    )
    if found is None:
        return Explanation(steps=_own_steps(fee))
    seq, event = found
    running = replace(subscription, status="active")
    (terms,) = [
        each
        for each in terms_of(running, plan, customer, code=charge.metric.code, at=event.at)
        if each.charge.id == charge.id
    ]
    ((history, standing),) = read_histories(conn, [(terms, seq)])
    fees = price(terms, history, standing, billed={seq})
    recomputed = fees[0][1] if fees else None
    with exact():
        amount = fee.precise_amount_cents / subunits(fee.amount_currency)
    steps = (
        Step("what all events up to this one cost, less what those before it cost", amount),
        rounding_step(fee.precise_amount_cents, fee.amount_cents, fee.amount_currency),
    )
    return Explanation(
        steps=steps,
        charge=charge,
        filter=next((each for each in charge.filters if each.id == fee.charge_filter_id), None),
        digest=events.digest_of(conn, [event.identity]),
        listed=[event],
        recomputed=recomputed,
        is_same=_is_same(fee, recomputed),
    )


def _priced(conn: Connection[Any], fee: StoredFee) -> tuple[Charge | None, Subscription | None, Plan | None]:
    if fee.charge_id is None or fee.subscription_id is None or fee.true_up_parent_fee_id is not None:
        return None, None, None
    subscription = subscriptions.by_ids(conn, [fee.subscription_id]).get(fee.subscription_id)
    plan = plans.plan_by_id(conn, subscription.plan_id) if subscription else None
    charges = list(plan.charges) if plan else []
    if (
        plan is not None and plan.parent_id is not None
    ):  # it may have been billed before the plan became its own
        charges += plans.plan_by_id(conn, plan.parent_id).charges
    return next((each for each in charges if each.id == fee.charge_id), None), subscription, plan


def _own_steps(fee: StoredFee) -> tuple[Step, ...]:
    """Of a fee without a charge that is still there: what the fee itself says."""
    with exact():
        amount = fee.precise_amount_cents / subunits(fee.amount_currency)
    return (
        Step("the exact amount of the fee", amount),
        rounding_step(fee.precise_amount_cents, fee.amount_cents, fee.amount_currency),
    )


def _steps(fee: StoredFee, charge: Charge) -> tuple[Step, ...]:
    with exact():
        amount = fee.precise_amount_cents / subunits(fee.amount_currency)
    steps = charge_steps(
        ChargeModel(charge.charge_model),
        units=fee.units,
        unit_amount=fee.precise_unit_amount,
        amount=amount,
        details=fee.amount_details,
    )
    return (*steps, rounding_step(fee.precise_amount_cents, fee.amount_cents, fee.amount_currency))


def _is_behind(fee: StoredFee, compiled: CompiledCharge, series: SeriesUsage) -> bool:
    """Whether the fee's bucket and group take the series."""
    texts = tuple(series.dimensions.get(key) for key in compiled.filter_keys)
    bucket = compiled.buckets[compiled.bucket_of(texts)]
    if bucket.charge_filter_id != fee.charge_filter_id:
        return False
    return dict(group_of(series.dimensions, bucket.group_keys)) == dict(fee.grouped_by)


def _recomputed(
    fee: StoredFee, compiled: CompiledCharge, found: Sequence[SeriesUsage], whole: Period, timezone: str
) -> Fee | None:
    assert fee.from_at is not None, "only a fee with a period is recomputed"
    assert fee.to_at is not None, "likewise"
    fees = charge_fees(
        compiled,
        [(each.dimensions, each.partial) for each in found],
        subscription_id=fee.subscription_id,
        period=Period(fee.from_at, fee.to_at),
        period_seconds=seconds_of(whole),
        proration=proration_by(whole, timezone),
    )
    return next(
        (
            each
            for each in fees
            if each.charge_filter_id == fee.charge_filter_id and dict(each.grouped_by) == dict(fee.grouped_by)
        ),
        None,
    )


def _is_same(fee: StoredFee, recomputed: Fee | None) -> bool:
    return recomputed is not None and (recomputed.amount_cents, recomputed.units) == (
        fee.amount_cents,
        fee.units,
    )


def _place(event: StoredEvent) -> Place:
    return Place(event.at, event.identity)
