"""Series that are to be looked at are noted in the order of their ids, by all who note them."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import psycopg

from permille.events.postgres import rollup, series
from permille.store import organizations
from tests.live import PATIENCE_SECONDS

NOW = datetime(2026, 10, 1, tzinfo=UTC)
_WAITS = "select exists (select from pg_locks where not granted and locktype = 'transactionid')"


def test_who_waits_for_another_to_note_a_series_has_noted_none_after_it(
    db: psycopg.Connection[Any], dsn: str
) -> None:
    organization = organizations.add(db, name="test", test_now=NOW, entity={}, now=NOW).id
    rows = db.execute(
        "insert into series (organization_id, external_subscription_id, code, metering_version, dimensions, identity)"
        " select %s, name, 'code', 0, '{}', gen_random_uuid() from unnest(%s::text[]) as name returning id",
        [organization, ["z", "b", "a"]],
    ).fetchall()
    first, last = min(rows)[0], max(rows)[0]
    # The first is the last one both in the table and in the index of subscriptions.
    db.execute("update series set code = 'other' where id = %s", [first])
    db.commit()
    db.execute("insert into unchecked_series values (%s)", [first])

    def note() -> None:
        with psycopg.connect(dsn) as conn:
            series.look_again(conn, organization)

    other = threading.Thread(target=note)
    other.start()
    with psycopg.connect(dsn, autocommit=True) as watch:
        until = time.monotonic() + PATIENCE_SECONDS
        while watch.execute(_WAITS).fetchone() != (True,):
            assert time.monotonic() < until
            time.sleep(0.01)
        watch.execute("set lock_timeout = '300ms'")
        watch.execute("insert into unchecked_series values (%s)", [last])
    db.commit()
    other.join()


def test_the_roll_up_notes_them_in_that_order_too() -> None:
    assert "is_new order by series_id\non conflict do nothing" in rollup._BY_ARRIVAL
