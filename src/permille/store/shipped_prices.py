"""The price catalogue that comes with the package: it works without a network, and is read once a process."""

from __future__ import annotations

import json
import lzma
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from permille.core.llm.catalogue import genai_prices
from permille.core.llm.catalogue.prices import Catalogue

_FOLDER = "price_catalogue"
_SUFFIX = ".json.xz"


def name() -> str:
    """The source and its version, such as `genai-prices-0.2.3`."""
    return str(_file().name).removesuffix(_SUFFIX)


def document() -> Any:
    """The file as its source has written it, its numbers as decimals."""
    return json.loads(lzma.decompress(_file().read_bytes()), parse_float=Decimal)


@cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    return genai_prices.read_catalogue(document(), label=name())


def _file() -> Any:
    [found] = [
        each
        for each in resources.files("permille").joinpath(_FOLDER).iterdir()
        if each.name.endswith(_SUFFIX)
    ]
    return found
