"""Calls that are kept aside by several senders at once: nobody waits in a circle, and who is in the way is no crash."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from permille.core.llm.call import PreparedCall, Problem, SentCall
from permille.core.llm.read import SentUsage
from permille.usecases import llm_usages
from tests.live import wait_until

from .conftest import NOW, Client, Talk
from .test_planned import chat


def prepared(name: str, code: str) -> PreparedCall:
    sent = SentCall(
        usage=SentUsage(provider="openai", usage={"input_tokens": 1}),
        external_subscription_id=None,
        external_customer_id=None,
        at=NOW,
        properties={},
    )
    return PreparedCall(
        sent=sent,
        identity=name,
        external_subscription_id=None,
        problem=Problem(code=code, message="For this test."),
    )


def test_calls_that_two_keep_aside_in_different_orders_are_kept(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any], dsn: str
) -> None:
    async def conversation(client: Client) -> None:
        db.rollback()
        row = db.execute("select id from organization").fetchone()
        assert row is not None
        owner = row[0]
        first, second = (prepared(name, "subscription_missing") for name in ("a", "b"))

        def keep(*calls: PreparedCall) -> None:
            with psycopg.connect(dsn, application_name="at-once") as conn:
                llm_usages.hold(conn, owner, calls, now=NOW)

        llm_usages.hold(db, owner, [first], now=NOW)
        with ThreadPoolExecutor() as pool:
            other = pool.submit(keep, second, first)
            wait_for_a_lock(dsn)
            llm_usages.hold(db, owner, [second], now=NOW)
            db.commit()
            other.result()
        assert len((await client.get("/llm/held_usages"))["held_usages"]) == 2

    talk(conversation)


def wait_for_a_lock(dsn: str) -> None:
    waits = (
        "select from pg_stat_activity where application_name = 'at-once' and datname = current_database()"
        " and wait_event_type = 'Lock'"
    )
    with psycopg.connect(dsn, autocommit=True) as conn:
        wait_until(lambda: conn.execute(waits).fetchone() is not None)


@pytest.mark.parametrize("error", [psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled])
def test_a_question_that_others_were_in_the_way_of_is_to_be_sent_again(
    talk: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch, error: type[psycopg.Error]
) -> None:
    async def conversation(client: Client) -> None:
        sent = {"usages": [without_payer(chat())]}
        with monkeypatch.context() as patch:
            patch.setattr(llm_usages, "hold", failing(error))
            refused = await client.post("/llm/usage", sent, 503)
        assert refused["code"] == "took_too_long"
        (held,) = (await client.post("/llm/usage", sent))["usages"]
        assert held["problem"]["code"] == "subscription_missing"

    talk(conversation)


def without_payer(usage: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if name != "external_subscription_id"}


def failing(error: type[psycopg.Error]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("in the way")

    return fail
