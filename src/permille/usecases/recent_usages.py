"""What came in lately: kept in memory for a second, then written as one set, so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.clock import system_now
from permille.core.errors import Invalid, Refusal
from permille.core.llm.call import CallEvent, CallSource, DroppedSpans, PreparedCall, UsageStatus
from permille.core.record import Record
from permille.ids import new_ids
from permille.store import recent_usages
from permille.store.recent_usages import KEPT, RecentUsage

log = logging.getLogger(__name__)

WRITTEN_SECONDS = 1.0
WAITING_MAX = 10_000
"""What waits of all organizations; what comes beyond it within a second is not shown."""
WRITTEN_AT_ONCE, SHARE_MIN = 2_000, 5
"""How many are written at once, and how many of each organization at least, however many there are."""
EVENTS_SHOWN = 20
TEXT_MAX = 300


class Receipt(Record, kw_only=True):
    """What came of a request or of one usage in it: rendered when it is written."""

    source: CallSource
    what: PreparedCall | DroppedSpans | Refusal | Callable[[], PreparedCall]


class RecentUsages:
    """What waits to be written: of each organization the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[UUID, deque[Receipt]] = {}
        self._count = 0

    def note(
        self,
        organization_id: UUID,
        source: CallSource,
        what: Sequence[PreparedCall | DroppedSpans | Refusal | Callable[[], PreparedCall]],
    ) -> None:
        """Something came of a request. Any thread may say so."""
        receipts = [Receipt(source=source, what=each) for each in what[-KEPT:]]
        with self._lock:
            if self._count >= WAITING_MAX:
                return
            own = self._waiting.setdefault(organization_id, deque(maxlen=KEPT))
            self._count -= len(own)
            own.extend(receipts)
            self._count += len(own)

    def write(self, pool: ConnectionPool[Connection[Any]]) -> None:
        """Write what waits. A database that is not to be had costs it."""
        with self._lock:
            waiting, self._waiting, self._count = self._waiting, {}, 0
        if not waiting:
            return
        try:
            with pool.connection() as conn:
                recent_usages.add(conn, _rows(waiting))
        except psycopg.Error as error:
            log.warning("The last usages are not shown: %s", error)

    async def run(self, pool: ConnectionPool[Connection[Any]]) -> None:
        """Write once a second."""
        while True:
            await asyncio.sleep(WRITTEN_SECONDS)
            await asyncio.to_thread(self.write, pool)


def _rows(waiting: Mapping[UUID, Sequence[Receipt]]) -> list[RecentUsage]:
    share = max(WRITTEN_AT_ONCE // len(waiting), SHARE_MIN)
    found = [(owner, receipt) for owner, receipts in waiting.items() for receipt in list(receipts)[-share:]]
    ids = new_ids(system_now(), len(found))
    return [_row(own_id, owner, receipt) for own_id, (owner, receipt) in zip(ids, found, strict=True)]


def _row(own_id: UUID, organization_id: UUID, receipt: Receipt) -> RecentUsage:
    said: dict[str, Any] = {
        "client": receipt.source.client,
        "count": 1,
        "identity": None,
        "provider": None,
        "model": None,
        "external_subscription_id": None,
        "external_customer_id": None,
        "events": (),
        "warnings": (),
        **_said(receipt.what),
    }
    return RecentUsage(
        id=own_id,
        organization_id=organization_id,
        at=receipt.source.at,
        road=receipt.source.road,
        **said,
    )


def _said(what: PreparedCall | DroppedSpans | Refusal | Callable[[], PreparedCall]) -> dict[str, Any]:
    if isinstance(what, DroppedSpans):
        return {
            "status": UsageStatus.DROPPED,
            "client": what.client or None,
            "count": what.count,
            "code": what.code,
            "message": what.message,
        }
    if isinstance(what, Refusal):
        return {"status": UsageStatus.REFUSED, "code": what.code, "message": _reason(what)}
    return _call(what if isinstance(what, PreparedCall) else what())


def _reason(refusal: Refusal) -> str:
    """Fields and codes; what a body that can't be read has in it is not repeated."""
    if isinstance(refusal, Invalid):
        return str(refusal.errors)[:TEXT_MAX]
    return "The body can't be read." if refusal.status == 400 else f"Answered with {refusal.status}."


def _call(call: PreparedCall) -> dict[str, Any]:
    problem = call.problem
    return {
        "status": call.status,
        "identity": call.identity,
        "provider": call.sent.usage.provider,
        "model": call.sent.model_sent or _model_of(call),
        **({"client": call.sent.client} if call.sent.client else {}),
        "external_subscription_id": call.external_subscription_id or call.sent.external_subscription_id,
        "external_customer_id": call.sent.external_customer_id,
        "code": None if problem is None else problem.code,
        "message": None if problem is None else problem.message[:TEXT_MAX],
        "events": [_event(each) for each in (*call.events, *call.shared)[:EVENTS_SHOWN]],
        "warnings": [
            {"code": each.code, "message": each.message[:TEXT_MAX]} for each in call.warnings[:EVENTS_SHOWN]
        ],
    }


def _model_of(call: PreparedCall) -> str | None:
    """As the events of a stream, or of an answer inside another, name it."""
    return next((str(event.properties["model_raw"]) for event in call.events), None)


_SHOWN = ("provider", "model", "type", "modality", "quantity", "cost")


def _event(event: CallEvent) -> dict[str, str]:
    said = {name: str(event.properties[name]) for name in _SHOWN if name in event.properties}
    return {"code": event.code, "transaction_id": event.transaction_id, **said}
