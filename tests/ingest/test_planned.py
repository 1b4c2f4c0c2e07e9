"""Usage of language models that plans fit is answered and stored as if it had been read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from permille.core.llm.plan import CallTerms
from permille.ingest import plans
from permille.ingest.calls import CallStore

from .conftest import Client, Talk


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls of each request were read."""
    found: list[int] = []
    take = CallStore.take

    async def noted(self: CallStore, *given: Any, **named: Any) -> Any:
        if not named["is_dry_run"]:
            found.append(len(given[1]))
        return await take(self, *given, **named)

    monkeypatch.setattr(CallStore, "take", noted)
    return found


def names() -> Iterator[int]:
    yield from range(1_000_000)


NAMES = names()


def chat(**more: Any) -> dict[str, Any]:
    number = next(NAMES)
    answer = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_790_000_000 + number,
        "model": "gpt-5.4-mini-2026-03-17",
        "choices": [{"message": {"content": f"words {number}"}}],
        "usage": {
            "prompt_tokens": 100 + number,
            "completion_tokens": 30,
            "total_tokens": 130 + number,
            "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }
    return {"provider": "openai", "response": answer, "external_subscription_id": "sub", **more}


def message(**more: Any) -> dict[str, Any]:
    number = next(NAMES)
    answer = {
        "id": f"msg_{number}",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": f"words {number}"}],
        "usage": {
            "input_tokens": 5 + number,
            "cache_read_input_tokens": 1 + number,
            "output_tokens": 9,
            "server_tool_use": {"web_search_requests": 1 + number % 3},
        },
    }
    return {"provider": "anthropic", "response": answer, "external_subscription_id": "sub", **more}


def usage_alone(**more: Any) -> dict[str, Any]:
    number = next(NAMES)
    usage = {"promptTokenCount": 3 + number, "candidatesTokenCount": 4, "totalTokenCount": 7 + number}
    return {
        "provider": "gcp.vertex_ai",
        "model": "gemini-2.5-pro",
        "id": f"id/{number}",
        "usage": usage,
        "external_customer_id": "cus",
        **more,
    }


KINDS = [chat, message, usage_alone]


async def learn(client: Client, read: list[int], **more: Any) -> None:
    """Sends what is read, learned, and made a series of, until nothing is read any more."""
    for _ in range(6):
        read.clear()
        await client.send(*(kind(**more) for kind in KINDS))
        if not read:
            return
    raise AssertionError("they are never planned")


async def is_as_read(client: Client, read: list[int], calls: list[dict[str, Any]]) -> None:
    """What a request is answered by plans is what it is answered when it is read, and is what is stored."""
    shown = await client.post("/llm/usage", {"usages": calls, "dry_run": True})
    read.clear()
    answered = await client.post("/llm/usage", {"usages": calls})
    assert read == []
    assert {**answered, "dry_run": True} == shown
    stored = (await client.get("/events?per_page=1000"))["events"]
    by_id = {each["transaction_id"]: each for each in stored}
    for call in answered["usages"]:
        assert call["status"] == "counted"
        for event in call["events"]:
            assert event.items() <= by_id[event["transaction_id"]].items()


def test_planned_calls_are_answered_and_stored_as_if_read(
    talk: Callable[[Talk], None], read: list[int]
) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        await is_as_read(client, read, [kind() for kind in KINDS * 70])
        free = {
            "properties": {"feature": 'a "quoted" %s \\ ä', "type": "mine", "n": 1.50, "deep": {"a": [1]}}
        }
        await is_as_read(client, read, [kind(**free) for kind in KINDS])
        timed = {"timestamp": 1_790_812_800.123456, "properties": {}}
        await is_as_read(client, read, [kind(**timed) for kind in KINDS])
        recent = (await client.get("/llm/recent_usages?per_page=3"))["recent_usages"]
        assert recent == [] or all(each["status"] == "counted" for each in recent)

    talk(conversation)


def test_what_is_more_than_events_is_read(talk: Callable[[Talk], None], read: list[int]) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        one = chat()
        for odd, status, is_read in (
            (one, "counted", []),
            (one, "repeated", [1]),
            (chat(external_subscription_id="nobody"), "held", [1]),
            (chat(timestamp=1_000_000_000), "held", [1]),
            (chat(external_subscription_id=None), "held", [1]),
            ({**chat(), "model": "gpt-5.4"}, "counted", [1]),
            (chat(properties={"user": "u"}, payer_names={"tag": ["a"]}), "counted", []),
            (chat(payer_names={"tag": [""]}), None, []),
            ({**chat(), "cost": "0.5"}, "counted", [2]),
            (
                chat(external_subscription_id=None, external_customer_id="cus", properties={"a": 1}),
                "counted",
                [],
            ),
        ):
            read.clear()
            if status is None:
                await client.post("/llm/usage", {"usages": [odd, chat()]}, status=422)
                continue
            found, beside = await client.send(odd, chat())
            assert (beside["status"], found["status"]) == ("counted", status)
            assert read == is_read
        rule = {"field": "user", "value": "v", "external_subscription_id": "sub"}
        await client.post("/llm/payer_rules", {"payer_rule": rule})
        read.clear()
        await client.send(chat(properties={"user": "u"}), chat())
        assert read == [1]
        same = chat()
        first, second = await client.send(same, same)
        assert (first["status"], second["status"]) == ("counted", "repeated")
        wrong = await client.post("/llm/usage", {"usages": [chat(), chat(timestamp="soon")]}, status=422)
        assert wrong["error_details"] == {"1": {"timestamp": ["invalid_format"]}}

    talk(conversation)


ODD = ["", " ", 0, False, [], {}, "x", "x\0", ["x"], {"": 1}, None]
BESIDE = [
    "external_subscription_id",
    "external_customer_id",
    "timestamp",
    "properties",
    "payer_names",
    "payer_requested",
]
"""What of a usage is in no shape: plans look at it by themselves."""


def test_what_is_malformed_is_refused_as_if_read(talk: Callable[[Talk], None], read: list[int]) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        for name in BESIDE:
            for value in ODD:
                call = chat(**{name: value})
                shown = await client.http.post("/api/v1/llm/usage", json={"usages": [call], "dry_run": True})
                answered = await client.http.post("/api/v1/llm/usage", json={"usages": [call]})
                assert answered.status_code == shown.status_code, call
                assert answered.json().get("error_details") == shown.json().get("error_details"), call

    talk(conversation)


def test_a_call_counts_once_by_plans_too(talk: Callable[[Talk], None], read: list[int]) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        as_event = chat()
        event = {
            "transaction_id": f"openai:{as_event['response']['id']}",
            "code": "llm_tokens",
            "external_subscription_id": "other",
            "properties": {"quantity": 1},
        }
        await client.post("/events", {"event": event})
        waiting = chat(external_subscription_id="nobody")
        await client.send(waiting)
        late = {**waiting, "external_subscription_id": "sub"}
        for _ in range(9):
            read.clear()
            await client.send(chat())
            if not read:
                break
        found = await client.send(late)
        assert (found[0]["status"], read) == ("counted", [])
        assert (await client.get("/llm/held_usages"))["held_usages"] == []
        statuses = [each["status"] for each in await client.send(chat(), as_event, late)]
        assert statuses == ["counted", "repeated", "repeated"]
        event = {**event, "transaction_id": f"openai:{late['response']['id']}"}
        await client.post("/events", {"event": {**event, "external_subscription_id": "sub"}}, status=422)

    talk(conversation)


def test_other_values_of_the_metric_or_an_alias_are_other_plans(
    talk: Callable[[Talk], None], read: list[int]
) -> None:
    async def conversation(client: Client) -> None:
        await learn(client, read)
        metrics = (await client.get("/billable_metrics"))["billable_metrics"]
        types = {"key": "type", "values": ["input", "cached_input", "output"]}
        body = {"billable_metric": {**metrics[0], "filters": [types]}}
        answer = await client.http.put("/api/v1/billable_metrics/llm_tokens", json=body)
        assert answer.status_code == 200, answer.text
        (call,) = await client.send(chat())
        assert sorted(each["properties"]["type"] for each in call["events"]) == [
            "cached_input",
            "input",
            "output",
        ]
        await learn(client, read)
        (call,) = await client.send(chat())
        assert sorted(each["properties"]["type"] for each in call["events"]) == [
            "cached_input",
            "input",
            "output",
        ]
        alias = {"name": "openai/gpt-5.4-mini-2026-03-17", "model": "openai/own"}
        await client.post("/llm/model_aliases", {"model_alias": alias})
        (call,) = await client.send(chat())
        assert {each["properties"]["model"] for each in call["events"]} == {"own"}

    talk(conversation)


def test_what_cannot_be_learned_is_tried_a_few_times_and_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def in_vain(*given: Any, **named: Any) -> None:
        tried.append(given)

    organization, now = UUID(int=1), datetime(2026, 10, 1, tzinfo=UTC)
    memory = plans.PlanMemory()
    memory.begin(organization, CallTerms(listed={"llm_tokens": {}}, aliases={}))
    with monkeypatch.context() as patched:
        patched.setattr(plans, "plan_of", in_vain)
        for _ in range(9):
            memory.learn(organization, [chat()], now)
    assert len(tried) == plans.TRIES
    monkeypatch.setattr(plans, "PLANS_MAX", 2)
    for model in ("gpt-5.4", "gpt-5.5"):
        assert memory.terms(organization) is not None
        usages = [{**chat(), "model": model}]
        memory.learn(organization, usages, now)
        memory.learn(organization, usages, now)
    assert memory.terms(organization) is None
