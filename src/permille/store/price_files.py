"""Price files: kept compressed, once an installation, by the digest of what is in them."""

from __future__ import annotations

import hashlib
import json
import lzma
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from psycopg import Connection
from psycopg.errors import ForeignKeyViolation

from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.rows import UnreadablePricesError
from permille.core.llm.catalogue.sources import SOURCES
from permille.core.record import Record


class PriceFile(Record, dict=True):
    """A price file of a source, as it was written."""

    source: str
    content: bytes

    @cached_property
    def digest(self) -> bytes:
        """Which file it is."""
        return hashlib.sha256(self.source.encode() + b"\0" + self.content).digest()

    @property
    def document(self) -> Any:
        """What is in it, its numbers as decimals. Raises UnreadablePricesError."""
        try:
            return json.loads(self.content, parse_float=Decimal)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise UnreadablePricesError(f"the file is no JSON: {error}") from error

    def read(self, label: str) -> Catalogue:
        """The prices in it. Raises UnreadablePricesError."""
        return SOURCES[self.source].read(self.document, label=label)


def add(conn: Connection[Any], file: PriceFile, *, now: datetime) -> None:
    """Keep a file, unless it is there."""
    known = conn.execute("select from price_file where digest = %s for key share", [file.digest]).fetchone()
    if known is None:
        conn.execute(
            "insert into price_file (digest, source, content, created_at, size) values (%s, %s, %s, %s, %s)"
            " on conflict do nothing",
            [file.digest, file.source, lzma.compress(file.content), now, len(file.content)],
        )


def forget(conn: Connection[Any], digest: bytes) -> None:
    """Keep a file no longer, unless it is of a version, also of one that is just being stored."""
    with suppress(ForeignKeyViolation), conn.transaction():
        conn.execute("delete from price_file where digest = %s", [digest])


def by_digest(conn: Connection[Any], digest: bytes) -> PriceFile:
    """A file that is kept. Raises KeyError for another digest, which is a bug."""
    row = conn.execute("select source, content from price_file where digest = %s", [digest]).fetchone()
    if row is None:
        raise KeyError(digest.hex())
    return PriceFile(source=row[0], content=lzma.decompress(row[1]))
