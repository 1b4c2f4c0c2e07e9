"""What is asked on the event loop about calls of models is what a thread is answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from permille.database.connections import Limits, LoopConnections
from permille.usecases import llm_usages

from .conftest import NOW, Client, Talk
from .test_planned import chat


def test_a_look_on_the_loop_says_what_one_in_a_thread_says(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any], dsn: str
) -> None:
    async def conversation(client: Client) -> None:
        first, second = chat(), chat()
        await client.send(first)
        event = {"transaction_id": f"openai:{second['response']['id']}", "code": "any", "properties": {}}
        await client.post("/events", {"event": {**event, "external_subscription_id": "other"}})
        alias = {"name": "openai/mine", "model": 'openai/"own"'}
        await client.post("/llm/model_aliases", {"model_alias": alias})
        plans = (await client.get("/plans"))["plans"]
        ended = {"external_customer_id": "cus", "plan_code": plans[0]["code"], "external_id": 'en"ded'}
        await client.post("/subscriptions", {"subscription": ended})
        await client.http.delete("/api/v1/subscriptions/en%22ded")
        db.rollback()
        row = db.execute("select id from organization").fetchone()
        assert row is not None
        identities = [f"openai:{each['response']['id']}" for each in (first, second, chat())]
        conns = LoopConnections(dsn, size=1, name="test")
        for names in (["sub"], ["sub", 'en"ded']):
            seen = llm_usages.look(db, row[0], identities=identities, subscriptions=names, customers=())
            assert len(seen.counted) == 2
            for _ in range(7):  # more than the five after which a statement is prepared
                found = await llm_usages.look_at_once(
                    conns, row[0], identities=identities, subscriptions=names
                )
                assert found == seen
            assert found is not None
            for at in (NOW - timedelta(days=1), NOW, NOW + timedelta(days=1)):
                assert [found.payer(name, None, at) for name in names] == [
                    seen.payer(name, None, at) for name in names
                ]
        assert (
            await llm_usages.look_at_once(conns, row[0], identities=identities, subscriptions=["cus"]) is None
        )
        await conns.close()

    talk(conversation)


def test_a_connection_on_the_loop_that_was_lost_is_opened_again(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any], dsn: str
) -> None:
    async def conversation(_: Client) -> None:
        conns = LoopConnections(dsn, size=1, name="test")
        (number,) = await conns.row("select pg_backend_pid()", [])
        assert await conns.row("select pg_backend_pid()", []) == (number,)
        db.execute("select pg_terminate_backend(%s, 5000)", [number])
        (other,) = await conns.row("select pg_backend_pid()", [])
        assert other != number
        with pytest.raises(psycopg.Error):
            await conns.row("select no such thing", [])
        assert await conns.row("select 1", []) == (1,)
        await conns.close()

    talk(conversation)


def test_a_connection_on_the_loop_has_the_limits_of_requests(talk: Callable[[Talk], None], dsn: str) -> None:
    async def conversation(_: Client) -> None:
        conns = LoopConnections(dsn, size=1, name="test", limits=Limits(statement=7, lock=3, idle=5))
        settings = await conns.row(
            "select current_setting('TimeZone'), current_setting('statement_timeout'),"
            " current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')",
            [],
        )
        assert settings == ("UTC", "7s", "3s", "5s")
        await conns.close()

    talk(conversation)
