"""The identity of an event, which is also its lago_id: one for (organization, subscription, transaction) for ever.

The first 8 bytes are of (organization, transaction) alone, so that an event is found by its transaction id
through the unique index; over both halves two different events collide with a chance of 2^-128.
"""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

_LOW = (1 << 64) - 1


def event_identity(organization: bytes, external_subscription_id: str | None, transaction_id: str) -> bytes:
    """16 bytes. An event without a subscription is never a duplicate, as in Lago."""
    digest = blake2b(organization + transaction_id.encode(), digest_size=16).digest()
    if external_subscription_id is None:
        return digest[:8] + os.urandom(8)
    mixed = int.from_bytes(digest, "big") ^ _subscription_part(external_subscription_id)
    return mixed.to_bytes(16, "big")


@lru_cache(maxsize=65_536)
def _subscription_part(external_subscription_id: str) -> int:
    return int.from_bytes(blake2b(external_subscription_id.encode(), digest_size=8).digest(), "big")


def transaction_range(organization: bytes, transaction_id: str) -> tuple[UUID, UUID]:
    """The first and the last identity that an event with this transaction id can have."""
    first = int.from_bytes(
        blake2b(organization + transaction_id.encode(), digest_size=16).digest()[:8], "big"
    )
    return UUID(int=first << 64), UUID(int=first << 64 | _LOW)
