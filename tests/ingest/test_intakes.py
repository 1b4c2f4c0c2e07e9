"""Events of other programs at /events that are usage of language models: LiteLLM's callbacks, Lago's agent SDK, CloudEvents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from permille.events.engine import event_log
from permille.http.refusals import try_again
from permille.ingest.asgi import EventIntake
from permille.ingest.calls import CallStore
from tests.core.llm.samples import load
from tests.ingest.conftest import Client, Talk

CASES = {case["name"]: case for case in load("gateway-callbacks.json")}
TOTALS = {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306}
WHOLE = {"input": 2006, "output": 300}


async def intake(client: Client, name: str, status: int = 200, **more: Any) -> Any:
    answer = await client.post("/llm/intakes", {"intake": {"format": name, **more}}, status)
    return answer.get("intake", answer)


def lago_event(transaction_id: str = "8b6f", payer: str | None = "cus", **more: Any) -> dict[str, Any]:
    """What LiteLLM's lago callback sends."""
    properties = {"model": "gpt-5.4-mini", "response_cost": 0.0015585, **TOTALS, **more}
    return {
        "transaction_id": transaction_id,
        "external_subscription_id": payer,
        "code": "litellm",
        "properties": properties,
    }


def cloud_event(name: str = "chatcmpl-1", **more: Any) -> dict[str, Any]:
    """What LiteLLM's openmeter callback sends."""
    data = {"model": "gpt-5.4-mini", "cost": 0.0015585, **TOTALS}
    return {
        "specversion": "1.0",
        "type": "litellm_tokens",
        "id": name,
        "time": "2026-10-01T00:00:00.123456+00:00",
        "subject": "cus",
        "source": "litellm-proxy",
        "data": data,
        **more,
    }


def payload(name: str, provider: str = "openai", **more: Any) -> dict[str, Any]:
    """What its generic_api callback sends."""
    call = {"id": name, "custom_llm_provider": provider, "model": "gpt-5.4-mini", "end_user": "cus"}
    return {"status": "success", **call, **TOTALS, **more}


async def cloud(client: Client, body: Any, status: int = 200, kind: str = "cloudevents") -> Any:
    answer: httpx2.Response = await client.http.post(
        "/api/v1/events",
        content=json.dumps(body).encode(),
        headers={"content-type": f"application/{kind}+json; charset=utf-8"},
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def test_an_event_of_litellms_lago_callback_is_a_call(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        plain = await client.post("/events", {"event": lago_event("before")})
        assert plain["event"]["code"] == "litellm"
        assert await client.counted() == {}
        made = await intake(client, "litellm_lago")
        assert (made["codes"], made["payer_kind"]) == (["litellm"], "end_user")
        answer = (await client.post("/events", {"event": lago_event()}))["event"]
        assert (answer["transaction_id"], answer["code"]) == ("8b6f", "litellm")
        assert answer["properties"]["total_tokens"] == 2306
        stored = (await client.get("/events/8b6f"))["event"]
        assert stored["lago_id"] == answer["lago_id"]
        assert (stored["external_subscription_id"], stored["code"]) == ("sub", "llm_tokens")
        assert await client.counted() == WHOLE
        await client.post("/events", {"event": lago_event()})
        assert await client.counted() == WHOLE
        (cost,) = (await client.get("/events?code=llm_cost"))["events"]
        assert cost["properties"]["cost"] == "0.0015585"
        refused = await client.post("/events", {"event": lago_event("x", response_cost="dear")}, 422)
        assert refused["error_details"] == {"properties.cost": ["value_is_invalid"]}

    talk(conversation)


def test_what_nobody_pays_is_kept_and_attributed(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        await intake(client, "litellm_lago", code="calls", payer_kind="team")
        for number, payer in enumerate(("team-a", "team-b", None)):
            event = lago_event(str(number), payer, **({} if payer else {"response_cost": None}))
            answer = await client.post("/events", {"event": {**event, "code": "calls"}})
            assert answer["event"]["external_subscription_id"] == payer
        held = (await client.get("/llm/held_usages"))["held_usages"]
        codes = ["subscription_missing", "subscription_not_found", "subscription_not_found"]
        assert [each["problem"]["code"] for each in held] == codes
        assert held[-1]["lago_id"] != answer["event"]["lago_id"] == held[0]["lago_id"]
        rule = {"field": "team", "value": "team-a", "external_customer_id": "cus"}
        made = await client.post("/llm/payer_rules", {"payer_rule": rule})
        assert made["payer_rule"]["counted_usages"] == 1
        assert await client.counted() == WHOLE
        said = {"held_usage": {"external_subscription_id": "sub"}}
        await client.post(f"/llm/held_usages/{held[1]['lago_id']}/attribute", said)
        await client.post("/events", {"event": {**lago_event("1", "team-b"), "code": "calls"}})
        assert await client.counted() == {name: 2 * number for name, number in WHOLE.items()}

    talk(conversation)


def test_counts_of_lagos_agent_are_netted_and_others_are_plain_events(talk: Callable[[Talk], None]) -> None:
    (case,) = (case for name, case in CASES.items() if "lago-agent-sdk" in name)
    sent = case["given"]["body"]["events"]
    for each in sent:
        each |= {"external_subscription_id": "sub", "timestamp": 1790812800}
    other = {"transaction_id": "o", "code": "other", "external_subscription_id": "sub", "properties": {}}

    async def conversation(client: Client) -> None:
        await list_types(client, "input", "cached_input", "output", "reasoning")
        await intake(client, "lago_agent")
        answer = await client.post("/events/batch", {"events": [sent[0], other, *sent[1:2]]})
        assert [each["code"] for each in answer["events"]] == [
            "llm_input_tokens",
            "other",
            "llm_output_tokens",
        ]
        assert answer["events"][1]["transaction_id"] == "o"
        await client.post("/events/batch", {"events": sent[2:]})
        await client.post("/events", {"event": sent[3]})
        expected = {"input": 86, "cached_input": 1920, "output": 108, "reasoning": 192}
        assert await client.counted() == expected
        refused = await client.post("/events/batch", {"events": [*sent, other]}, 422)
        assert refused["error_details"] == {"4": {"transaction_id": ["value_already_exist"]}}
        assert await client.counted() == expected
        recent: list[Any] = []
        while len(recent) < 2 * len(sent) + 1:  # they are there a second later
            await asyncio.sleep(0.1)
            recent = (await client.get("/llm/recent_usages"))["recent_usages"]
        assert sorted(each["status"] for each in recent) == ["counted"] * 4 + ["repeated"] * 5

    talk(conversation)


async def list_types(client: Client, *types: str) -> None:
    body = {"filters": [{"key": "type", "values": list(types)}]}
    answer = await client.http.put(
        "/api/v1/billable_metrics/llm_tokens", content=json.dumps({"billable_metric": body}).encode()
    )
    assert answer.status_code == 200, answer.text


def test_a_call_by_several_callbacks_is_billed_once(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        await intake(client, "openmeter")
        response = {"id": "chatcmpl-3", "object": "chat.completion", "model": "gpt-5.4-mini", "usage": TOTALS}
        answer = {"provider": "openai", "response": response, "external_subscription_id": "sub"}
        await cloud(client, cloud_event("chatcmpl-1"))
        await client.post("/llm/litellm", [payload("chatcmpl-1", "azure"), payload("chatcmpl-2", "azure")])
        await cloud(client, [cloud_event("chatcmpl-2"), cloud_event("chatcmpl-3")], kind="cloudevents-batch")
        assert [each["status"] for each in await client.send(answer, answer)] == ["repeated", "repeated"]
        (payload_again,) = (await client.post("/llm/litellm", [payload("chatcmpl-3", "azure")]))["usages"]
        assert payload_again["status"] == "repeated"
        assert (await client.get("/llm/held_usages"))["held_usages"] == []
        assert await client.counted() == {name: 3 * number for name, number in WHOLE.items()}

    talk(conversation)


@pytest.mark.parametrize("first", ["guessed", "known", "both"])
def test_a_call_counts_once_whichever_road_that_guesses_its_provider_comes_first(
    talk: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """An OpenMeter event doesn't say that Azure served it; the answer itself says nothing of other names."""
    names = [f"chatcmpl-{number}" for number in range(4)]
    answers = [
        {
            "provider": "azure",
            "response": {"id": name, "object": "chat.completion", "model": "gpt-5.4-mini", "usage": TOTALS},
            "external_subscription_id": "sub",
        }
        for name in names
    ]

    async def conversation(client: Client) -> None:
        await intake(client, "openmeter")
        guessed = cloud(client, [cloud_event(name) for name in names], kind="cloudevents-batch")
        known = client.send(*answers)
        if first == "both":  # neither sees the other when it looks
            monkeypatch.setattr(type(event_log), "known_transactions", staticmethod(lambda *_: set()))
            await asyncio.gather(guessed, known)
        else:
            for road in (guessed, known) if first == "guessed" else (known, guessed):
                await road
        assert await client.counted() == {name: 4 * number for name, number in WHOLE.items()}
        assert {each["status"] for each in await client.send(*answers)} == {"repeated"}

    talk(conversation)


def test_a_call_that_waits_is_counted_by_a_road_that_guesses_its_provider(
    talk: Callable[[Talk], None],
) -> None:
    async def conversation(client: Client) -> None:
        await intake(client, "openmeter")
        response = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-5.4-mini", "usage": TOTALS}
        (said,) = await client.send({"provider": "azure", "response": response})
        assert said["status"] == "held"
        await cloud(client, cloud_event("chatcmpl-1"))
        assert await client.counted() == WHOLE
        assert (await client.get("/llm/held_usages"))["held_usages"] == []

    talk(conversation)


def test_cloud_events_are_events_of_their_type(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        data = {"type": "input", "model": "gpt-5.4-mini", "quantity": 5}
        event = {
            **cloud_event("1"),
            "type": "llm_tokens",
            "source": "urn:a:b",
            "subject": "sub",
            "data": data,
        }
        answer = (await cloud(client, event))["event"]
        assert answer["transaction_id"] == "urn:a:b|1"
        assert answer["timestamp"] == "2026-10-01T00:00:00.123Z"
        stored = (await client.get(f"/events/{quote('urn:a:b|1', safe='')}"))["event"]
        assert (stored["code"], stored["external_subscription_id"]) == ("llm_tokens", "sub")
        twice = await cloud(client, event, 422)
        assert twice["error_details"] == {"transaction_id": ["value_already_exist"]}
        await cloud(client, [{**event, "source": "urn:a"}, {**event, "id": "2"}], kind="cloudevents-batch")
        assert await client.counted() == {"input": 15}

    talk(conversation)


def test_what_is_wrong_with_cloud_events_is_said_in_their_words(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        wrong = {"specversion": "0.3", "source": "a|b", "time": "soon", "data": "text"}
        refused = await cloud(client, wrong, 422)
        assert refused["error_details"] == {
            "specversion": ["value_is_invalid"],
            "source": ["value_is_invalid"],
            "id": ["value_is_mandatory"],
            "type": ["value_is_mandatory"],
            "time": ["invalid_format"],
            "data": ["invalid_format"],
        }
        for body, errors in (
            ([], {"events": ["no_events"]}),
            ({}, {"events": ["no_events"]}),
            ([cloud_event()] * 1_001, {"events": ["too_many_events"]}),
            ([cloud_event(), 7], {"1": {"event": ["invalid_format"]}}),
        ):
            assert (await cloud(client, body, 422, "cloudevents-batch"))["error_details"] == errors
        assert (await cloud(client, cloud_event("n" * 250), 422))["error_details"] == {
            "id": ["value_is_too_long"]
        }

    talk(conversation)


def test_a_code_is_a_metrics_or_an_intakes(talk: Callable[[Talk], None]) -> None:
    async def conversation(client: Client) -> None:
        taken = {"code": ["code_of_a_metric"]}
        for code in ("llm_tokens", "llm_cost"):
            assert (await intake(client, "litellm_lago", 422, code=code))["error_details"] == taken
        made = await intake(client, "litellm_lago", code="x")
        assert (await intake(client, "openmeter", 422, code="x"))["error_details"] == {
            "code": ["value_already_exist"]
        }
        assert (await intake(client, "litellm_lago", 422))["error_details"] == {
            "format": ["value_already_exist"]
        }
        assert (await intake(client, "lago_agent", 422, code="y"))["error_details"] == {
            "code": ["value_is_invalid"]
        }
        assert (await intake(client, "other", 422))["error_details"].keys() == {"format"}
        metric = {"name": "X", "code": "x", "aggregation_type": "count_agg"}
        refused = await client.post("/billable_metrics", {"billable_metric": metric}, 422)
        assert refused["error_details"] == {"code": ["value_already_exist"]}
        assert (await client.get("/llm/intakes"))["intakes"] == [made]
        assert (await client.get("/llm/intakes/litellm_lago"))["intake"] == made
        assert (await client.http.delete("/api/v1/llm/intakes/litellm_lago")).status_code == 200
        assert (await client.http.delete("/api/v1/llm/intakes/litellm_lago")).status_code == 404
        await client.post("/events", {"event": {**lago_event("plain", "sub"), "code": "x"}})
        assert await client.counted() == {}

    talk(conversation)


@pytest.mark.parametrize("fails", ["calls", "events"])
def test_a_request_of_both_kinds_is_sent_again_after_either_could_not_be_stored(
    talk: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The sender was answered 503 and sends the same again: each counts, and counts once."""
    owner, name = (CallStore, "take") if fails == "calls" else (EventIntake, "_take_events")
    whole = getattr(owner, name)
    failed: list[int] = []

    async def once(*args: Any, **more: Any) -> Any:
        if not failed:
            failed.append(1)
            raise try_again()
        return await whole(*args, **more)

    async def conversation(client: Client) -> None:
        await intake(client, "litellm_lago")
        plain = {"transaction_id": "p1", "external_subscription_id": "sub", "code": "other"}
        both = {"events": [plain, lago_event()]}
        monkeypatch.setattr(owner, name, once)
        await client.post("/events/batch", both, 503)
        await client.post("/events/batch", both)
        assert await client.counted() == WHOLE
        assert len((await client.get("/events?code=other"))["events"]) == 1
        await client.post("/events/batch", both, 422)
        assert await client.counted() == WHOLE

    talk(conversation)
