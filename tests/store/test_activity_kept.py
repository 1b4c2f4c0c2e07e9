"""How long the audit log is kept: for ever, or as many days as a setting says."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from permille.config import Config
from permille.database.connections import open_pool
from permille.ids import new_id
from permille.store import activity, api_logs, organizations
from permille.store.activity import ActorKind
from permille.store.api_logs import LoggedRequest
from permille.usecases.activity import begin
from permille.worker import loops

NOW = datetime(2026, 10, 1, tzinfo=UTC)
AGES = (0, 29, 30, 31, 400)


@pytest.fixture(autouse=True)
def entries(db: psycopg.Connection[Any]) -> None:
    """A change of an organization so many days ago each."""
    organization = organizations.add(db, name="O", test_now=None, entity={}, now=NOW)
    db.commit()
    for age in AGES:
        begin(
            db,
            ActorKind.COMMAND_LINE,
            f"{age} days ago",
            organization=organization,
            now=NOW - timedelta(days=age),
        )
        db.execute("update organization set name = %s where id = %s", [f"O {age}", organization.id])
        db.commit()


def kept(db: psycopg.Connection[Any]) -> list[int]:
    """The ages of entries that name what they have changed."""
    rows = db.execute(
        "select e.operation from audit_entry e where exists (select from audit_change c where c.entry_id = e.id)"
        " order by e.at desc"
    ).fetchall()
    assert db.execute("select count(distinct entry_id) from audit_change").fetchone() == (len(rows),)
    db.commit()
    return [int(operation.split()[0]) for (operation,) in rows]


@pytest.mark.parametrize(("days", "expected"), [(0, [0, 29, 30, 31, 400]), (30, [0, 29, 30]), (1, [0])])
def test_a_worker_deletes_what_is_older_than_the_setting_says(
    dsn: str, db: psycopg.Connection[Any], days: int, expected: list[int]
) -> None:
    (loop,) = (
        each for each in loops(Config(audit_days=days), threading.Event()) if each.name == "old audit entries"
    )
    with open_pool(dsn, size=1, name="test") as pool:
        turns = 0
        while loop.step(pool, NOW):
            turns += 1
    assert kept(db) == expected
    assert turns == (days > 0)


def test_logged_requests_are_deleted_too(dsn: str, db: psycopg.Connection[Any]) -> None:
    owner = organizations.add(db, name="logged", test_now=None, entity={}, now=NOW).id
    common: Any = {
        "organization_id": owner,
        "api_key_id": owner,
        "method": "post",
        "path": "/plans",
        "client": "",
        "origin": "",
        "status": 200,
        "body": None,
        "answer": None,
        "duration_ms": 1,
    }
    for days in AGES:
        at = NOW - timedelta(days=days)
        api_logs.add(db, [LoggedRequest(id=new_id(at), request_id=str(days), at=at, **common)])
    db.commit()
    (loop,) = (
        each
        for each in loops(Config(api_log_days=30), threading.Event())
        if each.name == "old logged requests"
    )
    with open_pool(dsn, size=1, name="test") as pool:
        assert loop.step(pool, NOW)
        assert not loop.step(pool, NOW)
    assert [row[0] for row in db.execute("select request_id from api_log order by id desc")] == [
        "0",
        "29",
        "30",
    ]


def test_it_is_deleted_in_steps_the_oldest_first(db: psycopg.Connection[Any]) -> None:
    found = []
    while activity.delete_older(db, before=NOW, limit=2):
        found.append(kept(db))
    assert found == [[0, 29, 30], [0]]
