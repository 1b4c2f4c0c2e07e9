"""The price file that comes with the package: it works without a network, and is read once a process."""

from __future__ import annotations

import lzma
from functools import cache
from importlib import resources
from typing import Any

from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.sources import DEFAULT
from permille.store.price_files import PriceFile

_FOLDER = "price_catalogue"
_SUFFIX = ".json.xz"


def name() -> str:
    """The source and its version, such as `genai-prices-0.2.3`."""
    return str(_file().name).removesuffix(_SUFFIX)


@cache
def price_file() -> PriceFile:
    """The file as its source has written it."""
    return PriceFile(source=DEFAULT, content=lzma.decompress(_file().read_bytes()))


def document() -> Any:
    """What is in the file, its numbers as decimals."""
    return price_file().document


@cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    return price_file().read(name())


def _file() -> Any:
    [found] = [
        each
        for each in resources.files("permille").joinpath(_FOLDER).iterdir()
        if each.name.endswith(_SUFFIX)
    ]
    return found
