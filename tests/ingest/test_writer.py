"""Storing groups: each request all or not at all, each identity once, whoever else is writing."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.bounds import NAME_MAX
from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.identity import event_identities, transaction_range
from permille.events.log import Request
from permille.events.postgres import (
    events,
    memory as memory_module,
    metering,
    rollup,
    writer as writer_module,
)
from permille.events.postgres.memory import series_bytes
from permille.events.postgres.writer import METERING_CHANGING, ON_LOOP_EVENTS, Memory, open_connection, store
from permille.ids import new_id
from permille.store import organizations
from permille.usecases import metering as keeping

NOW = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def organization(db: psycopg.Connection[Any]) -> UUID:
    made = organizations.add(db, name="O", test_now=None, entity={}, now=NOW)
    db.commit()
    return made.id


def request(
    organization: UUID, *transactions: str, subscription: str | None = "s", code: str = "c"
) -> Request:
    drafts = [
        Draft(
            transaction, code, subscription, microseconds(NOW), None, {"tokens": 1, "note": 'a"\\b', "ü": "€"}
        )
        for transaction in transactions
    ]
    return Request(organization, drafts, microseconds(NOW))


def count(db: psycopg.Connection[Any]) -> int:
    row = db.execute("select count(*) from event").fetchone()
    db.commit()
    assert row is not None
    return int(row[0])


def test_a_group_refuses_only_the_requests_with_duplicates(dsn: str, db: Any, organization: UUID) -> None:
    conn, memory = open_connection(dsn), Memory()
    store(conn, memory, [request(organization, "a", "b")])
    requests = [
        request(organization, "c"),
        request(organization, "d", "a", "e", "d"),  # a is stored, d repeats itself
        request(organization, "c"),  # repeats the first of the group
        request(organization, "f"),
        request(organization, "a", subscription="other"),  # the same transaction of another subscription
        request(organization, "n", "n", subscription=None),  # without a subscription nothing is a duplicate
    ]
    store(conn, memory, requests)
    assert [found.duplicates for found in requests] == [[], [1, 3], [0], [], [], []]
    assert count(db) == 2 + 1 + 1 + 1 + 2


def test_many_events_that_are_no_columns_yet_are_stored_by_a_thread(
    dsn: str, organization: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by: list[tuple[int, bool]] = []
    real = writer_module._encoded

    def noted(memory: Memory, known: Any, requests: Sequence[Request]) -> Any:
        here = threading.current_thread() is threading.main_thread()
        made_by.append((sum(len(each.drafts) for each in requests), here))
        return real(memory, known, requests)

    async def append() -> None:
        (writer,) = writer_module.writers(dsn, 1)
        await writer.append([request(organization, "first")])
        made_by.clear()
        for size in (ON_LOOP_EVENTS, ON_LOOP_EVENTS + 1):
            one = request(organization, *(f"{size}-{number}" for number in range(size)))
            await writer.append([one])
            assert one.is_stored
        await writer.close()

    monkeypatch.setattr(writer_module, "_encoded", noted)
    asyncio.run(append())
    assert made_by == [(ON_LOOP_EVENTS, True), (ON_LOOP_EVENTS + 1, False)]


def test_what_was_sent_is_given_back(dsn: str, db: Any, organization: UUID) -> None:
    transaction = 'quote " backslash \\ comma , brace } null € \n'
    sent = request(organization, transaction, "NULL", "{}")
    store(open_connection(dsn), Memory(), [sent])
    for name in (transaction, "NULL", "{}"):
        found = events.by_transaction_id(db, organization_id=organization, transaction_id=name)
        assert found is not None
        assert found.transaction_id == name
        assert found.properties == {"tokens": 1, "note": 'a"\\b', "ü": "€"}
    assert events.by_transaction_id(db, organization_id=new_id(NOW), transaction_id=transaction) is None


def test_an_identity_lies_in_the_range_of_its_transaction() -> None:
    organization = new_id(NOW)
    first, last = transaction_range(organization.bytes, "t")
    identities = set(event_identities(organization.bytes, ["a", "b", None], ["t"] * 3))
    assert len(identities) == 3
    assert all(first <= UUID(bytes=identity) <= last for identity in identities)
    again = event_identities(organization.bytes, ["a", "a", None], ["t", "u", "t"])
    assert again[0] in identities
    assert not identities & set(again[1:])


def test_writers_that_race_store_every_event_once(dsn: str, db: Any, organization: UUID) -> None:
    """Four writers with overlapping batches in different orders; a refused one is split until all are in."""
    names = [f"t{number}" for number in range(400)]
    problems: list[Exception] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        conn, memory = open_connection(dsn), Memory()
        try:
            todo = [chance.sample(names, 40) for _ in range(30)]
            while todo:
                group = [request(organization, *todo.pop()) for _ in range(min(3, len(todo)))]
                store(conn, memory, group)
                for one in group:
                    assert one.duplicates is not None
                    rest = [d.transaction_id for i, d in enumerate(one.drafts) if i not in one.duplicates]
                    if one.duplicates and rest:
                        todo.append(rest)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    row = db.execute("select count(*), count(distinct transaction_id) from event").fetchone()
    assert row[0] == row[1]
    assert row[0] > 390


def test_metering_may_change_while_events_come_in(dsn: str, db: Any, organization: UUID) -> None:
    """Two writers and a roll-up run while the metric gets and loses dimensions: no event under a stale encoding."""
    metric_id = new_id(NOW)
    db.execute(
        "insert into billable_metric (id, organization_id, name, code, aggregation_type, field_name, created_at,"
        " updated_at) values (%s, %s, 'm', 'c', 'sum_agg', 'tokens', %s, %s)",
        [metric_id, organization, NOW, NOW],
    )
    db.commit()
    done = threading.Event()
    problems: list[Exception] = []
    stored = [0, 0]

    def write(number: int) -> None:
        conn, memory = open_connection(dsn), Memory()
        try:
            while not done.is_set() or stored[number] < 500:
                drafts = [
                    Draft(f"{number}-{stored[number] + i}", "c", "s", microseconds(NOW), None,
                          {"model": "ab"[i % 2], "type": "xyz"[i % 3], "tokens": 1})
                    for i in range(20)
                ]  # fmt: skip
                try:
                    store(conn, memory, [Request(organization, drafts, microseconds(NOW))])
                except psycopg.ProgrammingError as error:
                    assert error.sqlstate == METERING_CHANGING
                    continue
                stored[number] += 20
        except Exception as error:
            problems.append(error)

    def fold() -> None:
        try:
            with psycopg.connect(dsn) as conn:
                while not done.is_set():
                    rollup.roll_up(conn, limit=300)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)] + [threading.Thread(target=fold)]
    for thread in threads:
        thread.start()
    for keys in (["model"], ["model", "type"], ["type"], [], ["model", "type"]):
        db.execute("delete from billable_metric_filter where billable_metric_id = %s", [metric_id])
        for key in keys:
            db.execute("insert into billable_metric_filter values (%s, %s, '{a}', 0)", [metric_id, key])
        keeping.refresh(db, organization_id=organization, code="c")
        db.commit()
    done.set()
    for thread in threads:
        thread.join(60)
    assert not problems
    rollup.roll_up(db)
    assert rollup.verify(db) == []
    rows = db.execute(
        "select s.dimensions ->> 'model', s.dimensions ->> 'type', count(*), sum(e.value), count(e.extra)"
        " from event e join series s on s.id = e.series_id group by 1, 2"
    ).fetchall()
    assert len(rows) == 6
    assert all(model and kind and total == value and not extra for model, kind, total, value, extra in rows)
    assert sum(row[2] for row in rows) == sum(stored)


def use_of(organization: UUID, names: Sequence[str], nth: int) -> Request:
    """An event of the nth round for each of these subscriptions, that is a series each."""
    at = microseconds(NOW)
    return Request(organization, [Draft(f"{nth}-{name}", "c", name, at, None, {}) for name in names], at)


def last_series_id(db: psycopg.Connection[Any]) -> int:
    row = db.execute("select last_value from series_id_seq").fetchone()
    db.commit()
    assert row is not None
    return int(row[0])


def test_series_that_are_not_remembered_burn_no_ids(
    dsn: str, db: Any, organization: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(20_000)]
    each_takes = series_bytes((names[-1], (False,)))
    conn, memory, chance = open_connection(dsn), Memory(2 * 2_000 * each_takes), random.Random(1)
    for place in range(0, len(names), 2_000):
        store(conn, memory, [use_of(organization, names[place : place + 2_000], 0)])
    made = last_series_id(db)
    inserted: list[int] = []
    real = metering._ids

    def counted(conn: Any, wanted: Any) -> Any:
        inserted.append(1)
        return real(conn, wanted)

    monkeypatch.setattr(metering, "_ids", counted)
    for nth in range(1, 11):
        store(conn, memory, [use_of(organization, chance.sample(names, 2_000), nth)])
        assert sum(len(each.ids) + len(each.older) for each in memory.series.values()) <= 2 * 2_000 + 2_000
    assert last_series_id(db) == made
    assert len(inserted) == 10  # one look-up for each group, and nothing to make
    assert db.execute("select count(*), count(distinct series_id) from event").fetchone() == (40_000, 20_000)


def test_series_in_use_stay_remembered_while_others_come_and_go(
    dsn: str, organization: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, memory = open_connection(dsn), Memory(2 * 100 * series_bytes(("busy49", (False,))))
    busy = [f"busy{number}" for number in range(50)]
    store(conn, memory, [use_of(organization, busy, 0)])
    asked: list[int] = []
    real = metering.intern

    def counting(conn: psycopg.Connection[Any], wanted: Any) -> Any:
        asked.append(len(wanted))
        return real(conn, wanted)

    monkeypatch.setattr(metering, "intern", counting)
    for nth in range(1, 40):
        passing = [f"{nth}-{number}" for number in range(20)]
        store(conn, memory, [use_of(organization, [*busy, *passing], nth)])
    assert asked == [20] * 39  # the passing ones alone


def test_codes_in_use_stay_remembered_while_others_come_and_go(
    dsn: str, db: Any, organization: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "CODES_REMEMBERED", 10)
    conn, memory = open_connection(dsn), Memory()
    for nth in range(40):
        store(
            conn, memory, [request(organization, f"t{nth}", code=f"c{nth}"), request(organization, f"u{nth}")]
        )
        known = memory.meterings[organization].by_code
        assert {"c", f"c{nth}"} <= known.keys()
        assert len(known) <= 12
    assert count(db) == 80


def test_writers_that_meet_new_series_at_once_agree(dsn: str, db: Any, organization: UUID) -> None:
    names = [f"s{number}" for number in range(200)]

    def write(nth: int) -> None:
        conn, memory = open_connection(dsn), Memory()
        for place in range(0, 200, 20):
            store(conn, memory, [use_of(organization, names[place : place + 20], nth)])

    threads = [threading.Thread(target=write, args=(nth,)) for nth in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    row = db.execute("select count(*), count(distinct series_id) from event").fetchone()
    assert row == (800, 200)


def with_dimension(db: Any, organization: UUID) -> None:
    """The metric `c`, which sums tokens by model."""
    metric_id = new_id(NOW)
    db.execute(
        "insert into billable_metric (id, organization_id, name, code, aggregation_type, field_name, created_at,"
        " updated_at) values (%s, %s, 'm', 'c', 'sum_agg', 'tokens', %s, %s)",
        [metric_id, organization, NOW, NOW],
    )
    db.execute("insert into billable_metric_filter values (%s, 'model', '{a}', 0)", [metric_id])
    keeping.refresh(db, organization_id=organization, code="c")
    db.commit()


def of_model(organization: UUID, name: str, *models: str) -> Request:
    at = microseconds(NOW)
    drafts = [
        Draft(f"{name}{nth}", "c", "s", at, None, {"model": model, "tokens": 1})
        for nth, model in enumerate(models)
    ]
    return Request(organization, drafts, at)


def test_a_dimension_is_bounded_and_what_is_stored_stays(dsn: str, db: Any, organization: UUID) -> None:
    conn, memory = open_connection(dsn), Memory()
    long = "m" * (NAME_MAX + 1)
    store(conn, memory, [of_model(organization, "before", long)])  # no dimension yet: a property like others
    with_dimension(db, organization)
    requests = [of_model(organization, "a", "x", long, "y"), of_model(organization, "b", "m" * NAME_MAX)]
    store(conn, memory, requests)
    assert [each.too_long for each in requests] == [{1: "model"}, {}]
    stored = db.execute(
        "select s.dimensions ->> 'model', e.value from event e join series s on s.id = e.series_id"
        " order by e.transaction_id"
    ).fetchall()
    assert stored == [("m" * NAME_MAX, 1), (long, 1)]
    db.execute("delete from billable_metric_filter")
    keeping.refresh(db, organization_id=organization, code="c")
    db.commit()
    again = of_model(organization, "c", long)
    store(conn, memory, [again])  # what it remembers is of yesterday: nothing is refused for that
    assert (again.too_long, again.duplicates) == ({}, [])


def test_the_memory_of_series_is_bounded_in_bytes(dsn: str, db: Any, organization: UUID) -> None:
    with_dimension(db, organization)
    conn, memory = open_connection(dsn), Memory(200_000)
    for nth in range(20):
        models = [f"{nth}-{number}".ljust(NAME_MAX, "x") for number in range(100)]
        store(conn, memory, [of_model(organization, f"{nth}-", *models)])
        remembered = [
            place for each in memory.series.values() for ids in (each.ids, each.older) for place in ids
        ]
        assert 100 < sum(map(series_bytes, remembered)) <= 200_000 + 100 * 700
    assert count(db) == 2_000


def test_a_series_that_a_change_of_metering_has_just_removed_is_made_again(
    dsn: str, db: Any, organization: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has it when it is inserted, and removes it before it is looked up."""
    removed: list[int] = []
    real = metering._insert_series

    def removing(conn: Any, new: Any, wanted: Any) -> None:
        real(conn, new, wanted)
        if not removed:
            removed.append(conn.execute("delete from series").rowcount)

    monkeypatch.setattr(metering, "_insert_series", removing)
    conn, drafts = open_connection(dsn), [Draft("t", "c", "s", microseconds(NOW), None, {"tokens": 1})]
    request = Request(organization, drafts, microseconds(NOW))
    store(conn, Memory(), [request])
    conn.close()
    assert (removed, request.duplicates) == ([1], [])
    assert db.execute("select count(*) from event").fetchone() == (1,)
