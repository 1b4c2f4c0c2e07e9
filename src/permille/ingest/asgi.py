"""POST /events and /events/batch: decode, check, queue, answer after the commit.

Two tasks on the event loop, each with its own connection, commit what waits together. A group that holds
something new (a code, a series) or something wrong (a duplicate) goes to a thread, which looks at it closely.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.errors import AdminShutdown
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect

from permille.api.http import STATUS_HEADERS, error_body, refusal_body, try_again
from permille.api.validation import query_flag
from permille.clock import system_now
from permille.config import Config
from permille.core.errors import Invalid, Refusal, Unevaluable
from permille.core.metering.event_warning import EventWarning
from permille.core.money import decimal_text
from permille.core.organization import Organization
from permille.database.connections import is_alive, is_unavailable, open_pool
from permille.events.postgres.writer import (
    Memory,
    Request,
    open_async_connection,
    open_connection,
    store,
    store_at_once,
    unevaluable,
)
from permille.http.bodies import read_body
from permille.http.words import in_words, problem_in_words
from permille.ingest.intake import Draft, Faulty, microseconds, read_batch, read_one, timestamp_text
from permille.store import organizations
from permille.usecases.event_warnings import warnings_of

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRITERS = 2
GROUP_EVENTS = 5_000
QUEUE_EVENTS = 100_000
KEYS_REMEMBERED = 10_000
KEY_SECONDS = 5.0
RECONNECT_SECONDS = 0.2

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True)
class Waiting:
    """A request in the queue and where its answer goes."""

    request: Request
    answered: asyncio.Future[None]


class Queue:
    """What waits to be stored, all on one event loop; writers take it in groups."""

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.events = 0
        self.closed = False
        self.changed = asyncio.Event()

    def put(self, waiting: Waiting) -> bool:
        """Whether there was room."""
        size = len(waiting.request.drafts)
        if self.closed or self.events + size > QUEUE_EVENTS:
            return False
        self.waiting.append(waiting)
        self.events += size
        self.changed.set()
        return True

    async def take(self) -> list[Waiting]:
        """What waits, up to GROUP_EVENTS; pauses while there is nothing. Empty: closed and nothing is left."""
        while not self.waiting and not self.closed:
            self.changed.clear()
            await self.changed.wait()
        group: list[Waiting] = []
        size = 0
        while self.waiting and (not group or size + len(self.waiting[0].request.drafts) <= GROUP_EVENTS):
            group.append(self.waiting.popleft())
            size += len(group[-1].request.drafts)
        self.events -= size
        return group

    def close(self) -> None:
        self.closed = True
        self.changed.set()


class EventIntake:
    """The ASGI handler of the hot path. `start` it on the loop that serves it."""

    def __init__(self, config: Config) -> None:
        if config.database_url is None:
            raise ValueError("the intake needs a database_url")
        self.config = config
        self.dsn = config.database_url
        self.queue = Queue()
        self.memory = Memory()
        self.pool = open_pool(self.dsn, size=4, name="permille-intake")
        self.keys: dict[str, tuple[Organization, float]] = {}
        self.writers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.writers = [asyncio.create_task(self._write()) for _ in range(WRITERS)]

    async def stop(self) -> None:
        """Store and answer what was taken in, then end."""
        self.queue.close()
        await asyncio.gather(*self.writers)
        self.pool.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except Refusal as refusal:
            status, body = refusal.status, _encode(refusal_body(refusal))
        except psycopg.Error as error:
            if not is_unavailable(error):
                raise
            log.warning("The database is not to be had: %s", error)
            status, body = 503, _encode(refusal_body(try_again()))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status in STATUS_HEADERS:
            headers += [(name.encode(), value.encode()) for name, value in STATUS_HEADERS[status].items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        body = await read_body(scope["headers"], receive, self.config.max_body_bytes)
        organization = await self._organization(scope["headers"])
        if organization is None:
            return 401, _encode(error_body(401, in_words("unauthorized")))
        now = organization.now(system_now())
        is_batch = scope["path"].rstrip("/").endswith("/batch")
        try:
            drafts = (
                read_batch(body, now=now, limit=self.config.events_batch_max)
                if is_batch
                else read_one(body, now=now)
            )
        except Faulty as faulty:
            await asyncio.to_thread(self._raise_with_expressions, organization.id, faulty)
            raise
        request = Request(organization_id=organization.id, drafts=drafts, created_at=microseconds(now))
        if not await self._store(request):
            raise try_again()
        if request.unevaluable:
            raise _unevaluable(request.unevaluable, is_batch=is_batch)
        if request.duplicates:
            raise _duplicates(request.duplicates, is_batch=is_batch)
        warnings = None
        if scope.get("query_string") and query_flag(QueryParams(scope["query_string"]), "strict"):
            warnings = await asyncio.to_thread(self._warnings, organization.id, drafts)
        return 200, _rendered(request, warnings, is_batch=is_batch)

    def _warnings(self, organization_id: UUID, drafts: list[Draft]) -> list[tuple[int, EventWarning]]:
        with self.pool.connection() as conn:
            return warnings_of(conn, organization_id, drafts)

    def _raise_with_expressions(self, organization_id: UUID, faulty: Faulty) -> None:
        """Raise Unevaluable where events have no value for their expressions: that is said before other errors."""
        with self.pool.connection() as conn:
            problems = unevaluable(conn, organization_id, faulty.evaluable)
        if problems:
            said = {str(index): text for index, text in problems.items()}
            raise Unevaluable({**faulty.errors, **said} if faulty.is_batch else problems[0])

    async def _store(self, request: Request) -> bool:
        """Whether it is known how it went; if not, the client must send it again."""
        waiting = Waiting(request, asyncio.get_running_loop().create_future())
        if not self.queue.put(waiting):
            return False
        await waiting.answered
        return request.failure is None

    async def _organization(self, headers: Iterable[tuple[bytes, bytes]]) -> Organization | None:
        """Whose key it is. A live organization is remembered for a few seconds; a test clock is read each time."""
        key = _bearer(headers)
        if key is None:
            return None
        known = self.keys.get(key)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        organization = await asyncio.to_thread(self._look_up, key)
        if organization is not None and not organization.test_mode:
            if len(self.keys) >= KEYS_REMEMBERED:
                self.keys.pop(next(iter(self.keys)))
            self.keys[key] = (organization, time.monotonic() + KEY_SECONDS)
        return organization

    def _look_up(self, key: str) -> Organization | None:
        with self.pool.connection() as conn:
            return organizations.by_api_key(conn, key)

    async def _write(self) -> None:
        """The life of a writer: take a group, store it, answer it."""
        own = Connections(self.dsn)
        while group := await self.queue.take():
            requests = [waiting.request for waiting in group]
            try:
                await self._store_group(own, requests)
            except Exception as error:
                if is_unavailable(error):
                    log.warning("A group of %d requests was not stored: %s", len(group), error)
                else:
                    log.exception("A group of %d requests was not stored", len(group))
                for request in requests:
                    if request.duplicates is None:
                        request.failure = error
                await own.close()
                _answer_all(group)
                await asyncio.sleep(RECONNECT_SECONDS)
            else:
                _answer_all(group)
        await own.close()

    async def _store_group(self, own: Connections, requests: list[Request]) -> None:
        """Store what is not stored of it; once more if the database says that it has ended the attempt.

        A connection that was lost in the middle is no such word: the group may be in, and a second attempt would take it
        for duplicates.
        """
        try:
            await self._attempt(own, requests)
        except AdminShutdown:
            await own.close()
            await self._attempt(own, [request for request in requests if request.duplicates is None])

    async def _attempt(self, own: Connections, requests: list[Request]) -> None:
        if not await store_at_once(await own.for_loop(), self.memory, requests):
            await asyncio.to_thread(lambda: store(own.for_thread(), self.memory, requests))


class Connections:
    """A writer's own: one on the event loop, and one for a group with something new or something wrong in it.

    They are opened when they are needed, and again when they were lost while they were idle.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._on_loop: psycopg.AsyncConnection[Any] | None = None
        self._in_thread: psycopg.Connection[Any] | None = None

    async def for_loop(self) -> psycopg.AsyncConnection[Any]:
        """The one for `store_at_once`."""
        if self._on_loop is None or not is_alive(self._on_loop):
            await self.close()
            self._on_loop = await open_async_connection(self._dsn)
        return self._on_loop

    def for_thread(self) -> psycopg.Connection[Any]:
        """The one for `store`."""
        if self._in_thread is None or not is_alive(self._in_thread):
            if self._in_thread is not None:
                self._in_thread.close()
            self._in_thread = open_connection(self._dsn)
        return self._in_thread

    async def close(self) -> None:
        """Close both; they open again."""
        if self._on_loop is not None:
            await self._on_loop.close()
        if self._in_thread is not None:
            self._in_thread.close()
        self._on_loop = self._in_thread = None


def _answer_all(group: list[Waiting]) -> None:
    for waiting in group:
        if not waiting.answered.done():
            waiting.answered.set_result(None)


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"authorization":
            words = value.split()
            return words[1].decode("latin-1") if len(words) > 1 else None
    return None


def _duplicates(indices: list[int], *, is_batch: bool) -> Invalid:
    error = {"transaction_id": ["value_already_exist"]}
    return Invalid({str(index): error for index in indices} if is_batch else error)


def _unevaluable(problems: Mapping[int, str], *, is_batch: bool) -> Unevaluable:
    return Unevaluable({str(index): text for index, text in problems.items()} if is_batch else problems[0])


class EventObject(msgspec.Struct):
    """Lago's event, as it is answered. The two legacy ids are always null, as on Lago's PostgreSQL store."""

    lago_id: str
    transaction_id: str
    code: str
    timestamp: str
    precise_total_amount_cents: str | None
    properties: dict[str, Any]
    external_subscription_id: str | None
    created_at: str
    lago_customer_id: None = None
    lago_subscription_id: None = None


def _rendered(
    request: Request, warnings: Sequence[tuple[int, EventWarning]] | None, *, is_batch: bool
) -> bytes:
    created_at = timestamp_text(request.created_at)[:19] + "Z"
    events = [
        _event(draft, identity.hex(), created_at)
        for draft, identity in zip(request.drafts, request.identities, strict=True)
    ]
    answer: dict[str, Any] = {"events": events} if is_batch else {"event": events[0]}
    if warnings is not None:
        answer["warnings"] = [_warning(request.drafts[index], index, each) for index, each in warnings]
    return _encode(answer)


def _warning(draft: Draft, index: int, warning: EventWarning) -> dict[str, Any]:
    """`index` is the event's place in the request."""
    said = {
        "index": index,
        "transaction_id": draft.transaction_id,
        "field": warning.field,
        "code": warning.code,
        "message": problem_in_words(warning.field, warning.code, warning.allowed),
    }
    return {**said, "allowed": warning.allowed} if warning.allowed else said


def _event(draft: Draft, identity: str, created_at: str) -> EventObject:
    precise = draft.precise
    return EventObject(
        f"{identity[:8]}-{identity[8:12]}-{identity[12:16]}-{identity[16:20]}-{identity[20:]}",
        draft.transaction_id,
        draft.code,
        timestamp_text(draft.at),
        None if precise is None else decimal_text(Decimal(precise)),
        draft.properties,
        draft.external_subscription_id,
        created_at,
    )
