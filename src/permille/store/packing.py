"""Bodies of webhooks as they are kept: a tenth of their JSON, as it always has the same names.

A zlib stream (RFC 1950) with a dictionary made beforehand, which is an example of a body. A stream names its dictionary by a
checksum: the file may never change while bodies are kept that need it. A better one is a further file.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib.resources import files

LEVEL = 3
"""Half the processor time of the levels above it, for a tenth more bytes."""


@cache
def _dictionary() -> bytes:
    return (files("permille.store") / "webhook_dictionary.json").read_bytes()


@cache
def _fresh() -> zlib._Compress:
    return zlib.compressobj(LEVEL, zdict=_dictionary())


def pack(body: bytes) -> bytes:
    """The body as it is kept."""
    packer = _fresh().copy()
    return packer.compress(body) + packer.flush()


def unpack(packed: bytes) -> bytes:
    """The body that was packed. Raises zlib.error for what is none."""
    unpacker = zlib.decompressobj(zdict=_dictionary())
    return unpacker.decompress(packed) + unpacker.flush()
