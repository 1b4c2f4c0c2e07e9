"""Identifiers: UUIDv7, so that rows made together lie together in an index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from permille.clock import system_now

_LOW_BITS = 62
_LOW = (1 << _LOW_BITS) - 1


_CHANCE_BITS = 23
_LOT = 256
_MICROSECONDS = (1 << 51) - 1


def new_id(at: datetime) -> UUID:
    """A UUIDv7 (RFC 9562) whose time part is the given instant, in milliseconds.

    Those of one instant are ascending in the order in which they are made: what is created at once, as by a test
    clock that does not move or by one run, has an order that is not of chance.
    """
    return ordered_ids(at, 1)[0]


def ordered_ids(at: datetime, count: int) -> list[UUID]:
    """Many at once, in order after those of the instant that `new_id` and this have made before."""
    head = _head(at)
    made = int(system_now().timestamp() * 1_000_000) & _MICROSECONDS
    start = made << _CHANCE_BITS | int.from_bytes(os.urandom(3), "big") >> 1
    return [UUID(int=head | _spread(start + nth)) for nth in range(count)]


def new_ids(at: datetime, count: int) -> list[UUID]:
    """Many at once, ascending, but before or after others of the instant by chance: for rows that nobody puts in order by them."""
    return [UUID(int=number) for number in _numbers(at, count)]


def new_id_texts(at: datetime, count: int) -> list[str]:
    """Many at once, ascending, as 32 hexadecimal digits: for rows that are written by the hundred thousand."""
    return [f"{number:032x}" for number in _numbers(at, count)]


def id_texts(at: datetime) -> Iterator[str]:
    """As many as are taken, as 32 hexadecimal digits, where nobody knows how many that will be."""
    while True:
        yield from new_id_texts(at, _LOT)


def _numbers(at: datetime, count: int) -> list[int]:
    """Counted up by a step of chance from a start of chance.

    An invoice run writes half a million rows as of one millisecond. If chance alone followed the time, each
    would go to another page of its index.
    """
    head = _head(at)
    start = int.from_bytes(os.urandom(10), "big") >> 7
    step = int.from_bytes(os.urandom(4), "big") | 1
    return [head | _spread(start + step * nth) for nth in range(count)]


def _head(at: datetime) -> int:
    """The time, the version and the variant."""
    milliseconds = int(at.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    return milliseconds << 80 | 0x7 << 76 | 0b10 << _LOW_BITS


def _spread(number: int) -> int:
    """74 bits where an id has room for them: above the variant and below it."""
    return number >> _LOW_BITS << 64 | number & _LOW
