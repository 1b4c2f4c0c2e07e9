"""Events as a sender's requests: the usual ones, and those that are hard."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from permille.clock import system_now
from permille.ids import new_id

MODELS = ("8K", "32K")
TYPES = ("input", "output")
_STEP = timedelta(microseconds=10)
"""From an id that carries its time to the next: 100,000 events a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is sent. Codes and keys are used in turns, subscriptions by chance."""

    name: str
    batch: int
    connections: int
    ordered_ids: bool = False
    """UUIDv7, as they are made by the way."""
    subscriptions: int = 1_000
    """Of each there are four series of a code."""
    codes: int = 1
    organizations: int = 1
    extra: int = 0
    """Properties that no metric asks for."""
    decimals: bool = False
    share: float = 1
    """How many of the events that a run has are sent."""

    def count(self, events: int) -> int:
        """How many events, a whole number of requests."""
        return max(1, int(events * self.share) // self.batch) * self.batch


USUAL = (
    Traffic(name="batches of 1,000", batch=1_000, connections=8),
    Traffic(name="batches of 1,000, time-ordered ids", batch=1_000, connections=8, ordered_ids=True),
    Traffic(name="batches of 100", batch=100, connections=16),
    Traffic(name="single events, 64 connections", batch=1, connections=64, share=0.2),
    Traffic(name="single events, 512 connections", batch=1, connections=512, share=0.2),
)

HARD = (
    Traffic(name="five extra properties", batch=1_000, connections=8, extra=5),
    Traffic(name="decimals", batch=1_000, connections=8, decimals=True),
    Traffic(name="four codes in a batch", batch=1_000, connections=8, codes=4),
    Traffic(name="20 organizations", batch=1_000, connections=8, organizations=20),
)


def many_series(series: int) -> Traffic:
    """Events of so many series, in batches."""
    name = f"{series:,} series"
    return Traffic(name=name, batch=1_000, connections=8, subscriptions=max(1, series // 4))


def requests(traffic: Traffic, keys: Sequence[str], count: int) -> Iterator[bytes]:
    """Each is a whole HTTP request with `traffic.batch` events."""
    chance = random.Random(uuid.uuid4().bytes)
    begin = system_now()
    path = "/api/v1/events" if traffic.batch == 1 else "/api/v1/events/batch"
    for first in range(0, count, traffic.batch):
        key = keys[first // traffic.batch % traffic.organizations]
        events = [_event(traffic, chance, first + place, begin) for place in range(traffic.batch)]
        sent = {"event": events[0]} if traffic.batch == 1 else {"events": events}
        body = json.dumps(sent, separators=(",", ":"))
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield (head + body).encode()


def _event(traffic: Traffic, chance: random.Random, place: int, begin: datetime) -> dict[str, object]:
    tokens = chance.randrange(1, 4_000)
    return {
        "transaction_id": str(new_id(begin + place * _STEP))
        if traffic.ordered_ids
        else uuid.UUID(int=chance.getrandbits(128)).hex,
        "external_subscription_id": f"sub-{chance.randrange(traffic.subscriptions)}",
        "code": f"tokens{place % traffic.codes or ''}",
        "timestamp": int(begin.timestamp()) - chance.randrange(3_600),
        "properties": {
            "model": chance.choice(MODELS),
            "type": chance.choice(TYPES),
            "tokens": f"{tokens}.{chance.randrange(10**6):06d}" if traffic.decimals else tokens,
            **{f"extra_{number}": f"value {chance.randrange(100)}" for number in range(traffic.extra)},
        },
    }
