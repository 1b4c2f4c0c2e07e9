"""Every loop over organizations, and over customers within them, goes on past one that raises anything at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille import worker
from permille.config import Config
from permille.database.connections import open_pool
from permille.events.postgres import rebuilding, rollup
from permille.store import customers, vat_checks as vat_check_store
from permille.usecases import alerts, metering as keeping, ongoing_balances, unpriced, vat_checks
from permille.usecases.due import due
from permille.usecases.fences import Task
from permille.usecases.invoices import advance, late_usage, progressive, run
from permille.usecases.wallets import wallets as open_wallets
from permille.usecases.wallets.wallets import NewWallet

from .test_fences import breaking, in_advance, use
from .world import World, make_world, ts

NOW = ts(2024, 2, 1, 6)
SOURCE = Path(worker.__file__).parent
Pool = ConnectionPool[psycopg.Connection[Any]]
ERRORS = (
    ValueError("year 10000 is out of range"),
    OverflowError("date value out of range"),
    ArithmeticError("a bug"),
    KeyError("x"),
    psycopg.DataError("no such date"),
    ValueError("a text that no column takes: \0"),
    ValueError("long" * 10_000),
)


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A task: what gives an organization work, how it is done, what shows that it was, and what breaks for one."""

    fill: Callable[[psycopg.Connection[Any], str], World]
    work: Callable[[Pool], Any]
    is_done: Callable[[World], bool]
    breaks: tuple[Any, str]


def _with_event(conn: psycopg.Connection[Any], name: str) -> World:
    world = in_advance(conn, name, test_now=None)
    use(world, "fine-sub", 7, at=ts(2024, 1, 2))
    return world


def _due(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    world.subscribe(world.customer(), world.plan(amount_cents=100))
    return world


def _on_its_way(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name)
    conn.execute("update organization set test_target = %s where id = %s", [NOW, world.id])
    return world


def _to_rebuild(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    metric = world.metric()
    keeping.refresh(conn, organization_id=world.id, code=metric.code)
    conn.execute("update metering set rebuilding = true where organization_id = %s", [world.id])
    return world


def _changed(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    conn.execute("insert into unchecked_organization values (%s)", [world.id])
    return world


def _marked(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    conn.execute(
        "insert into late_mark (organization_id, subscription_id, invoice_id, code)"
        " values (%s, gen_random_uuid(), gen_random_uuid(), 'tokens')",
        [world.id],
    )
    return world


def _with_wallet(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    customer_id = world.customer()
    wanted = NewWallet(currency="EUR", rate_amount=Decimal(1), columns={})
    open_wallets.add(conn, customers.by_ids(conn, [customer_id])[customer_id], wanted, now=NOW)
    return world


def _watched(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    conn.execute(
        "insert into alert_mark (organization_id, external_subscription_id) values (%s, 's')", [world.id]
    )
    return world


def _near_threshold(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    conn.execute(
        "insert into threshold_mark (organization_id, external_subscription_id) values (%s, 's')", [world.id]
    )
    return world


def _with_vat_number(conn: psycopg.Connection[Any], name: str) -> World:
    world = make_world(conn, name=name, test_now=None)
    world.set_entity(country="NL", eu_tax_management=True)
    vat_check_store.ask(conn, world.id, world.customer(), "no number", now=NOW)
    return world


def _look_up(pool: Pool) -> None:
    vat_checks.look_live(pool, Config(vies_url="http://127.0.0.1:9"), NOW, lambda: False)


def _rebuild(pool: Pool) -> None:
    while worker.rebuild(pool, NOW):
        pass


def _has(query: str, *, some: bool) -> Callable[[World], bool]:
    return lambda world: bool(world.rows(query, world.id)) is some


SCENES = {
    Task.ADVANCE: Scene(
        fill=_with_event,
        work=lambda pool: advance.bill_live(pool, NOW),
        is_done=_has("select 1 from fee where organization_id = %s", some=True),
        breaks=(advance, "bill_events"),
    ),
    Task.ALERTS: Scene(
        fill=_watched,
        work=lambda pool: alerts.look_live(pool, NOW),
        is_done=_has("select 1 from alert_mark where organization_id = %s", some=False),
        breaks=(alerts, "look"),
    ),
    Task.CLOCKS: Scene(
        fill=_on_its_way,
        work=lambda pool: due.move_clocks(pool, NOW),
        is_done=_has("select 1 from organization where id = %s and test_target is not null", some=False),
        breaks=(due, "move_on"),
    ),
    Task.DUE: Scene(
        fill=_due,
        work=lambda pool: due.run_live(pool, NOW),
        is_done=_has("select 1 from invoice where organization_id = %s", some=True),
        breaks=(run, "bill_due"),
    ),
    Task.LATE_USAGE: Scene(
        fill=_marked,
        work=lambda pool: late_usage.review_live(pool, NOW),
        is_done=_has("select 1 from late_mark where organization_id = %s", some=False),
        breaks=(late_usage, "review"),
    ),
    Task.REBUILDING: Scene(
        fill=_to_rebuild,
        work=_rebuild,
        is_done=_has("select 1 from metering where organization_id = %s and rebuilding", some=False),
        breaks=(rebuilding, "move_chunk"),
    ),
    Task.THRESHOLDS: Scene(
        fill=_near_threshold,
        work=lambda pool: progressive.look_live(pool, NOW),
        is_done=_has("select 1 from threshold_mark where organization_id = %s", some=False),
        breaks=(progressive, "look"),
    ),
    Task.WALLETS: Scene(
        fill=_with_wallet,
        work=lambda pool: ongoing_balances.refresh_live(pool, NOW),
        is_done=_has("select 1 from wallet_to_refresh where organization_id = %s", some=False),
        breaks=(ongoing_balances, "refresh"),
    ),
    Task.UNPRICED: Scene(
        fill=_changed,
        work=lambda pool: unpriced.look_live(pool, NOW),
        is_done=_has("select 1 from unchecked_organization where organization_id = %s", some=False),
        breaks=(unpriced, "look_some"),
    ),
    Task.VAT_NUMBERS: Scene(
        fill=_with_vat_number,
        work=_look_up,
        is_done=_has("select 1 from vat_check where organization_id = %s and decided_at is null", some=False),
        breaks=(vat_checks, "look"),
    ),
}


def fences_of(conn: psycopg.Connection[Any]) -> dict[UUID, str]:
    conn.rollback()
    return dict(conn.execute("select organization_id, task from fence where customer_id is null").fetchall())


@pytest.mark.parametrize("task", Task)
def test_a_loop_over_organizations_goes_on_past_one_that_raises_anything(
    db: psycopg.Connection[Any], pool: Pool, caplog: pytest.LogCaptureFixture, task: Task
) -> None:
    scene = SCENES[task]
    broken: dict[UUID, str] = {}
    for number, error in enumerate(ERRORS):
        bad, *fine = (scene.fill(db, f"{name} {number}") for name in ("broken", "fine", "fine too"))
        db.commit()
        with pytest.MonkeyPatch.context() as patch:
            breaking(patch, *scene.breaks, bad.id, *broken, error=error)
            scene.work(pool)
        broken[bad.id] = task
        db.rollback()
        assert [scene.is_done(world) for world in (bad, *fine)] == [False, True, True], error
        assert fences_of(db) == broken
        assert f"{task} of organization 'broken {number}' ({bad.id}) failed" in caplog.text


def test_every_loop_over_organizations_goes_through_the_fence() -> None:
    """What answers which organizations wait is asked where the fence is, and nowhere else."""
    asks = re.compile(
        r"organizations_waiting\(|organizations_to_rebuild\(|organizations_with_\w+\(|on_their_way\(|\.live\("
    )
    unfenced = [
        str(path.relative_to(SOURCE))
        for folder in ("usecases", "out", "api", "web", "cli")
        for path in [*(SOURCE / folder).rglob("*.py")]
        if asks.search(path.read_text()) and "fences.for_each(" not in path.read_text()
    ]
    assert unfenced == ["usecases/due/event_errors.py"], "which is one of the kinds of due work"
    assert set(SCENES) == set(Task)


def late(conn: psycopg.Connection[Any]) -> World:
    """Two customers whose billed periods are marked, since events came in for them later."""
    world = make_world(conn, test_now=None)
    plan = world.plan(charges=[(world.metric(), "1")])
    for payer in ("bad", "fine"):
        world.subscribe(world.customer(payer), plan, payer)
        world.use(payer, "tokens", 5, at=ts(2024, 1, 9))
    return world


def mark(world: World) -> None:
    world.conn.execute(
        "insert into late_mark (organization_id, subscription_id, invoice_id, code)"
        " select %s, p.subscription_id, p.invoice_id, 'tokens' from invoice_subscription p",
        [world.id],
    )
    world.conn.commit()


@pytest.mark.parametrize("error", ERRORS[:5])
def test_late_usage_of_one_customer_that_fails_is_left_alone_and_tried_again(
    db: psycopg.Connection[Any],
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    world = late(db)
    db.commit()
    due.run_live(pool, NOW)
    db.rollback()
    for payer in ("bad", "fine"):
        world.use(payer, "tokens", 3, at=ts(2024, 1, 10))
    mark(world)
    ((bad,),) = world.rows("select id from customer where external_id = 'bad'")
    real = late_usage._priced_again

    def failing(conn: Any, marks: Any) -> Any:
        if any(each.customer_id == bad for each in marks):
            raise error
        return real(conn, marks)

    monkeypatch.setattr(late_usage, "_priced_again", failing)
    for seconds in (0, 1):
        late_usage.review_live(pool, NOW.replace(second=seconds))
    db.rollback()
    found = "select c.external_id from late_usage l join customer c on c.id = l.customer_id order by 1"
    assert world.rows(found) == [("fine",)]
    fence = "select customer_id, task, failures from fence"
    assert world.rows(fence) == [(bad, Task.LATE_USAGE, 1)]
    assert f"Late usage of customer bad ({bad}) of organization {world.id} failed" in caplog.text
    monkeypatch.undo()
    late_usage.review_live(pool, NOW.replace(second=5))
    db.rollback()
    assert world.rows(found) == [("bad",), ("fine",)]
    assert not world.rows(fence)


def test_what_was_found_is_priced_though_no_more_can_be_looked_for(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _marked(db, "a")
    db.commit()

    def failing(_: Any) -> bool:
        raise ValueError("a bug")

    monkeypatch.setattr(late_usage, "detect", failing)
    late_usage.review_live(pool, NOW)
    db.rollback()
    assert SCENES[Task.LATE_USAGE].is_done(world)


def poisoned(conn: psycopg.Connection[Any]) -> None:
    """The database refuses to add up the value 666."""
    conn.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin"
        " if new.max = 666 then raise exception 'refused' using errcode = '22003'; end if; return new; end $$"
    )
    conn.execute("create trigger refuse before insert on usage_cell for each row execute function refuse()")


def test_events_that_cannot_be_added_up_hold_up_nobody_else_and_are_billed(
    db: psycopg.Connection[Any], dsn: str, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned(db)
    worlds = [make_world(db, name=name, test_now=None) for name in ("fine", "bad", "fine too")]
    for number, world in enumerate(worlds):
        metric = world.metric()
        keeping.refresh(db, organization_id=world.id, code=metric.code)
        world.subscribe(world.customer(), world.plan(charges=[(metric, "1")]))
        for value in (1, 666 if number == 1 else 600, 2):
            world.use("sub", "tokens", value, at=ts(2024, 1, 9))
    db.commit()
    bad = worlds[1]
    with psycopg.connect(dsn) as conn:
        while rollup.roll_up(conn):
            pass
    behind = "select seen.last_value - rolled_up_to from event_seq_seq as seen, metering_state"
    cells = "select count(*) from usage_cell c join series s on s.id = c.series_id where organization_id = %s"
    assert db.execute(behind).fetchone() == (0,)
    assert [world.rows(cells, world.id) for world in worlds] == [[(3,)], [(0,)], [(3,)]]
    assert f"Events of organization {bad.id} cannot be added up" in caplog.text
    db.rollback()
    _rebuild(pool)
    assert fences_of(db) == {bad.id: Task.REBUILDING}
    due.run_live(pool, NOW)
    db.rollback()
    billed = "select sum(total_amount_cents) from invoice where organization_id = %s"
    assert [world.rows(billed, world.id) for world in worlds] == [[(60_300,)], [(66_900,)], [(60_300,)]]
    db.execute("drop trigger refuse on usage_cell")
    bad.use("sub", "tokens", 5, at=ts(2024, 2, 1))
    db.commit()
    later = NOW.replace(minute=30)
    while worker.rebuild(pool, later):
        pass
    with psycopg.connect(dsn) as conn:
        while rollup.roll_up(conn):
            pass
        assert rollup.verify(conn) == []
    assert not fences_of(db)


def test_what_was_stored_outside_of_the_bounds_of_instants_holds_up_nobody(
    db: psycopg.Connection[Any], dsn: str, pool: Pool
) -> None:
    """Events of the years 1 and 9999, which an intake of today refuses, go through every loop."""
    worlds = [make_world(db, name=name, test_now=None) for name in ("old", "fine")]
    for world in worlds:
        metric = world.metric()
        keeping.refresh(db, organization_id=world.id, code=metric.code)
        world.subscribe(world.customer(), world.plan(charges=[(metric, "1")]))
        world.use("sub", "tokens", 3, at=ts(2024, 1, 9))
    for at in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)):
        worlds[0].use("sub", "tokens", 9, at=at)
    db.commit()
    with psycopg.connect(dsn, autocommit=True) as conn:
        while rollup.roll_up(conn):
            pass
    due.run_live(pool, NOW)
    for _ in range(3):
        advance.bill_live(pool, NOW)
        late_usage.review_live(pool, NOW)
        unpriced.look_live(pool, NOW)
    _rebuild(pool)
    assert not fences_of(db)
    billed = "select sum(total_amount_cents) from invoice where organization_id = %s"
    assert [world.rows(billed, world.id) for world in worlds] == [[(300,)], [(300,)]]
    assert not worlds[0].rows("select 1 from billing_hold")
