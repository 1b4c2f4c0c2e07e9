"""The size class of a request: models have prices that depend on how long the whole input is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from permille.core.llm.parts import INPUT_TYPES, Metric, UsagePart
from permille.core.money import ZERO

BOUNDS = (0, 32_000, 100_000, 128_000, 200_000, 256_000, 272_000, 512_000)
"""Fixed, and not the bounds of one model: a catalogue that is corrected later can be applied to earlier usage."""


def context_of(parts: Iterable[UsagePart]) -> int:
    """The greatest bound that the input of a request, of all types together, is above."""
    whole = ZERO
    for part in parts:
        if part.metric is Metric.TOKENS and part.type in INPUT_TYPES:
            whole += part.quantity
    return BOUNDS[max(0, bisect_left(BOUNDS, whole) - 1)]
