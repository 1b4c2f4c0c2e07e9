"""Transaction ids that carry a time, and those that nearly do, of every way to write them."""

from __future__ import annotations

import random
from uuid import UUID

from permille.events.identity import ORDERED_FROM, ORDERED_UNTIL

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIMES = (0, ORDERED_FROM - 1, ORDERED_FROM, 1_830_000_000_000, ORDERED_UNTIL - 1, ORDERED_UNTIL, 2**48 - 1)
_BYTES = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_ \n+éſK٣"


def is_in_order(milliseconds: int) -> bool:
    return ORDERED_FROM <= milliseconds < ORDERED_UNTIL


def uuid7(milliseconds: int, chance: random.Random) -> UUID:
    low = chance.getrandbits(74)
    return UUID(int=milliseconds << 80 | 7 << 76 | low >> 62 << 64 | 0b10 << 62 | low & (1 << 62) - 1)


def ulid(milliseconds: int, chance: random.Random) -> str:
    number = milliseconds << 80 | chance.getrandbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def timed_id(chance: random.Random, milliseconds: int) -> str:
    """An id with this time, in any of the ways to write it."""
    at = uuid7(milliseconds, chance)
    text = chance.choice([str(at), at.hex, ulid(milliseconds, chance)])
    return chance.choice([text, text.lower(), text.upper()])


def ids(chance: random.Random, count: int) -> list[str]:
    """Each another one: with times on both sides of the bounds, without a time, and with a byte changed, gone or too many."""
    found: dict[str, None] = {}
    while len(found) < count:
        text = timed_id(chance, chance.choice([*_TIMES, chance.getrandbits(48), chance.getrandbits(42)]))
        if chance.random() < 0.1:
            text = str(UUID(int=chance.getrandbits(128), version=4))
        if chance.random() < 0.4:
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(["", *_BYTES]) + text[place + chance.choice([0, 1, 1, 1]) :]
        if text.strip():
            found[text] = None
    return list(found)
