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
