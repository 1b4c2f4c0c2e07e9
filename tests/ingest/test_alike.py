"""Spans that are like others that came are what they are when they are read."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from permille import accelerator
from permille.core.llm.otlp.alike import PREFIXES, USES
from permille.core.llm.otlp.calls import calls_in
from permille.core.record import replace
from permille.ingest.alike import SpanMemory
from permille.ingest.decoders import traces
from permille.ingest.decoders.traces import JSON, PROTOBUF, TRACES
from permille.ingest.pause import PAUSE_MAX
from permille.ingest.shaped import shaped

from .conftest import Client, Talk
from .test_spans_of import message_of

pytestmark = pytest.mark.skipif(not accelerator.IS_BUILT, reason="no C compiler")

NOW = datetime(2026, 10, 1, tzinfo=UTC)
WIRE = TRACES[0]
SCOPES = ["any", "logfire.openai", "openinference.x", "langfuse-sdk", "ai", ""]
NAMES = [*sorted(USES), *(f"{begin}x" for begin in PREFIXES), "permille.subscription", "metadata.subscription", "metadata.user",
         "metadata.type", "permille.100%s", "gen_ai.output.messages", "output.value", "ä"]  # fmt: skip
ODD = [None, True, 1.5, -1, 10**15, 2**63 - 1, "", " ", "ä", '"quoted"', "a\0", "x" * 201, "span:1", "event:1", "7",
       ["stop"], {"a": {"b": 1}}, b"\0", "not JSON {", '{"a": 1, "a": 2}', '{"a": -1, "b": 1.5, "c": 1e3}', "[1]", "{}",
       '{"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}}', '{"a": "b c", "ä": [1, null, true]}',
       '{"input_tokens": 12345678901234567890}', '{"\\u0061": 1}', "9" * 16, '{"output_tokens": "7"}']  # fmt: skip
NAMED = {
    "gen_ai.operation.name": ["chat", "invoke_agent"],
    "llm.request.type": ["chat"],
    "gen_ai.provider.name": ["openai", "anthropic"],
    "gen_ai.response.model": ["gpt-5.4-mini", "claude-sonnet-4-5"],
    "openinference.span.kind": ["LLM", "CHAIN"],
    "langfuse.observation.type": ["generation", "span"],
    "ai.operationId": ["ai.generateText.doGenerate", "ai.generateText"],
    "service.name": ["shop", "openrouter"],
}
OBJECTS: list[Any] = [
    {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
    {"input_tokens": 1, "cache_read_input_tokens": 1, "output_tokens": 1, "service_tier": "standard"},
    {"promptTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}], "more": None},
    {"anthropic": {"usage": {"input_tokens": 1, "output_tokens": 1}, "cacheCreationInputTokens": 1}},
]  # fmt: skip
Attributes = list[tuple[str, Any]]


def counted(chance: random.Random, value: Any) -> Any:
    """An object with other counts, zero where they were zero."""
    if isinstance(value, dict):
        return {name: counted(chance, each) for name, each in value.items()}
    if isinstance(value, list):
        return [counted(chance, each) for each in value]
    return chance.randrange(1, 9_000) if value == 1 else value


def usual(chance: random.Random, name: str) -> Any:
    """A value that such an attribute has."""
    match USES.get(name):
        case 1:
            return chance.choice([0, 1, 1, 1])
        case 4:
            return json.dumps(chance.choice(OBJECTS))
        case _:
            return chance.choice(NAMED.get(name, ["name", "other-name"]))


def another(chance: random.Random, name: str, value: Any) -> Any:
    """Another value of an attribute that differs in what may differ."""
    use = USES.get(name, next((use for begin, use in PREFIXES.items() if name.startswith(begin)), None))
    if use == 1 and type(value) is int:
        return counted(chance, value)
    if use == 4 and value in map(json.dumps, OBJECTS):
        return json.dumps(counted(chance, json.loads(value)))
    if use in (2, 3) and value in ("name", "other-name"):
        return f"{name[-3:]}-{chance.randrange(10**6)}"
    return value


def attributes(chance: random.Random, odd: float) -> Attributes:
    names = chance.sample(NAMES, chance.randrange(1, 9))
    names += [
        name
        for name in chance.sample([*NAMED, "gen_ai.usage.raw", "permille.subscription"], 5)
        if name not in names
    ]
    if chance.random() < odd:
        names.append(chance.choice(names))
    return [(name, chance.choice(ODD) if chance.random() < odd else usual(chance, name)) for name in names]  # fmt: skip


def message(chance: random.Random, resource: Attributes, scope: str, spans: list[Attributes]) -> bytes:
    def differing(found: Attributes) -> Attributes:
        return [(name, another(chance, name, value)) for name, value in found]

    sent = [
        {
            "trace_id": chance.randbytes(16), "span_id": chance.randbytes(8), "name": f"chat {chance.random()}",
            "end_time_unix_nano": 1_790_000_000_000_000_000 + chance.randrange(10**15), "attributes": differing(each),
        }
        for each in spans
    ]  # fmt: skip
    return message_of([(differing(resource), "", [(scope, "1", sent)])])


def as_read(content: bytes) -> Any:
    batch = WIRE.decode(content, PROTOBUF)
    return [shaped(each, NOW, names_clients=True) for each in batch.usages], list(batch.dropped)


def as_known(memory: SpanMemory, content: bytes) -> Any:
    batch = memory.batch(WIRE, content, PROTOBUF, NOW)
    if batch is None:
        return None
    assert batch.shaped is not None
    assert list(batch.usages) == list(WIRE.decode(content, PROTOBUF).usages)
    return list(batch.shaped), list(batch.dropped)


def learn(memory: SpanMemory, content: bytes) -> None:
    for _ in range(3):
        if memory.batch(WIRE, content, PROTOBUF, NOW) is None:
            memory.learn(WIRE, content, PROTOBUF, NOW)


def test_what_is_known_is_as_read() -> None:
    chance = random.Random(1)
    known = calls = 0
    for _ in range(450):
        odd = chance.choice([0, 0.15])
        resource = attributes(chance, odd)[:1] if chance.random() < 0.3 else []
        spans = [attributes(chance, odd) for _ in range(chance.randrange(1, 4))]
        scope = chance.choice(SCOPES)
        memory = SpanMemory()
        learn(memory, message(chance, resource, scope, spans))
        for _ in range(2):
            content = message(chance, resource, scope, spans[::-1])
            found = as_known(memory, content)
            if found is not None:
                known += 1
                calls += len(found[0])
                assert found == as_read(content)
    assert known > 180
    assert calls > 100


CALL: Attributes = [
    ("gen_ai.operation.name", "chat"),
    ("gen_ai.provider.name", "anthropic"),
    ("gen_ai.response.model", "claude-sonnet-4-5"),
    ("gen_ai.response.id", "name"),
    ("gen_ai.output.messages", "ä" * 9),
    ("gen_ai.usage.raw", json.dumps(OBJECTS[1])),
    ("gen_ai.usage.input_tokens", 1),
    ("permille.subscription", "name"),
    ("permille.feature", "name"),
]


def test_a_call_is_known_by_its_second_like() -> None:
    chance = random.Random(1)
    memory = SpanMemory()
    learn(memory, message(chance, [], "any", [CALL]))
    content = message(chance, [], "any", [CALL])
    found = as_known(memory, content)
    assert found is not None
    assert len(found[0]) == 1
    assert found == as_read(content)
    for odd in ODD:
        for place in range(len(CALL)):
            changed = [*CALL[:place], (CALL[place][0], odd), *CALL[place + 1 :]]
            content = message(chance, [], "any", [changed])
            other = as_known(memory, content)
            assert other is None or other == as_read(content)


def test_of_broken_messages_it_says_nothing_that_the_reader_does_not() -> None:
    chance = random.Random(1)
    memory = SpanMemory()
    content = message(chance, [("service.name", "shop")], "any", [CALL, [("a", [{"b": 1.5}])]])
    learn(memory, content)
    broken = [content[:at] for at in range(len(content))]
    for _ in range(2_500):
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 3)):
            at = chance.randrange(len(changed))
            changed[at : at + chance.choice([0, 1, 1, 1])] = bytes(
                [chance.choice(b'\0\x01\x7f\x80\xff"{}[],:07a')]
            )
        broken.append(bytes(changed))
    known = 0
    for each in broken:
        found = as_known(memory, each)
        if found is not None:
            known += 1
            assert found == as_read(each)
    assert known > 100


def test_requests_that_came_while_it_was_learned_cause_no_pause() -> None:
    chance = random.Random(1)
    memory = SpanMemory()
    together = [message(chance, [], "any", [CALL, CALL]) for _ in range(8)]
    assert [memory.batch(WIRE, each, PROTOBUF, NOW) for each in together] == [None] * 8
    for each in together:
        memory.learn(WIRE, each, PROTOBUF, NOW)
    assert all(memory.batch(WIRE, each, PROTOBUF, NOW) for each in together)


def test_what_is_never_alike_is_looked_at_ever_less_and_json_never() -> None:
    chance = random.Random(1)
    memory = SpanMemory()
    tried = 0

    def alike(body: bytes, media_type: str) -> Any:
        nonlocal tried
        tried += 1
        return WIRE.alike(body, media_type)

    wire = replace(WIRE, alike=alike)
    for number in range(3 * PAUSE_MAX):
        content = message(chance, [], "any", [[*CALL, ("gen_ai.request.model", f"model-{number}")]])
        if memory.batch(wire, content, PROTOBUF, NOW) is None:
            memory.learn(wire, content, PROTOBUF, NOW)
    assert 4 < tried < 30
    assert WIRE.alike(content, JSON) is None


def test_a_request_of_known_spans_is_answered_without_being_decoded(
    talk: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    real = calls_in

    def noted(spans: Any) -> Any:
        found = real(spans)
        decoded.append(len(found.usages))
        return found

    monkeypatch.setattr(traces, "calls_in", noted)

    async def conversation(client: Client) -> None:
        for number in range(6):
            decoded.clear()
            call = [(name, "sub" if name == "permille.subscription" else value) for name, value in CALL]
            spans = [
                [(name, f"msg_{number}-{each}" if name == "gen_ai.response.id" else value) for name, value in call]
                for each in range(3)
            ]  # fmt: skip
            content = message_of([([], "", [("any", "", [{"attributes": each} for each in spans])])])
            answer = await client.http.post(WIRE.path, content=content, headers={"Content-Type": PROTOBUF})
            assert (answer.status_code, answer.content) == (200, b"")
        assert decoded == []
        stored = (await client.get("/events?per_page=1000"))["events"]
        assert (
            len({each["transaction_id"] for each in stored})
            == len(stored)
            == 6 * 3 * len({each["transaction_id"] for each in stored if "msg_5-0" in each["transaction_id"]})
        )

    talk(conversation)
