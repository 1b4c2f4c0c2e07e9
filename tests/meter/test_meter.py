"""The meter in an application: what it puts into the spool, and that the application sees nothing of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from permille.client import Meter, UsageNotKeptError, billed_to
from permille.client.hooks import http_clients

USAGE = {
    "prompt_tokens": 71,
    "completion_tokens": 19,
    "total_tokens": 90,
    "completion_tokens_details": {"reasoning_tokens": 7},
}
CHAT = "https://api.openai.com/v1/chat/completions"
ANSWER = {
    "id": "chatcmpl-9",
    "model": "gpt-5.4",
    "choices": [{"message": {"content": "TOP SECRET"}}],
    "usage": USAGE,
}


def chunks(body: dict[str, Any], end: str = "\n\n") -> bytes:
    head: dict[str, Any] = {"id": "chatcmpl-7", "model": "gpt-5.4"}
    events = [
        {**head, "choices": [{"delta": {"content": text}}], "usage": None} for text in ("TOP", " SECRET")
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**head, "choices": [], "usage": USAGE})
    return "".join(f"data: {data}{end}" for data in [*map(json.dumps, events), "[DONE]"]).encode()


def model_server(request: httpx2.Request) -> httpx2.Response:
    assert isinstance(request.stream, httpx2.SyncByteStream)
    body = json.loads(b"".join(request.stream))
    if body.get("fails"):
        return httpx2.Response(500, json={"usage": USAGE})
    if body.get("stream"):
        end = body.get("end", "\n\n")
        content = Pieces(chunks(body, end), 5 if body.get("pieces") else 1 << 16)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=content)
    if request.url.path.endswith("/embeddings"):
        answer = {
            "model": "small",
            "data": [{"embedding": [0.5]}],
            "usage": {"prompt_tokens": 8, "total_tokens": 8},
        }
        return answered(answer, **{"x-request-id": "req_1"})
    return answered(ANSWER)


class Pieces(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in pieces, as networks cut where they like."""

    def __init__(self, content: bytes, length: int = 5) -> None:
        self._pieces = [content[start : start + length] for start in range(0, len(content), length)]

    def __iter__(self) -> Any:
        yield from self._pieces

    async def __aiter__(self) -> Any:
        for piece in self._pieces:
            yield piece


def answered(answer: dict[str, Any], **headers: str) -> httpx2.Response:
    return httpx2.Response(200, headers=headers, stream=Pieces(json.dumps(answer).encode()))


@pytest.fixture
def meter(tmp_path: Path) -> Any:
    made = Meter("http://127.0.0.1:9", "key", spool=tmp_path, subscription="sub_acme")
    yield made
    made.close()


@pytest.fixture
def client() -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(model_server))


def kept(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.jsonl"))
    assert not any(b"SECRET" in file.read_bytes() for file in files)
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_an_answer_reaches_the_application_whole_and_the_spool_without_its_text(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    answer = meter.meter(client).post(CHAT, json={"model": "gpt-5.4"})
    assert answer.json() == ANSWER
    (usage,) = kept(tmp_path)
    assert float(usage.pop("timestamp")) > 1.7e9
    assert usage == {
        "provider": "openai",
        "api": "openai_chat",
        "response": {"id": "chatcmpl-9", "model": "gpt-5.4", "usage": USAGE},
        "external_subscription_id": "sub_acme",
    }


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("pieces", [False, True])
def test_a_stream_has_its_usage_asked_for_and_the_application_sees_only_what_it_asked_for(
    meter: Meter, client: httpx2.Client, tmp_path: Path, pieces: bool, end: str
) -> None:
    body = {"model": "gpt-5.4", "stream": True, "pieces": pieces, "end": end}
    seen = meter.meter(client).post(CHAT, json=body).text
    assert seen.split("\n\n") == chunks(body).decode().split("\n\n")
    (usage,) = kept(tmp_path)
    assert usage["stream"] == [{"id": "chatcmpl-7", "model": "gpt-5.4", "usage": USAGE}]


def test_a_stream_whose_usage_the_application_asked_for_is_not_touched(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    body = {"model": "gpt-5.4", "stream": True, "stream_options": {"include_usage": True}}
    assert meter.meter(client).post(CHAT, json=body).content == chunks(body)
    assert kept(tmp_path)[0]["stream"][0]["usage"] == USAGE


def test_a_stream_that_is_cut_is_kept_with_its_id_so_that_it_is_seen(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    body = {"model": "gpt-5.4", "stream": True, "pieces": True}
    with meter.meter(client).stream("POST", CHAT, json=body) as answer:
        next(answer.iter_raw())
    (usage,) = kept(tmp_path)
    assert usage["stream"] == [{"id": "chatcmpl-7", "model": "gpt-5.4", "usage": None}]


def test_a_call_without_an_id_of_its_own_gets_that_of_its_request(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    meter.meter(client).post(
        "https://api.openai.com/v1/embeddings", json={"model": "small", "input": "TOP SECRET"}
    )
    (usage,) = kept(tmp_path)
    assert (usage["id"], usage["api"]) == ("req_1", "openai_embeddings")


def test_what_fails_and_what_has_no_usage_is_not_kept(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    metered = meter.meter(client)
    metered.post(CHAT, json={"fails": True})
    metered.post("https://api.openai.com/v1/files", json={})
    assert kept(tmp_path) == []


def test_a_client_that_is_metered_twice_counts_once(
    meter: Meter, client: httpx2.Client, tmp_path: Path
) -> None:
    meter.meter(meter.meter(client)).post(CHAT, json={"model": "gpt-5.4"})
    assert len(kept(tmp_path)) == 1


def test_each_task_bills_its_own_customer(meter: Meter, tmp_path: Path) -> None:
    async def call(client: httpx2.AsyncClient, number: int) -> None:
        with billed_to(customer=f"customer_{number}", team="t1"):
            await asyncio.sleep(0)
            with billed_to(feature="search"):
                await client.post(CHAT, json={"model": "gpt-5.4"})

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(model_server)) as client:
            meter.meter(client)
            await asyncio.gather(*(call(client, number) for number in range(4)))
            await client.post(CHAT, json={"model": "gpt-5.4", "stream": True})

    asyncio.run(main())
    *tasks, last = kept(tmp_path)
    assert {usage["external_customer_id"] for usage in tasks} == {f"customer_{number}" for number in range(4)}
    assert all(usage["properties"] == {"team": "t1", "feature": "search"} for usage in tasks)
    assert "external_subscription_id" not in tasks[0]
    assert (last["external_subscription_id"], last.get("properties")) == ("sub_acme", None)


def test_a_full_disk_stops_the_call_before_it_costs_money(
    meter: Meter, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize = 1, 512

    monkeypatch.setattr("os.statvfs", lambda _: Full)
    with pytest.raises(UsageNotKeptError, match="No space left on device; make room"):
        meter.meter(client).post(CHAT, json={"model": "gpt-5.4"})


def test_what_can_not_be_metered_is_an_error_at_once(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="str can't be metered"):
        http_clients("a client")
    monkeypatch.delenv("PERMILLE_URL", raising=False)
    with pytest.raises(ValueError, match="set PERMILLE_URL"):
        Meter(api_key="key")


def test_an_answer_by_another_road_is_pruned_too(meter: Meter, tmp_path: Path) -> None:
    meter.record(
        {**ANSWER, "output": [{"type": "web_search_call", "action": {"type": "search", "query": "SECRET"}}]},
        provider="openai",
    )
    (usage,) = kept(tmp_path)
    assert usage["response"]["output"] == [{"type": "web_search_call", "action": {"type": "search"}}]


def test_pictures_are_counted_beside_their_tokens_and_vectors_are_not(meter: Meter, tmp_path: Path) -> None:
    pictures = {
        "created": 1,
        "data": [{"b64_json": "SECRET"}, {"url": "SECRET"}],
        "usage": {"total_tokens": 9},
    }
    meter.record(pictures, provider="openai", usage_id="req_1")
    meter.record(
        {"data": [{"embedding": [0.5]}], "usage": {"total_tokens": 9}}, provider="openai", usage_id="req_2"
    )
    first, second = (usage["response"] for usage in kept(tmp_path))
    assert first == {"created": 1, "usage": {"total_tokens": 9}, "data": [{}, {}]}
    assert "data" not in second
