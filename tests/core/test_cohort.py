"""Cohorts: what the first of one was planned as is what each of its members would be planned as by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings, strategies as st

from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.subscription import Subscription
from permille.core.invoice.billing import BillingRequest, SubscriptionBilling, plan_billing, progress_after
from permille.core.invoice.cohort import Cohorts, cohort_key
from permille.core.period import BillingTime, Interval, next_boundary
from permille.core.record import replace

from .test_invoice_draft import ONE, customer, plan, subscription

AT = datetime(2026, 3, 1, tzinfo=UTC)
_zones = st.sampled_from(["UTC", "Asia/Tokyo", "America/Los_Angeles"])
_spans = [((2015, 1, 1), (2022, 1, 1)), ((2015, 1, 1), (2023, 6, 1)), ((2023, 6, 1), (2026, 2, 20))]
_starts = st.one_of(
    [
        st.datetimes(datetime(*since), datetime(*until)).map(lambda at: at.replace(tzinfo=UTC))
        for since, until in _spans
    ]
)
_plans = st.builds(
    lambda interval, pay_in_advance, monthly: plan(
        id=ONE,
        interval=interval,
        amount_cents=3100,
        amount_currency="USD",
        pay_in_advance=pay_in_advance,
        bill_charges_monthly=monthly,
        minimum_commitment=MinimumCommitment(
            id=ONE, amount_cents=5000, invoice_display_name=None, created_at=AT, updated_at=AT
        ),
        fixed_charges=(),
    ),
    st.sampled_from(list(Interval)),
    st.booleans(),
    st.booleans(),
)


def _due(number: int, started_at: datetime, billed_until: datetime | None, **fields: Any) -> Subscription:
    return subscription(
        number,
        plan_id=ONE,
        subscription_at=started_at,
        started_at=started_at,
        created_at=started_at + timedelta(minutes=number),
        fee_billed_until=billed_until,
        charges_billed_until=billed_until,
        **fields,
    )


def _shown(billing: SubscriptionBilling) -> tuple[Any, ...]:
    """All that is asked of a billing."""
    period, begun = billing.usage_period, billing.begun_period
    return (
        billing.planned,
        billing.reason,
        billing.recurring,
        period and billing.rated(period),
        begun and billing.rated(begun),
        billing.committed_period,
        progress_after(billing),
    )


@settings(max_examples=60)
@given(
    _plans,
    _zones,
    st.sampled_from(list(BillingTime)),
    st.tuples(_starts, _starts),
    st.sampled_from([True, True, False]),
)
def test_a_member_is_billed_as_it_would_be_alone(
    sold: Any, timezone: str, by: BillingTime, starts: tuple[datetime, datetime], is_billed: bool
) -> None:
    first_start, own_start = starts
    at = next_boundary(AT, interval=sold.interval, billing_time=by, anchor=first_start, timezone=timezone)
    if by is BillingTime.ANNIVERSARY:
        own_start = own_start.replace(year=first_start.year, month=first_start.month, day=first_start.day)
    billed_until = at - timedelta(days=28) if is_billed else None
    payer = customer(timezone=timezone)
    rows = [
        _due(number, start, billed_until, next_billing_at=at, billing_time=by)
        for number, start in ((1, first_start), (2, own_start))
    ]
    first, own = (BillingRequest(subscription=row, at=at) for row in rows)
    cohorts, others = Cohorts(), {"first_started_at": None, "next_plan": None, "arrival": None}
    cohorts.billing(first, plan=sold, customer=payer, **others)
    member = cohorts.billing(own, plan=sold, customer=payer, **others)
    are_alike = cohort_key(first, sold, payer) == cohort_key(own, sold, payer)
    assert len(cohorts.firsts) == (1 if are_alike else 2)
    assert _shown(member) == _shown(plan_billing(own, plan=sold, customer=payer, **others))


def test_what_is_not_alike_is_no_cohort() -> None:
    sold, payer, long_ago = (
        plan(id=ONE, interval="monthly"),
        customer(timezone="UTC"),
        AT - timedelta(days=400),
    )
    row = _due(1, long_ago, AT - timedelta(days=28), next_billing_at=AT)
    key = cohort_key(BillingRequest(subscription=row, at=AT), sold, payer)
    later = replace(row, started_at=long_ago + timedelta(days=9), created_at=long_ago + timedelta(days=10))
    assert cohort_key(BillingRequest(subscription=later, at=AT), sold, payer) == key
    for change in (
        {"started_at": AT - timedelta(days=20)},
        {"charges_billed_until": None},
        {"fee_billed_until": AT - timedelta(days=27)},
        {"billing_time": "anniversary"},
        {"trial_ended_at": long_ago},
    ):
        other = BillingRequest(subscription=replace(row, **change), at=AT)
        assert cohort_key(other, sold, payer) not in (key, None), change
    ended = BillingRequest(subscription=replace(row, terminated_at=AT), at=AT)
    assert cohort_key(ended, sold, payer) is None
    assert cohort_key(BillingRequest(subscription=row, at=AT, group=1), sold, payer) is None
    assert (
        cohort_key(BillingRequest(subscription=row, at=AT), replace(sold, trial_period=Decimal(3)), payer)
        is None
    )
