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
    """An array in PostgreSQL's binary form."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Integers(_BinaryArray):
    """bigint[]"""


class Instants(_BinaryArray):
    """timestamptz[]"""


class Uuids(_BinaryArray):
    """uuid[]"""


def integers(values: Sequence[int]) -> Integers:
    packed = b"".join([_eight_bytes(8, value) for value in values])
    return Integers(_header(_INT8, len(values)) + packed)


def instants(values: Sequence[int]) -> Instants:
    """From microseconds since 1970."""
    packed = b"".join([_eight_bytes(8, value - _MICROSECONDS_TO_2000) for value in values])
    return Instants(_header(_TIMESTAMPTZ, len(values)) + packed)


def uuids(values: Sequence[bytes]) -> Uuids:
    """From their 16 bytes each."""
    return Uuids(_header(_UUID, len(values)) + b"\0\0\0\x10".join([b"", *values]))


def _header(oid: int, length: int) -> bytes:
    return _HEADER.pack(1, 0, oid, length, 1)


def numbers(values: Sequence[str | None]) -> str:
    """A literal of decimal texts; shorter than the other columns, that is NULL, when there is none."""
    if not any(values):
        return "{}"
    return "{" + ",".join([value or "NULL" for value in values]) + "}"


def texts(values: Sequence[str]) -> str:
    """A literal of texts without NULL."""
    joined = '","'.join(values)
    if joined.count('"') == 2 * (len(values) - 1) and "\\" not in joined:
        return '{"' + joined + '"}'
    return '{"' + '","'.join([_escaped(value) for value in values]) + '"}'


def documents(values: Sequence[str | None]) -> str:
    """A literal of JSON texts; empty, that is NULL, when there is none."""
    if not any(values):
        return "{}"
    return "{" + ",".join(["NULL" if value is None else f'"{_escaped(value)}"' for value in values]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


class _BinaryArrayDumper(Dumper):
    format = Format.BINARY

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
