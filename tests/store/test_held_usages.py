"""What is kept aside of language models: whoever locks several of it does so in one order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.llm.payer import PayerName, PayerRule
from permille.store import held_usages, organizations
from permille.store.held_usages import HeldUsage

AT = datetime(2026, 2, 1, tzinfo=UTC)
FIRST, SECOND = "a", "b"
IS_WAITING = "select exists (select from pg_locks where pid = %s and not granted)"

Connection = psycopg.Connection[Any]


def held(owner: UUID, number: int, identity: str) -> HeldUsage:
    return HeldUsage(
        id=UUID(int=number),
        organization_id=owner,
        identity=identity,
        provider="openai",
        model="m",
        code="subscription_missing",
        message="",
        external_subscription_id=None,
        external_customer_id=None,
        at=AT,
        properties={},
        sent={},
        payer_names={"team": ["t"]},
        is_payer_requested=False,
        created_at=AT,
    )


def rule(owner: UUID) -> PayerRule:
    return PayerRule(
        id=UUID(int=1),
        organization_id=owner,
        field=PayerName.TEAM,
        value="t",
        external_subscription_id="sub",
        external_customer_id=None,
        overrides_request=True,
        created_at=AT,
    )


def note(conn: Connection, owner: UUID) -> None:
    names = [SECOND, FIRST]
    conn.execute(
        "select note_counted(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[])",
        [[owner] * 2, names, ["sub"] * 2, [AT] * 2],
    )


LOCKERS: dict[str, Callable[[Connection, UUID], object]] = {
    "rules": lambda conn, owner: held_usages.waiting_for(conn, rule(owner), after=None, limit=9),
    "counted": lambda conn, owner: held_usages.counted(conn, owner, {SECOND: "sub", FIRST: "sub"}, now=AT),
    "noted": note,
    "kept": lambda conn, owner: held_usages.add(conn, [held(owner, 8, SECOND), held(owner, 9, FIRST)]),
}


@pytest.mark.parametrize("name", LOCKERS)
def test_a_second_one_waits_for_the_first_and_has_locked_nothing_by_then(dsn: str, name: str) -> None:
    """Ids and rows are in the other order than the identities."""
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two, ThreadPoolExecutor(1) as threads:
        owner = organizations.add(one, name="o", test_now=AT, entity={}, now=AT).id
        held_usages.add(one, [held(owner, 1, SECOND)])
        held_usages.add(one, [held(owner, 2, FIRST)])
        one.commit()
        assert [each.identity for each in held_usages.waiting(one, owner, [FIRST])] == [FIRST]
        later = threads.submit(LOCKERS[name], two, owner)
        while one.execute(IS_WAITING, [two.info.backend_pid]).fetchone() == (False,):
            assert not later.done()
        one.execute("set local lock_timeout = '5s'")
        assert len(held_usages.waiting(one, owner, [FIRST, SECOND])) == 2
        one.commit()
        later.result()
