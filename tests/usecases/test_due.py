"""The due-work engine: order, clocks, several runs at once, runs that die, and an oracle that goes one by one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.subscription import Start, Subscription, due as due_at_start, facts_of, start_of
from permille.core.contract.timeline import next_billing_at, plan_invoice
from permille.core.errors import Invalid
from permille.core.instants import microseconds
from permille.core.metering.usage import Partial
from permille.core.organization import Organization
from permille.core.rating.rate import rate
from permille.core.record import replace
from permille.database.connections import open_pool
from permille.embedded.postgres import EmbeddedPostgres
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import customers, plans, subscriptions, webhooks
from permille.usecases.due import due
from permille.usecases.invoices import run
from tests.conftest import fresh_database
from tests.core.given import in_period
from tests.live import PATIENCE_SECONDS

from .world import World, bills, check_invariants, make_world, move, ts

NOW = ts(2024, 2, 1, 6)


@pytest.fixture(scope="module")
def crowd(postgres: EmbeddedPostgres) -> Iterator[tuple[str, Organization]]:
    """The name of a database with the live organization: tests that ask for it have copies of it."""
    with fresh_database(postgres, "crowd") as url:
        with psycopg.connect(url) as conn:
            conn.execute("set timezone to 'UTC'")
            made = _crowd(make_world(conn, test_now=None), customers_count=60)
            name = conn.info.dbname
        yield name, made.organization


@pytest.fixture
def template(request: pytest.FixtureRequest) -> str:
    if "live" not in request.fixturenames:
        return "permille"
    crowd: tuple[str, Organization] = request.getfixturevalue("crowd")
    return crowd[0]


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[psycopg.Connection[Any]]]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


@pytest.fixture
def live(db: psycopg.Connection[Any], crowd: tuple[str, Organization]) -> World:
    """A live organization with 60 customers of two subscriptions each that are all due on 1 February."""
    return World(conn=db, organization=crowd[1])


def _crowd(world: World, *, customers_count: int) -> World:
    metric = world.metric()
    plan = world.plan(amount_cents=1000, charges=[(metric, "0.01")])
    for n in range(customers_count):
        payer = world.customer(f"customer-{n}")
        for place in "ab":
            world.subscribe(payer, plan, f"sub-{n}-{place}")
        world.use(f"sub-{n}-a", "tokens", n, at=ts(2024, 1, 9))
    world.conn.commit()
    return world


def _check_crowd(world: World, *, customers_count: int = 60) -> None:
    """Each customer has one invoice of January with both its subscriptions and its usage."""
    world.conn.rollback()
    check_invariants(world)
    assert world.rows(
        "select count(*), count(distinct customer_id), sum(total_amount_cents)::bigint from invoice"
    ) == [(customers_count, customers_count, 2000 * customers_count + sum(range(customers_count)))]
    assert world.rows("select count(*) from invoice_subscription") == [(2 * customers_count,)]


def _due_count(world: World) -> int:
    world.conn.rollback()
    return int(world.rows("select count(*) from subscription where next_billing_at <= %s", NOW)[0][0])


def test_the_clock_runs_through_a_year_in_the_order_of_what_is_due(world: World) -> None:
    plan = world.plan(amount_cents=3100)
    world.subscribe(world.customer("a"), plan, "old", ending_at=ts(2024, 3, 10, 17))
    world.subscribe(world.customer("b"), plan, "new", subscription_at=ts(2024, 3, 20, 13))
    move(world, 2025, 1, 1)
    assert bills(world, "old") == [
        (ts(2024, 2, 1), "subscription_periodic", 3100),
        (ts(2024, 3, 1), "subscription_periodic", 3100),
        (ts(2024, 3, 10), "subscription_terminating", 1000),
    ]
    assert bills(world, "new")[0] == (ts(2024, 4, 1), "subscription_periodic", 1200)
    assert len(bills(world, "new")) == 10
    told = world.rows(
        "select webhook_type, created_at from webhook where object_type = 'subscription' order by 2, 1"
    )
    assert told[1:] == [
        ("subscription.termination_alert", ts(2024, 1, 25)),
        ("subscription.termination_alert", ts(2024, 2, 24)),
        ("subscription.terminated", ts(2024, 3, 10)),
        ("subscription.started", ts(2024, 3, 20)),
    ]
    check_invariants(world)


def test_the_clock_ends_where_it_is_set_to_and_never_goes_back(world: World) -> None:
    move(world, 2024, 2, 1, 3)
    assert world.rows("select test_now from organization") == [(ts(2024, 2, 1, 3),)]
    with pytest.raises(Invalid) as refused:
        move(world, 2024, 2, 1, 2)
    assert refused.value.errors == {"now": ["cannot_go_back"]}


def test_the_same_instant_again_does_what_is_due_and_nothing_twice(world: World) -> None:
    made = world.subscribe(world.customer(), world.plan(amount_cents=100))
    move(world, 2024, 2, 1)
    move(world, 2024, 2, 1)
    assert len(bills(world)) == 1
    subscriptions.update(
        world.conn, subscription_id=made.id, columns={"ends_at": ts(2024, 2, 1)}, now=ts(2024, 2, 1)
    )
    move(world, 2024, 2, 1)
    assert [reason for _, reason, _ in bills(world)] == ["subscription_periodic", "subscription_terminating"]


def test_the_clock_shows_the_instant_of_what_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.subscribe(world.customer(), world.plan(amount_cents=100))
    shown = []
    bill = run.bill_due

    def spy(conn: psycopg.Connection[Any], **given: Any) -> int:
        now = world.rows("select test_now from organization")[0][0]
        done = bill(conn, **given)
        shown.extend([now] * done)
        return done

    monkeypatch.setattr(run, "bill_due", spy)
    move(world, 2024, 4, 5)
    assert shown == [ts(2024, 2, 1), ts(2024, 3, 1), ts(2024, 4, 1)]


def test_an_end_on_a_billing_day_comes_before_the_bill(world: World) -> None:
    plan = world.plan(amount_cents=3100)
    world.subscribe(world.customer(), plan, ending_at=ts(2024, 2, 1, 12))
    move(world, 2024, 6, 1)
    assert [(at, reason) for at, reason, _ in bills(world)] == [(ts(2024, 2, 1), "subscription_terminating")]


def test_a_start_in_advance_is_billed_on_its_day(world: World) -> None:
    plan = world.plan(amount_cents=2900, pay_in_advance=True)
    world.subscribe(world.customer(), plan, subscription_at=ts(2024, 2, 20, 17))
    move(world, 2024, 2, 20, 1)
    assert bills(world) == [(ts(2024, 2, 20), "subscription_starting", 1000)]


def test_live_organizations_are_done_and_test_ones_left_alone(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]]
) -> None:
    other = _crowd(make_world(live.conn, name="Test"), customers_count=2)
    assert due.run_live(pool, ts(2024, 1, 31)) == 0
    assert due.run_live(pool, NOW) == 120
    assert due.run_live(pool, NOW) == 0
    live.conn.rollback()
    assert live.rows("select count(*) from invoice where organization_id = %s", other.id) == [(0,)]
    _check_crowd(live)


def test_wrong_events_of_live_organizations_are_reported(
    live: World, dsn: str, pool: ConnectionPool[psycopg.Connection[Any]]
) -> None:
    live.conn.execute(
        "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
        " values (gen_random_uuid(), %s, 'http://127.0.0.1:9/live', now(), now())",
        [live.id],
    )
    live.conn.commit()
    due.run_live(pool, NOW)
    request = Request(
        live.id, [Draft("lost", "no-such-code", "sub", microseconds(NOW), None, {})], microseconds(NOW)
    )
    with open_connection(dsn) as conn:
        store(conn, Memory(), [request])
    hour = NOW.replace(minute=0, second=0, microsecond=0)
    assert due.run_live(pool, hour + timedelta(minutes=64)) == 0
    assert due.run_live(pool, hour + timedelta(minutes=65)) == 1
    assert due.run_live(pool, hour + timedelta(minutes=65)) == 0
    live.conn.rollback()
    ((payload,),) = live.rows("select payload from webhook where webhook_type = 'events.errors'")
    assert json.loads(payload)["events_errors"]["invalid_code"] == ["lost"]


def test_no_batch_is_begun_once_it_is_to_stop(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "BATCH", 10)
    answers = iter([False, True])
    first = due.run_live(pool, NOW, lambda: next(answers))
    assert 0 < first < 120
    assert first + due.run_live(pool, NOW) == 120


def test_a_live_organization_waits_for_no_other_one_to_be_done(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    organizations = {
        live.id,
        _crowd(make_world(live.conn, name="Other", test_now=None), customers_count=4).id,
    }
    done: list[UUID] = []
    step = due._step

    def noted(conn: psycopg.Connection[Any], organization_id: UUID, at: datetime, **beside: Any) -> int:
        done.append(organization_id)
        return step(conn, organization_id, at, **beside)

    monkeypatch.setattr(due, "_step", noted)
    monkeypatch.setattr(due, "BATCH", 1)
    monkeypatch.setattr(due, "TURN_SECONDS", 0)
    due.run_live(pool, NOW)
    for nth in range(4):
        assert set(done[2 * nth : 2 * nth + 2]) == organizations


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_of_any_size_give_the_same(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(due, "BATCH", batch)
    assert due.run_live(pool, NOW) == 120
    _check_crowd(live)


def test_two_runs_at_once_bill_nobody_twice_and_forget_nobody(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "BATCH", 8)
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(due.run_live, pool, NOW) for _ in range(3)]
        counts = [each.result(timeout=PATIENCE_SECONDS) for each in runs]
    assert sum(counts) + due.run_live(pool, NOW) == 120
    _check_crowd(live)


def test_two_runs_share_the_numbers_of_the_billing_entity(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    live.set_entity(document_numbering="per_billing_entity")
    live.conn.commit()
    monkeypatch.setattr(due, "BATCH", 8)
    with ThreadPoolExecutor(2) as threads:
        for each in [threads.submit(due.run_live, pool, NOW) for _ in range(2)]:
            each.result(timeout=PATIENCE_SECONDS)
    due.run_live(pool, NOW)
    _check_crowd(live)
    assert live.rows(
        "select min(billing_entity_sequential_id), max(billing_entity_sequential_id) from invoice"
    ) == [(1, 60)]


def test_a_customer_that_is_locked_is_passed_over_until_later(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]]
) -> None:
    live.conn.execute("update customer set name = 'x' where external_id = 'customer-3'")
    with pool.connection() as conn:
        assert run.bill_due(conn, organization_id=live.id, until=NOW) == 118
    assert _due_count(live) == 2  # which also undoes the change
    assert due.run_live(pool, NOW) == 2
    _check_crowd(live)


def test_a_run_that_fails_leaves_whole_batches_and_goes_on_the_next_time(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "BATCH", 10)
    real, calls = webhooks.enqueue, []

    def failing(conn: psycopg.Connection[Any], **given: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise psycopg.OperationalError("the connection is lost")
        real(conn, **given)

    monkeypatch.setattr(webhooks, "enqueue", failing)
    with pytest.raises(psycopg.OperationalError):
        due.run_live(pool, NOW)
    left = _due_count(live)
    assert 30 <= 120 - left <= 60
    check_invariants(live)
    monkeypatch.setattr(webhooks, "enqueue", real)
    live.conn.rollback()
    assert due.run_live(pool, NOW) == left
    _check_crowd(live)


def test_what_fails_in_one_organization_holds_up_no_other(
    live: World, pool: ConnectionPool[psycopg.Connection[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _crowd(make_world(live.conn, test_now=None, name="Broken"), customers_count=1)
    real = run.bill_due

    def failing(conn: psycopg.Connection[Any], *, organization_id: UUID, **given: Any) -> int:
        if organization_id == broken.id:
            raise RuntimeError
        return real(conn, organization_id=organization_id, **given)

    monkeypatch.setattr(run, "bill_due", failing)
    assert due.run_live(pool, NOW) == 120


# The oracle ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Used:
    external_id: str
    code: str
    at: datetime
    kind: str
    amount: Decimal


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_run_bills_what_an_oracle_bills_one_by_one(world: World, seed: int) -> None:
    chance = random.Random(seed)
    rows = _random_rows(world, chance)
    used = _random_usage(world, chance, rows)
    until = ts(2024, 7, 3, 11)
    due.move_clock(world.conn, organization=world.organization, until=until)
    expected = sorted(line for row in rows for line in _billed_alone(world, row, used, until))
    found = world.rows(
        "select s.external_id, p.billed_at, f.fee_type, f.units, f.amount_cents, f.from_at, f.to_at from fee f"
        " join invoice_subscription p on p.invoice_id = f.invoice_id and p.subscription_id = f.subscription_id"
        " join subscription s on s.id = f.subscription_id"
    )
    assert sorted(found) == expected
    assert len(expected) > 100
    check_invariants(world)


def _random_rows(world: World, chance: random.Random) -> list[Subscription]:
    metric = world.metric(filters={"kind": ("in", "out")})
    peak = world.metric("peak", "max_agg")
    plans = [
        world.plan(
            f"{interval}-{advance}",
            interval=interval,
            amount_cents=chance.randrange(10_000),
            pay_in_advance=advance,
            bill_charges_monthly=chance.choice([None, True]),
            charges=[(metric, "0.037"), (peak, {"charge_model": "volume", "properties": _VOLUME})],
        )
        for interval in ("weekly", "monthly", "quarterly", "yearly")
        for advance in (False, True)
    ]
    zones = ("UTC", "Asia/Tokyo", "America/New_York", "Asia/Kolkata", "Pacific/Apia")
    payers = [world.customer(f"customer-{n}", timezone=zone) for n, zone in enumerate(zones * 3)]
    return [
        world.subscribe(
            chance.choice(payers),
            chance.choice(plans),
            f"sub-{n}",
            subscription_at=ts(2023, 12, 15) + timedelta(seconds=chance.randrange(5_000_000)),
            billing_time=chance.choice(["calendar", "anniversary"]),
        )
        for n in range(40)
    ]


_VOLUME = {
    "volume_ranges": [
        {"from_value": 0, "to_value": 50, "per_unit_amount": "1", "flat_amount": "0"},
        {"from_value": 51, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "2"},
    ]
}


def _random_usage(world: World, chance: random.Random, rows: list[Subscription]) -> list[Used]:
    used = [
        Used(
            external_id=chance.choice(rows).external_id,
            code=chance.choice(["tokens", "peak"]),
            at=ts(2023, 12, 15) + timedelta(seconds=chance.randrange(18_000_000)),
            kind=chance.choice(["in", "out"]),
            amount=Decimal(chance.randrange(100_000)) / 1000,
        )
        for _ in range(600)
    ]
    for each in used:
        world.use(each.external_id, each.code, each.amount, at=each.at, kind=each.kind)
    return used


def _billed_alone(world: World, made: Subscription, used: list[Used], until: datetime) -> Iterator[Any]:
    """What one subscription owes at each of its due instants, from the events themselves."""
    row = subscriptions.by_ids(world.conn, [made.id])[made.id]
    if row.started_at is None:
        return
    plan = plans.plan_by_id(world.conn, row.plan_id)
    timezone = customers.by_ids(world.conn, [row.customer_id])[row.customer_id].applicable_timezone
    entered = row.activated_at or row.created_at
    facts = replace(
        facts_of(row, plan, timezone=timezone, first_started_at=None),
        fee_billed_until=None,
        charges_billed_until=None,
    )
    starts_today = start_of(row.started_at, now=entered, timezone=timezone) is Start.TODAY
    instants = [entered] if plan.pay_in_advance and starts_today else []
    start = replace(row, status="active", fee_billed_until=None, charges_billed_until=None)
    at = due_at_start(start, plan, timezone=timezone, now=entered).next_billing_at
    while at is not None and at <= until:
        instants.append(at)
        at = next_billing_at(facts, after=at)
    for instant in instants:
        planned = plan_invoice(facts, at=max(instant, row.started_at))
        fees = [] if planned.fee is None else [planned.fee]
        if planned.periods.charges is not None:
            for charge in plan.charges:
                mine = [
                    each
                    for each in used
                    if each.external_id == row.external_id
                    and each.code == charge.metric.code
                    and each.at in planned.periods.charges
                ]
                partial = Partial(
                    events_count=len(mine),
                    values_count=len(mine),
                    sum=sum((each.amount for each in mine), Decimal(0)),
                    max=max((each.amount for each in mine), default=None),
                )
                fees += rate(
                    compile_plan_charge(charge, currency=plan.amount_currency),
                    [({}, partial)],
                    subscription_id=row.id,
                    rated=in_period(planned.periods.charges),
                )
        for fee in fees:
            if not fee.is_idle:
                yield row.external_id, instant, fee.kind, fee.units, fee.amount_cents, fee.from_, fee.to
        facts = replace(
            facts,
            fee_billed_until=planned.fee_billed_until,
            charges_billed_until=planned.charges_billed_until,
        )
