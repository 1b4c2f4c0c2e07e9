"""LiteLLM's payloads over HTTP down to the database, in the three forms in which its callback sends them."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2

from tests.core.llm.samples import load
from tests.ingest.conftest import Client, Talk


async def sent(client: Client, content: str) -> httpx2.Response:
    headers = {"content-type": "application/json"}
    return await client.http.post("/api/v1/llm/litellm", content=content.encode(), headers=headers)


def test_payloads_in_three_forms_are_the_same_calls(talk: Callable[[Talk], None]) -> None:
    payloads = [payload for case in load("gateway-callbacks.json")[:4] for payload in case["given"]["body"]]
    for payload in payloads:
        payload["metadata"]["requester_metadata"] = {"subscription": "sub"}
    texts = [json.dumps(payload, default=float) for payload in payloads]

    async def conversation(client: Client) -> None:
        array = await sent(client, f"[{','.join(texts)}]")
        assert [usage["status"] for usage in array.json()["usages"]] == ["counted"] * 3
        units = await client.counted()
        assert units == {"input": 2 * 2006 + 9512, "output": 2 * 300 + 250, "web_search": 2}
        lines = await sent(client, "\n".join(texts))
        assert [usage["status"] for usage in lines.json()["usages"]] == ["repeated"] * 3
        single = await sent(client, json.dumps(payloads[0], indent=1, default=float))
        assert [usage["status"] for usage in single.json()["usages"]] == ["repeated"]
        assert (await sent(client, "[1]")).status_code == 422
        assert (await sent(client, "{")).status_code == 400
        assert await client.counted() == units

    talk(conversation)


def test_a_payload_in_place_of_an_answer_is_the_same_call(talk: Callable[[Talk], None]) -> None:
    """Our own callback sends payloads among the usages of its spool."""
    (payload,) = load("gateway-callbacks.json")[0]["given"]["body"]
    payload["metadata"]["requester_metadata"] = {"subscription": "sub"}

    async def conversation(client: Client) -> None:
        usage = {"provider": "litellm", "response": payload, "timestamp": "1"}
        (usage_id,) = {each["id"] for each in await client.send(usage, usage)}
        assert usage_id == "openai:chatcmpl-L1"
        assert await client.counted() == {"input": 2006, "output": 300}
        assert (await sent(client, json.dumps(payload, default=float))).json()["usages"][0][
            "status"
        ] == "repeated"
        failed = {"provider": "litellm", "response": {"status": "failure"}, "external_subscription_id": "sub"}
        (held,) = await client.send(failed)
        assert held["problem"]["code"] == "usage_missing"

    talk(conversation)
