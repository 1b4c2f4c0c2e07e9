"""The migration to identities in the order of time: what was stored before is found under the identity that it has now."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from shutil import copy
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import UndefinedFunction

from permille.core.instants import microseconds
from permille.database.migrate import MIGRATIONS, migrate
from permille.events.draft import Draft
from permille.events.identity import ORDERED_FROM, event_identities
from permille.events.log import Request
from permille.events.postgres import events
from permille.events.postgres.writer import METERING_CHANGED, Memory, open_connection, store
from permille.ids import new_ids
from tests.ingest.timed_ids import ids, timed_id

NOW = datetime(2026, 11, 30, tzinfo=UTC)
ORGANIZATION, OTHER, *_ = new_ids(NOW, 2)
VERSION = 177
_APPEND = (
    "select store_events(%s::uuid[], '{0}', array_fill(%s::bigint, array[%s]), array_fill(%s::timestamptz, array[%s]),"
    " array_fill(%s::timestamptz, array[%s]), %s::uuid[], array_fill(null::numeric, array[%s]), %s::text[],"
    " array_fill(null::numeric, array[%s]), array_fill(null::jsonb, array[%s]))"
)


def identity_before(organization: UUID, subscription: str, transaction_id: str) -> UUID:
    digest = blake2b(organization.bytes + transaction_id.encode(), digest_size=16).digest()
    number = int.from_bytes(blake2b(subscription.encode(), digest_size=8).digest(), "big")
    return UUID(int=int.from_bytes(digest, "big") ^ number)


def identity_now(organization: UUID, subscription: str, transaction_id: str) -> UUID:
    return UUID(bytes=event_identities(organization.bytes, [subscription], [transaction_id])[0])


@pytest.fixture
def before(empty_dsn: str, tmp_path: Path) -> str:
    """A database of the version before, with a series of the subscription s in each of two organizations."""
    for path in MIGRATIONS.glob("*.sql"):
        if int(path.name[:4]) < VERSION:
            copy(path, tmp_path)
    migrate(empty_dsn, folder=tmp_path)
    with psycopg.connect(empty_dsn) as conn:
        for organization in (ORGANIZATION, OTHER):
            conn.execute(
                "insert into organization (id, name, hmac_key, created_at, updated_at) values (%s, 'O', '', now(), now())",
                [organization],
            )
            conn.execute(
                "insert into series (organization_id, external_subscription_id, code, metering_version, dimensions, identity)"
                " values (%s, 's', 'c', 0, '{}', gen_random_uuid())",
                [organization],
            )
    return empty_dsn


def append_as_before(
    conn: psycopg.Connection[Any], organization: UUID, transaction_ids: Sequence[str]
) -> None:
    """What a server of the version before does."""
    row = conn.execute("select id from series where organization_id = %s", [organization]).fetchone()
    assert row is not None
    n = len(transaction_ids)
    identities = [identity_before(organization, "s", each) for each in transaction_ids]
    at = [NOW, n]
    conn.execute(_APPEND, [[organization], row[0], n, *at, *at, identities, n, list(transaction_ids), n, n])


def transaction_ids_of(dsn: str) -> dict[tuple[UUID, str], UUID]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "select s.organization_id, e.transaction_id, e.identity from sent_event e join series s on s.id = e.series_id"
        )
        return {(organization, name): identity for organization, name, identity in rows}


def apply(dsn: str, folder: Path) -> None:
    """The migration alone, whatever followed it."""
    for path in MIGRATIONS.glob(f"{VERSION:04}_*.sql"):
        copy(path, folder)
    migrate(dsn, folder=folder)


def repeated(dsn: str, organization: UUID, transaction_ids: Sequence[str]) -> list[list[int] | None]:
    """How each goes that is sent once more."""
    sent = microseconds(NOW)
    requests = [
        Request(organization, [Draft(each, "c", "s", sent, None, {})], sent) for each in transaction_ids
    ]
    store(open_connection(dsn), Memory(), requests)
    return [each.duplicates for each in requests]


def test_every_event_of_before_has_the_identity_that_a_repeat_has(before: str, tmp_path: Path) -> None:
    names = ids(random.Random(1), 1_500)
    with psycopg.connect(before) as conn:
        for organization in (ORGANIZATION, OTHER):
            append_as_before(conn, organization, names)
    apply(before, tmp_path)
    wanted = {
        (organization, name): identity_now(organization, "s", name)
        for organization in (ORGANIZATION, OTHER)
        for name in names
    }
    assert transaction_ids_of(before) == wanted
    moved = sum(
        identity != identity_before(organization, "s", name)
        for (organization, name), identity in wanted.items()
    )
    assert 500 < moved < 2_000
    migrate(before)
    assert repeated(before, ORGANIZATION, names) == [[0]] * len(names)
    fresh = [name for name in ids(random.Random(2), 300) if name not in names]
    assert repeated(before, ORGANIZATION, fresh) == [[]] * len(fresh)
    assert repeated(before, ORGANIZATION, fresh) == [[0]] * len(fresh)
    with psycopg.connect(before) as conn:
        assert events.known_transactions(conn, OTHER, [*names, "absent"]) == set(names)


def test_what_refers_to_an_event_follows_it(before: str, tmp_path: Path) -> None:
    chance = random.Random(3)
    late, early = timed_id(chance, ORDERED_FROM + 5), timed_id(chance, ORDERED_FROM - 5)
    names = {name: identity_before(ORGANIZATION, "s", name) for name in (late, early)}
    voided, replaced, own = new_ids(NOW, 3)
    queues = ("advance_event", "unpriced_advance_event", "held_advance_event")
    with psycopg.connect(before) as conn:
        append_as_before(conn, ORGANIZATION, list(names))
        for number, identity in enumerate(names.values()):
            conn.execute(
                "insert into advance_event (organization_id, seq, identity) values (%s, %s, %s)",
                [ORGANIZATION, number, identity],
            )
            conn.execute(
                "insert into unpriced_advance_event (organization_id, seq, identity, charge_ids, due_at, retry_at)"
                " values (%s, %s, %s, '{}', now(), now())",
                [ORGANIZATION, number, identity],
            )
            conn.execute(
                "insert into held_advance_event (customer_id, organization_id, seq, identity, due_at)"
                " values (%s, %s, %s, %s, now())",
                [own, ORGANIZATION, number, identity],
            )
            conn.execute(
                "insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id, created_at)"
                " values (gen_random_uuid(), %s, %s, 'event.error', 'event_error', %s, now())",
                [ORGANIZATION, own, identity],
            )
        for amendment, name, kind in ((replaced, late, "replace"), (voided, late, "void")):
            conn.execute(
                "insert into event_amendment (id, organization_id, transaction_id, event_identity, event_transaction_id,"
                " external_subscription_id, kind, reason, created_at) values (%s, %s, %s, %s, %s, 's', %s, 'r', now())",
                [amendment, ORGANIZATION, kind, names[name], name, kind],
            )
        conn.execute(
            "insert into event (seq, series_id, at, created_at, identity, transaction_id) overriding system value"
            " select seq, series_id, at, created_at, %s, transaction_id from event where identity = %s",
            [replaced, names[late]],
        )
        conn.execute(
            "insert into struck_event (identity, amendment_id) values (%s, %s), (%s, %s)",
            [names[late], replaced, replaced, voided],
        )
    apply(before, tmp_path)
    now = {name: identity_now(ORGANIZATION, "s", name) for name in names}
    assert now[late] != names[late]
    assert now[early] == names[early]
    with psycopg.connect(before) as conn:
        for queue in queues:
            rows = conn.execute(f"select identity from {queue} order by seq").fetchall()
            assert [identity for (identity,) in rows] == list(now.values())
        objects = {found for (found,) in conn.execute("select object_id from webhook")}
        assert objects == set(now.values())
        amended = conn.execute("select id, event_identity from event_amendment order by position").fetchall()
        assert amended == [(replaced, now[late]), (voided, now[late])]
        assert set(conn.execute("select * from struck_event")) == {(now[late], replaced), (replaced, voided)}
        rows = conn.execute("select identity from event where transaction_id = %s", [late]).fetchall()
        assert {identity for (identity,) in rows} == {now[late], replaced}
        for table in ("event_amendment", "struck_event"):
            with pytest.raises(psycopg.errors.RaiseException), conn.transaction():
                conn.execute(f"delete from {table}")


def test_a_server_of_the_version_before_stores_nothing_under_the_old_rule(
    before: str, tmp_path: Path
) -> None:
    """One call is under way when the migration begins: it is waited for. One waits for the migration, one comes after it."""
    chance = random.Random(4)
    first, second, third = (timed_id(chance, ORDERED_FROM + number) for number in range(3))
    refused: list[str | None] = []

    def call_meanwhile() -> None:
        with psycopg.connect(before) as conn:
            try:
                append_as_before(conn, ORGANIZATION, [second])
            except psycopg.Error as error:
                refused.append(error.sqlstate)

    with psycopg.connect(before) as under_way, psycopg.connect(before, autocommit=True) as looking:
        append_as_before(under_way, ORGANIZATION, [first])
        threads = [threading.Thread(target=apply, args=(before, tmp_path))]
        threads[0].start()
        wait_for_waiting(looking, 1)
        threads.append(threading.Thread(target=call_meanwhile))
        threads[1].start()
        wait_for_waiting(looking, 2)
        under_way.commit()
        for thread in threads:
            thread.join(30)
    assert refused == [METERING_CHANGED]
    with psycopg.connect(before) as conn, pytest.raises(UndefinedFunction):
        append_as_before(conn, ORGANIZATION, [third])
    assert transaction_ids_of(before) == {(ORGANIZATION, first): identity_now(ORGANIZATION, "s", first)}


def wait_for_waiting(conn: psycopg.Connection[Any], count: int) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    while conn.execute(waiting).fetchone() != (count,):
        pass
