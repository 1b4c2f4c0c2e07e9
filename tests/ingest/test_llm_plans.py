"""What is asked of the database for a request of usage reads no table as a whole, however much is in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg

from .conftest import Client, Talk
from .test_llm_usage import chat

MANY, AT_ONCE = 4_000, 1_000
TABLES = ["event", "series", "subscription", "customer", "held_usage", "unknown_model_call", "counted_once"]


def _sequential_scans(db: psycopg.Connection[Any]) -> dict[str, int]:
    rows = db.execute(
        "select relname, seq_scan from pg_stat_user_tables where relname = any(%s)", [TABLES]
    ).fetchall()
    db.rollback()
    return dict(rows)


async def _crowd(client: Client, db: psycopg.Connection[Any]) -> None:
    """Thousands of rows in each of the tables."""
    for first in range(0, MANY, AT_ONCE):
        events = [
            {
                "transaction_id": f"t{n}",
                "code": "llm_tokens",
                "external_subscription_id": f"other-{n}",
                "properties": {"quantity": n},
            }
            for n in range(first, first + AT_ONCE)
        ]
        await client.post("/events/batch", {"events": events})
    unknown = chat(0, external_subscription_id="nobody")
    unnamed = {**chat(-1), "provider": "azure", "model": "own-name"}
    found = await client.send(unknown, unnamed)
    assert [each["status"] for each in found] == ["held", "counted"]
    numbers = f"generate_series(1, {MANY}) as copy (n)"
    for table, own, copy in (
        ("customer", "'id', gen_random_uuid(), 'external_id', n, 'slug', n, 'sequential_id', n + 1", numbers),
        ("subscription", "'id', gen_random_uuid(), 'external_id', copy.id, 'customer_id', copy.id, 'next_billing_at', null",
            "(select id from customer where external_id <> 'cus') as copy"),
        ("held_usage", "'id', gen_random_uuid(), 'identity', n", numbers),
        ("unknown_model_call", "'identity', n", numbers),
    ):  # fmt: skip
        db.execute(
            f"insert into {table} select (jsonb_populate_record(t, jsonb_build_object({own}))).*"
            f" from {table} t, {copy} where t.ctid = (select ctid from {table} limit 1)"
        )
    db.execute(f"insert into counted_once select gen_random_uuid() from {numbers}")
    db.execute("analyze")
    db.commit()


def test_a_request_of_usage_reads_no_table_as_a_whole(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any]
) -> None:
    async def conversation(client: Client) -> None:
        await _crowd(client, db)
        await asyncio.sleep(1.1)  # a connection reports what it did once a second
        before = _sequential_scans(db)
        for number in range(1, 9):  # more than the five after which a statement is prepared
            found = await client.send(
                chat(number),
                chat(number + 100, external_subscription_id=None, external_customer_id="cus"),
                chat(number + 200, external_subscription_id="nobody"),
                {**chat(number + 300), "provider": "azure", "model": "own-name"},
                chat(number),
            )
            assert [each["status"] for each in found] == ["counted", "counted", "held", "counted", "repeated"]
        await asyncio.sleep(1.1)
        await client.send(chat(1))
        assert _sequential_scans(db) == before
        db.execute("select max(value) from event")
        db.execute("select pg_stat_force_next_flush()")
        db.commit()
        assert _sequential_scans(db) != before  # it would have been seen

    talk(conversation)
