"""When a subscription starts and what is due for it: semantics-billing.md sections 3.2, 3.9 and 3.10."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import (
    Start,
    Subscription,
    current_period,
    due,
    life_of,
    start_of,
)
from permille.core.period import BillingTime, Interval, charges_interval, local_date, start_of_day
from permille.core.record import names_of, replace

NOW = datetime(2024, 3, 5, 10, tzinfo=UTC)
ID = UUID(int=1)
ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Europe/Paris", "Pacific/Apia", "Asia/Kathmandu")


def plan(**fields) -> Plan:
    columns = {
        "id": ID,
        "organization_id": ID,
        "parent_id": None,
        "code": "p",
        "name": "p",
        "invoice_display_name": None,
        "description": None,
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "EUR",
        "pay_in_advance": False,
        "trial_period": None,
        "bill_charges_monthly": None,
        "bill_fixed_charges_monthly": None,
        "metadata": None,
        "charges": (),
        "created_at": NOW,
    }
    return Plan(**{**columns, **fields})


def subscription(**fields) -> Subscription:
    nothing = dict.fromkeys(names_of(Subscription))
    columns = {
        **nothing,
        "status": "active",
        "billing_time": "calendar",
        "subscription_at": NOW,
        "started_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Subscription(**{**columns, **fields})


@pytest.mark.parametrize(
    ("subscription_at", "timezone", "expected"),
    [
        (datetime(2024, 3, 5, 0, tzinfo=UTC), "UTC", Start.TODAY),
        (datetime(2024, 3, 5, 23, 59, tzinfo=UTC), "UTC", Start.TODAY),
        (datetime(2024, 3, 4, 23, 59, tzinfo=UTC), "UTC", Start.PAST),
        (datetime(2024, 3, 6, 0, tzinfo=UTC), "UTC", Start.FUTURE),
        (datetime(2024, 3, 5, 15, tzinfo=UTC), "Asia/Tokyo", Start.FUTURE),
        (datetime(2024, 3, 4, 15, tzinfo=UTC), "Asia/Tokyo", Start.TODAY),
    ],
)
def test_the_day_of_the_customer_decides(subscription_at, timezone, expected):
    assert start_of(subscription_at, now=NOW, timezone=timezone) is expected


def test_nothing_is_due_for_what_is_over():
    for status in ("terminated", "canceled"):
        found = due(subscription(status=status), plan(), timezone="UTC", first_started_at=NOW, now=NOW)
        assert (found.next_billing_at, found.activates_at, found.ends_at) == (None, None, None)


def test_a_downgrade_that_waits_is_not_activated_by_its_day():
    waiting = subscription(status="pending", started_at=None, previous_subscription_id=ID)
    assert due(waiting, plan(), timezone="UTC", first_started_at=None, now=NOW).activates_at is None


@given(
    interval=st.sampled_from(Interval),
    billing_time=st.sampled_from(BillingTime),
    timezone=st.sampled_from(ZONES),
    before=st.integers(0, 1200 * 24 * 60),
    monthly=st.booleans(),
)
def test_the_next_billing_is_a_midnight_from_today_on_and_after_the_day_of_the_start(
    interval, billing_time, timezone, before, monthly
):
    anchor = NOW - timedelta(minutes=before)
    running = subscription(billing_time=billing_time, subscription_at=anchor, started_at=anchor)
    bought = plan(interval=interval, bill_charges_monthly=monthly)
    how: dict[str, Any] = {"timezone": timezone, "first_started_at": anchor, "now": NOW}
    boundary = due(running, bought, **how).next_billing_at
    assert boundary is not None
    assert boundary == start_of_day(boundary, timezone)
    day = local_date(boundary, timezone)
    today = local_date(NOW, timezone)
    assert day >= today
    assert day > local_date(anchor, timezone)
    longest = {Interval.WEEKLY: 7, Interval.MONTHLY: 31, Interval.QUARTERLY: 92, Interval.SEMIANNUAL: 184}
    assert (day - today).days <= longest.get(charges_interval(interval, monthly), 366)
    # once billed, it is not due again
    billed = replace(running, charges_billed_until=boundary)
    following = due(billed, bought, **how).next_billing_at
    assert following is not None
    assert following > boundary


@given(timezone=st.sampled_from(ZONES), before=st.integers(0, 500_000), interval=st.sampled_from(Interval))
def test_the_current_period_holds_now_and_opens_at_the_start_at_the_earliest(timezone, before, interval):
    started_at = NOW - timedelta(minutes=before)
    running = subscription(started_at=started_at, subscription_at=started_at)
    period = current_period(running, plan(interval=interval), timezone=timezone, now=NOW)
    assert period is not None
    assert NOW in period
    assert period.from_ == max(started_at, period.from_)


def test_a_subscription_that_starts_later_today_has_a_period_already():
    later = NOW + timedelta(hours=5)
    running = subscription(started_at=later, subscription_at=later)
    period = current_period(running, plan(), timezone="UTC", now=NOW)
    assert period is not None
    assert (period.from_, period.to) == (later, datetime(2024, 4, 1, tzinfo=UTC))


def test_the_end_of_a_trial_is_due_before_the_boundary():
    first = NOW - timedelta(days=2)
    trial = {"trial_period": Decimal(10), "pay_in_advance": True}
    how: dict[str, Any] = {"timezone": "UTC", "first_started_at": first, "now": NOW}
    assert due(subscription(), plan(**trial), **how).next_billing_at == first + timedelta(days=10)
    in_arrears = plan(**trial | {"pay_in_advance": False})
    assert due(subscription(), in_arrears, **how).next_billing_at == datetime(2024, 4, 1, tzinfo=UTC)


def test_the_end_of_a_trial_that_was_billed_earlier_today_is_not_due_again():
    first = NOW - timedelta(days=10, hours=1)
    trial = plan(trial_period=Decimal(10), pay_in_advance=True)
    billed = subscription(started_at=first, trial_ended_at=first + timedelta(days=10))
    again = due(billed, trial, timezone="UTC", first_started_at=first, now=NOW)
    assert again.next_billing_at == datetime(2024, 4, 1, tzinfo=UTC)


def test_a_life_goes_on_through_changes_of_plan_and_ends_with_the_subscription():
    def row(number, **fields):
        return subscription(id=UUID(int=number), created_at=NOW + timedelta(days=number), **fields)

    later = NOW + timedelta(days=9)
    first, canceled, now = row(1, status="terminated"), row(2, status="canceled"), row(3)
    anew, theirs = row(4, subscription_at=later), row(5, customer_id=ID)
    rows = [theirs, anew, now, canceled, first]
    assert life_of(now, rows) == life_of(first, rows) == [first, now]
    assert life_of(anew, rows) == [anew]
    assert life_of(theirs, rows) == [theirs]
    assert life_of(canceled, rows) == [first, canceled, now]
