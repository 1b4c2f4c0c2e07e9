"""What a process counts of its own work, and what is known of the request that it answers."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from uuid import UUID

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from permille import __version__

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

registry = CollectorRegistry()
for _collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    registry.register(_collector)


@dataclass(slots=True)
class _Tally:
    """Requests of a route by the first of SECONDS that they took no longer than, and how long all of them took."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    seconds: float = 0.0


class Answered(Collector):
    """The requests that were answered, by method, route and status, and how long that took.

    Only the event loop counts, so that no lock is needed: the library's own cost an event more than storing it does.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, int], _Tally] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has its answer."""
        tally = self._tallies.get((method, route, status))
        if tally is None:
            tally = self._tallies[method, route, status] = _Tally()
        tally.buckets[bisect_left(SECONDS, seconds)] += 1
        tally.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads; times are of a route's requests whatever their status."""
        requests = CounterMetricFamily(
            "permille_requests", "Requests answered.", labels=("method", "route", "status")
        )
        durations = HistogramMetricFamily(
            "permille_request_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=("method", "route"),
        )
        of_route: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
        for (method, route, status), tally in list(self._tallies.items()):
            requests.add_metric((method, route, str(status)), sum(tally.buckets))
            whole = of_route[method, route]
            whole.buckets = [one + more for one, more in zip(whole.buckets, tally.buckets, strict=True)]
            whole.seconds += tally.seconds
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        for labels, tally in of_route.items():
            durations.add_metric(
                labels, list(zip(bounds, accumulate(tally.buckets), strict=True)), tally.seconds
            )
        yield from (requests, durations)


answers = Answered()
registry.register(answers)

events = Counter(
    "permille_events",
    "Events by what became of them: stored, duplicate, refused (for what they say), unavailable (to be sent again).",
    ("outcome",),
    registry=registry,
)
stored, duplicate, refused, unavailable = (
    events.labels(each) for each in ("stored", "duplicate", "refused", "unavailable")
)


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
