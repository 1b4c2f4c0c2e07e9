"""What a call of a language model used, in the same terms for every provider.

The words are those of the metrics' dimensions: they are stored on events and listed in filters.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from permille.core.record import Record


class Metric(StrEnum):
    """The billable metrics that usage is counted by. Each sums `quantity`, but `llm_cost` sums `cost` in USD."""

    TOKENS = "llm_tokens"
    CALLS = "llm_calls"
    SECONDS = "llm_seconds"
    PAGES = "llm_pages"
    IMAGES = "llm_images"
    CHARACTERS = "llm_characters"
    COST = "llm_cost"


class TokenType(StrEnum):
    """What tokens are to the provider. `core/llm/fold.py` says which type another falls back to."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_30M = "cache_write_30m"
    CACHE_WRITE_1H = "cache_write_1h"
    CACHE_WRITE_12H = "cache_write_12h"
    TOOL_INPUT = "tool_input"
    OUTPUT = "output"
    REASONING = "reasoning"
    CITATION = "citation"


INPUT_TYPES = frozenset(
    {
        TokenType.INPUT,
        TokenType.CACHED_INPUT,
        TokenType.CACHE_WRITE,
        TokenType.CACHE_WRITE_5M,
        TokenType.CACHE_WRITE_30M,
        TokenType.CACHE_WRITE_1H,
        TokenType.CACHE_WRITE_12H,
        TokenType.TOOL_INPUT,
    }
)
"""The types that together are the whole input of a request."""


class CallType(StrEnum):
    """What is billed by the call, beside tokens."""

    WEB_SEARCH = "web_search"
    WEB_FETCH = "web_fetch"
    FILE_SEARCH = "file_search"
    CODE_INTERPRETER_SESSION = "code_interpreter_session"
    GOOGLE_SEARCH = "google_search"
    GOOGLE_MAPS = "google_maps"
    RETRIEVAL = "retrieval"
    RERANK_SEARCH = "rerank_search"
    SOCIAL_SEARCH = "social_search"
    CLASSIFICATION = "classification"
    GUARDRAIL_UNIT = "guardrail_unit"
    REQUEST = "request"


class MeasureType(StrEnum):
    """The types of seconds, pages and images."""

    AUDIO_INPUT = "audio_input"
    SESSION = "session"
    VIDEO = "video"
    DOCUMENT = "document"
    IMAGE = "image"


Type = TokenType | CallType | MeasureType


class Modality(StrEnum):
    """What tokens are made of. A document counts as images."""

    TEXT = "text"
    AUDIO = "audio"
    IMAGE = "image"
    VIDEO = "video"


class Tier(StrEnum):
    """How the provider served a request."""

    STANDARD = "standard"
    BATCH = "batch"
    FLEX = "flex"
    PRIORITY = "priority"
    FAST = "fast"
    ULTRAFAST = "ultrafast"
    SCALE = "scale"
    RESERVED = "reserved"
    OFF_PEAK = "off_peak"


class UsagePart(Record, kw_only=True):
    """A quantity that is in no other part of the same usage."""

    type: Type
    quantity: Decimal
    modality: Modality | None = Modality.TEXT
    """None for what is no tokens."""
    metric: Metric = Metric.TOKENS
    once: str | None = None
    """What is counted once over several responses, for example `container:cntr_1`."""


class ModelRequest(Record, kw_only=True):
    """One request to one model. Most calls are one; a compaction, an advisor or a compound system adds others."""

    model_sent: str
    """The model as the provider names it."""
    model: str | None
    """The model that is billed: without snapshot, prefix or region. None: it can't be known without an alias."""
    context: int
    """The greatest bound of `core/llm/context.py` that the whole input is above."""
    parts: tuple[UsagePart, ...]
    provider: str | None = None
    """The provider of the model that is billed, if an alias names another than the one that answered."""
    snapshot: str | None = None
    """The dated version of the model, for example 2024-08-06."""


class Warned(Record, kw_only=True):
    """Something about a usage that does not keep it from being counted."""

    code: str
    message: str
    field: str | None = None


class Usage(Record, kw_only=True):
    """What one call used, with all that its price depends on."""

    provider: str
    """The one that answered, whatever aliases there are: an answer keeps its identity when an alias is added."""
    api: str
    requests: tuple[ModelRequest, ...]
    tier: Tier = Tier.STANDARD
    region: str | None = None
    response_id: str | None = None
    """The identity that the provider gave to its answer. With `provider` it is the same by whatever road it comes."""
    cost: Decimal | None = None
    """What the provider says it charges, in USD."""
    size: str | None = None
    quality: str | None = None
    warnings: tuple[Warned, ...] = ()

    @property
    def model(self) -> str | None:
        """The model of the request that answered."""
        return self.requests[0].model

    @property
    def identity(self) -> str | None:
        return None if self.response_id is None else identity_of(self.provider, self.response_id)


OWN_ID = "event:"
"""How an id begins that is the transaction id of the event that a call came as."""


def identity_of(provider: str, response_id: str) -> str:
    """What a call is known by; a span of a trace or an event, which have no id of the provider's, by their own."""
    if response_id.startswith(OWN_ID):
        return response_id.removeprefix(OWN_ID)
    return response_id if response_id.startswith("span:") else f"{provider}:{response_id}"


class UnreadableUsage(Exception):  # noqa: N818 -- it is a finding about what was sent, not a fault of ours
    """A usage that can't be counted as it is: it is kept aside, with the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
