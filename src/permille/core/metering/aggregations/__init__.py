"""Aggregations: one file for each, and the list of them. Source: semantics-metering.md sections 2.2 to 2.4."""

from __future__ import annotations

from permille.core.metering.aggregations.base import Aggregation, Needs, Reads
from permille.core.metering.aggregations.count import COUNT
from permille.core.metering.aggregations.custom import CUSTOM
from permille.core.metering.aggregations.latest import LATEST
from permille.core.metering.aggregations.max import MAX
from permille.core.metering.aggregations.sum import SUM
from permille.core.metering.aggregations.unique import UNIQUE_COUNT
from permille.core.metering.aggregations.weighted import WEIGHTED_SUM

__all__ = [
    "AGGREGATIONS",
    "COUNT",
    "CUSTOM",
    "LATEST",
    "MAX",
    "SUM",
    "UNIQUE_COUNT",
    "WEIGHTED_SUM",
    "Aggregation",
    "Needs",
    "Reads",
    "aggregation_of",
]

AGGREGATIONS: tuple[Aggregation, ...] = (SUM, COUNT, UNIQUE_COUNT, MAX, LATEST, WEIGHTED_SUM, CUSTOM)
"""All of them, the commonest first."""

_BY_NAME = {each.name: each for each in AGGREGATIONS}


def aggregation_of(name: str) -> Aggregation:
    """The aggregation with this name in the API. Raises KeyError."""
    return _BY_NAME[name]
