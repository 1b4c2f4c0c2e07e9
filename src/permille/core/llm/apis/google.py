"""Google's models: thoughts and tool results are beside the counts of prompt and answer, the cache is in the prompt."""

from __future__ import annotations

from decimal import Decimal

from permille.core.llm.parts import CallType, Metric, Tier, TokenType, UsagePart
from permille.core.llm.table import TIERS, Api, ByList, Count, Obj, Total, at, quantity

_TIERS = {
    **TIERS,
    "unspecified": Tier.STANDARD,
    "traffic_type_unspecified": Tier.STANDARD,
    "on_demand_priority": Tier.PRIORITY,
    "on_demand_flex": Tier.FLEX,
    "on_demand_offpeak": Tier.OFF_PEAK,
    "provisioned_throughput": Tier.RESERVED,
}


def _table(camel: bool) -> tuple[Count, ...]:
    """The REST API has camelCase, the SDK's objects have snake_case."""

    def name(text: str) -> str:
        if camel:
            return text
        return "".join(f"_{each.lower()}" if each.isupper() else each for each in text)

    def by(text: str, other: str = "") -> ByList:
        return ByList(name(text), count=name("tokenCount"), other=name(other))

    answer = (name("candidatesTokenCount"), name("responseTokenCount"))
    return (
        Count(
            name("promptTokenCount"),
            TokenType.INPUT,
            inside=(
                Count(
                    name("cachedContentTokenCount"),
                    TokenType.CACHED_INPUT,
                    modalities=by("cacheTokensDetails"),
                ),
            ),
            modalities=by("promptTokensDetails"),
        ),
        Count(
            name("toolUsePromptTokenCount"), TokenType.TOOL_INPUT, modalities=by("toolUsePromptTokensDetails")
        ),
        Count(answer, TokenType.OUTPUT, modalities=by("candidatesTokensDetails", "responseTokensDetails")),
        Count(name("thoughtsTokenCount"), TokenType.REASONING),
    )


def _searches(body: Obj, _usage: Obj) -> list[UsagePart]:
    """Searches that ground an answer: they are with the candidates, not in the usage object."""
    queries = [at(each, "groundingMetadata.webSearchQueries") for each in body.get("candidates") or ()]
    number = sum(len(each) for each in queries if isinstance(each, list))
    part = UsagePart(
        metric=Metric.CALLS, type=CallType.GOOGLE_SEARCH, modality=None, quantity=Decimal(number)
    )
    return [part] if number else []


GOOGLE = Api(
    name="google",
    looks_like=lambda answer: "usageMetadata" in answer or "candidates" in answer or "modelVersion" in answer,
    tables=(_table(camel=True),),
    total=Total(path="totalTokenCount"),
    more_parts=_searches,
    usage=("usageMetadata",),
    model=("modelVersion", "model"),
    response_id=("responseId",),
    tier=("usageMetadata.serviceTier", "usageMetadata.trafficType"),
    tiers=_TIERS,
)
GOOGLE_SDK = Api(
    name="google_sdk",
    looks_like=lambda answer: "usage_metadata" in answer or "model_version" in answer,
    tables=(_table(camel=False),),
    total=Total(path="total_token_count"),
    usage=("usage_metadata",),
    model=("model_version", "model"),
    response_id=("response_id",),
    tier=("usage_metadata.service_tier", "usage_metadata.traffic_type"),
    tiers=_TIERS,
)

_TOOLS = {
    "google_search": CallType.GOOGLE_SEARCH,
    "google_maps": CallType.GOOGLE_MAPS,
    "retrieval": CallType.RETRIEVAL,
}


def _grounding(_body: Obj, usage: Obj) -> list[UsagePart]:
    found = []
    for each in usage.get("grounding_tool_count") or ():
        kind = _TOOLS.get(str(at(each, "type")))
        number = quantity(at(each, "count"), "grounding_tool_count.count")
        if kind is not None and number:
            found.append(UsagePart(metric=Metric.CALLS, type=kind, modality=None, quantity=number))
    return found


def _by(name: str) -> ByList:
    return ByList(f"{name}_by_modality", count="tokens")


GOOGLE_INTERACTIONS = Api(
    name="google_interactions",
    looks_like=lambda answer: at(answer, "usage.total_input_tokens") is not None,
    tables=(
        (
            Count(
                "total_input_tokens",
                TokenType.INPUT,
                inside=(
                    Count("total_cached_tokens", TokenType.CACHED_INPUT, modalities=_by("cached_tokens")),
                ),
                modalities=_by("input_tokens"),
            ),
            Count("total_tool_use_tokens", TokenType.TOOL_INPUT, modalities=_by("tool_use_tokens")),
            Count("total_output_tokens", TokenType.OUTPUT, modalities=_by("output_tokens")),
            Count("total_thought_tokens", TokenType.REASONING),
        ),
    ),
    total=Total(),
    more_parts=_grounding,
    ignored=("grounding_tool_count",),
    tiers=_TIERS,
)
