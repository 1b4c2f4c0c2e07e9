"""One organization that fails, whatever it fails of, holds up no other: it is named, and left alone longer each time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille import worker
from permille.clock import system_now
from permille.core.errors import Unbillable
from permille.database.connections import open_pool
from permille.events.engine import event_log
from permille.events.postgres import event_errors as event_error_store, metering, rebuilding
from permille.store import company, fences as store
from permille.usecases import fences, holds, metering as keeping
from permille.usecases.due import due
from permille.usecases.fences import Task
from permille.usecases.invoices import advance, run
from permille.usecases.invoices.facts import Contracts

from .world import World, make_world, move, ts

NOW = ts(2024, 2, 1, 6)
END_OF_9999 = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
Pool = ConnectionPool[psycopg.Connection[Any]]


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


def in_advance(conn: psycopg.Connection[Any], name: str, **world: Any) -> World:
    """Two customers with a charge in advance, without events."""
    made = make_world(conn, name=name, **world)
    charge = {"pay_in_advance": True, "properties": {"amount": "1"}}
    plan = made.plan(charges=[(made.metric(), charge)])
    for payer in ("fine", "other"):
        made.subscribe(made.customer(payer), plan, f"{payer}-sub")
    return made


def use(world: World, external_id: str, amount: int, *, at: datetime) -> None:
    """An event that waits for its fee, as the intake stores it: also one that it would refuse today."""
    world.use(external_id, "tokens", amount, at=at)
    world.conn.execute(
        "insert into advance_event (organization_id, seq, identity)"
        " select %s, seq, identity from event order by seq desc limit 1",
        [world.id],
    )


def fees(world: World) -> list[tuple[Any, ...]]:
    world.conn.rollback()
    return world.rows(
        "select s.external_id, f.units from fee f join subscription s on s.id = f.subscription_id"
        " where f.organization_id = %s and f.fee_type = 'charge' order by 1, 2",
        world.id,
    )


def fenced(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    conn.rollback()
    return conn.execute(
        "select organization_id, task, failures, retry_at from fence order by 1, 2"
    ).fetchall()


def breaking(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *broken: UUID, error: Exception
) -> None:
    """Let a function raise for these organizations, which it takes as its second argument or by name."""
    real = getattr(module, name)

    def failing(conn: Any, *args: Any, **given: Any) -> Any:
        organization = given.get("organization_id") or args[0]
        if organization in broken:
            raise error
        return real(conn, *args, **given)

    monkeypatch.setattr(module, name, failing)


def test_an_event_of_the_year_9999_holds_its_customer_and_nobody_else(
    db: psycopg.Connection[Any], pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    worlds = [in_advance(db, name) for name in ("before", "bad", "after")]
    bad = worlds[1]
    use(bad, "other-sub", 1, at=END_OF_9999)
    for world in worlds:
        use(world, "fine-sub", 7, at=ts(2024, 1, 2))
    use(bad, "other-sub", 3, at=ts(2024, 1, 2))
    db.commit()
    for _ in range(2):
        advance.bill_live(pool, NOW)
    assert [fees(world) for world in worlds] == [[("fine-sub", 7)]] * 3
    assert not fenced(db)
    held = "select c.external_id, h.reason from billing_hold h join customer c on c.id = h.customer_id"
    ((name, reason),) = bad.rows(held)
    assert name == "other"
    assert re.fullmatch(r"ValueError: year 10000 is out of range \(core/period\.py:\d+\)", reason)
    assert "Customer other" in caplog.text
    assert str(bad.id) in caplog.text


def test_it_holds_up_neither_the_test_clock_nor_what_others_end(db: psycopg.Connection[Any]) -> None:
    bad = in_advance(db, "bad")
    use(bad, "other-sub", 1, at=END_OF_9999)
    use(bad, "fine-sub", 7, at=ts(2024, 1, 2))
    move(bad, 2024, 3, 1)
    db.commit()
    assert fees(bad) == [("fine-sub", 7)]
    bad.terminate("fine-sub", at=ts(2024, 3, 1))
    with pytest.raises(Unbillable) as refused:
        bad.terminate("other-sub", at=ts(2024, 3, 1))
    assert refused.value.errors == {"base": ["cannot_be_billed"]}


def test_once_it_is_mended_all_of_the_customer_is_billed(db: psycopg.Connection[Any], pool: Pool) -> None:
    bad = in_advance(db, "bad", test_now=None)
    use(bad, "other-sub", 1, at=END_OF_9999)
    use(bad, "other-sub", 3, at=ts(2024, 1, 2))
    db.commit()
    advance.bill_live(pool, NOW)
    assert not fees(bad)
    db.execute("update event set at = %s where at = %s", [ts(2024, 1, 1), END_OF_9999])
    db.commit()
    advance.bill_live(pool, NOW + timedelta(minutes=2))
    assert fees(bad) == [("other-sub", 1), ("other-sub", 3)]


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyError("x"), psycopg.errors.QueryCanceled("too slow")]
)
def test_what_fails_in_advance_is_fenced_and_named(
    db: psycopg.Connection[Any],
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    worlds = [in_advance(db, name) for name in ("a", "broken", "c")]
    for world in worlds:
        use(world, "fine-sub", 7, at=ts(2024, 1, 2))
    db.commit()
    broken = worlds[1]
    breaking(monkeypatch, advance, "bill_events", broken.id, error=error)
    advance.bill_live(pool, NOW)
    assert [len(fees(world)) for world in worlds] == [1, 0, 1]
    assert fenced(db) == [(broken.id, Task.ADVANCE, 1, NOW + timedelta(seconds=5))]
    assert f"'broken' ({broken.id})" in caplog.text
    monkeypatch.undo()
    assert advance.bill_live(pool, NOW + timedelta(seconds=4)) == 0
    assert advance.bill_live(pool, NOW + timedelta(seconds=5)) == 1
    assert len(fees(broken)) == 1
    assert not fenced(db)


def test_the_due_work_of_one_that_fails_waits_longer_each_time(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = [make_world(db, name=name, test_now=None) for name in ("a", "broken", "c")]
    for world in worlds:
        world.subscribe(world.customer(), world.plan(amount_cents=100))
    db.commit()
    broken = worlds[1]
    breaking(monkeypatch, run, "bill_due", broken.id, error=RuntimeError("a bug"))
    now, waits = NOW, []
    for _ in range(10):
        due.run_live(pool, now)
        ((_, _, _, retry_at),) = fenced(db)
        waits.append((retry_at - now).total_seconds())
        now = retry_at
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert db.execute("select count(*) from invoice").fetchone() == (2,)
    db.rollback()
    monkeypatch.undo()
    assert due.run_live(pool, now) == 1


def test_a_lost_database_is_nobodys_fault(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = in_advance(db, "a")
    use(world, "fine-sub", 7, at=ts(2024, 1, 2))
    db.commit()
    breaking(monkeypatch, advance, "bill_events", world.id, error=psycopg.OperationalError("lost"))
    with pytest.raises(psycopg.OperationalError):
        advance.bill_live(pool, NOW)
    breaking(monkeypatch, advance, "bill_events", world.id, error=psycopg.errors.SerializationFailure("busy"))
    assert advance.bill_live(pool, NOW) == 0
    assert not fenced(db)


def test_while_others_feel_it_an_organization_rests_after_its_turn(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever task, whoever works; one that takes little is not kept waiting, nor one that is alone."""
    monkeypatch.setattr(fences, "REST_SECONDS_MAX", 600.0)
    long, short, other = (make_world(db, name=name).id for name in ("long", "short", "other"))
    db.commit()
    seconds = {long: 500.0, short: 0.001}
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def turn(organization_id: UUID) -> int:
        done.append(organization_id)
        clock[0] += seconds[organization_id]
        return 1

    def turns(task: Task) -> set[UUID]:
        done.clear()
        fences.for_each(pool, task, [long, short], turn, now=NOW)
        return set(done)

    done: list[UUID] = []
    assert turns(Task.DUE) == turns(Task.DUE) == {long, short}, "alone"
    company.seen(db, [long], is_strained=True, now=system_now())
    db.commit()
    assert turns(Task.DUE) == turns(Task.DUE) == {long, short}, "still alone"
    company.seen(db, [other], is_strained=False, now=system_now())
    db.commit()
    assert turns(Task.DUE) == turns(Task.DUE) == {long, short}, "nobody feels it"
    company.seen(db, [other], is_strained=True, now=system_now())
    db.commit()
    assert turns(Task.DUE) == {long, short}
    assert turns(Task.DUE) == turns(Task.ALERTS) == {short}
    db.execute("update company set rests_until = rests_until - interval '600 seconds'")
    db.commit()
    assert turns(Task.ALERTS) == {long, short}, "rested"


def test_nobody_chooses_to_be_the_first(db: psycopg.Connection[Any]) -> None:
    ids = [make_world(db, name=f"o{n}", test_now=None).id for n in range(8)]
    db.commit()
    orders: set[tuple[UUID, ...]] = set()
    for seconds in range(5):
        now = NOW + timedelta(seconds=seconds)
        orders.add(tuple(each.id for each in store.free(db, "test", ids, now=now, at=now)))
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(ids))}
    assert len(orders) > 1


def test_any_bug_that_one_customer_brings_out_holds_that_customer(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(db, test_now=None)
    plan = world.plan(amount_cents=100)
    for payer in "abc":
        world.subscribe(world.customer(payer), plan, payer)
    db.commit()
    real: Callable[..., Any] = Contracts.billing

    def failing(contracts: Contracts, request: Any, **named: Any) -> Any:
        if request.subscription.external_id == "b":
            raise KeyError("of b")
        return real(contracts, request, **named)

    monkeypatch.setattr(Contracts, "billing", failing)
    due.run_live(pool, NOW)
    db.rollback()
    billed = "select c.external_id from invoice i join customer c on c.id = i.customer_id order by 1"
    assert world.rows(billed) == [("a",), ("c",)]
    held = "select c.external_id, h.reason from billing_hold h join customer c on c.id = h.customer_id"
    ((name, reason),) = world.rows(held)
    assert name == "b"
    assert re.fullmatch(r"KeyError: 'of b' \(usecases/invoices/run\.py:\d+\)", reason)
    assert world.rows("select payload from webhook where webhook_type = %s", holds.WEBHOOK) == []
    assert "Traceback" in caplog.text


def test_events_that_cannot_be_looked_through_hold_up_no_bill(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(db, test_now=None)
    world.subscribe(world.customer(), world.plan(amount_cents=100))
    db.execute(
        "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
        " values (gen_random_uuid(), %s, 'http://127.0.0.1:9/hook', now(), now())",
        [world.id],
    )
    event_error_store.mark(db, [(world.id, ts(2024, 1, 31, 3))])
    db.commit()

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(event_log, "wrong_in", failing)
    due.run_live(pool, NOW)
    db.rollback()
    assert world.rows("select count(*) from invoice") == [(1,)]
    assert str(world.id) in caplog.text


def test_a_history_that_cannot_be_moved_holds_up_no_other(
    db: psycopg.Connection[Any], pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "REENCODED_IN_PLACE_MAX", 0)
    worlds = [make_world(db, name=name) for name in ("broken", "fine")]
    for world in worlds:
        metric = world.metric()
        keeping.refresh(db, organization_id=world.id, code=metric.code)
        world.use("sub", "tokens", 1, at=ts(2024, 1, 2), model="m")
        db.execute("update metering set rebuilding = true where organization_id = %s", [world.id])
    db.commit()
    breaking(monkeypatch, rebuilding, "move_chunk", worlds[0].id, error=RuntimeError("a bug"))
    while worker.rebuild(pool, NOW):
        pass
    db.rollback()
    assert set(metering.being_rebuilt(db, [world.id for world in worlds])) == {(worlds[0].id, "tokens")}
    assert [row[:3] for row in fenced(db)] == [(worlds[0].id, "Moving a history", 1)]
