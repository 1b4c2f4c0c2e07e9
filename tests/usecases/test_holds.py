"""What comes to an amount beyond all bounds holds up its own customer alone, and comes right once it is mended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.core.errors import Unbillable
from permille.core.invoice.steps import usage_charges
from permille.database.connections import open_pool
from permille.store import subscriptions
from permille.usecases import holds, subscriptions as life
from permille.usecases.due import due
from permille.usecases.invoices import run

from .world import World, bills, check_invariants, make_world, move, ts

ABSURD = "1" + "0" * 20
INVOICES = (
    "select c.external_id, i.number, i.status, i.created_at, i.issuing_date, i.fees_amount_cents,"
    " i.taxes_amount_cents, i.total_amount_cents, i.finalized_at, i.invoice_type"
    " from invoice i join customer c on c.id = i.customer_id"
    " where i.organization_id = %s and c.external_id <> 'bad' order by c.external_id, i.created_at, i.number"
)
FEES = (
    "select s.external_id, f.units, f.amount_cents, f.from_at, f.to_at, f.created_at, f.invoice_id is null"
    " from fee f join subscription s on s.id = f.subscription_id"
    " where f.organization_id = %s order by s.external_id, f.created_at, f.from_at, f.amount_cents, f.units"
)


@pytest.fixture
def pool(dsn: str) -> Iterator[ConnectionPool[psycopg.Connection[Any]]]:
    opened = open_pool(dsn, size=4, name="test")
    yield opened
    opened.close()


def populated(conn: psycopg.Connection[Any], name: str, *, absurd: str | None, **world: Any) -> World:
    """Five customers with use in January and February, the third of them bad where there is an absurd amount."""
    made = make_world(conn, name=name, **world)
    made.set_entity(document_numbering="per_billing_entity")
    plan = made.plan(charges=[(made.metric(), "0.01")], amount_cents=1_000)
    for payer in ("a", "b", "bad", "d", "e"):
        customer = made.customer(payer)
        for place in (1, 2):
            made.subscribe(customer, plan, f"{payer}-{place}")
            for month in (1, 2):
                made.use(f"{payer}-{place}", "tokens", 100 * place + month, at=ts(2024, month, 9))
    if absurd is not None:
        made.use("bad-2", "tokens", absurd, at=ts(2024, 1, 10))
    return made


def void(world: World, value: str = ABSURD) -> None:
    """As an amendment does: the event counts no more."""
    world.conn.execute("update event set value = 0 where value = %s", [value])


def shown(world: World, query: str) -> list[tuple[Any, ...]]:
    return world.rows(query, world.id)


def held(world: World) -> list[tuple[Any, ...]]:
    return world.rows(
        "select c.external_id, h.due_at, h.retry_at, h.reason from billing_hold h"
        " join customer c on c.id = h.customer_id where h.organization_id = %s and h.retry_at is not null"
        " order by 1",
        world.id,
    )


def told(world: World) -> list[str]:
    return [
        payload
        for (payload,) in world.rows(
            "select payload from webhook where organization_id = %s and webhook_type = %s order by id",
            world.id,
            holds.WEBHOOK,
        )
    ]


def test_the_others_are_billed_as_if_it_was_not_there(db: psycopg.Connection[Any]) -> None:
    bad, fine = populated(db, "bad", absurd=ABSURD), populated(db, "fine", absurd=None)
    # The one that is bad pays nothing in the world to compare with, so that the entity's numbers agree.
    db.execute(
        "update subscription set next_billing_at = null where external_id like 'bad-%%'"
        " and organization_id = %s",
        [fine.id],
    )
    for world in (bad, fine):
        move(world, 2024, 3, 1)
    assert shown(bad, INVOICES) == shown(fine, INVOICES)
    assert len(shown(bad, INVOICES)) == 8
    assert not bills(bad, "bad-2")
    check_invariants(bad)
    assert bad.rows("select test_now from organization where id = %s", bad.id) == [(ts(2024, 3, 1),)]


def test_it_is_said_which_subscription_it_is_and_since_when(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    plan = world.plan(charges=[(world.metric(), "1")])
    payer = world.customer("bad")
    for name in ("one", "two", "three"):
        world.subscribe(payer, plan, name)
    world.use("two", "tokens", ABSURD, at=ts(2024, 1, 10))
    move(world, 2024, 2, 3)
    ((customer, due_at, _, reason),) = held(world)
    assert (customer, due_at) == ("bad", ts(2024, 2, 1))
    assert reason.endswith("is out of range")
    (payload,) = told(world)
    for text in ('"bad"', '"two"', '"2024-02-01T00:00:00Z"', '"amount_out_of_range"', "out of range"):
        assert text in payload
    assert "two" in caplog.text
    move(world, 2024, 2, 4)
    assert len(told(world)) == 1, "it is told once, and tried again"


def test_alone_it_leaves_nothing_and_the_clock_moves(world: World) -> None:
    world.subscribe(world.customer("bad"), world.plan(charges=[(world.metric(), "1")]))
    world.use("sub", "tokens", ABSURD, at=ts(2024, 1, 10))
    for _ in range(2):
        move(world, 2024, 6, 1)
        assert not world.rows("select 1 from invoice")
        assert not world.rows("select 1 from fee")
        assert not world.rows("select 1 from invoice_sequence")
        assert world.rows("select next_billing_at from subscription") == [(ts(2024, 2, 1),)]
        assert len(told(world)) == 1


def test_mended_it_catches_up_in_order_and_as_of_then(db: psycopg.Connection[Any]) -> None:
    bad, fine = populated(db, "bad", absurd=ABSURD), populated(db, "fine", absurd="0")
    for world in (bad, fine):
        for until in ((2024, 2, 15), (2024, 3, 20), (2024, 5, 2)):
            move(world, *until)
    assert not [row for row in shown(bad, FEES) if row[0].startswith("bad")]
    void(bad)
    move(bad, 2024, 5, 2)
    assert shown(bad, FEES) == shown(fine, FEES)
    query = INVOICES.replace("i.number, ", "i.sequential_id, ").replace("<> 'bad'", "= 'bad'")
    assert shown(bad, query) == shown(fine, query)
    assert not held(bad)
    check_invariants(bad)


def test_a_total_beyond_bounds_of_fees_within_them(world: World) -> None:
    plan = world.plan(charges=[(world.metric(), "1")])
    payer = world.customer("bad")
    for name in ("one", "two"):
        world.subscribe(payer, plan, name)
        world.use(name, "tokens", "6" + "0" * 16, at=ts(2024, 1, 10))
    move(world, 2024, 2, 1)
    assert [row[0] for row in held(world)] == ["bad"]
    assert '"two"' in told(world)[0], "the first with which it is too much"
    void(world, "6" + "0" * 16)
    move(world, 2024, 2, 1)
    assert len(world.rows("select 1 from invoice")) == 1


def error_codes(world: World) -> dict[str, str]:
    """External id of a customer -> why it cannot be billed, by webhook."""
    payloads = [json.loads(payload)["invoice_generation_error"] for payload in told(world)]
    return {payload["external_customer_id"]: payload["error_code"] for payload in payloads}


def test_an_absurd_price_and_a_signal_of_the_arithmetic(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metric = world.metric()
    world.subscribe(world.customer("bad"), world.plan("a", charges=[(metric, "1" + "0" * 17)]), "bad")
    world.subscribe(world.customer("fine"), world.plan("b", charges=[(metric, "1")]), "fine")
    odd = world.plan("c", charges=[(metric, "2")])
    world.subscribe(world.customer("odd"), odd, "odd")
    for name in ("bad", "fine", "odd"):
        world.use(name, "tokens", 1_000, at=ts(2024, 1, 10))
    real = vars(usage_charges)["rate"]

    def failing(compiled: Any, *args: Any, **named: Any) -> Any:
        if compiled.charge_id == odd.charges[0].id:
            raise ZeroDivisionError("odd")
        return real(compiled, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(usage_charges, "rate", failing)
        move(world, 2024, 2, 1)
    assert bills(world, "fine") == [(ts(2024, 2, 1), "subscription_periodic", 100_000)]
    assert [row[0] for row in held(world)] == ["bad", "odd"]
    codes = error_codes(world)
    assert codes == {"bad": "amount_out_of_range", "odd": "cannot_be_billed"}, "a bug is not of the data"
    stacks = {
        record.args[0]: bool(record.exc_info) for record in caplog.records if isinstance(record.args, tuple)
    }
    assert (stacks["bad"], stacks["odd"]) == (False, True)
    world.conn.execute(
        'update charge set properties = \'{"amount": "3"}\' where plan_id ='
        " (select id from plan where code = 'a')"
    )
    move(world, 2024, 2, 1)
    assert bills(world, "bad") == [(ts(2024, 2, 1), "subscription_periodic", 300_000)]
    assert bills(world, "odd") == [(ts(2024, 2, 1), "subscription_periodic", 200_000)]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError,
        psycopg.errors.SerializationFailure,
        psycopg.errors.AdminShutdown,
        psycopg.InterfaceError,
    ],
)
def test_a_lost_database_holds_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    world.subscribe(world.customer(), world.plan(amount_cents=100))

    def failing(*_: Any, **__: Any) -> None:
        raise error("gone")

    monkeypatch.setattr(run, "save", failing)
    with pytest.raises(error):
        move(world, 2024, 2, 1)


def test_a_downgrade_waits_for_what_is_owed_before_it(db: psycopg.Connection[Any]) -> None:
    made = []
    for name, value in (("bad", ABSURD), ("fine", "0")):
        world = make_world(db, name=name)
        metric, payer = world.metric(), world.customer("bad")
        dear, cheap = (world.plan(code, charges=[(metric, "1")], amount_cents=cents) for code, cents in PLANS)
        world.subscribe(payer, dear)
        world.use("sub", "tokens", value, at=ts(2024, 1, 10))
        world.use("sub", "tokens", 4, at=ts(2024, 2, 10))
        world.use("sub", "tokens", 5, at=ts(2024, 3, 10))
        move(world, 2024, 2, 7)
        world.subscribe(payer, cheap, now=ts(2024, 2, 7))
        move(world, 2024, 4, 9)
        made.append(world)
    bad, fine = made
    assert not shown(bad, FEES)
    void(bad)
    move(bad, 2024, 4, 9)
    assert shown(bad, FEES) == shown(fine, FEES) != []
    states = "select status, started_at, terminated_at, next_billing_at from subscription where organization_id = %s"
    assert shown(bad, f"{states} order by started_at") == shown(fine, f"{states} order by started_at")


PLANS = (("dear", 3_000), ("cheap", 1_000))


def test_an_end_waits_for_what_is_owed_before_it(world: World) -> None:
    plan = world.plan(charges=[(world.metric(), "1")])
    world.subscribe(world.customer("bad"), plan, "bad", ending_at=ts(2024, 3, 10))
    world.subscribe(world.customer("fine"), plan, "fine", ending_at=ts(2024, 3, 10))
    for name in ("bad", "fine"):
        world.use(name, "tokens", 7, at=ts(2024, 3, 2))
    world.use("bad", "tokens", ABSURD, at=ts(2024, 1, 10))
    move(world, 2024, 4, 5)
    ended = "select external_id, status, terminated_at from subscription order by external_id"
    assert world.rows(ended) == [("bad", "active", None), ("fine", "terminated", ts(2024, 3, 10))]
    void(world)
    move(world, 2024, 4, 6)
    assert world.rows(ended) == [
        ("bad", "terminated", ts(2024, 3, 10)),
        ("fine", "terminated", ts(2024, 3, 10)),
    ]
    assert bills(world, "bad") == bills(world, "fine")


def test_ending_it_by_hand_is_refused_until_it_is_mended(world: World) -> None:
    world.subscribe(world.customer("bad"), world.plan(charges=[(world.metric(), "1")]))
    world.use("sub", "tokens", ABSURD, at=ts(2024, 1, 10))
    with pytest.raises(Unbillable) as refused, world.conn.transaction():
        world.terminate(at=ts(2024, 1, 20))
    assert refused.value.errors == {"base": ["amount_out_of_range"]}
    void(world)
    world.terminate(at=ts(2024, 1, 20))
    assert bills(world) == [(ts(2024, 1, 20), "subscription_terminating", 0)]


def test_a_start_that_cannot_be_billed_holds_up_no_other(world: World) -> None:
    dear = world.plan("dear", amount_cents=2**63 - 1, pay_in_advance=True)
    cheap = world.plan("cheap", amount_cents=31, pay_in_advance=True)
    world.conn.execute(
        "insert into tax (id, organization_id, name, code, rate, applied_to_organization, created_at, updated_at)"
        " values (gen_random_uuid(), %s, 'VAT', 'vat', 20, true, now(), now())",
        [world.id],
    )
    world.conn.execute("update billing_entity set tax_ids = array(select id from tax)")
    for payer, plan in (("bad", dear), ("fine", cheap)):
        world.subscribe(world.customer(payer), plan, payer, subscription_at=ts(2024, 1, 5))
    move(world, 2024, 1, 8)
    started = "select external_id, status, started_at from subscription order by external_id"
    assert world.rows(started) == [("bad", "pending", None), ("fine", "active", ts(2024, 1, 5))]
    world.conn.execute("update plan set amount_cents = 310 where code = 'dear'")
    move(world, 2024, 1, 9)
    assert world.rows(started) == [("bad", "active", ts(2024, 1, 5)), ("fine", "active", ts(2024, 1, 5))]
    assert [row[0] for row in bills(world, "bad")] == [ts(2024, 1, 5)]


def test_drafts_become_final_as_of_their_day_once_mended(world: World) -> None:
    world.set_entity(invoice_grace_period=3)
    plan = world.plan(charges=[(world.metric(), "1")])
    for payer in ("bad", "fine"):
        world.subscribe(world.customer(payer), plan, payer)
        world.use(payer, "tokens", 5, at=ts(2024, 1, 9))
    move(world, 2024, 2, 2)
    world.use("bad", "tokens", ABSURD, at=ts(2024, 1, 10))
    move(world, 2024, 2, 10)
    made = (
        "select c.external_id, i.status, i.fees_amount_cents, i.finalized_at, i.sequential_id from invoice i"
        " join customer c on c.id = i.customer_id order by 1, i.created_at"
    )
    fine = ("fine", "finalized", 500, ts(2024, 2, 4), 1)
    assert world.rows(made) == [("bad", "draft", 500, None, None), fine]
    assert "lago_invoice_id" in told(world)[0]
    void(world)
    move(world, 2024, 2, 11)
    assert world.rows(made) == [("bad", "finalized", 500, ts(2024, 2, 4), 1), fine]


def test_a_live_organization_tries_again_by_and_by(
    db: psycopg.Connection[Any], pool: ConnectionPool[psycopg.Connection[Any]]
) -> None:
    world = populated(db, "live", absurd=ABSURD, test_now=None)
    db.commit()
    now = ts(2024, 2, 1, 6)
    assert due.run_live(pool, now) == 10
    db.rollback()
    assert len(shown(world, INVOICES)) == 4
    tried = retries(world, pool, now, hours=3)
    assert 7 <= tried <= 9, "after 1, 2, 4 .. minutes, then once an hour"
    void(world)
    db.commit()
    assert due.run_live(pool, now + timedelta(hours=6)) == 2
    db.rollback()
    assert bills(world, "bad-2") == [(ts(2024, 2, 1), "subscription_periodic", 2_302)]
    assert not held(world)


def retries(world: World, pool: ConnectionPool[psycopg.Connection[Any]], now: datetime, *, hours: int) -> int:
    """How often what is held is tried while the loop runs every half minute."""
    tried = 0
    for second in range(0, hours * 3600, 30):
        tried += due.run_live(pool, now + timedelta(seconds=second)) > 0
    world.conn.rollback()
    return tried


def test_a_change_while_it_is_held_loses_no_period(world: World) -> None:
    world.subscribe(world.customer("bad"), world.plan(charges=[(world.metric(), "1")]))
    world.use("sub", "tokens", ABSURD, at=ts(2024, 1, 10))
    world.use("sub", "tokens", 3, at=ts(2024, 2, 10))
    move(world, 2024, 3, 15)
    row = subscriptions.active(world.conn, world.id, "sub")
    assert row is not None
    life.update(world.conn, row, columns={"name": "renamed"}, now=ts(2024, 3, 15))
    void(world)
    move(world, 2024, 3, 15)
    assert bills(world) == [
        (ts(2024, 2, 1), "subscription_periodic", 0),
        (ts(2024, 3, 1), "subscription_periodic", 300),
    ]


def test_many_that_are_bad_are_found_at_a_glance(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = world.metric()
    plans = [
        world.plan("bad", charges=[(metric, "1" + "0" * 17)]),
        world.plan("fine", charges=[(metric, "1")]),
    ]
    for n in range(40):
        world.subscribe(world.customer(f"{n}"), plans[n % 8 == 0], f"sub-{n}")
        world.use(f"sub-{n}", "tokens", 1_000, at=ts(2024, 1, 10))
    real, billed = run._bill, []

    def spy(conn: Any, owed: Any) -> None:
        billed.append(len(owed))
        real(conn, owed)

    monkeypatch.setattr(run, "_bill", spy)
    move(world, 2024, 2, 1)
    assert billed == [40, 5, 5], "all, then without the bad ones on trial and for good"
    assert len(held(world)) == 35
    assert len(world.rows("select 1 from invoice")) == 5


def test_several_runs_at_once_bill_everybody_else_once(
    db: psycopg.Connection[Any],
    pool: ConnectionPool[psycopg.Connection[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "BATCH", 4)
    world = make_world(db, test_now=None)
    plan = world.plan(charges=[(world.metric(), "1")], amount_cents=1_000)
    for n in range(40):
        world.subscribe(world.customer(f"{n}"), plan, f"sub-{n}")
        world.use(f"sub-{n}", "tokens", ABSURD if n % 10 == 3 else n, at=ts(2024, 1, 10))
    db.commit()
    with ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            list(threads.map(lambda _: due.run_live(pool, ts(2024, 2, 1, 6)), range(3)))
    db.rollback()
    check_invariants(world)
    assert [row[0] for row in held(world)] == ["13", "23", "3", "33"]
    assert len(world.rows("select 1 from invoice")) == 36
    assert len(told(world)) == 0, "nobody listens"


def test_a_reason_can_be_stored_whatever_the_error_quotes() -> None:
    assert holds.reason_of(ValueError("a\0b\ud800")) == "ValueError: ab?"
