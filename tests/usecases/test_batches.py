"""Whatever becomes due for many subscriptions at one instant takes as many statements as for a few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from permille.usecases.due import due

from .world import START, World, check_invariants, make_world, move, ts

SECOND = timedelta(seconds=1)
FEW, MANY = 10, 200
SAME = 25
"""How many statements more there may be for many: lookups by chunks, sequences."""

CLONE = """
insert into {table} select ({populated}).* from {table} w, generate_series(2, %(count)s) as nth
where w.organization_id = %(organization)s
"""
CUSTOMER = """jsonb_populate_record(w, jsonb_build_object('id', gen_random_uuid(), 'external_id', 'cus' || nth,
    'slug', 'ACM-' || nth, 'sequential_id', nth))"""
SUBSCRIPTION = """jsonb_populate_record(w, jsonb_build_object('id', gen_random_uuid(), 'external_id', 'sub' || nth,
    'created_at', w.created_at + nth * interval '1 ms', 'customer_id',
    (select id from customer c where c.organization_id = w.organization_id and c.external_id = 'cus' || nth)))"""


def multiply(world: World, count: int) -> None:
    """So many customers and subscriptions, like the one that there is."""
    for table, populated in (("customer", CUSTOMER), ("subscription", SUBSCRIPTION)):
        statement = CLONE.format(table=table, populated=populated)
        world.conn.execute(statement, {"count": count, "organization": world.id})


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    statements: list[str] = []
    real = psycopg.Cursor.execute

    def execute(self: Any, query: Any, *args: Any, **given: Any) -> Any:
        statements.append(str(query))
        return real(self, query, *args, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        yield statements


def pending(db: psycopg.Connection[Any], count: int) -> World:
    """Subscriptions to a plan paid in advance that all start on the 10th."""
    world = make_world(db, name=f"Starts {count}")
    plan = world.plan(amount_cents=1_000, pay_in_advance=True, charges=[(world.metric(), "1")])
    world.subscribe(world.customer(), plan, subscription_at=ts(2024, 1, 10))
    multiply(world, count)
    return world


def ending(db: psycopg.Connection[Any], count: int) -> World:
    """Running subscriptions to a plan paid in arrears that all end on the 10th."""
    world = make_world(db, name=f"Ends {count}")
    plan = world.plan(amount_cents=1_000, charges=[(world.metric(), "1")])
    world.subscribe(world.customer(), plan, ending_at=ts(2024, 1, 10))
    multiply(world, count)
    return world


def crediting(db: psycopg.Connection[Any], count: int) -> World:
    """Subscriptions that start on the 10th, paid in advance, and end on the 16th with credit for the days not used."""
    world = make_world(db, name=f"Credits {count}")
    plan = world.plan(amount_cents=3_100, pay_in_advance=True, charges=[(world.metric(), "1")])
    world.subscribe(
        world.customer(),
        plan,
        subscription_at=ts(2024, 1, 10),
        ending_at=ts(2024, 1, 16),
        on_termination_credit_note="credit",
    )
    multiply(world, count)
    return world


def changing(db: psycopg.Connection[Any], count: int) -> World:
    """Subscriptions whose downgrade takes place at the month's end."""
    world = make_world(db, name=f"Changes {count}")
    metric = world.metric()
    dear = world.plan("dear", amount_cents=3_000, charges=[(metric, "2")])
    cheap = world.plan("cheap", amount_cents=1_000, charges=[(metric, "1")])
    customer = world.customer()
    world.subscribe(customer, dear)
    world.subscribe(customer, cheap)
    multiply(world, count)
    world.conn.execute(
        "update subscription s set previous_subscription_id = p.id from subscription p"
        " where s.status = 'pending' and p.status = 'active' and p.external_id = s.external_id"
        " and p.organization_id = s.organization_id and s.organization_id = %s",
        [world.id],
    )
    return world


@pytest.mark.parametrize(
    ("make", "until", "fees"),
    [
        (pending, (2024, 1, 10), 1),
        (ending, (2024, 1, 11), 1),
        (crediting, (2024, 1, 17), 2),
        (changing, (2024, 2, 1), 1),
    ],
)
def test_hundreds_at_one_instant_take_the_statements_of_ten(
    db: psycopg.Connection[Any], make: Any, until: tuple[int, int, int], fees: int
) -> None:
    taken: dict[int, list[str]] = {}
    for count in (FEW, MANY):
        world = make(db, count)
        with counted() as statements:
            due.move_clock(db, organization=world.organization, until=ts(*until))
        taken[count] = list(statements)
        billed = "select count(*), count(distinct customer_id) from invoice where organization_id = %s"
        assert world.rows(billed, world.id) == [(fees * count, count)]
    assert len(taken[MANY]) <= len(taken[FEW]) + SAME


def test_a_customer_whose_subscriptions_start_together_has_an_invoice_for_each_in_their_order(
    db: psycopg.Connection[Any],
) -> None:
    world = make_world(db)
    plans = [
        world.plan(f"plan {cents}", amount_cents=cents, pay_in_advance=True)
        for cents in (3_100, 6_200, 9_300)
    ]
    customer = world.customer()
    for nth, plan in enumerate(plans):
        world.subscribe(
            customer, plan, f"sub {9 - nth}", now=START + nth * SECOND, subscription_at=ts(2024, 1, 31)
        )
    move(world, 2024, 1, 31)
    found = world.rows("select sequential_id, fees_amount_cents from invoice order by 1")
    assert found == [(1, 100), (2, 200), (3, 300)]
    check_invariants(world)


def test_what_one_end_gives_back_pays_the_next_and_not_the_one_before(db: psycopg.Connection[Any]) -> None:
    world = make_world(db)
    metric = world.metric()
    customer = world.customer()
    arrears = world.plan("arrears", amount_cents=3_100)
    advance = world.plan("advance", amount_cents=6_200, pay_in_advance=True, charges=[(metric, "1")])
    ends = {"ending_at": ts(2024, 1, 16)}
    world.subscribe(customer, arrears, "first", **ends)
    world.subscribe(
        customer, advance, "second", now=START + SECOND, on_termination_credit_note="credit", **ends
    )
    world.subscribe(customer, arrears, "third", now=START + 2 * SECOND, **ends)
    move(world, 2024, 1, 17)
    paid = world.rows(
        "select s.external_id, i.credit_notes_amount_cents from invoice i"
        " join invoice_subscription p on p.invoice_id = i.id join subscription s on s.id = p.subscription_id"
        " where p.invoicing_reason = 'subscription_terminating' order by 1"
    )
    assert [(name, cents > 0) for name, cents in paid] == [
        ("first", False),
        ("second", False),
        ("third", True),
    ]
