"""Folding: the values that a metric lists decide the detail in which tokens are counted by it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from permille.core.llm.parts import CallType, MeasureType, Metric, Modality, TokenType, Type, UsagePart
from permille.core.record import replace

PARENTS = {
    TokenType.CACHE_WRITE_5M: TokenType.CACHE_WRITE,
    TokenType.CACHE_WRITE_30M: TokenType.CACHE_WRITE,
    TokenType.CACHE_WRITE_1H: TokenType.CACHE_WRITE,
    TokenType.CACHE_WRITE_12H: TokenType.CACHE_WRITE,
    TokenType.CACHE_WRITE: TokenType.INPUT,
    TokenType.CACHED_INPUT: TokenType.INPUT,
    TokenType.TOOL_INPUT: TokenType.INPUT,
    TokenType.REASONING: TokenType.OUTPUT,
    TokenType.CITATION: TokenType.OUTPUT,
}
"""The type that tokens are counted as where theirs is not listed, or has no price of its own."""


def fold(
    parts: Sequence[UsagePart], *, types: Collection[str] | None, modalities: Collection[str] | None
) -> list[UsagePart]:
    """The parts as a metric counts them; those that become the same are one. None: the metric doesn't ask."""
    found: dict[tuple[Metric, Type, Modality | None, str | None], UsagePart] = {}
    for part in parts:
        folded = _folded(part, types, modalities)
        key = folded.metric, folded.type, folded.modality, folded.once
        before = found.get(key)
        found[key] = folded if before is None else replace(before, quantity=before.quantity + folded.quantity)
    return list(found.values())


def _folded(part: UsagePart, types: Collection[str] | None, modalities: Collection[str] | None) -> UsagePart:
    if part.metric is not Metric.TOKENS:
        return part
    kind, modality = part.type, part.modality
    if types is not None:
        kind = _listed(kind, types)
    if modalities is not None and modality is not None and modality not in modalities:
        modality = Modality.TEXT
    is_same = kind == part.type and modality == part.modality
    return part if is_same else replace(part, type=kind, modality=modality)


def _listed(kind: TokenType | CallType | MeasureType, types: Collection[str]) -> Type:
    """The type or the nearest of its parents that is listed; where none is, the last of them."""
    while kind not in types and isinstance(kind, TokenType) and kind in PARENTS:
        kind = PARENTS[kind]
    return kind
