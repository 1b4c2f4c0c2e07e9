"""The sources of price files, each with the decoder of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from permille.core.llm.catalogue import genai_prices, litellm
from permille.core.llm.catalogue.prices import Catalogue
from permille.core.record import Record


class Decoder(Protocol):
    """Reads the document of a price file, with its numbers as decimals. Raises UnreadablePricesError."""

    def __call__(self, document: Any, *, label: str) -> Catalogue:
        """The catalogue in it."""


class PriceFileSource(Record):
    """Whose price files they are, what they are called there, and how they are read."""

    name: str
    file_name: str
    read: Decoder


_LISTED = (
    PriceFileSource(genai_prices.SOURCE, "data.json", genai_prices.read_catalogue),
    PriceFileSource(litellm.SOURCE, "model_prices_and_context_window.json", litellm.read_catalogue),
)
SOURCES: Mapping[str, PriceFileSource] = {each.name: each for each in _LISTED}
"""By name, in the order in which their prices count."""
DEFAULT = genai_prices.SOURCE
