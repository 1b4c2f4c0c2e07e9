"""Columns of a group of events as PostgreSQL array parameters, built without a call for each value."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiiii")
_MICROSECONDS_TO_2000 = 946_684_800_000_000
_INT8, _INT8_ARRAY = 20, 1016
_TIMESTAMPTZ, _TIMESTAMPTZ_ARRAY = 1184, 1185
_UUID, _UUID_ARRAY = 2950, 2951
_eight_bytes = struct.Struct(">iq").pack


class _BinaryArray:
    """An array as it is sent to PostgreSQL."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Integers(_BinaryArray):
    """bigint[]"""


class Instants(_BinaryArray):
    """timestamptz[]"""


class Uuids(_BinaryArray):
    """uuid[]"""


class Literal(_BinaryArray):
    """An array of any type as text."""


def integers(count: int, elements: bytes) -> Integers:
    """From `integer_elements`."""
    return Integers(_header(_INT8, count) + elements)


def instants(count: int, elements: bytes) -> Instants:
    """From `instant_elements`."""
    return Instants(_header(_TIMESTAMPTZ, count) + elements)


def uuids(values: Sequence[bytes]) -> Uuids:
    """From their 16 bytes each."""
    return uuid_array(len(values), uuid_elements(values))


def uuid_array(count: int, elements: bytes) -> Uuids:
    """From `uuid_elements`."""
    return Uuids(_header(_UUID, count) + elements)


def integer_elements(values: Sequence[int]) -> bytes:
    """Each with its length."""
    return b"".join([_eight_bytes(8, value) for value in values])


def instant_elements(values: Sequence[int]) -> bytes:
    """From microseconds since 1970."""
    return b"".join([_eight_bytes(8, value - _MICROSECONDS_TO_2000) for value in values])


def uuid_elements(values: Sequence[bytes]) -> bytes:
    """From their 16 bytes each."""
    return b"\0\0\0\x10".join([b"", *values])


def _header(oid: int, length: int) -> bytes:
    return _HEADER.pack(1, 0, oid, length, 1)


def number_elements(values: Sequence[str | None]) -> bytes | None:
    """Decimal texts as elements; None when there is none."""
    if not any(values):
        return None
    return ",".join([value or "NULL" for value in values]).encode()


def text_elements(values: Sequence[str]) -> bytes:
    """Texts as elements, without NULL."""
    joined = '","'.join(values)
    if joined.count('"') == 2 * (len(values) - 1) and "\\" not in joined:
        return f'"{joined}"'.encode()
    return ('"' + '","'.join([_escaped(value) for value in values]) + '"').encode()


def document_elements(values: Sequence[str | None]) -> bytes | None:
    """JSON texts as elements; None when there is none."""
    if not any(values):
        return None
    return ",".join(["NULL" if value is None else f'"{_escaped(value)}"' for value in values]).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


class _BinaryArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return bytes(obj.data)


class _LiteralDumper(Dumper):
    format = Format.TEXT
    oid = 0

    def dump(self, obj: Any) -> bytes:
        return bytes(obj.data)


class _IntegersDumper(_BinaryArrayDumper):
    oid = _INT8_ARRAY


class _InstantsDumper(_BinaryArrayDumper):
    oid = _TIMESTAMPTZ_ARRAY


class _UuidsDumper(_BinaryArrayDumper):
    oid = _UUID_ARRAY


def register(conn: Connection[Any] | AsyncConnection[Any]) -> None:
    """Let the connection take these arrays as parameters."""
    conn.adapters.register_dumper(Integers, _IntegersDumper)
    conn.adapters.register_dumper(Instants, _InstantsDumper)
    conn.adapters.register_dumper(Uuids, _UuidsDumper)
    conn.adapters.register_dumper(Literal, _LiteralDumper)
