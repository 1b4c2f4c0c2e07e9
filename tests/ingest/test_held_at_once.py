"""Calls that are kept aside by several senders at once: nobody waits in a circle, and who is in the way is no crash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from permille.core.llm.call import PreparedCall, Problem, SentCall
from permille.core.llm.read import SentUsage
from permille.usecases import llm_usages

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


def test_calls_kept_aside_are_locked_in_one_order(
    talk: Callable[[Talk], None], db: psycopg.Connection[Any], dsn: str
) -> None:
    async def conversation(_: Client) -> None:
        db.rollback()
        row = db.execute("select id from organization").fetchone()
        assert row is not None
        owner = row[0]
        calls = [prepared("b", "subscription_missing"), prepared("a", "total_mismatch")]
        for each in calls:
            llm_usages.hold(db, owner, [each], now=NOW)
        db.commit()
        db.execute("select from held_usage where identity = 'a' for update")

        def work() -> None:
            with psycopg.connect(dsn, application_name="at-once") as conn:
                llm_usages.hold(conn, owner, calls, now=NOW)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            wait_for_a_lock(dsn)
            db.execute("select from held_usage where identity = 'b' for update nowait")
        finally:
            db.rollback()
            worker.join()

    talk(conversation)


def wait_for_a_lock(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for _ in range(1_000):
            row = conn.execute(
                "select wait_event_type from pg_stat_activity"
                " where application_name = 'at-once' and datname = current_database()"
            ).fetchone()
            if row and row[0] == "Lock":
                return
            time.sleep(0.005)
    raise AssertionError("nobody waits")


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
