"""The same call of a model, at the same time to two servers, for two subscriptions: one of them counts it."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import psycopg

from permille.clock import system_now
from permille.usecases.organizations import add_key
from tests.live import PATIENCE_SECONDS, free_port, is_healthy, wait_until
from tests.usecases.world import make_world

from .test_two_of_each import program

ROUNDS, CALLS = 25, 10
CONTAINERS = 3
"""Sessions of a code interpreter of each round, which the answers of both subscriptions name."""


def _answer(name: str, container: str) -> dict[str, Any]:
    return {
        "id": f"resp_{name}",
        "object": "response",
        "model": "gpt-5.4-mini",
        "output": [{"type": "code_interpreter_call", "container_id": container}],
        "usage": {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110},
    }


def _usages(nth: int, subscription: str) -> list[dict[str, Any]]:
    return [
        {
            "provider": "openai",
            "response": _answer(f"{nth}-{number}", f"cntr_{nth}-{number % CONTAINERS}"),
            "external_subscription_id": subscription,
        }
        for number in range(CALLS)
    ]


def test_a_call_for_two_subscriptions_by_two_servers_counts_once(
    dsn: str, db: psycopg.Connection[Any]
) -> None:
    world = make_world(db, test_now=None)
    headers = {"Authorization": f"Bearer {add_key(db, world.id, name='k', now=system_now()).secret}"}
    db.commit()
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    start = threading.Barrier(2)

    def race(url: str, subscription: str) -> Counter[str]:
        """All rounds for one subscription, each at the same time as that of the other."""
        statuses: Counter[str] = Counter()
        with httpx2.Client(base_url=f"{url}/api/v1", headers=headers, timeout=PATIENCE_SECONDS) as client:
            for nth in range(ROUNDS):
                start.wait(60)
                answer = client.post("/llm/usage", json={"usages": _usages(nth, subscription)})
                assert answer.status_code == 200, answer.text
                statuses.update(each["status"] for each in answer.json()["usages"])
        return statuses

    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(program(dsn, "serve", "--port", str(port)))
        wait_until(lambda: all(map(is_healthy, urls)))
        with httpx2.Client(base_url=f"{urls[0]}/api/v1", headers=headers, timeout=PATIENCE_SECONDS) as client:
            _two_subscriptions(client)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(race, urls, ("one", "two")))
        statuses = found[0] + found[1]
        assert statuses == {"counted": ROUNDS * CALLS, "repeated": ROUNDS * CALLS}
        named = "select count(*), count(distinct transaction_id) from event"
        assert db.execute(named).fetchone() == (ROUNDS * (2 * CALLS + CONTAINERS),) * 2


def _two_subscriptions(client: httpx2.Client) -> None:
    model = {"provider": "openai", "model": "gpt-5.4-mini", "prices": {"input": "1", "output": "2"}}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("/llm/setup", {"setup": {"plan_code": "models", "currency": "USD", "models": [model]}}),
        ("/customers", {"customer": {"external_id": "c", "currency": "USD"}}),
    ]
    for name in ("one", "two"):
        subscription = {"external_customer_id": "c", "plan_code": "models", "external_id": name}
        sent.append(("/subscriptions", {"subscription": subscription}))
    for path, body in sent:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
