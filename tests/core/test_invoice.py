"""What is billed and when: subscriptions are lived through day by day, boundary by boundary.

The tables are those of semantics-billing.md sections 3.12 and 12 and of the conformance scenarios
test_sub_periods, test_sub_billing_days, test_sub_free_trial, test_sub_termination and test_sub_upgrade.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.timeline import (
    InvoicePlan,
    SubscriptionFacts,
    next_billing_at,
    plan_invoice,
    trial_end,
)
from permille.core.invoice.numbering import draft_number, entity_invoice_number, invoice_number
from permille.core.invoice.steps.dates import expected_finalization_date, issuing_date, payment_due_date
from permille.core.period import (
    INSTANT,
    BillingTime,
    Interval,
    Period,
    charges_interval,
    local_date,
    period_containing,
    start_of_day,
)
from permille.core.record import replace
from tests.core.given import billing_times, day, instants, intervals, timezones, ts

SECOND = timedelta(seconds=1)


def subscribed(start: datetime, interval: str = "monthly", **more: Any) -> SubscriptionFacts:
    """A calendar subscription of 10.00 in UTC, in arrears, entered when it starts."""
    fields: dict[str, Any] = {
        "subscription_id": "sub",
        "status": "active",
        "subscription_at": start,
        "started_at": start,
        "created_at": start,
        "timezone": "UTC",
        "billing_time": BillingTime.CALENDAR,
        "interval": Interval(interval),
        "amount_cents": 1_000,
        "currency": "EUR",
    }
    return SubscriptionFacts(**fields | more)


def settle(facts: SubscriptionFacts, at: datetime) -> tuple[InvoicePlan, SubscriptionFacts]:
    """Plan, and note what is billed; the same instant planned again must give nothing."""
    plan = plan_invoice(facts, at=at)
    billed = replace(
        facts, fee_billed_until=plan.fee_billed_until, charges_billed_until=plan.charges_billed_until
    )
    assert plan_invoice(billed, at=at).is_empty
    return plan, billed


def live(facts: SubscriptionFacts, until: datetime) -> tuple[dict[datetime, InvoicePlan], SubscriptionFacts]:
    """The invoices of an active subscription up to an instant, by when they were due."""
    invoices: dict[datetime, InvoicePlan] = {}
    at = facts.created_at
    while at <= until:
        plan, facts = settle(facts, at)
        if not plan.is_empty:
            invoices[at] = plan
        at = next_billing_at(facts, after=at)
    return invoices, facts


def terminate(facts: SubscriptionFacts, at: datetime, **more: Any) -> tuple[InvoicePlan, SubscriptionFacts]:
    ended = replace(facts, status="terminated", terminated_at=at, **more)
    return settle(ended, at)


def fees(invoices: dict[datetime, InvoicePlan]) -> list[int]:
    return [plan.fee.amount_cents for plan in invoices.values() if plan.fee]


def bounds(period: Period | None) -> tuple[datetime, datetime] | None:
    """As Lago shows them, to the second."""
    return (
        None
        if period is None
        else (period.from_.replace(microsecond=0), (period.to - INSTANT).replace(microsecond=0))
    )


# --- boundaries, semantics-billing.md 3.12 -----------------------------------------------------------------------------

START, BEGIN = ts(2024, 1, 31, 1), "2024-01-31T01:00:00Z"
YEAR, NEXT_YEAR = ("2024-01-31", "2025-01-30$"), ("2025-01-31", "2026-01-30$")
# interval and terms, start, [(due, subscription, charges)]
BOUNDARIES: list[tuple[str, dict[str, Any], datetime, list[Any]]] = [
    ("monthly", {}, START, [
        ("2024-02-29", ("2024-01-31", "2024-02-28$"), (BEGIN, "2024-02-28$")),
        ("2024-03-31", ("2024-02-29", "2024-03-30$"), ("2024-02-29", "2024-03-30$")),
        ("2024-04-30", ("2024-03-31", "2024-04-29$"), ("2024-03-31", "2024-04-29$")),
    ]),
    ("monthly", {"pay_in_advance": True}, ts(2024, 1, 30), [
        ("2024-01-30", ("2024-01-30", "2024-02-28$"), None),
        ("2024-02-29", ("2024-02-29", "2024-03-29$"), ("2024-01-30", "2024-02-28$")),
        ("2024-03-30", ("2024-03-30", "2024-04-29$"), ("2024-02-29", "2024-03-29$")),
        ("2024-04-30", ("2024-04-30", "2024-05-29$"), ("2024-03-30", "2024-04-29$")),
    ]),
    ("quarterly", {}, START, [
        ("2024-04-30", ("2024-01-31", "2024-04-29$"), (BEGIN, "2024-04-29$")),
        ("2024-07-31", ("2024-04-30", "2024-07-30$"), ("2024-04-30", "2024-07-30$")),
    ]),
    ("semiannual", {}, START, [
        ("2024-07-31", ("2024-01-31", "2024-07-30$"), (BEGIN, "2024-07-30$")),
        ("2025-01-31", ("2024-07-31", "2025-01-30$"), ("2024-07-31", "2025-01-30$")),
    ]),
    ("semiannual", {"bill_charges_monthly": True}, START, [
        ("2024-02-29", None, (BEGIN, "2024-02-28$")),
        ("2024-03-31", None, ("2024-02-29", "2024-03-30$")),
        ("2024-04-30", None, ("2024-03-31", "2024-04-29$")),
        ("2024-05-31", None, ("2024-04-30", "2024-05-30$")),
        ("2024-06-30", None, ("2024-05-31", "2024-06-29$")),
        ("2024-07-31", ("2024-01-31", "2024-07-30$"), ("2024-06-30", "2024-07-30$")),
    ]),
    ("yearly", {}, START, [("2025-01-31", YEAR, (BEGIN, "2025-01-30$"))]),
]  # fmt: skip


@pytest.mark.parametrize(("interval", "terms", "start", "expected"), BOUNDARIES)
def test_boundaries_from_the_end_of_a_month(
    interval: str, terms: dict[str, Any], start: datetime, expected: list[Any]
) -> None:
    facts = subscribed(start, interval, billing_time=BillingTime.ANNIVERSARY, **terms)
    invoices, _ = live(facts, day(expected[-1][0]))
    got = [
        (local_date(at, "UTC").isoformat(), bounds(p.periods.subscription), bounds(p.periods.charges))
        for at, p in invoices.items()
    ]
    assert got == [
        (at, sub and (day(sub[0]), day(sub[1])), use and (day(use[0]), day(use[1])))
        for at, sub, use in expected
    ]


def test_a_yearly_plan_in_advance_with_monthly_usage() -> None:
    facts = subscribed(
        START,
        "yearly",
        billing_time=BillingTime.ANNIVERSARY,
        pay_in_advance=True,
        bill_charges_monthly=True,
    )
    invoices, _ = live(facts, ts(2025, 1, 31, 12))
    plans = list(invoices.values())
    assert len(plans) == 13
    assert [n for n, plan in enumerate(plans) if plan.fee] == [0, 12]
    assert {bounds(plan.periods.subscription) for plan in plans[:12]} == {(day(YEAR[0]), day(YEAR[1]))}
    assert bounds(plans[12].periods.subscription) == (day(NEXT_YEAR[0]), day(NEXT_YEAR[1]))
    assert bounds(plans[1].periods.charges) == (day(BEGIN), day("2024-02-28$"))
    assert bounds(plans[12].periods.charges) == (day("2024-12-31"), day("2025-01-30$"))


def test_a_yearly_plan_in_arrears_with_monthly_usage() -> None:
    facts = subscribed(
        START, "yearly", billing_time=BillingTime.ANNIVERSARY, bill_charges_monthly=True, amount_cents=100
    )
    invoices, _ = live(facts, ts(2025, 1, 31, 12))
    plans = list(invoices.values())
    assert len(plans) == 12
    assert [n for n, plan in enumerate(plans) if plan.fee] == [11]
    assert bounds(plans[11].periods.subscription) == (day(YEAR[0]), day(YEAR[1]))
    assert bounds(plans[11].periods.charges) == (day("2024-12-31"), day("2025-01-30$"))


# --- which instants are billing days ----------------------------------------------------------------------

CALENDAR, ANNIVERSARY = BillingTime.CALENDAR, BillingTime.ANNIVERSARY
# interval, billing time, timezone, start, [(instant, invoices by then)]
BILLING_DAYS: list[tuple[str, BillingTime, str, datetime, list[tuple[datetime, int]]]] = [
    ("weekly", CALENDAR, "UTC", ts(2023, 2, 1), [(ts(2023, 2, 5, 12), 0), (ts(2023, 2, 6, 12), 1), (ts(2023, 2, 12, 23), 1), (ts(2023, 2, 13, 12), 2)]),
    ("weekly", CALENDAR, "Asia/Kolkata", ts(2023, 2, 2), [(ts(2023, 2, 5, 18), 0), (ts(2023, 2, 5, 19), 1), (ts(2023, 2, 12, 18), 1), (ts(2023, 2, 12, 19), 2), (ts(2023, 2, 13, 19), 2)]),
    ("weekly", ANNIVERSARY, "UTC", ts(2023, 2, 1), [(ts(2023, 2, 7, 23), 0), (ts(2023, 2, 8, 12), 1), (ts(2023, 2, 14, 12), 1), (ts(2023, 2, 15, 12), 2)]),
    ("weekly", ANNIVERSARY, "America/Bogota", ts(2023, 2, 1, 6, 10), [(ts(2023, 2, 8, 4), 0), (ts(2023, 2, 8, 6), 1), (ts(2023, 2, 15, 4), 1), (ts(2023, 2, 15, 6), 2), (ts(2023, 2, 16, 5), 2)]),
    ("monthly", CALENDAR, "UTC", ts(2023, 2, 4), [(ts(2023, 2, 28, 12), 0), (ts(2023, 3, 1, 12), 1), (ts(2023, 3, 2, 12), 1)]),
    ("monthly", CALENDAR, "America/Bogota", ts(2023, 2, 2, 19), [(ts(2023, 3, 1, 0), 0), (ts(2023, 3, 1, 4), 0), (ts(2023, 3, 1, 6), 1), (ts(2023, 3, 2, 5), 1)]),
    ("monthly", ANNIVERSARY, "UTC", ts(2023, 2, 4), [(ts(2023, 3, 3, 12), 0), (ts(2023, 3, 4, 12), 1), (ts(2023, 3, 5, 12), 1)]),
    ("monthly", ANNIVERSARY, "UTC", ts(2023, 3, 31), [(ts(2023, 4, 29, 12), 0), (ts(2023, 4, 30, 12), 1), (ts(2023, 5, 1, 12), 1), (ts(2023, 5, 30, 12), 1), (ts(2023, 5, 31, 12), 2)]),
    ("monthly", ANNIVERSARY, "Asia/Kolkata", ts(2023, 2, 2), [(ts(2023, 3, 1, 18), 0), (ts(2023, 3, 1, 19), 1), (ts(2023, 3, 2, 19), 1)]),
    ("monthly", ANNIVERSARY, "UTC", ts(2022, 12, 30), [(ts(2023, 1, 29, 12), 0), (ts(2023, 1, 30, 12), 1), (ts(2023, 2, 27, 12), 1), (ts(2023, 2, 28, 12), 2), (ts(2023, 3, 29, 12), 2), (ts(2023, 3, 30, 12), 3)]),
    ("quarterly", CALENDAR, "UTC", ts(2023, 2, 4), [(ts(2023, 3, 1, 12), 0), (ts(2023, 3, 31, 12), 0), (ts(2023, 4, 1, 12), 1), (ts(2023, 5, 1, 12), 1), (ts(2023, 7, 1, 12), 2)]),
    ("quarterly", ANNIVERSARY, "UTC", ts(2023, 2, 4), [(ts(2023, 3, 4, 12), 0), (ts(2023, 5, 3, 12), 0), (ts(2023, 5, 4, 12), 1), (ts(2023, 5, 5, 12), 1)]),
    ("quarterly", ANNIVERSARY, "UTC", ts(2023, 3, 31), [(ts(2023, 6, 29, 12), 0), (ts(2023, 6, 30, 12), 1), (ts(2023, 7, 1, 12), 1), (ts(2023, 9, 30, 12), 2), (ts(2023, 12, 30, 12), 2), (ts(2023, 12, 31, 12), 3)]),
    ("semiannual", CALENDAR, "UTC", ts(2022, 2, 1), [(ts(2022, 6, 30, 12), 0), (ts(2022, 7, 1, 12), 1), (ts(2022, 7, 2, 12), 1), (ts(2023, 1, 1, 12), 2)]),
    ("semiannual", ANNIVERSARY, "UTC", ts(2022, 2, 4), [(ts(2022, 7, 1, 12), 0), (ts(2022, 8, 3, 12), 0), (ts(2022, 8, 4, 12), 1), (ts(2022, 9, 4, 12), 1)]),
    ("yearly", CALENDAR, "UTC", ts(2022, 2, 1), [(ts(2022, 12, 31, 12), 0), (ts(2023, 1, 1, 12), 1), (ts(2023, 1, 2, 12), 1)]),
    ("yearly", ANNIVERSARY, "UTC", ts(2022, 2, 4), [(ts(2023, 1, 1, 12), 0), (ts(2023, 2, 3, 12), 0), (ts(2023, 2, 4, 12), 1), (ts(2023, 3, 4, 12), 1)]),
    ("yearly", ANNIVERSARY, "UTC", ts(2020, 2, 29), [(ts(2021, 2, 27, 12), 0), (ts(2021, 2, 28, 12), 1), (ts(2022, 2, 28, 12), 2), (ts(2023, 2, 27, 12), 2), (ts(2023, 2, 28, 12), 3), (ts(2023, 3, 1, 12), 3), (ts(2024, 2, 28, 12), 3), (ts(2024, 2, 29, 12), 4)]),
    ("quarterly", CALENDAR, "Asia/Kolkata", ts(2023, 2, 1), [(ts(2023, 3, 31, 18), 0), (ts(2023, 3, 31, 19), 1), (ts(2023, 4, 2), 1)]),
    ("quarterly", ANNIVERSARY, "America/Bogota", ts(2023, 2, 2, 5), [(ts(2023, 5, 1, 23), 0), (ts(2023, 5, 2, 4), 0), (ts(2023, 5, 2, 6), 1), (ts(2023, 5, 3, 5), 1)]),
    ("semiannual", CALENDAR, "America/Bogota", ts(2022, 2, 4, 19), [(ts(2022, 7, 1), 0), (ts(2022, 7, 1, 6), 1), (ts(2022, 7, 2, 5), 1)]),
    ("yearly", CALENDAR, "Europe/Paris", ts(2022, 4, 2), [(ts(2022, 12, 31, 22, 30), 0), (ts(2022, 12, 31, 23, 30), 1), (ts(2023, 1, 2, 0, 10), 1)]),
    ("monthly", CALENDAR, "UTC", ts(2023, 1, 1), [(ts(2023, 6, 15), 5)]),
]  # fmt: skip
MONTHLY_CHARGES: list[tuple[str, BillingTime, str, datetime, list[tuple[datetime, int]]]] = [
    ("yearly", CALENDAR, "Asia/Kolkata", ts(2023, 2, 2), [(ts(2023, 2, 28, 18), 0), (ts(2023, 2, 28, 19), 1), (ts(2023, 3, 1, 19), 1), (ts(2023, 3, 31, 19), 2)]),
    ("yearly", ANNIVERSARY, "UTC", ts(2023, 3, 31), [(ts(2023, 4, 29, 12), 0), (ts(2023, 4, 30, 12), 1), (ts(2023, 5, 1, 12), 1)]),
    ("semiannual", ANNIVERSARY, "UTC", ts(2022, 2, 4), [(ts(2022, 3, 3, 12), 0), (ts(2022, 3, 4, 12), 1), (ts(2022, 3, 5, 12), 1), (ts(2022, 4, 4, 12), 2)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "billing_time", "timezone", "start", "checkpoints", "monthly"),
    [(*row, False) for row in BILLING_DAYS] + [(*row, True) for row in MONTHLY_CHARGES],
)
def test_billing_days(
    *,
    interval: str,
    billing_time: BillingTime,
    timezone: str,
    start: datetime,
    checkpoints: list[tuple[datetime, int]],
    monthly: bool,
) -> None:
    facts = subscribed(
        start, interval, billing_time=billing_time, timezone=timezone, bill_charges_monthly=monthly
    )
    assert [(at, len(live(facts, at)[0])) for at, _ in checkpoints] == checkpoints


def test_a_year_from_the_31st_has_whole_fees_without_gap_or_overlap() -> None:
    invoices, _ = live(subscribed(ts(2022, 12, 31), billing_time=ANNIVERSARY), ts(2024, 3, 31, 2))
    periods = [plan.periods.subscription for plan in invoices.values()]
    assert len(periods) == 15
    assert all(a and b and a.to == b.from_ for a, b in pairwise(periods))
    assert set(fees(invoices)) == {1_000}


# --- first periods and backdated subscriptions ------------------------------------------------------------

FIRST_PERIODS = [
    # a day costs 10.00: interval, timezone, start, due by, from, to, plan, fee
    ("weekly", "UTC", ts(2022, 3, 1, 5), ts(2022, 3, 7, 12), "2022-03-01", "2022-03-06$", 7_000, 6_000),
    ("monthly", "UTC", ts(2022, 2, 7, 5), ts(2022, 3, 1, 12), "2022-02-07", "2022-02-28$", 28_000, 22_000),
    ("monthly", "America/New_York", ts(2022, 2, 7, 5), ts(2022, 3, 1, 12), "2022-02-07T05:00:00Z", "2022-03-01T04:59:59Z", 28_000, 22_000),
    ("quarterly", "UTC", ts(2022, 4, 7), ts(2022, 7, 1, 12), "2022-04-07", "2022-06-30$", 91_000, 85_000),
    ("semiannual", "UTC", ts(2022, 4, 7), ts(2022, 7, 1, 12), "2022-04-07", "2022-06-30$", 181_000, 85_000),
    ("yearly", "UTC", ts(2021, 2, 7), ts(2022, 1, 1, 12), "2021-02-07", "2021-12-31$", 365_000, 328_000),
]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "timezone", "start", "until", "first", "last", "plan", "fee"), FIRST_PERIODS
)
def test_a_first_calendar_period_is_prorated_by_day(
    *,
    interval: str,
    timezone: str,
    start: datetime,
    until: datetime,
    first: str,
    last: str,
    plan: int,
    fee: int,
) -> None:
    invoices, _ = live(subscribed(start, interval, timezone=timezone, amount_cents=plan), until)
    (invoice,) = invoices.values()
    assert invoice.fee is not None
    assert bounds(invoice.periods.subscription) == (day(first), day(last))
    assert (invoice.fee.from_, invoice.fee.to) == (day(first), day(last) + SECOND)
    assert invoice.fee.amount_cents == fee
    assert invoice.periods.charges == Period(start, day(last) + SECOND)


BACKDATED = [
    # interval, billing time, timezone, subscription_at, entered, billed by, from, to
    ("monthly", CALENDAR, "America/New_York", "2021-02-02", ts(2022, 2, 20), ts(2022, 3, 1, 12), "2022-02-01T05:00:00Z", "2022-03-01T04:59:59Z"),
    ("monthly", ANNIVERSARY, "UTC", "2019-04-30", ts(2020, 3, 20), ts(2020, 3, 30, 12), "2020-02-29", "2020-03-29$"),
    ("quarterly", CALENDAR, "UTC", "2021-02-02", ts(2022, 6, 20), ts(2022, 7, 1, 12), "2022-04-01", "2022-06-30$"),
    ("quarterly", ANNIVERSARY, "UTC", "2021-02-02", ts(2022, 1, 20), ts(2022, 2, 2, 12), "2021-11-02", "2022-02-01$"),
    ("semiannual", ANNIVERSARY, "UTC", "2021-11-02", ts(2022, 4, 20), ts(2022, 5, 2, 12), "2021-11-02", "2022-05-01$"),
    ("yearly", ANNIVERSARY, "UTC", "2020-02-29", ts(2025, 2, 20), ts(2025, 2, 28, 12), "2024-02-29", "2025-02-27$"),
    ("yearly", ANNIVERSARY, "UTC", "2022-12-01", ts(2023, 11, 20), ts(2023, 12, 1, 12), "2022-12-01", "2023-11-30$"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "billing_time", "timezone", "since", "now", "until", "first", "last"), BACKDATED
)
def test_a_backdated_subscription_is_billed_one_whole_period_at_the_next_boundary(
    *,
    interval: str,
    billing_time: BillingTime,
    timezone: str,
    since: str,
    now: datetime,
    until: datetime,
    first: str,
    last: str,
) -> None:
    facts = subscribed(day(since), interval, billing_time=billing_time, timezone=timezone, created_at=now)
    invoices, _ = live(facts, until)
    (invoice,) = invoices.values()
    assert bounds(invoice.periods.subscription) == (day(first), day(last))
    assert bounds(invoice.periods.charges) == (day(first), day(last))
    assert fees(invoices) == [1_000]


def test_the_period_a_backdated_subscription_began_in_is_never_billed_in_advance() -> None:
    facts = subscribed(ts(2022, 1, 10), pay_in_advance=True, created_at=ts(2022, 2, 20))
    invoices, _ = live(facts, ts(2022, 3, 2))
    ((at, invoice),) = invoices.items()
    assert at == ts(2022, 3, 1)
    assert bounds(invoice.periods.subscription) == (day("2022-03-01"), day("2022-03-31$"))
    assert bounds(invoice.periods.charges) == (day("2022-02-01"), day("2022-02-28$"))
    assert fees(invoices) == [1_000]


def test_one_that_is_entered_on_a_billing_day_is_billed_that_day() -> None:
    facts = subscribed(ts(2022, 1, 10), created_at=ts(2022, 3, 1, 15))
    invoices, _ = live(facts, ts(2022, 3, 2))
    ((_, invoice),) = invoices.items()
    assert bounds(invoice.periods.subscription) == (day("2022-02-01"), day("2022-02-28$"))


IN_ADVANCE = [
    # V-01 to V-11: interval, plan, billing time, timezone, start, first fee
    ("monthly", 10_000, CALENDAR, "UTC", ts(2025, 2, 8), 7_500),
    ("monthly", 5_000, CALENDAR, "UTC", ts(2023, 2, 8), 3_750),
    ("monthly", 5_000, CALENDAR, "Asia/Tokyo", ts(2023, 2, 8), 3_750),
    ("monthly", 5_000, CALENDAR, "America/Los_Angeles", ts(2023, 2, 8), 3_929),
    ("monthly", 5_000, ANNIVERSARY, "UTC", ts(2023, 2, 8), 5_000),
    ("monthly", 5_000, ANNIVERSARY, "America/Los_Angeles", ts(2023, 2, 8), 5_000),
    ("monthly", 5_000, CALENDAR, "UTC", ts(2023, 1, 8), 3_871),
    ("weekly", 700, CALENDAR, "America/Denver", ts(2023, 6, 16, 5), 400),
    ("weekly", 700, CALENDAR, "America/Halifax", ts(2023, 6, 16, 5), 300),
    ("weekly", 700, CALENDAR, "Europe/Paris", ts(2023, 6, 16, 20), 300),
    ("weekly", 700, CALENDAR, "Asia/Karachi", ts(2023, 6, 16, 20), 200),
    ("monthly", 1_000, CALENDAR, "UTC", ts(2022, 12, 15), 548),
    ("monthly", 5_000_000, CALENDAR, "UTC", ts(2024, 3, 5, 12, 12), 4_354_839),
]


@pytest.mark.parametrize(("interval", "plan", "billing_time", "timezone", "start", "fee"), IN_ADVANCE)
def test_the_first_fee_in_advance(
    *, interval: str, plan: int, billing_time: BillingTime, timezone: str, start: datetime, fee: int
) -> None:
    facts = subscribed(
        start,
        interval,
        amount_cents=plan,
        billing_time=billing_time,
        timezone=timezone,
        pay_in_advance=True,
    )
    invoices, facts = live(facts, start)
    assert fees(invoices) == [fee]
    (first,) = invoices.values()
    assert first.periods.charges is None
    following, _ = live(facts, next_billing_at(facts, after=start))
    assert fees(following) == [plan]


def test_a_leap_february_in_advance_is_whole() -> None:
    invoices, _ = live(subscribed(ts(2023, 6, 16), amount_cents=700, pay_in_advance=True), ts(2024, 2, 1, 12))
    assert fees(invoices)[1:] == [700] * 8


def test_a_pending_subscription_is_not_billed() -> None:
    facts = subscribed(ts(2023, 2, 1), status="pending", started_at=None, pay_in_advance=True)
    assert plan_invoice(facts, at=ts(2023, 3, 1)).is_empty
    assert trial_end(replace(facts, trial_period=Decimal(3))) is None
    not_yet = subscribed(ts(2023, 2, 1), pay_in_advance=True)
    assert plan_invoice(not_yet, at=ts(2023, 1, 1)).is_empty


# --- trials -----------------------------------------------------------------------------------------------


def in_trial(start: datetime, days: str, **more: Any) -> SubscriptionFacts:
    return subscribed(start, pay_in_advance=True, amount_cents=5_000_000, trial_period=Decimal(days), **more)


TRIALS = [
    # V-12, V-14, V-16, V-17: start, days, timezone, plan, [(due, fee)]
    (ts(2024, 3, 4, 21), "7", "UTC", 3_500, [(ts(2024, 3, 11, 21), 2_371), (ts(2024, 4, 1), 3_500)]),
    (ts(2024, 3, 5, 12, 12), "10", "UTC", 5_000_000, [(ts(2024, 3, 15, 12, 12), 2_741_935), (ts(2024, 4, 1), 5_000_000)]),
    (ts(2024, 3, 5, 12, 12), "45", "UTC", 5_000_000, [(ts(2024, 4, 1), None), (ts(2024, 4, 19, 12, 12), 2_000_000)]),
    (ts(2024, 3, 22, 1, 12), "10", "Europe/Paris", 5_000_000, [(ts(2024, 3, 31, 22), 5_000_000)]),
    (ts(2024, 3, 5), "0.5", "UTC", 3_100, [(ts(2024, 3, 5), 2_700), (ts(2024, 4, 1), 3_100)]),
]  # fmt: skip


@pytest.mark.parametrize(("start", "days", "timezone", "plan", "expected"), TRIALS)
def test_the_fee_in_advance_waits_for_the_end_of_the_trial(
    start: datetime, days: str, timezone: str, plan: int, expected: list[tuple[datetime, int | None]]
) -> None:
    facts = replace(in_trial(start, days, timezone=timezone), amount_cents=plan)
    invoices, _ = live(facts, max(expected[-1][0], start + timedelta(days=12)))
    assert [(at, p.fee and p.fee.amount_cents) for at, p in invoices.items()] == expected


def test_the_end_of_a_trial_bills_no_usage() -> None:
    invoices, _ = live(in_trial(ts(2024, 3, 5, 12, 12), "10"), ts(2024, 3, 20))
    (invoice,) = invoices.values()
    assert invoice.periods.charges is None


def test_a_trial_counts_from_the_first_start_of_the_external_id() -> None:
    """V-15: upgraded on the 10th to a plan with 13 days of trial; 14 of 31 days are left on the 18th."""
    facts = in_trial(
        ts(2024, 3, 10, 12, 12),
        "13",
        initial_started_at=ts(2024, 3, 5, 12, 12),
        replaces_previous=True,
    )
    invoices, _ = live(replace(facts, amount_cents=10_000_000), ts(2024, 4, 1))
    assert {at: p.fee and p.fee.amount_cents for at, p in invoices.items()} == {
        ts(2024, 3, 18, 12, 12): 4_516_129,
        ts(2024, 4, 1): 10_000_000,
    }


def test_in_arrears_the_days_of_the_trial_are_left_out() -> None:
    facts = replace(in_trial(ts(2024, 3, 1), "10"), pay_in_advance=False, amount_cents=3_100)
    invoices, _ = live(facts, ts(2024, 4, 1))
    assert fees(invoices) == [2_100]
    whole = replace(facts, trial_period=Decimal(31))
    invoices, _ = live(whole, ts(2024, 4, 1))
    assert [p.fee for p in invoices.values()] == [None]
    longer = replace(facts, trial_period=Decimal(45))
    invoices, _ = live(longer, ts(2024, 5, 1))
    assert [p.fee and p.fee.amount_cents for p in invoices.values()] == [None, 1_653]


# --- termination ------------------------------------------------------------------------------------------


def test_a_termination_bills_the_days_used_and_that_day_too() -> None:
    """V-25 and V-34."""
    plan, _ = terminate(subscribed(ts(2025, 2, 8), amount_cents=10_000), ts(2025, 2, 21))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 5_000
    assert plan.periods.charges == Period(ts(2025, 2, 8), ts(2025, 2, 21) + INSTANT)
    plan, _ = terminate(subscribed(ts(2022, 12, 15)), ts(2022, 12, 20, 9))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 194


PARIS = "Europe/Paris"
ENDINGS = [
    # in arrears on the anniversary: V-29, V-32, V-33 and the scenarios: timezone, start, ended, fee
    ("Europe/Paris", ts(2023, 9, 5), ts(2023, 9, 5, 22), 67),
    ("Asia/Bangkok", ts(2023, 9, 5), ts(2023, 9, 5, 17), 67),
    ("America/Bogota", ts(2023, 9, 5), ts(2023, 9, 5, 5), 67),
    ("Europe/Paris", ts(2023, 9, 5), ts(2023, 9, 5, 5), 33),
]


@pytest.mark.parametrize(("timezone", "start", "ended", "fee"), ENDINGS)
def test_days_are_those_of_the_customer(timezone: str, start: datetime, ended: datetime, fee: int) -> None:
    facts = subscribed(start, billing_time=ANNIVERSARY, timezone=timezone)
    plan, _ = terminate(facts, ended)
    assert plan.fee is not None
    assert plan.fee.amount_cents == fee


def test_ending_on_the_billing_day_bills_the_past_period_once() -> None:
    """V-30: the period that was not billed yet, and not the day on which it ended."""
    facts = subscribed(ts(2023, 9, 5), billing_time=ANNIVERSARY, timezone=PARIS)
    boundary = ts(2023, 10, 4, 22)
    invoices, facts = live(facts, boundary - SECOND)
    assert not invoices
    plan, ended = terminate(facts, boundary)
    assert plan.fee is not None
    assert plan.fee.amount_cents == 1_000
    assert plan.periods.subscription == Period(ts(2023, 9, 4, 22), boundary)
    assert plan.periods.charges == Period(ts(2023, 9, 5), boundary)
    assert ended.fee_billed_until == ended.charges_billed_until == boundary + INSTANT


def test_ending_on_the_billing_day_after_it_was_billed_bills_that_day() -> None:
    """V-33."""
    facts = subscribed(ts(2023, 9, 5), billing_time=ANNIVERSARY, timezone=PARIS)
    invoices, facts = live(facts, ts(2023, 10, 5))
    assert fees(invoices) == [1_000]
    plan, _ = terminate(facts, ts(2023, 10, 5, 9))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 32


def test_what_was_paid_in_advance_is_not_billed_at_the_end() -> None:
    facts = subscribed(ts(2023, 9, 5), billing_time=ANNIVERSARY, pay_in_advance=True)
    invoices, facts = live(facts, ts(2023, 9, 20))
    assert fees(invoices) == [1_000]
    plan, _ = terminate(facts, ts(2023, 9, 21, 10))
    assert plan.fee is None
    assert plan.periods.charges == Period(ts(2023, 9, 5), ts(2023, 9, 21, 10) + INSTANT)
    assert plan.periods.subscription == Period(ts(2023, 9, 5), ts(2023, 9, 21, 10) + INSTANT)
    on_the_boundary, _ = terminate(facts, ts(2023, 10, 5))
    assert on_the_boundary.fee is None
    assert on_the_boundary.periods.charges == Period(ts(2023, 9, 5), ts(2023, 10, 5))


def test_a_yearly_plan_with_monthly_usage_is_cut_in_both() -> None:
    facts = subscribed(ts(2024, 1, 1), "yearly", bill_charges_monthly=True, amount_cents=36_600)
    _, facts = live(facts, ts(2024, 3, 5))
    plan, _ = terminate(facts, ts(2024, 3, 10, 12))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 100 * (31 + 29 + 10)
    assert plan.periods.charges == Period(ts(2024, 3, 1), ts(2024, 3, 10, 12) + INSTANT)


def test_the_day_of_an_upgrade_is_left_to_the_new_plan() -> None:
    """V-51 on a quarter of 91 days at 1000 a day; V-48 with the new plan in advance, prorated."""
    old = subscribed(ts(2024, 1, 15, 10), "quarterly", billing_time=ANNIVERSARY, amount_cents=45_500)
    _, old = live(old, ts(2024, 5, 20, 9))
    plan, _ = terminate(old, ts(2024, 5, 20, 10), upgraded=True)
    assert plan.fee is not None
    # 15 April to 19 May
    assert plan.fee.amount_cents == 35 * 500
    new = subscribed(
        ts(2024, 5, 20, 10),
        "quarterly",
        billing_time=ANNIVERSARY,
        subscription_at=ts(2024, 1, 15, 10),
        amount_cents=91_000,
        replaces_previous=True,
    )
    plan, _ = terminate(new, ts(2024, 6, 20))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 32_000
    yearly = subscribed(
        ts(2023, 9, 28, 5),
        "yearly",
        billing_time=ANNIVERSARY,
        subscription_at=ts(2023, 6, 29, 12, 12),
        amount_cents=12_000,
        pay_in_advance=True,
        replaces_previous=True,
    )
    invoices, _ = live(yearly, ts(2023, 9, 28, 6))
    assert fees(invoices) == [9_016]


def test_an_upgrade_on_an_unbilled_billing_day_bills_the_past_period_whole() -> None:
    _, facts = live(subscribed(ts(2024, 2, 1)), ts(2024, 2, 20))
    plan, _ = terminate(facts, ts(2024, 3, 1, 10), upgraded=True)
    assert plan.fee is not None
    assert plan.fee.amount_cents == 1_000


def test_an_upgrade_on_the_first_day_costs_the_old_plan_nothing() -> None:
    plan, _ = terminate(subscribed(ts(2024, 3, 5)), ts(2024, 3, 5, 12), upgraded=True)
    assert plan.fee is not None
    assert plan.fee.amount_cents == 0


def test_a_downgrade_at_the_boundary_bills_the_old_plan_whole_and_the_new_one_from_there() -> None:
    """V-53."""
    old = subscribed(ts(2023, 7, 19, 12, 12), billing_time=ANNIVERSARY)
    _, old = live(old, ts(2023, 11, 10))
    plan, _ = terminate(old, ts(2023, 11, 19))
    assert plan.fee is not None
    assert plan.fee.amount_cents == 1_000
    new = subscribed(
        ts(2023, 11, 19),
        "yearly",
        billing_time=ANNIVERSARY,
        subscription_at=ts(2023, 7, 19, 12, 12),
        amount_cents=118_800,
        pay_in_advance=True,
        replaces_previous=True,
    )
    invoices, _ = live(new, ts(2023, 11, 19, 12))
    (invoice,) = invoices.values()
    assert fees(invoices) == [78_875]
    assert bounds(invoice.periods.subscription) == (day("2023-11-19"), day("2024-07-18$"))


def test_one_that_is_recreated_goes_on_where_the_first_ended() -> None:
    facts = subscribed(
        ts(2026, 3, 13),
        "yearly",
        billing_time=ANNIVERSARY,
        subscription_at=ts(2025, 3, 15),
        amount_cents=36_500,
    )
    invoices, _ = live(facts, ts(2026, 3, 15, 12))
    (invoice,) = invoices.values()
    assert bounds(invoice.periods.subscription) == (day("2026-03-13"), day("2026-03-14$"))
    assert bounds(invoice.periods.charges) == (day("2026-03-13"), day("2026-03-14$"))
    assert fees(invoices) == [200]


def test_in_advance_on_the_anniversary_even_a_late_start_pays_the_whole_period() -> None:
    facts = subscribed(
        ts(2026, 3, 13), billing_time=ANNIVERSARY, subscription_at=ts(2025, 3, 15), pay_in_advance=True
    )
    invoices, _ = live(facts, ts(2026, 3, 13))
    (invoice,) = invoices.values()
    assert fees(invoices) == [1_000]
    assert bounds(invoice.periods.subscription) == (day("2026-03-13"), day("2026-03-14$"))


# --- moving to another timezone ---------------------------------------------------------------------------


def test_a_customer_who_moves_loses_no_hour_of_usage() -> None:
    facts = subscribed(ts(2022, 1, 10), timezone="Asia/Tokyo")
    invoices, facts = live(facts, ts(2022, 2, 10))
    assert [bounds(p.periods.charges) for p in invoices.values()] == [
        (day("2022-01-10"), day("2022-01-31T14:59:59Z"))
    ]
    invoices, _ = live(
        replace(facts, timezone="America/Los_Angeles", created_at=ts(2022, 2, 10)), ts(2022, 3, 1, 12)
    )
    assert [bounds(p.periods.charges) for p in invoices.values()] == [
        (day("2022-01-31T15:00:00Z"), day("2022-03-01T07:59:59Z"))
    ]


@given(
    in_advance=st.booleans(),
    interval=intervals,
    billing_time=billing_times,
    start=instants,
    homes=st.tuples(timezones, timezones),
    hours=st.integers(0, 500),
)
def test_moving_never_bills_a_period_twice_nor_leaves_one_out(
    *,
    in_advance: bool,
    interval: Interval,
    billing_time: BillingTime,
    start: datetime,
    homes: tuple[str, str],
    hours: int,
) -> None:
    here, there = homes
    facts = subscribed(start, interval, billing_time=billing_time, timezone=here, pay_in_advance=in_advance)
    moved_at = start + timedelta(hours=hours)
    first, facts = live(facts, moved_at)
    before = dict(first)
    facts = replace(facts, timezone=there)
    at = moved_at
    while len(first) < len(before) + 3 and at < start + timedelta(days=2000):
        plan, facts = settle(facts, at)
        if not plan.is_empty:
            first[at] = plan
        at = next_billing_at(facts, after=at)
    used = [plan.periods.charges for plan in first.values() if plan.periods.charges]
    assert used[0].from_ == start
    assert all(a.to == b.from_ for a, b in pairwise(used))
    covered = [plan.fee for plan in first.values() if plan.fee]
    # The date of the anchor may become the neighbouring one: the 31st the 1st, three days after 28 February.
    slack = timedelta(hours=50) if interval is Interval.WEEKLY else timedelta(days=4, hours=2)
    assert all(abs(a.to - b.from_) <= slack for a, b in pairwise(covered))


# --- laws -------------------------------------------------------------------------------------------------


@given(
    in_advance=st.booleans(),
    monthly=st.booleans(),
    interval=intervals,
    billing_time=billing_times,
    anchor=instants,
    delay=st.integers(0, 900),
    timezone=timezones,
    life=st.integers(0, 900),
)
def test_a_life_is_billed_once_without_gaps(
    *,
    in_advance: bool,
    monthly: bool,
    interval: Interval,
    billing_time: BillingTime,
    anchor: datetime,
    delay: int,
    timezone: str,
    life: int,
) -> None:
    """Usage is billed from the start to the end; each fee covers a part of one period, the parts adjoin."""
    start = anchor + timedelta(days=delay, hours=delay % 24)
    end = start + timedelta(days=life, hours=life % 24)
    facts = subscribed(
        start,
        interval,
        subscription_at=anchor,
        billing_time=billing_time,
        timezone=timezone,
        pay_in_advance=in_advance,
        bill_charges_monthly=monthly,
    )
    invoices, facts = live(facts, end)
    plan, _ = terminate(facts, end)
    plans = [*invoices.values(), plan]
    used = [each.periods.charges for each in plans if each.periods.charges]
    assert (used[0].from_, used[-1].to) == (start, end + INSTANT)
    assert all(a.to == b.from_ for a, b in pairwise(used))
    unit = charges_interval(interval, monthly)
    rule: dict[str, Any] = {"billing_time": billing_time, "anchor": anchor, "timezone": timezone}
    for each in used:
        whole = period_containing(each.from_, interval=unit, **rule)
        assert whole.from_ <= each.from_
        assert each.to <= whole.to
    billed = [each.fee for each in plans if each.fee]
    assert billed[0].from_ == max(
        start_of_day(start, timezone), period_containing(start, interval=interval, **rule).from_
    )
    assert all(a.to == b.from_ for a, b in pairwise(billed))
    whole_amounts = {fee.amount_cents for fee in billed[1:-1]}
    assert whole_amounts <= {1_000}


@given(intervals, billing_times, instants, timezones, st.integers(0, 40))
def test_the_next_due_instant_is_the_next_boundary(
    interval: Interval, billing_time: BillingTime, start: datetime, timezone: str, trial: int
) -> None:
    facts = subscribed(
        start, interval, billing_time=billing_time, timezone=timezone, trial_period=Decimal(trial)
    )
    boundary = period_containing(
        start, interval=interval, billing_time=billing_time, anchor=start, timezone=timezone
    ).to
    assert next_billing_at(facts, after=start) == boundary
    in_advance = replace(facts, pay_in_advance=True)
    ends = start + timedelta(days=trial)
    assert next_billing_at(in_advance, after=start) == (min(boundary, ends) if trial else boundary)


# --- numbers and dates ------------------------------------------------------------------------------------


def test_numbers() -> None:
    assert invoice_number("PRE", 1, 4) == "PRE-001-004"
    assert invoice_number("BENT-1", 12, 1234) == "BENT-1-012-1234"
    assert entity_invoice_number("BENT-11", date(2023, 10, 19), 10) == "BENT-11-202310-010"
    assert draft_number("BENT-1") == "BENT-1-DRAFT"


@pytest.mark.parametrize(
    ("recurring", "grace", "anchor", "adjustment", "issued"),
    [
        # semantics-billing.md 4.4; due on 1 March
        (True, 0, "next_period_start", "align_with_finalization_date", "2024-03-01"),
        (True, 3, "next_period_start", "align_with_finalization_date", "2024-03-04"),
        (True, 3, "next_period_start", "keep_anchor", "2024-03-01"),
        (True, 0, "current_period_end", "align_with_finalization_date", "2024-02-29"),
        (True, 3, "current_period_end", "align_with_finalization_date", "2024-03-04"),
        (True, 3, "current_period_end", "keep_anchor", "2024-02-29"),
        (False, 3, "current_period_end", "keep_anchor", "2024-03-04"),
        (False, 0, "current_period_end", "keep_anchor", "2024-03-01"),
    ],
)
def test_issuing_dates(recurring: bool, grace: int, anchor: str, adjustment: str, issued: str) -> None:
    at = ts(2024, 2, 29, 15)
    got = issuing_date(
        at,
        timezone="Asia/Tokyo",
        recurring=recurring,
        grace_period_days=grace,
        anchor=anchor,
        adjustment=adjustment,
    )
    assert got == date.fromisoformat(issued)
    final = expected_finalization_date(at, timezone="Asia/Tokyo", grace_period_days=grace)
    assert final == date(2024, 3, 1) + timedelta(days=grace)


def test_a_termination_after_midnight_utc_is_issued_on_the_local_date() -> None:
    at = ts(2023, 9, 6, 0, 15)
    assert issuing_date(at, timezone="America/Bogota", recurring=False) == date(2023, 9, 5)
    assert issuing_date(at, timezone=PARIS, recurring=False) == date(2023, 9, 6)


def test_the_due_date_is_so_many_days_after_the_issuing_date() -> None:
    assert payment_due_date(date(2024, 2, 20), net_payment_term=30) == date(2024, 3, 21)
