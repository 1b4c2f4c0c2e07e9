"""Usage that is held, in an organization whose clock is the system's: the worker comes back to it by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.core.contract.plan import Plan
from permille.core.rating.filters import ChargeFilter
from permille.core.record import replace
from permille.database.connections import open_pool
from permille.store import billing_holds, plans
from permille.usecases.due import due
from permille.usecases.invoices import advance

from .world import World, make_world, ts

DUE = ts(2024, 2, 1)
Pool = ConnectionPool[psycopg.Connection[Any]]


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


def held_world(db: psycopg.Connection[Any], **fields: Any) -> World:
    """January's usage of 64K, which no filter lists, in a live organization."""
    world = make_world(db, test_now=None, name="live")
    metric = world.metric("tokens", filters={"model": ("8K",)})
    listed = ChargeFilter(None, {"model": ("8K",)}, None, {"amount": "1"})
    price = {"properties": {"amount": "0"}, "filters": [listed], "unlisted_values": "held", **fields}
    world.subscribe(world.customer(), world.plan(charges=[(metric, price)]))
    world.use("sub", "tokens", 5, at=ts(2024, 1, 10), model="64K")
    db.commit()
    return world


def decide(world: World, *, now: datetime, **changes: Any) -> None:
    """Change the charge, as the API does."""
    plan = plan_of(world)
    (charge,) = plan.charges
    after = replace(plan, charges=(replace(charge, **changes),))
    plans.save_prices(world.conn, before=plan, after=after, now=now)
    billing_holds.retry_soon(world.conn, world.id, now=now)
    world.conn.commit()


def plan_of(world: World) -> Plan:
    ((plan_id,),) = world.rows("select id from plan where organization_id = %s", world.id)
    return plans.plan_by_id(world.conn, plan_id)


def shown(world: World) -> list[tuple[Any, ...]]:
    world.conn.rollback()
    return world.rows(
        "select status, fees_amount_cents, waits_for_price, finalized_at from invoice where organization_id = %s"
        " order by created_at",
        world.id,
    )


def test_a_draft_is_tried_again_by_itself_but_not_all_the_time(
    db: psycopg.Connection[Any], pool: Pool
) -> None:
    world = held_world(db)
    assert due.run_live(pool, DUE) == 1
    assert shown(world) == [("draft", 0, True, None)]
    tried = sum(due.run_live(pool, DUE + timedelta(seconds=30 * n)) > 0 for n in range(1, 3 * 120))
    assert 7 <= tried <= 9, "after 1, 2, 4 .. minutes, then once an hour"
    later = DUE + timedelta(hours=3)
    decide(world, now=later, unlisted_values="default", properties={"amount": "2"})
    assert due.run_live(pool, later) == 1
    assert shown(world) == [("finalized", 1_000, False, later)]
    assert due.run_live(pool, later + timedelta(hours=2)) == 0


def test_what_nobody_announced_is_seen_within_the_hour(db: psycopg.Connection[Any], pool: Pool) -> None:
    world = held_world(db)
    due.run_live(pool, DUE)
    db.execute("update charge set unlisted_values = 'free' where organization_id = %s", [world.id])
    db.commit()
    due.run_live(pool, DUE + timedelta(hours=1))
    assert [row[:3] for row in shown(world)] == [("finalized", 0, False)]


def test_an_event_in_advance_is_tried_again_by_itself(db: psycopg.Connection[Any], pool: Pool) -> None:
    world = held_world(db, pay_in_advance=True)
    db.execute(
        "insert into advance_event (organization_id, seq, identity) select %s, e.seq, e.identity"
        " from event e join series s on s.id = e.series_id where s.organization_id = %s",
        [world.id, world.id],
    )
    db.commit()
    at = ts(2024, 1, 10)
    assert advance.bill_live(pool, at) == 1
    assert advance.bill_live(pool, at + timedelta(minutes=59)) == 0
    assert advance.bill_live(pool, at + timedelta(hours=1)) == 1, "nothing has changed"
    decide(
        world, now=at + timedelta(hours=1, minutes=5), unlisted_values="default", properties={"amount": "2"}
    )
    assert advance.bill_live(pool, at + timedelta(hours=1, minutes=5)) == 1
    assert [row[:2] for row in shown(world)] == [("finalized", 1_000)]
    made = world.rows(
        "select created_at from fee where organization_id = %s and charge_id is not null", world.id
    )
    assert made == [(at,)], "as of when it would have been made"
