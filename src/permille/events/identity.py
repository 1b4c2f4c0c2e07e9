"""The identity of an event, which is also its lago_id: one for (organization, subscription, transaction) for ever.

The first 8 bytes are of (organization, transaction) alone, so that an event is found by its transaction id
through the unique index; over both halves two different events collide with a chance of 2^-128.

Where the transaction id carries its time (a UUIDv7 or a ULID), the first 6 bytes are that time instead: what comes in
together lies together in the index, whose pages need not be read and written all over. Two different events whose ids
have the same millisecond collide with a chance of 2^-80.

Which of both is a function of the transaction id alone (decision 016), the same in every process, database and release:
the constants here are never changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

ORDERED_FROM = 1_795_910_400_000
"""2026-11-29T00:00:00Z in milliseconds since 1970. Ids with an earlier time were stored before there was an order."""
ORDERED_UNTIL = 7_258_118_400_000
"""2200-01-01T00:00:00Z. What has a later time is taken for a digest that looks like a UUIDv7 by chance."""

_HIGHEST = b"\xff" * 8
_TIME_BYTES = 6
_UUID_LENGTHS = 32, 36
_UUID = re.compile(
    r"([0-9A-Fa-f]{8})(-?)([0-9A-Fa-f]{4})\2[7][0-9A-Fa-f]{3}\2[89ABab][0-9A-Fa-f]{3}\2[0-9A-Fa-f]{12}"
)
_ULID_LENGTH = 26
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}")
_ULID_TIME_LENGTH = 10
_CROCKFORD = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz", "abcdefghijklmnopqrstuv" * 2)


def event_identities(
    organization: bytes, external_subscription_ids: Sequence[str | None], transaction_ids: Sequence[str]
) -> list[bytes]:
    """16 bytes for each event. One without a subscription is never a duplicate, as in Lago."""
    firsts = b"".join([_transaction_part(organization, each) for each in transaction_ids])
    parts = b"".join([_subscription_part(each) for each in external_subscription_ids])
    mixed = (int.from_bytes(firsts, "big") ^ int.from_bytes(parts, "big")).to_bytes(len(firsts), "big")
    return [mixed[i : i + 16] for i in range(0, len(mixed), 16)]


def _subscription_part(external_subscription_id: str | None) -> bytes:
    return bytes(8) + os.urandom(8) if external_subscription_id is None else _digest(external_subscription_id)


@lru_cache(maxsize=65_536)
def _digest(external_subscription_id: str) -> bytes:
    return bytes(8) + blake2b(external_subscription_id.encode(), digest_size=8).digest()


def _transaction_part(organization: bytes, transaction_id: str) -> bytes:
    """The digest of a transaction id, which begins with the id's time where it has one."""
    return _timed(transaction_identity(organization, transaction_id), transaction_id)


def _timed(digest: bytes, transaction_id: str) -> bytes:
    milliseconds = _milliseconds(transaction_id)
    if milliseconds is None or not ORDERED_FROM <= milliseconds < ORDERED_UNTIL:
        return digest
    return milliseconds.to_bytes(_TIME_BYTES, "big") + digest[_TIME_BYTES:]


def _milliseconds(transaction_id: str) -> int | None:
    """The time that an id carries, None where it is neither a UUIDv7, with or without dashes, nor a ULID."""
    if len(transaction_id) in _UUID_LENGTHS:
        found = _UUID.fullmatch(transaction_id)
        return int(found[1] + found[3], 16) if found else None
    if len(transaction_id) == _ULID_LENGTH and _ULID.fullmatch(transaction_id):
        return int(transaction_id[:_ULID_TIME_LENGTH].translate(_CROCKFORD), 32)
    return None


def transaction_identity(organization: bytes, transaction_id: str) -> bytes:
    """16 bytes for a transaction id of the organization, whatever the subscription is."""
    return blake2b(organization + transaction_id.encode(), digest_size=16).digest()


@lru_cache(maxsize=4_096)
def claim(organization: bytes, transaction_id: str) -> bytes:
    """As transaction_identity, remembered: what counts once is looked for, and claimed soon after."""
    return transaction_identity(organization, transaction_id)


def transaction_range(organization: bytes, transaction_id: str) -> tuple[UUID, UUID]:
    """The first and the last identity that an event with this transaction id can have.

    Others may lie between them: what looks there compares the transaction id, too.
    """
    first = _transaction_part(organization, transaction_id)[:8]
    return UUID(bytes=first + bytes(8)), UUID(bytes=first + _HIGHEST)


def transaction_bounds(
    organization: bytes, transaction_ids: Sequence[str]
) -> tuple[list[bytes], list[bytes]]:
    """As transaction_range, of ids that are looked for and claimed: the first ones and the last ones."""
    parts = [_timed(claim(organization, each), each)[:8] for each in transaction_ids]
    return [part + bytes(8) for part in parts], [part + _HIGHEST for part in parts]
