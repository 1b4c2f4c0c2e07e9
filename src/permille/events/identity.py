"""The identity of an event, which is also its lago_id: one for (organization, subscription, transaction) for ever.

The first 8 bytes are of (organization, transaction) alone, so that an event is found by its transaction id
through the unique index; over both halves two different events collide with a chance of 2^-128.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

_HIGHEST = b"\xff" * 8


def event_identities(
    organization: bytes, external_subscription_ids: Sequence[str | None], transaction_ids: Sequence[str]
) -> list[bytes]:
    """16 bytes for each event. One without a subscription is never a duplicate, as in Lago."""
    digests = b"".join([transaction_identity(organization, each) for each in transaction_ids])
    parts = b"".join([_subscription_part(each) for each in external_subscription_ids])
    mixed = (int.from_bytes(digests, "big") ^ int.from_bytes(parts, "big")).to_bytes(len(digests), "big")
    return [mixed[i : i + 16] for i in range(0, len(mixed), 16)]


def _subscription_part(external_subscription_id: str | None) -> bytes:
    return bytes(8) + os.urandom(8) if external_subscription_id is None else _digest(external_subscription_id)


@lru_cache(maxsize=65_536)
def _digest(external_subscription_id: str) -> bytes:
    return bytes(8) + blake2b(external_subscription_id.encode(), digest_size=8).digest()


def transaction_identity(organization: bytes, transaction_id: str) -> bytes:
    """16 bytes for a transaction id of the organization, whatever the subscription is."""
    return blake2b(organization + transaction_id.encode(), digest_size=16).digest()


def transaction_range(organization: bytes, transaction_id: str) -> tuple[UUID, UUID]:
    """The first and the last identity that an event with this transaction id can have."""
    first, last = identity_range(transaction_identity(organization, transaction_id))
    return UUID(bytes=first), UUID(bytes=last)


def identity_range(transaction: bytes) -> tuple[bytes, bytes]:
    """As transaction_range, of the 16 bytes of a transaction id."""
    return transaction[:8] + bytes(8), transaction[:8] + _HIGHEST
