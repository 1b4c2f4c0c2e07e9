"""Changes of plan over weeks: no day is paid twice or not at all, no event is lost (semantics-billing.md 3.5, 3.6)."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from .world import make_world, move

STARTED = datetime(2024, 1, 10, 9, 30, tzinfo=UTC)
ENDS = datetime(2024, 4, 1, tzinfo=UTC)
PRICES = {"small": 3_000, "middle": 6_000, "large": 12_000}

changes = st.lists(
    st.tuples(st.integers(1, 80 * 24), st.sampled_from(sorted(PRICES))),
    max_size=4,
    unique_by=lambda each: each[0],
)


def price_of_day(plan: str, day: date) -> Decimal:
    return Decimal(PRICES[plan]) / monthrange(day.year, day.month)[1]


def expected_days(script: list[tuple[datetime, str]], timezone: ZoneInfo) -> list[tuple[date, str]]:
    """Day by day which plan pays: a dearer one from its day on, a cheaper one from the next month on."""
    days, plan, waiting = [], "small", None
    day, at = STARTED.astimezone(timezone).date(), 0
    while day < date(2024, 4, 1):
        if day.day == 1 and waiting:
            plan, waiting = waiting, None
        while at < len(script) and script[at][0].astimezone(timezone).date() == day:
            wanted = script[at][1]
            at += 1
            if wanted == plan:
                continue
            waiting = None
            if PRICES[wanted] >= PRICES[plan]:
                plan = wanted
            else:
                waiting = wanted
        days.append((day, plan))
        day += timedelta(days=1)
    return days


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
@given(hours=changes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
def test_every_day_is_paid_once(
    db: psycopg.Connection[Any], timezone: str, hours: list[tuple[int, str]]
) -> None:
    with db.transaction(force_rollback=True):
        world = make_world(db, test_now=STARTED)
        known = {code: world.plan(code, amount_cents=cents) for code, cents in PRICES.items()}
        customer = world.customer(timezone=timezone)
        world.subscribe(customer, known["small"], now=STARTED)
        script = sorted((STARTED + timedelta(hours=hour), plan) for hour, plan in hours)
        script = [(at, plan) for at, plan in script if at < ENDS]
        for at, plan in script:
            move(world, *at.timetuple()[:6])
            world.subscribe(customer, known[plan], now=at)
        move(world, 2024, 4, 2)
        fees = world.rows(
            "select amount_cents, precise_amount_cents from fee where organization_id = %s", world.id
        )
        days = expected_days(script, ZoneInfo(timezone))
        assert sum(precise for _, precise in fees) == pytest.approx(
            sum(price_of_day(plan, day) for day, plan in days), abs=Decimal("0.000001")
        )
        assert sum(cents for cents, _ in fees) == pytest.approx(
            sum(price_of_day(plan, day) for day, plan in days), abs=Decimal(len(fees)) / 2
        )


def test_an_event_of_the_very_instant_is_the_new_plans(world: Any) -> None:
    calls = world.metric("calls", "count_agg")
    small = world.plan("small", charges=[(calls, "1")])
    large = world.plan("large", charges=[(calls, "10")], amount_cents=100)
    customer = world.customer()
    at = datetime(2024, 1, 20, 12, tzinfo=UTC)
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "calls", None, at=at - timedelta(microseconds=1))
    world.use("sub", "calls", None, at=at)
    world.use("sub", "calls", None, at=at + timedelta(microseconds=1))
    move(world, 2024, 1, 20, 12)
    world.subscribe(customer, large, now=at)
    move(world, 2024, 2, 2)
    fees = world.rows("select amount_cents from fee where fee_type = 'charge' order by from_at")
    assert fees == [(100,), (2_000,)]


def test_a_recurring_metric_is_billed_by_the_new_plan_alone(world: Any) -> None:
    seats = world.metric("seats", recurring=True)
    small = world.plan("small", charges=[(seats, "1")])
    large = world.plan("large", charges=[(seats, "10")], amount_cents=100)
    customer = world.customer()
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 3, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, large, now=datetime(2024, 1, 20, tzinfo=UTC))
    move(world, 2024, 2, 2)
    fees = world.rows("select amount_cents from fee where fee_type = 'charge' order by from_at")
    assert fees == [(3_000,)]


def test_both_sides_are_on_one_invoice(world: Any) -> None:
    small = world.plan("small", amount_cents=3_100)
    large = world.plan("large", amount_cents=31_000, pay_in_advance=True)
    customer = world.customer()
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    move(world, 2024, 1, 11)
    world.subscribe(customer, large, now=datetime(2024, 1, 11, tzinfo=UTC))
    ((invoice_id,),) = world.rows("select id from invoice")
    lines = world.rows("select invoice_id, amount_cents from fee order by amount_cents")
    assert lines == [(invoice_id, 1_000), (invoice_id, 21_000)]
    reasons = world.rows("select invoicing_reason from invoice_subscription order by 1")
    assert reasons == [("subscription_starting",), ("subscription_terminating",)]


def test_a_downgrade_of_a_plan_in_advance_pays_the_new_one_in_advance(world: Any) -> None:
    large = world.plan("large", amount_cents=3_100, pay_in_advance=True)
    small = world.plan("small", amount_cents=290, pay_in_advance=True)
    customer = world.customer()
    world.subscribe(customer, large, now=datetime(2024, 1, 1, tzinfo=UTC))
    move(world, 2024, 1, 11)
    world.subscribe(customer, small, now=datetime(2024, 1, 11, tzinfo=UTC))
    move(world, 2024, 3, 2)
    assert world.rows("select amount_cents from fee order by from_at") == [(3_100,), (290,), (290,)]


def seats_in_advance(price: str, **fields: Any) -> dict[str, Any]:
    return {"pay_in_advance": True, "properties": {"amount": price}, **fields}


@pytest.mark.parametrize("invoiceable", [True, False])
def test_after_a_downgrade_what_is_carried_over_is_paid_for_the_first_period_too(
    world: Any, invoiceable: bool
) -> None:
    seats = world.metric("seats", recurring=True)
    terms = {"invoiceable": invoiceable}
    large = world.plan("large", charges=[(seats, seats_in_advance("10", **terms))], amount_cents=5_000)
    small = world.plan("small", charges=[(seats, seats_in_advance("1", **terms))], amount_cents=1_000)
    customer = world.customer()
    world.subscribe(customer, large, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 3, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, small, now=datetime(2024, 1, 20, tzinfo=UTC))
    move(world, 2024, 3, 2)
    fees = world.rows("select from_at, amount_cents from fee where fee_type = 'charge' order by from_at")
    assert fees == [(datetime(2024, 2, 1, tzinfo=UTC), 300), (datetime(2024, 3, 1, tzinfo=UTC), 300)]


def test_after_a_downgrade_to_longer_periods_prorated_seats_pay_for_the_days_left(world: Any) -> None:
    seats = world.metric("seats", recurring=True)
    large = world.plan("large", amount_cents=50_000)
    small = world.plan(
        "small",
        charges=[(seats, seats_in_advance("366", prorated=True))],
        amount_cents=1_000,
        interval="yearly",
    )
    customer = world.customer()
    world.subscribe(customer, large, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 2, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, small, now=datetime(2024, 1, 20, tzinfo=UTC))
    move(world, 2024, 2, 2)
    fees = world.rows("select from_at, amount_cents from fee where fee_type = 'charge'")
    assert fees == [(datetime(2024, 2, 1, tzinfo=UTC), 2 * 335 * 100)]


def test_a_period_that_was_over_before_an_upgrade_is_billed_for_all_its_days(world: Any) -> None:
    """The day of an upgrade is the dearer plan's. That of January, billed late, has no such day."""
    seats = world.metric("seats", recurring=True)
    by_days = {"properties": {"amount": "1"}, "prorated": True}
    small = world.plan("small", charges=[(seats, by_days)], amount_cents=1_000)
    large = world.plan("large", amount_cents=5_000)
    customer = world.customer()
    world.use("sub", "seats", 31, at=datetime(2023, 12, 5, tzinfo=UTC))
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.subscribe(customer, large, now=datetime(2024, 2, 1, 9, tzinfo=UTC))
    move(world, 2024, 2, 2)
    assert world.rows("select amount_cents from fee where fee_type = 'charge'") == [(3_100,)]


def test_what_is_carried_over_at_an_upgrade_is_paid_for_the_period_already(world: Any) -> None:
    seats = world.metric("seats", recurring=True)
    small = world.plan("small", charges=[(seats, seats_in_advance("1"))], amount_cents=1_000)
    large = world.plan("large", charges=[(seats, seats_in_advance("10"))], amount_cents=5_000)
    customer = world.customer()
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 3, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, large, now=datetime(2024, 1, 20, tzinfo=UTC))
    move(world, 2024, 2, 2)
    fees = world.rows("select from_at, amount_cents from fee where fee_type = 'charge'")
    assert fees == [(datetime(2024, 2, 1, tzinfo=UTC), 3_000)]


def test_an_upgrade_to_a_charge_in_advance_leaves_what_was_owed_to_the_old_plan(world: Any) -> None:
    seats = world.metric("seats", recurring=True)
    small = world.plan("small", charges=[(seats, "1")], amount_cents=1_000)
    large = world.plan("large", charges=[(seats, seats_in_advance("10"))], amount_cents=5_000)
    customer = world.customer()
    world.subscribe(customer, small, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 3, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, large, now=datetime(2024, 1, 20, tzinfo=UTC))
    move(world, 2024, 2, 2)
    fees = world.rows("select amount_cents from fee where fee_type = 'charge' order by from_at")
    assert fees == [(300,), (3_000,)]


def test_a_draft_of_a_downgrade_is_priced_again_to_the_same_fees(world: Any) -> None:
    seats = world.metric("seats", recurring=True)
    large = world.plan("large", charges=[(seats, seats_in_advance("10"))], amount_cents=5_000)
    small = world.plan("small", charges=[(seats, seats_in_advance("1"))], amount_cents=1_000)
    world.set_entity(invoice_grace_period=3)
    customer = world.customer()
    world.subscribe(customer, large, now=datetime(2024, 1, 1, tzinfo=UTC))
    world.use("sub", "seats", 3, at=datetime(2024, 1, 2, tzinfo=UTC))
    move(world, 2024, 1, 20)
    world.subscribe(customer, small, now=datetime(2024, 1, 20, tzinfo=UTC))
    read = "select fee_type, from_at, amount_cents from fee order by 1, 2, 3"
    move(world, 2024, 2, 2)
    drafted = world.rows(read)
    assert ("charge", datetime(2024, 2, 1, tzinfo=UTC), 300) in drafted
    move(world, 2024, 2, 5)
    assert world.rows("select distinct status from invoice") == [("finalized",)]
    assert world.rows(read) == drafted
