"""Which of two readings of the same call says more: programs that watch a call leave out what others of them see."""

from __future__ import annotations

from collections.abc import Iterable

from permille.core.llm.fold import fold
from permille.core.llm.parts import Metric, Modality, ModelRequest, Tier, TokenType, Usage, UsagePart


def says_more(usage: Usage, than: Usage) -> bool:
    """Whether it agrees with another reading in all that this one says, and takes it further apart or adds to it.

    Readings that contradict each other don't say more, whichever has more parts: none of them is known to be right.
    """
    if len(usage.requests) != len(than.requests) or _said(usage) == _said(than):
        return False
    return (
        all(map(_is_finer_or_same, usage.requests, than.requests))
        and than.cost in (None, usage.cost)
        and than.tier in (Tier.STANDARD, usage.tier)
        and than.region in (None, usage.region)
    )


def _said(usage: Usage) -> tuple[object, ...]:
    requests = [(each.model, frozenset(each.parts)) for each in usage.requests]
    return requests, usage.cost, usage.tier, usage.region


def _is_finer_or_same(request: ModelRequest, than: ModelRequest) -> bool:
    """Whether the other's tokens are this one's, folded into fewer types."""
    tokens, others = _tokens(request.parts), _tokens(than.parts)
    folded = fold(
        tokens,
        types={TokenType.INPUT, TokenType.OUTPUT, *(str(each.type) for each in others)},
        modalities={Modality.TEXT, *(each.modality for each in others if each.modality)},
    )
    return (
        than.model in (None, request.model)
        and set(folded) == set(others)
        and set(than.parts) - set(others) <= set(request.parts) - set(tokens)
    )


def _tokens(parts: Iterable[UsagePart]) -> list[UsagePart]:
    return [part for part in parts if part.metric is Metric.TOKENS]
