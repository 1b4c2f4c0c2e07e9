"""OpenAI's responses, their compactions, and whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from permille.core.llm.parts import CallType, Metric, TokenType, UsagePart
from permille.core.llm.table import (
    Api,
    ByField,
    Count,
    ModelUsage,
    Obj,
    Total,
    at,
    last_values,
    quantity,
    text_at,
)

INPUT = Count(
    "input_tokens",
    TokenType.INPUT,
    inside=(
        Count("input_tokens_details.cached_tokens", TokenType.CACHED_INPUT),
        Count(
            "input_tokens_details.cache_write_tokens",
            TokenType.CACHE_WRITE,
            inside=(
                Count(
                    (
                        "input_tokens_details.cache_write_tokens_details.ttl_30m_tokens",
                        "cache_write_tokens_details.ttl_30m_tokens",
                    ),
                    TokenType.CACHE_WRITE_30M,
                ),
                Count(
                    (
                        "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens",
                        "cache_write_tokens_details.ttl_12h_tokens",
                    ),
                    TokenType.CACHE_WRITE_12H,
                ),
            ),
        ),
    ),
    modalities=ByField("input_tokens_details"),
)
OUTPUT = Count(
    "output_tokens",
    TokenType.OUTPUT,
    inside=(Count("output_tokens_details.reasoning_tokens", TokenType.REASONING),),
    modalities=ByField("output_tokens_details"),
)

_ENDS = ("response.completed", "response.incomplete", "response.failed")


def looks_like(answer: Obj) -> bool:
    """Whether an answer, or an event of its stream, is of the responses API."""
    return (
        answer.get("object") in ("response", "response.compaction", "batch")
        or str(answer.get("type", "")).startswith("response.")
        or at(answer, "usage.input_tokens") is not None
    )


def joined(chunks: Sequence[Obj]) -> Obj:
    """The answer of a stream: it is in its last event."""
    for chunk in reversed(chunks):
        response = chunk.get("response")
        if chunk.get("type") in _ENDS and isinstance(response, Mapping):
            return response
    return last_values(chunks)


def _calls(kind: CallType, number: int, once: str | None = None) -> UsagePart:
    return UsagePart(metric=Metric.CALLS, type=kind, modality=None, quantity=Decimal(number), once=once)


def tool_calls(body: Obj, _usage: Obj) -> list[UsagePart]:
    """Searches, and sandboxes: one of these is one session, however many calls and answers it serves."""
    output = [each for each in body.get("output") or () if isinstance(each, Mapping)]
    said = quantity(at(body, "tool_usage.web_search.num_requests"), "tool_usage.web_search.num_requests")
    searched = sum(
        1 for each in output if each.get("type") == "web_search_call" and at(each, "action.type") == "search"
    )
    containers = dict.fromkeys(
        str(each["container_id"])
        for each in output
        if each.get("type") == "code_interpreter_call" and each.get("container_id")
    )
    found = [
        _calls(CallType.WEB_SEARCH, searched if said is None else int(said)),
        _calls(CallType.FILE_SEARCH, sum(each.get("type") == "file_search_call" for each in output)),
        *(_calls(CallType.CODE_INTERPRETER_SESSION, 1, f"container:{each}") for each in containers),
    ]
    return [part for part in found if part.quantity]


def _requests(body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    """The answer's own request, and that of the image tool, which is another model."""
    found = [ModelUsage(model=model, usage=usage)]
    images = at(body, "tool_usage.image_gen")
    if isinstance(images, Mapping) and images:
        tools = [each for each in body.get("tools") or () if isinstance(each, Mapping)]
        named = (text_at(each, ("model",)) for each in tools if each.get("type") == "image_generation")
        found.append(ModelUsage(model=next(named, None) or "image_generation", usage=images))
    return found


OPENAI_RESPONSES = Api(
    name="openai_responses",
    looks_like=looks_like,
    tables=((INPUT, OUTPUT),),
    total=Total(),
    more_parts=tool_calls,
    requests=_requests,
    join=joined,
    missing="the stream has no response.completed: it was cut before its end",
)
