"""The invoice run end to end on a real database: who is billed, when, for which days and how much."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from permille.billing import due, run
from permille.core.errors import Invalid
from permille.store import invoices

from .world import World, ts


def move(world: World, *until: int) -> None:
    due.move_clock(world.conn, organization=world.organization, until=ts(*until))


def bills(world: World, external_id: str = "sub") -> list[tuple[Any, ...]]:
    """(billed at, reason, fee period, usage period, total) of a subscription's invoices, oldest first."""
    return world.rows(
        "select p.billed_at, p.invoicing_reason, i.fees_amount_cents from invoice_subscription p"
        " join invoice i on i.id = p.invoice_id join subscription s on s.id = p.subscription_id"
        " where s.external_id = %s order by p.billed_at, i.created_at",
        external_id,
    )


def fees(world: World) -> list[tuple[Any, ...]]:
    return world.rows(
        "select fee_type, units, amount_cents from fee order by created_at, invoice_id, position"
    )


def check_invariants(world: World) -> None:
    """What must hold of all invoices, whatever made them."""
    assert not world.rows(
        "select i.id from invoice i where fees_amount_cents <>"
        " (select coalesce(sum(amount_cents), 0) from fee where invoice_id = i.id)"
        " or total_amount_cents <> fees_amount_cents"
        " or (payment_status = 'succeeded') <> (total_amount_cents = 0)"
    )
    assert not world.rows(
        "select customer_id from invoice where sequential_id is not null group by customer_id"
        " having max(sequential_id) <> count(*) or min(sequential_id) <> 1"
        " or count(distinct sequential_id) <> count(*)"
    )
    assert not world.rows(
        "select subscription_id from (select subscription_id, charges_from_at, lag(charges_to_at) over"
        " (partition by subscription_id order by charges_from_at) as before from invoice_subscription"
        " where charges_from_at is not null) w where before <> charges_from_at"
    )


def test_a_monthly_plan_in_arrears_is_billed_for_the_days_used_and_then_for_months(world: World) -> None:
    plan = world.plan(amount_cents=3100, charges=[(world.metric(), "0.5")])
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 11, 15))
    world.use("sub", "tokens", 7, at=ts(2024, 1, 11, 14))  # before the start
    world.use("sub", "tokens", 10, at=ts(2024, 1, 31, 23, 59, 59))
    world.use("sub", "tokens", 4, at=ts(2024, 2, 1))
    move(world, 2024, 3, 1)
    assert bills(world) == [
        (ts(2024, 2, 1), "subscription_periodic", 2100 + 500),
        (ts(2024, 3, 1), "subscription_periodic", 3100 + 200),
    ]
    assert fees(world) == [
        ("subscription", 1, 2100),
        ("charge", 10, 500),
        ("subscription", 1, 3100),
        ("charge", 4, 200),
    ]
    check_invariants(world)
