"""OpenAI's realtime answers, and sessions that are billed by the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from permille.core.llm.parts import MeasureType, TokenType, UnreadableUsage
from permille.core.llm.table import Api, ByField, Count, Obj, Total, at, quantity, seconds


def _looks_like(event: Obj) -> bool:
    return event.get("type") == "response.done" or event.get("object") == "realtime.response"


def _joined(events: Sequence[Obj]) -> Obj:
    done = [event for event in events if event.get("type") == "response.done"]
    if len(done) > 1:
        raise UnreadableUsage(
            "several_answers", "a session has many answers: send each response.done by itself"
        )
    return done[0] if done else {}


OPENAI_REALTIME = Api(
    name="openai_realtime",
    looks_like=_looks_like,
    tables=(
        (
            Count(
                "input_tokens",
                TokenType.INPUT,
                inside=(
                    Count(
                        "input_token_details.cached_tokens",
                        TokenType.CACHED_INPUT,
                        modalities=ByField("input_token_details.cached_tokens_details"),
                    ),
                ),
                modalities=ByField("input_token_details"),
            ),
            Count("output_tokens", TokenType.OUTPUT, modalities=ByField("output_token_details")),
        ),
    ),
    total=Total(),
    usage=("response.usage", "usage"),
    model=("response.model", "model"),
    response_id=("response.id", "id"),
    tier=("response.service_tier", "service_tier"),
    join=_joined,
    missing="the session has no response.done with usage",
)


def _is_live(event: Obj) -> bool:
    return event.get("type") in ("session.usage.updated", "session.closed", "session.usage.closed")


def _greatest(events: Sequence[Obj]) -> Obj:
    """Seconds are cumulative: the event with the most of them is the session's usage."""
    with_usage = [event for event in events if isinstance(event.get("usage"), Mapping)]
    if not with_usage:
        return {}
    return max(
        with_usage, key=lambda event: quantity(at(event, "usage.seconds"), "usage.seconds") or Decimal(0)
    )


OPENAI_LIVE = Api(
    name="openai_live",
    looks_like=_is_live,
    measures=(seconds("seconds", MeasureType.SESSION),),
    ignored=("active_seconds", "paused_seconds"),
    response_id=("session_id", "session.id"),
    join=_greatest,
)
