"""What answers come in: lines of batch results, whole batches, and usage objects that carry the provider's own."""

from __future__ import annotations

from collections.abc import Sequence

from permille.core.llm.parts import Tier, UnreadableUsage
from permille.core.llm.table import Obj, at, text_at
from permille.core.record import Record


class Envelope(Record, kw_only=True):
    """The answers in an envelope, and what only the envelope says."""

    chunks: Sequence[Obj]
    tier: Tier | None = None
    model: str | None = None


def opened(chunks: Sequence[Obj]) -> Envelope:
    """The answer without its envelope. Raises UnreadableUsage for a batch line of a request that failed."""
    first = chunks[0]
    if "custom_id" in first or isinstance(at(first, "response.body"), dict) or "result" in first:
        return Envelope(chunks=[_line(first)], tier=Tier.BATCH)
    if first.get("object") == "batch":
        return Envelope(chunks=chunks, tier=Tier.BATCH)
    if len(chunks) == 1 and isinstance(raw := at(first, "usage.raw"), dict):
        return Envelope(
            chunks=[{"usage": raw, "id": text_at(first, ("response.id", "id"))}],
            model=text_at(first, ("response.modelId", "model")),
        )
    if len(chunks) == 1 and isinstance(raw := at(first, "usage.usageMetadata"), dict):
        return Envelope(chunks=[{"usageMetadata": raw}])
    return Envelope(chunks=chunks)


def _line(line: Obj) -> Obj:
    """The answer in a line of a batch result, as OpenAI's and Anthropic's batches have it."""
    for path in ("response.body", "result.message"):
        if isinstance(found := at(line, path), dict) and found:
            return found
    raise UnreadableUsage("usage_missing", "this line of the batch has no answer, so nothing was used")
