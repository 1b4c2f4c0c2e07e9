"""Minimum commitments: which periods they are for, and what they come to. semantics-billing.md section 6.2."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription, due
from permille.core.invoice.billing import (
    BillingRequest,
    InvoicingReason,
    SubscriptionBilling,
    plan_billing,
    progress_after,
)
from permille.core.invoice.draft import InvoiceKind, Line
from permille.core.invoice.facts import Facts, PlanPrices
from permille.core.invoice.kinds import make
from permille.core.period import INSTANT, BillingTime, Interval, Period, period_containing, start_of_day
from permille.core.rating.commitment import CommittedPeriod
from permille.core.record import replace
from tests.core.given import billing_times, day, intervals, timezones, ts
from tests.core.test_invoice_draft import AT, ONE, TAXES, TWO, customer, draft, fee, plan, subscription


def committed(amount_cents: int, **fields: Any) -> MinimumCommitment:
    columns = {"id": ONE, "amount_cents": amount_cents, "invoice_display_name": None}
    return MinimumCommitment(**{**columns, "created_at": AT, "updated_at": AT, **fields})


def lived(
    row: Subscription, terms: Plan, *, until: datetime, timezone: str = "UTC"
) -> list[SubscriptionBilling]:
    """The billings of all boundaries up to an instant, then that of an end at it."""
    payer = replace(customer(), billing_entity=replace(customer().billing_entity, timezone=timezone))
    found = []

    def bill(request: BillingRequest) -> Subscription:
        billing = plan_billing(
            request, plan=terms, customer=payer, first_started_at=row.started_at, next_plan=None
        )
        found.append(billing)
        after = progress_after(billing)
        return replace(
            request.subscription,
            next_billing_at=after.next_billing_at,
            fee_billed_until=after.fee_billed_until,
            charges_billed_until=after.charges_billed_until,
        )

    starts = due(row, terms, timezone=timezone, now=row.created_at)
    row = replace(row, next_billing_at=starts.next_billing_at)
    while row.next_billing_at is not None and row.next_billing_at < until:
        row = bill(BillingRequest(subscription=row, at=row.next_billing_at))
    ended = replace(row, status="terminated", terminated_at=until)
    bill(BillingRequest(subscription=ended, at=until, reason=InvoicingReason.TERMINATING))
    return found


terms_of_plans = st.builds(
    plan, interval=intervals, pay_in_advance=st.booleans(), bill_charges_monthly=st.booleans()
)


@given(terms_of_plans, billing_times, timezones, st.integers(0, 800), st.integers(1, 900 * 24))
def test_each_period_of_a_life_is_committed_once_and_without_gaps(
    terms: Plan, billing_time: BillingTime, timezone: str, begins_after: int, hours: int
) -> None:
    """Whatever is billed monthly, the periods are those of the plan, one after the other from the start to the end."""
    start = ts(2023, 1, 1, 15) + timedelta(days=begins_after)
    end = start + timedelta(hours=hours)
    row = subscription(
        1, billing_time=billing_time, subscription_at=start, started_at=start, created_at=start
    )
    billings = lived(row, terms, until=end, timezone=timezone)
    found = [each.committed_period for each in billings if each.committed_period]

    def containing(at: datetime) -> Period:
        return period_containing(
            at, interval=Interval(terms.interval), billing_time=billing_time, anchor=start, timezone=timezone
        )

    expected, at = [], start_of_day(start, timezone)
    while at <= end:
        whole = containing(at)
        expected.append(CommittedPeriod(whole=whole, part=Period(at, min(whole.to, end + INSTANT))))
        at = whole.to
    if found != expected:
        # What ends on a billing day that was not billed yet owes nothing for that day.
        assert found == expected[:-1]
        assert start_of_day(end, timezone) == expected[-1].whole.from_


@pytest.mark.parametrize(
    ("from_", "to", "amount_cents", "expected"),
    [
        ("2023-02-01", "2023-03-01", 50_000, 50_000),
        ("2023-02-11", "2023-03-01", 50_000, 32_143),  # 18 of 28 days: 32,142.86
        ("2023-02-14", "2023-03-01", 1, 1),  # 15 of 28 days
        ("2023-02-15", "2023-03-01", 1, 1),  # a half is rounded up
        ("2023-02-16", "2023-03-01", 1, 0),
    ],
)
def test_the_commitment_of_a_part_is_by_days_and_rounded_once(
    from_: str, to: str, amount_cents: int, expected: int
) -> None:
    whole = Period(day("2023-02-01"), day("2023-03-01"))
    part = Period(day(from_), day(to))
    assert CommittedPeriod(whole=whole, part=part).share(amount_cents, "UTC") == expected


def january(amount_cents: int, *lines: Line, counted_cents: int = 0, **fields: Any) -> list[tuple[str, int]]:
    """The lines of January's invoice of a plan with a commitment."""
    terms = plan(id=ONE, minimum_commitment=committed(amount_cents, **fields))
    row = subscription(1)
    (billing,) = lived(row, terms, until=AT)[:1]
    facts = Facts(prices={ONE: PlanPrices.of(terms)}, counted_cents={row.id: counted_cents})
    (made,) = make([draft(*lines, billings=(billing,), kind=InvoiceKind.SUBSCRIPTION)], facts)
    return [(line.fee.kind, line.fee.amount_cents) for line in made.lines]


def test_what_is_missing_of_all_fees_of_the_period_is_billed() -> None:
    of_december: dict[str, Any] = {"from_": ts(2025, 12, 1), "to": ts(2026, 1, 1)}
    lines = [
        Line(fee(700)),
        Line(fee(50, late_usage_id=TWO)),
        Line(fee(9_000, late_usage_id=TWO, **of_december)),
        Line(fee(9_000, kind="add_on")),
        Line(fee(9_000, subscription_id=TWO)),
    ]
    missing = [cents for kind, cents in january(1_000, *lines, counted_cents=49) if kind == "commitment"]
    assert missing == [201]
    assert "commitment" not in dict(january(1_000, *lines, counted_cents=250))


def test_its_own_taxes_apply_to_it() -> None:
    terms = plan(id=ONE, taxes=(TAXES[0],), minimum_commitment=committed(1_000, taxes=(TAXES[1],)))
    (billing,) = lived(subscription(1), terms, until=AT)[:1]
    facts = Facts(prices={ONE: PlanPrices.of(terms)})
    (made,) = make([draft(billings=(billing,), kind=InvoiceKind.SUBSCRIPTION)], facts)
    assert [line.taxes for line in made.lines if line.fee.kind == "commitment"] == [(TAXES[1],)]
