"""Organizations share an installation: what one does to its metrics, none of the others waits for or reads again for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.database.connections import open_pool
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import amendments, metering, rollup, usage
from permille.events.postgres.writer import Memory, open_connection, store
from permille.events.usage import UsageQuery
from permille.store import organizations
from permille.usecases import metering as keeping
from permille.usecases.due import due

from .world import START, World, bills, make_world, ts

NEIGHBOURS = 200
BILLED = 10
"""How many of them have something to bill."""
SLOW_READ_SECONDS = 0.03
"""Three changes of the neighbour."""


@pytest.fixture
def busy(db: psycopg.Connection[Any]) -> World:
    """An organization that will change its metric."""
    made = make_world(db, test_now=None, name="Busy")
    made.metric()
    keeping.refresh(db, organization_id=made.id, code="tokens")
    db.commit()
    return made


def change(conn: psycopg.Connection[Any], organization_id: UUID, nth: int) -> None:
    """Give the metric another property as its value."""
    conn.execute(
        "update billable_metric set field_name = %s where organization_id = %s",
        [f"amount_{nth % 2}", organization_id],
    )
    keeping.refresh(conn, organization_id=organization_id, code="tokens")


@contextmanager
def changing(dsn: str, organization_id: UUID) -> Iterator[None]:
    """An organization changes its metric every 10 milliseconds."""
    over = threading.Event()

    def run() -> None:
        with psycopg.connect(dsn) as conn:
            nth = 0
            while not over.wait(0.01):
                change(conn, organization_id, nth := nth + 1)
                conn.commit()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sent(organization_id: UUID, name: str) -> Request:
    draft = Draft(name, "tokens", "sub", microseconds(ts(2024, 1, 5)), None, {"amount": 3})
    return Request(organization_id, [draft], microseconds(ts(2024, 1, 5)))


def once(read: Any) -> Any:
    """The same, which fails when it is called a second time."""
    calls: list[None] = []

    def reading() -> Any:
        calls.append(None)
        assert len(calls) == 1, "read again for what another organization has done"
        return read()

    return reading


def day_of(dsn: str, worlds: list[World], others: list[UUID], nth: int) -> float:
    """Take in an event of each organization, roll up, read the usage of all, bill some; the seconds that it takes."""
    began = time.monotonic()
    everyone = [world.id for world in worlds] + others
    with open_connection(dsn) as conn:
        store(conn, Memory(), [sent(each, f"event {nth}") for each in everyone])
        while rollup.roll_up(conn):
            pass
    with psycopg.connect(dsn) as conn:
        windows = [
            UsageQuery(
                organization_id=each,
                external_subscription_id="sub",
                codes=("tokens",),
                from_=START,
                to=ts(2024, 2, 1),
            )
            for each in everyone
        ]

        def read() -> list[int]:
            found = usage.usage_of_many(conn, windows)
            time.sleep(SLOW_READ_SECONDS)
            return [series.partial.events_count for each in found for series in each]

        assert metering.under_one_metering(conn, everyone, once(read)) == [nth] * len(everyone)
    with open_pool(dsn, size=1, name="neighbours") as pool:
        due.run_live(pool, ts(2024, 1 + nth, 1))
    return time.monotonic() - began


def test_200_organizations_read_and_bill_while_one_changes_a_metric_every_10_ms(
    dsn: str, db: psycopg.Connection[Any], busy: World
) -> None:
    worlds = [make_world(db, test_now=None, name=f"Billed {nth}") for nth in range(BILLED)]
    for world in worlds:
        world.subscribe(world.customer(), world.plan(charges=[(world.metric(), "0.5")], amount_cents=100))
        keeping.refresh(db, organization_id=world.id, code="tokens")
    others = [
        organizations.add(db, name=f"Other {nth}", test_now=None, entity={}, now=START).id
        for nth in range(NEIGHBOURS - BILLED - 1)
    ]
    db.commit()
    quiet = day_of(dsn, worlds, others, 1)
    with changing(dsn, busy.id):
        beside = day_of(dsn, worlds, others, 2)
    assert beside < 5 * quiet + 2
    assert [len(bills(world)) for world in worlds[:1]] == [2 * BILLED]


def test_nothing_of_another_organization_waits_while_one_is_in_the_middle_of_a_change(
    dsn: str, db: psycopg.Connection[Any], busy: World
) -> None:
    other = make_world(db, test_now=None, name="Other")
    other.metric()
    db.commit()
    change(db, busy.id, 1)  # not committed
    with open_connection(dsn) as conn:
        conn.execute("set lock_timeout = '2s'")
        request = sent(other.id, "one")
        store(conn, Memory(), [request])
        assert request.duplicates == []
        with conn.transaction():
            amendments.begin(conn, other.id)
            change(conn, other.id, 1)


def test_an_insert_waits_for_nobody_who_asks_what_is_settled(
    dsn: str, db: psycopg.Connection[Any], busy: World
) -> None:
    other = make_world(db, test_now=None, name="Other")
    db.commit()
    with open_connection(dsn) as slow, open_connection(dsn) as quick, open_connection(dsn) as asking:
        slow.autocommit = False
        store(slow, Memory(), [sent(busy.id, "slow")])  # not committed
        settled: list[int] = []
        asker = threading.Thread(target=lambda: settled.append(rollup.settled_seq(asking)))
        asker.start()
        time.sleep(0.1)
        quick.execute("set lock_timeout = '2s'")
        store(quick, Memory(), [sent(other.id, "quick")])
        assert settled == []
        slow.commit()
        asker.join()
        assert settled[0] >= 1
        assert rollup.settled_seq(asking) == 2


def test_a_read_of_an_organization_that_never_stops_changing_ends(dsn: str, busy: World) -> None:
    reads: list[None] = []
    with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as other:

        def read() -> str:
            reads.append(None)
            if len(reads) <= metering.READS_MAX:
                change(other, busy.id, len(reads))
            return "usage"

        assert metering.under_one_version(conn, [busy.id], read) == "usage"
        assert len(reads) == metering.READS_MAX + 1
        other.execute("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            change(other, busy.id, metering.READS_MAX + 1)
