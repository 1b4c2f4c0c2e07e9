"""Late usage: price billed periods again for events that came in after their invoice was final, and decide about it.

What a period comes to more than was billed is proposed; it is billed on the next invoice, or accepted, by decision
alone (docs/late-usage.md). Pricing and deciding hold the customer's lock, as billing does.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import Subscription
from permille.core.errors import Invalid, NotFound
from permille.core.invoice.billing import left_to_next_plan
from permille.core.invoice.late_usage import (
    LateUsageStatus,
    Line,
    difference,
    less,
    line_of,
    of_commitment,
    totals,
    waits_for_price,
    with_changed_usage,
    with_commitment,
    with_usage,
)
from permille.core.money import AMOUNT_MAX
from permille.core.period import Period
from permille.core.rating.models import ChargeModel
from permille.core.record import Record
from permille.events.engine import event_log, usage
from permille.ids import new_id
from permille.store import (
    catalogue_corrections,
    customers,
    fees as fee_store,
    invoices,
    late_usage as store,
    plans,
    subscriptions,
    webhooks,
)
from permille.store.fees import StoredFee
from permille.store.late_usage import LateUsage, Mark
from permille.usecases import fences
from permille.usecases.arrivals import follow
from permille.usecases.fences import Task
from permille.usecases.invoices.recomputation import Basis, charge_basis, fees_now
from permille.usecases.invoices.run import bill_late_usage

BATCH = 500
WEBHOOK = "event.too_late"

log = logging.getLogger(__name__)

Key = tuple[UUID, UUID, datetime, datetime]
"""Subscription, charge and period."""


class _Period(Record, kw_only=True):
    """A charge in a billed period that is to be priced again."""

    mark: Mark
    basis: Basis
    currency: str

    @property
    def key(self) -> Key:
        return self.mark.subscription_id, self.basis.charge.id, self.mark.from_at, self.mark.to_at

    @property
    def has_catalogue_prices(self) -> bool:
        return self.basis.charge.charge_model is ChargeModel.CATALOGUE


def review_live(pool: ConnectionPool[Connection[Any]], now: datetime) -> int:
    """Find late events and price what they are part of, in any organization; how many periods that was."""
    return follow(pool, Task.LATE_USAGE, detect, waiting=store.organizations_waiting, look=review, now=now)


def detect(conn: Connection[Any]) -> bool:
    """Mark the billed periods that events came in for later; whether there is more to look through.

    Events are looked at once every transaction is over that was under way when they were settled: a bill that
    was being made without them is visible by then, and any later one counts them. `conn` is in no transaction.
    """
    with conn.transaction():
        check = store.check_of_arrivals(conn)
        if check.next_to is None:
            checked_to = check.checked_to
        elif check.is_over:
            checked_to = check.next_to
            _mark(conn, after=check.checked_to, until=check.next_to)
        else:
            return False
        store.begin_check(conn, checked_to=checked_to, settled=event_log.arrival(conn).counted_to)
    return check.is_over


def _mark(conn: Connection[Any], *, after: int, until: int) -> None:
    suspect = store.billed_beyond(conn, event_log.arrived(conn, after=after, until=until))
    if suspect:
        store.mark(conn, event_log.arrived_before(conn, suspect, after=after, until=until))


def review(conn: Connection[Any], organization_id: UUID, *, now: datetime, system_now: datetime) -> int:
    """Price a batch of periods that events came in for later, and propose the difference; how many marks that was.

    A webhook is queued for each charge and period with late usage that had none open before. Customers of whom it
    fails are left alone for a while.
    """
    marks = store.claim_marks(conn, organization_id, task=Task.LATE_USAGE, now=system_now, limit=BATCH)
    if not marks:
        return 0
    customers.lock_all(conn, {mark.customer_id for mark in marks})
    new: set[UUID] = set()

    def propose(some: Sequence[Mark]) -> None:
        new.clear()
        new.update(_propose(conn, organization_id, some, now=now))

    failed = fences.for_each_customer(
        conn,
        Task.LATE_USAGE,
        organization_id,
        marks,
        propose,
        customer_of=lambda mark: mark.customer_id,
        now=system_now,
    )
    if failed:
        if len(failed) == len({mark.customer_id for mark in marks}):
            new.clear()  # of a trial that was undone
        store.mark_again(conn, organization_id, [mark for mark in marks if mark.customer_id in failed])
    if new:
        webhooks.enqueue(
            conn,
            organization_id=organization_id,
            webhook_type=WEBHOOK,
            object_type="late_usage",
            object_ids=sorted(new),
            payload=None,
            now=now,
        )
    return len(marks)


def _propose(
    conn: Connection[Any], organization_id: UUID, marks: Sequence[Mark], *, now: datetime
) -> set[UUID]:
    """Price what is marked, at the prices of now, and propose the differences; those that had none open before.

    The customers are locked.
    """
    seen_to = event_log.arrival(conn).seen_to
    found = usage.under_one_metering(conn, [organization_id], lambda: _priced_again(conn, marks))
    known = _decided(conn, {mark.subscription_id for mark in marks})
    changed = store.changed_since(
        conn, [(period.basis.charge.id, period.mark.invoice_id) for period, _, _ in found]
    )
    corrected = catalogue_corrections.corrected_since_final(
        conn, {period.mark.invoice_id for period, _, _ in found if period.has_catalogue_prices}
    )
    agreed = _commitments_left(conn, known, {period.key for period, _, _ in found})
    proposals, gone = [], []
    for period, lines, billed in found:
        open_now = [each for each in known[period.key] if each.status == LateUsageStatus.OPEN]
        settled = [each for each in known[period.key] if each.status != LateUsageStatus.OPEN]
        decided = [line for each in settled for line in store.lines_of(each) if not line.is_commitment]
        before, missing = [*billed, *decided], difference(difference(lines, billed), decided)
        if (period.basis.charge.id, period.mark.invoice_id) in changed:
            missing = with_usage(missing, before)
        if period.has_catalogue_prices and period.mark.invoice_id in corrected:
            missing = with_changed_usage(missing, before)
        left = agreed.get(period.mark.subscription_id, {})
        if (committed := _committed(left, period.mark)) is not None:
            missing = with_commitment(missing, left[committed])
            left[committed] -= of_commitment(missing)
        if any(abs(line.amount_cents) > AMOUNT_MAX for line in missing):
            log.error("Late usage of subscription %s is out of range", period.mark.subscription_id)
        elif missing:
            proposals.append(_proposal(organization_id, period, missing, seen_to=seen_to, now=now))
        else:
            gone += [each.id for each in open_now]
    store.drop(conn, gone)
    return store.put(conn, proposals)


def _decided(conn: Connection[Any], subscription_ids: Iterable[UUID]) -> Mapping[Key, list[LateUsage]]:
    found: dict[Key, list[LateUsage]] = defaultdict(list)
    for each in store.of_subscriptions(conn, set(subscription_ids)):
        found[each.key].append(each)
    return found


def _commitments_left(
    conn: Connection[Any], known: Mapping[Key, Sequence[LateUsage]], priced: Collection[Key]
) -> dict[UUID, dict[Period, int]]:
    """Subscription -> period of its plan -> what was billed up to its minimum commitment and no late usage has taken.

    Open late usage of what is `priced` again takes nothing.
    """
    left = fee_store.commitments(conn, {subscription_id for subscription_id, *_ in [*known, *priced]})
    for late in (each for own in known.values() for each in own):
        is_replaced = late.status == LateUsageStatus.OPEN and late.key in priced
        own = left.get(late.subscription_id, {})
        if not is_replaced and (period := _committed(own, late)) is not None:
            own[period] -= of_commitment(store.lines_of(late))
    return left


def _committed(periods: Iterable[Period], used: Mark | LateUsage) -> Period | None:
    """The one of a plan's periods that usage is of: by its middle, as for what counts towards a commitment."""
    middle = used.from_at + (used.to_at - used.from_at) / 2
    return next((period for period in periods if middle in period), None)


def decided_amounts(conn: Connection[Any], fees: Collection[StoredFee]) -> dict[UUID, int]:
    """Fee -> what was billed or written off of late usage in its place since, in cents."""
    known = _decided(conn, {fee.subscription_id for fee in fees if fee.subscription_id})
    found: dict[UUID, int] = {}
    for fee in fees:
        if fee.late_usage_id is not None or fee.pay_in_advance or (key := _key(fee)) is None:
            continue
        place = billed_line(fee).place
        found[fee.id] = sum(
            line.amount_cents
            for late in known.get(key, ())
            if late.status != LateUsageStatus.OPEN
            for line in store.lines_of(late)
            if line.place == place
        )
    return found


def _key(fee: StoredFee) -> Key | None:
    if fee.subscription_id is None or fee.charge_id is None or fee.from_at is None or fee.to_at is None:
        return None
    return fee.subscription_id, fee.charge_id, fee.from_at, fee.to_at


def _priced_again(
    conn: Connection[Any], marks: Sequence[Mark]
) -> list[tuple[_Period, list[Line], list[Line]]]:
    """What each charge comes to now, and what its invoice has billed."""
    periods = _periods(conn, marks)
    windows = [(period.key, window) for period in periods for window in period.basis.windows]
    read: dict[Key, list[Any]] = defaultdict(list)
    for (key, _), series in zip(
        windows, usage.usage_of_many(conn, [window for _, window in windows]), strict=True
    ):
        read[key] += series
    billed = _billed(conn, {mark.invoice_id for mark in marks})
    credited = catalogue_corrections.credited_of_fees(
        conn, [fee.id for fees in billed.values() for fee in fees]
    )
    return [
        (
            period,
            [line_of(fee) for fee in fees_now(period.basis, read[period.key])],
            [less(billed_line(fee), credited.get(fee.id, 0)) for fee in billed[period.key]],
        )
        for period in periods
    ]


def _periods(conn: Connection[Any], marks: Sequence[Mark]) -> list[_Period]:
    """The charges in arrears of what is marked, each once."""
    rows = subscriptions.by_ids(conn, {mark.subscription_id for mark in marks})
    next_plans = subscriptions.next_plan_ids(conn, rows.keys())
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()} | set(next_plans.values()))
    known |= plans.plans_by_ids(conn, {plan.parent_id for plan in known.values() if plan.parent_id})
    payers = customers.by_ids(conn, {row.customer_id for row in rows.values()})
    billed_at = {
        (each.invoice_id, each.subscription_id): each.billed_at
        for own in invoices.subscriptions_of(conn, {mark.invoice_id for mark in marks}).values()
        for each in own
    }
    found: dict[Key, _Period] = {}
    for mark in marks:
        row = rows[mark.subscription_id]
        at = billed_at[mark.invoice_id, mark.subscription_id]
        plan = in_force(_plan_at(row, known, at), mark.from_at)
        left = left_to_next_plan(row, known.get(next_plans[row.id]) if row.id in next_plans else None, at)
        for charge in plan.charges:
            if charge.metric.code != mark.code or charge.pay_in_advance:
                continue
            if (
                charge.metric.id in left
                and not charge.prorated
                and row.terminated_at is not None
                and mark.to_at > row.terminated_at
            ):
                continue
            basis = charge_basis(
                charge,
                Period(mark.from_at, mark.to_at),
                row=row,
                plan=plan,
                customer=payers[row.customer_id],
                currency=plan.amount_currency,
            )
            period = _Period(mark=mark, basis=basis, currency=plan.amount_currency)
            found[period.key] = period
    return list(found.values())


def _plan_at(row: Subscription, known: Mapping[UUID, Plan], billed_at: datetime) -> Plan:
    """The plan that the invoice billed: a plan of the subscription's own may have come later."""
    plan = known[row.plan_id]
    if plan.parent_id is not None and plan.created_at > billed_at:
        return known[plan.parent_id]
    return plan


def _billed(conn: Connection[Any], invoice_ids: Iterable[UUID]) -> Mapping[Key, list[StoredFee]]:
    """What the invoices themselves have billed of each charge in arrears, without earlier late usage."""
    found: dict[Key, list[StoredFee]] = defaultdict(list)
    for fees in fee_store.of_invoices(conn, set(invoice_ids)).values():
        for fee in fees:
            key = _key(fee)
            if key is not None and not fee.pay_in_advance and fee.late_usage_id is None:
                found[key].append(fee)
    return found


def billed_line(fee: StoredFee) -> Line:
    """What a fee has billed."""
    details = fee.pricing_unit_details
    is_true_up = fee.true_up_parent_fee_id is not None
    return Line(
        charge_filter_id=fee.charge_filter_id,
        grouped_by=fee.grouped_by,
        is_true_up=is_true_up,
        units=Decimal(0) if is_true_up else fee.units,
        events_count=fee.events_count or 0,
        amount_cents=fee.amount_cents,
        precise_amount_cents=fee.precise_amount_cents,
        unit_cents=(details["amount_cents"], Decimal(details["precise_amount_cents"])) if details else None,
    )


def _proposal(
    organization_id: UUID, period: _Period, lines: Sequence[Line], *, seen_to: int, now: datetime
) -> LateUsage:
    events_count, units, amount_cents = totals(lines)
    mark = period.mark
    return LateUsage(
        id=new_id(now),
        organization_id=organization_id,
        customer_id=mark.customer_id,
        subscription_id=mark.subscription_id,
        charge_id=period.basis.charge.id,
        code=mark.code,
        invoice_id=mark.invoice_id,
        from_at=mark.from_at,
        to_at=mark.to_at,
        currency=period.currency,
        status=LateUsageStatus.OPEN,
        events_count=events_count,
        units=units,
        amount_cents=amount_cents,
        lines=[store.line_json(line) for line in lines],
        seen_to=seen_to,
        adjusting_invoice_id=None,
        reason=None,
        decided_by=None,
        decided_at=None,
        created_at=now,
        updated_at=now,
    )


def by_id(conn: Connection[Any], organization_id: UUID, late_usage_id: UUID | None) -> LateUsage:
    """Raises NotFound."""
    found = store.by_id(conn, late_usage_id, organization_id) if late_usage_id else None
    if found is None:
        raise NotFound("late_usage")
    return found


def bill(conn: Connection[Any], late: LateUsage, *, decided_by: UUID | None, now: datetime) -> LateUsage:
    """Let the subscription's next invoice bill it, or one of its own at once where the subscription is over.

    It is billed with all events and at the prices of now. Asking again changes nothing. Raises Invalid for what is
    accepted, for less than nothing, and while the charge holds its usage until it has a price.
    """
    customers.lock(conn, late.customer_id)
    late = _current(conn, late)
    if late.status == LateUsageStatus.OPEN:
        _propose(conn, late.organization_id, [_mark_of(late)], now=now)
        late = _current(conn, late)
    if late.status == LateUsageStatus.ACCEPTED:
        raise Invalid({"status": ["late_usage_is_accepted"]})
    if late.status == LateUsageStatus.OPEN:
        if late.amount_cents < 0:
            raise Invalid({"amount_cents": ["value_is_negative"]})
        if _waits_for_price(conn, late):
            raise Invalid({"unlisted_values": ["usage_without_price"]})
        store.decide(
            conn, late.id, status=LateUsageStatus.SCHEDULED, reason=None, decided_by=decided_by, now=now
        )
        bill_late_usage(conn, [late.customer_id], at=now)
    return _current(conn, late)


def _waits_for_price(conn: Connection[Any], late: LateUsage) -> bool:
    periods = _periods(conn, [_mark_of(late)])
    own = [period.basis for period in periods if period.basis.charge.id == late.charge_id]
    return any(waits_for_price(store.lines_of(late), basis.compiled) for basis in own)


def _mark_of(late: LateUsage) -> Mark:
    return Mark(
        subscription_id=late.subscription_id,
        customer_id=late.customer_id,
        invoice_id=late.invoice_id,
        code=late.code,
        from_at=late.from_at,
        to_at=late.to_at,
    )


def accept(
    conn: Connection[Any], late: LateUsage, *, reason: str, decided_by: UUID | None, now: datetime
) -> LateUsage:
    """Write it off. Asking again changes nothing. Raises Invalid for what is billed, or will be."""
    customers.lock(conn, late.customer_id)
    late = _current(conn, late)
    if late.status in (LateUsageStatus.SCHEDULED, LateUsageStatus.BILLED):
        raise Invalid({"status": ["late_usage_is_billed"]})
    store.decide(
        conn, late.id, status=LateUsageStatus.ACCEPTED, reason=reason, decided_by=decided_by, now=now
    )
    return _current(conn, late)


def _current(conn: Connection[Any], late: LateUsage) -> LateUsage:
    found = store.by_id(conn, late.id, lock=True)
    if found is None:
        raise Invalid({"status": ["late_usage_is_gone"]})
    return found
