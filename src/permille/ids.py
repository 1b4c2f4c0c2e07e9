"""Identifiers: UUIDv7, so that rows made together lie together in an index."""

from __future__ import annotations

import os
from datetime import datetime
from uuid import UUID


def new_id(at: datetime) -> UUID:
    """A UUIDv7 (RFC 9562) whose time part is the given instant, in milliseconds."""
    milliseconds = int(at.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    chance = int.from_bytes(os.urandom(10), "big")
    high = chance >> 68 & 0xFFF
    low = chance & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_id_texts(at: datetime, count: int) -> list[str]:
    """Many at once as 32 hexadecimal digits: for rows that are written by the hundred thousand."""
    head = f"{int(at.timestamp() * 1000) & 0xFFFF_FFFF_FFFF:012x}7"
    chance = os.urandom(10 * count).hex()
    return [
        f"{head}{chance[i : i + 3]}{_VARIANTS[chance[i + 3]]}{chance[i + 4 : i + 19]}"
        for i in range(0, 20 * count, 20)
    ]
