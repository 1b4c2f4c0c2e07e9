"""Drafts: priced again until their day, then what an invoice without a grace period would have been (4.4, 4.5)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from permille.usecases.invoices import drafts

from .world import World, make_world, move

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
SHOWN = (
    "select status, fees_amount_cents, taxes_amount_cents, credit_notes_amount_cents, total_amount_cents,"
    " payment_status from invoice where organization_id = %s order by created_at, fees_amount_cents"
)
LINES = (
    "select fee_type, units, events_count, amount_cents, precise_amount_cents, taxes_amount_cents, from_at, to_at"
    " from fee where organization_id = %s order by from_at, fee_type, units, amount_cents"
)

uses = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 9)), max_size=6)


def lived(db: psycopg.Connection[Any], grace: int, events: list[tuple[int, int]], ends: int | None) -> World:
    """Two months of a plan in advance with a charge; every event of January arrives in February."""
    world = make_world(db, test_now=JANUARY, name=f"grace {grace}")
    world.set_entity(invoice_grace_period=grace)
    tokens = world.metric("tokens")
    seats = world.metric("seats", recurring=True)
    charges = [
        (tokens, "0.37"),
        (seats, {"properties": {"amount": "31"}, "prorated": True, "min_amount_cents": 500}),
    ]
    plan = world.plan("pro", charges=charges, amount_cents=3_100, pay_in_advance=True)
    world.subscribe(world.customer(), plan, now=JANUARY)
    early = [each for each in events if each[0] >= 31]
    late = [each for each in events if each[0] < 31]
    if not grace:
        use(world, late)
    move(world, 2024, 2, 1)
    if grace:
        use(world, late)
    use(world, early)
    if ends is not None:
        at = datetime(2024, 2, 1, 12, tzinfo=UTC) + timedelta(days=ends)
        move(world, *at.timetuple()[:6])
        world.terminate(at=at)
    move(world, 2024, 4, 20)
    return world


def use(world: World, events: list[tuple[int, int]]) -> None:
    for day, amount in events:
        for code in ("tokens", "seats"):
            world.use("sub", code, amount, at=JANUARY + timedelta(days=day, hours=3))


@given(events=uses, ends=st.none() | st.integers(0, 25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
def test_a_draft_becomes_what_was_owed(
    db: psycopg.Connection[Any], events: list[tuple[int, int]], ends: int | None
) -> None:
    with db.transaction(force_rollback=True):
        at_once, with_drafts = lived(db, 0, events, ends), lived(db, 3, events, ends)
        assert with_drafts.rows(LINES, with_drafts.id) == at_once.rows(LINES, at_once.id)
        assert with_drafts.rows(SHOWN, with_drafts.id) == at_once.rows(SHOWN, at_once.id)
        assert with_drafts.rows("select 1 from invoice where status = 'draft'") == []


def drafted(world: World) -> World:
    world.set_entity(invoice_grace_period=3)
    tokens = world.metric("tokens")
    plan = world.plan("pro", charges=[(tokens, "1")], amount_cents=3_100)
    world.subscribe(world.customer(timezone="Asia/Tokyo"), plan, now=JANUARY)
    world.use("sub", "tokens", 5, at=JANUARY + timedelta(days=1))
    return world


def test_a_draft_has_no_number_and_becomes_final_at_the_customers_midnight(world: World) -> None:
    drafted(world)
    move(world, 2024, 2, 1)
    ((number, status, own, expected, finalizes_at),) = world.rows(
        "select number, status, sequential_id, expected_finalization_date, finalizes_at from invoice"
    )
    assert (number.endswith("-DRAFT"), status, own) == (True, "draft", None)
    assert expected == date(2024, 2, 4)
    assert finalizes_at == datetime(2024, 2, 3, 15, tzinfo=UTC)
    move(world, 2024, 2, 3, 14, 59)
    assert world.rows("select status from invoice") == [("draft",)]
    move(world, 2024, 2, 3, 15)
    ((number, status, own, issued, due, finalized_at),) = world.rows(
        "select number, status, sequential_id, issuing_date, payment_due_date, finalized_at from invoice"
    )
    assert (number[-3:], status, own, issued, due) == (
        "001",
        "finalized",
        1,
        date(2024, 2, 4),
        date(2024, 2, 4),
    )
    assert finalized_at == datetime(2024, 2, 3, 15, tzinfo=UTC)


def test_refreshing_twice_changes_nothing_and_late_events_count(world: World) -> None:
    drafted(world)
    move(world, 2024, 2, 1)
    ((invoice_id,),) = world.rows("select id from invoice")
    before = world.rows(LINES, world.id)
    for _ in range(2):
        drafts.refresh(world.conn, [invoice_id], now=datetime(2024, 2, 1, tzinfo=UTC))
        assert world.rows(LINES, world.id) == before
    world.use("sub", "tokens", 7, at=JANUARY + timedelta(days=20))
    drafts.refresh(world.conn, [invoice_id], now=datetime(2024, 2, 1, tzinfo=UTC))
    assert world.rows("select fees_amount_cents, total_amount_cents from invoice") == [(4_300, 4_300)]


def test_drafts_of_one_subscription_become_final_in_their_order(world: World) -> None:
    drafted(world)
    world.set_entity(invoice_grace_period=70)
    move(world, 2024, 3, 2)
    ids = [each for (each,) in world.rows("select id from invoice order by created_at")]
    assert len(ids) == 2
    drafts.finalize(world.conn, list(reversed(ids)), at=datetime(2024, 3, 2, tzinfo=UTC))
    assert world.rows("select sequential_id, fees_amount_cents from invoice order by created_at") == [
        (1, 3_600),
        (2, 3_100),
    ]


def ended_early(db: psycopg.Connection[Any], count: int) -> tuple[World, list[UUID]]:
    """Customers whose plan in advance ends while the drafts of its start and of its end wait."""
    world = make_world(db, test_now=JANUARY, name=f"{count} customers")
    world.set_entity(invoice_grace_period=3)
    plan = world.plan("pro", charges=[(world.metric("tokens"), "1")], amount_cents=3_100, pay_in_advance=True)
    for number in range(count):
        world.subscribe(world.customer(f"{number}"), plan, f"{number}", now=JANUARY)
        world.use(f"{number}", "tokens", 5, at=JANUARY + timedelta(hours=1))
    for number in range(count):
        world.terminate(f"{number}", at=JANUARY + timedelta(days=1))
    ids = world.rows("select id from invoice where organization_id = %s order by id", world.id)
    assert len(ids) == 2 * count
    return world, [each for (each,) in ids]


def test_drafts_credits_and_credit_notes_take_as_many_statements_however_many_they_are(
    db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = psycopg.Cursor.execute, [0]

    def counting(cursor: Any, query: Any, *given: Any, **named: Any) -> Any:
        sent[-1] += 1
        return real(cursor, query, *given, **named)

    monkeypatch.setattr(psycopg.Cursor, "execute", counting)
    for count in (2, 21):
        world, ids = ended_early(db, count)
        sent.append(0)
        drafts.finalize(world.conn, ids, at=JANUARY + timedelta(days=2))
        sent.append(0)
        ((notes, paid, left),) = world.rows(
            "select count(*), sum(credit_amount_cents - balance_amount_cents)::int, sum(balance_amount_cents)::int"
            " from credit_note where organization_id = %s",
            world.id,
        )
        assert (notes, paid, left) == (count, 500 * count, 2_400 * count)
        assert world.rows(
            "select distinct total_amount_cents, credit_notes_amount_cents from invoice"
            " where organization_id = %s order by 1",
            world.id,
        ) == [(0, 500), (3_100, 0)]
    assert sent[1] == sent[3], "statements for 2 and for 21"


def test_a_draft_from_before_an_upgrade_is_the_same_when_it_is_priced_again(world: World) -> None:
    world.set_entity(invoice_grace_period=30)
    customer, seats = world.customer(), world.metric("seats", recurring=True)
    small = world.plan("small", charges=[(seats, "1")], amount_cents=3_100)
    world.subscribe(customer, small, now=JANUARY)
    world.use("sub", "seats", 5, at=JANUARY + timedelta(days=1))
    move(world, 2024, 2, 1)
    before = world.rows(LINES, world.id)
    assert sorted(row[3] for row in before) == [500, 3_100]
    [(draft_id,)] = world.rows("select id from invoice where organization_id = %s", world.id)
    large = world.plan("large", charges=[(seats, "2")], amount_cents=99_900)
    world.subscribe(customer, large, now=datetime(2024, 2, 10, tzinfo=UTC))
    drafts.refresh(world.conn, [draft_id], now=datetime(2024, 2, 11, tzinfo=UTC))
    lines = f"{LINES.partition(' order by')[0]} and invoice_id = %s"
    assert sorted(world.rows(lines, world.id, draft_id)) == sorted(before)
