"""What a process counts of its own work, and what is known of the request that it answers."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Histogram,
)

from permille import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

registry = CollectorRegistry()
for _collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    registry.register(_collector)

requests = Counter(
    "permille_requests", "Requests answered.", ("method", "route", "status"), registry=registry
)
request_seconds = Histogram(
    "permille_request_seconds",
    "Time from a request's headers to the end of its answer.",
    ("method", "route"),
    buckets=SECONDS,
    registry=registry,
)
events = Counter(
    "permille_events",
    "Events by what became of them: stored, duplicate, refused (for what they say), unavailable (to be sent again).",
    ("outcome",),
    registry=registry,
)
for _outcome in ("stored", "duplicate", "refused", "unavailable"):
    events.labels(_outcome)


@dataclass(slots=True)
class Seen:
    """What is found out about a request while it is answered."""

    organization_id: UUID | None = None
    events: int | None = None
    """How many it brings; None while that is not known."""


current: ContextVar[Seen | None] = ContextVar("seen", default=None)
"""None outside of requests."""


def belongs_to(organization_id: UUID) -> None:
    """The request that is being answered is this organization's."""
    seen = current.get()
    if seen is not None:
        seen.organization_id = organization_id


def brings(count: int) -> None:
    """The request that is being answered brings so many events."""
    seen = current.get()
    if seen is not None:
        seen.events = count


def brought() -> int:
    """How many events the request brings; 1 when that could not be read."""
    seen = current.get()
    return 1 if seen is None or seen.events is None else seen.events


def version() -> str:
    return __version__
