"""GET /metrics for Prometheus: what this process counts, its pools, and what waits in the database."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import psycopg
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from permille import telemetry
from permille.api.addresses import Route
from permille.api.http import bearer, refused, unauthorized
from permille.clock import system_now
from permille.core.errors import NotFound
from permille.database.connections import Pool
from permille.events.engine import upkeep
from permille.store.backlog import Backlog, backlog

FRESH_SECONDS = 5.0
"""However often it is asked, the database is not asked more often than that."""
WAIT_SECONDS = 2.0

BACKLOG = {
    "bills_due": "Subscriptions of live organizations with a bill that is due; at most 100 of each organization.",
    "bills_due_oldest_seconds": "How long the oldest of these bills has been due.",
    "customers_held": "Customers whose bills are on hold.",
    "fences": "Background tasks of organizations that have failed and wait to be tried again.",
    "invoices_without_price": "Drafts that wait until their usage has a price, at most 10,000.",
    "mails_waiting": "Mails that wait for an attempt, at most 10,000.",
    "vat_checks_waiting": "VAT numbers that are to be looked up, at most 10,000.",
    "webhooks_waiting": "Webhooks that wait for an attempt, at most 10,000.",
    "webhooks_failed": "Webhooks that were given up within the last day, at most 10,000.",
    "jobs_waiting": "Jobs in the queue, at most 10,000.",
    "jobs_running": "Jobs that a worker is at.",
    "worker_seen_at": "The last instant that a worker has seen, as a Unix time.",
}

log = logging.getLogger(__name__)


class Gauges(Collector):
    """What is read at a scrape. All server processes say the same about the database: take one of them, no sum."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: tuple[Backlog, int] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily | InfoMetricFamily]:
        info = InfoMetricFamily("permille_build", "The version of Permille.")
        info.add_metric([], {"version": telemetry.version()})
        yield info
        yield from self._of_pools()
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._read_at, self._found = time.monotonic(), self._read()
            found = self._found
        yield GaugeMetricFamily(
            "permille_database_up", "Whether the database could be asked.", int(found is not None)
        )
        if found is None:
            return
        waiting, behind = found
        yield GaugeMetricFamily("permille_roll_up_lag_events", "Events that are not rolled up yet.", behind)
        for name, what in BACKLOG.items():
            value = getattr(waiting, name)
            if value is not None:
                yield GaugeMetricFamily(f"permille_{name}", what, value)

    def _of_pools(self) -> Iterator[GaugeMetricFamily]:
        size = GaugeMetricFamily("permille_pool_connections", "Connections to the database.", labels=["pool"])
        used = GaugeMetricFamily("permille_pool_in_use", "Connections that are in use.", labels=["pool"])
        waiting = GaugeMetricFamily("permille_pool_waiting", "Requests that wait for one.", labels=["pool"])
        for pool in self._pools:
            stats = pool.get_stats()
            size.add_metric([pool.name], stats.get("pool_size", 0))
            used.add_metric([pool.name], stats.get("pool_size", 0) - stats.get("pool_available", 0))
            waiting.add_metric([pool.name], stats.get("requests_waiting", 0))
        yield from (size, used, waiting)

    def _read(self) -> tuple[Backlog, int] | None:
        try:
            with self._pools[0].connection(timeout=WAIT_SECONDS) as conn:
                return backlog(conn, now=system_now()), upkeep.lag(conn)
        except psycopg.Error as error:
            log.warning("The metrics of the database could not be read: %s", error)
            return None


def metrics_route(key: str | None, pools: Sequence[Pool]) -> Route:
    """Off without a key."""
    registry = CollectorRegistry()
    registry.register(Gauges(pools))

    def text() -> bytes:
        return generate_latest(telemetry.registry) + generate_latest(registry)

    async def metrics(request: Request) -> Response:
        if not key:
            return refused(NotFound("resource"))
        if not hmac.compare_digest((bearer(request) or "").encode(), key.encode()):
            return unauthorized()
        return Response(await run_in_threadpool(text), headers={"content-type": CONTENT_TYPE_LATEST})

    return Route("/metrics", metrics, methods=["GET"])
