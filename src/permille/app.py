"""Wiring: configuration -> pool -> routes -> one ASGI application. The only place that builds things."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

import psycopg
from psycopg import Connection
from starlette.applications import Starlette

from permille import web
from permille.api import openapi, routes
from permille.api.addresses import Route
from permille.api.health import health_routes
from permille.api.http import Engine, application
from permille.clock import system_now
from permille.config import READER_SOCKET, Config
from permille.core.llm.call import PreparedCall, SentCall
from permille.core.llm.intake import by_code
from permille.core.record import Record
from permille.database.connections import (
    Limits,
    LoopConnections,
    Pool,
    is_cut_off,
    is_passing,
    is_unavailable,
    open_pool,
)
from permille.embedded.calls import READING, READING_BEHIND, ask_for
from permille.events.engine import event_log
from permille.http.bodies import BodyMemory
from permille.http.reads import Reader
from permille.http.refusals import cut_off, try_again
from permille.http.shares import Loads, Turns, Workshop
from permille.http.strain import TICK_SECONDS, Wait
from permille.ingest.asgi import EventIntake
from permille.ingest.decoders import FORMATS, USAGE_FORMATS
from permille.ingest.senders import Answers
from permille.monitoring import metrics_route
from permille.store import api_keys, company, llm_intakes
from permille.usecases import llm_usages
from permille.usecases.event_warnings import warnings_of
from permille.usecases.key_use import KeyUse, hear_changes
from permille.usecases.recent_usages import RecentUsages

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

INTAKE_PATHS = tuple(
    dict.fromkeys([*(each.path for each in FORMATS), *(each.path for each in USAGE_FORMATS)])
)
_USUAL_INTAKE_PATHS = frozenset(path.encode() for path in INTAKE_PATHS)
POOL_SIZE = 16
HEAVY_POOL_SIZE = 4
COMPANY_SECONDS = 1.0
"""How often workers are shown of whom there are requests."""
WRITERS = 2
"""Tasks that store events, in each process."""


class Application:
    """The hot path in front, everything else behind it."""

    def __init__(
        self, *, engine: Engine, pools: Sequence[Pool], intake: EventIntake, rest: Starlette
    ) -> None:
        self.engine = engine
        self.pools = pools
        self.intake = intake
        self.rest = rest
        self.tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["raw_path"] in _USUAL_INTAKE_PATHS:
            await self.intake(scope, receive, send)
        else:
            await self.rest(scope, receive, send)

    async def start(self) -> None:
        await self.intake.start()
        dsn = self.engine.config.database_url
        assert dsn is not None, "build() refuses a configuration without one"
        self.tasks = [
            asyncio.create_task(self.engine.key_use.run()),
            asyncio.create_task(self.engine.api_log.run(self.engine.pool)),
            asyncio.create_task(self.engine.recent_usages.run(self.engine.pool)),
            asyncio.create_task(hear_changes(dsn, self._forget_key)),
            asyncio.create_task(self._show_company()),
            asyncio.create_task(feel(self.engine.turns.loads)),
        ]

    async def _show_company(self) -> None:
        """Show workers that there are requests, and of whom: of two organizations, each sees another one than itself."""
        while True:
            await asyncio.sleep(COMPANY_SECONDS)
            if found := self.engine.turns.loads.latest(2, 2 * COMPANY_SECONDS):
                await asyncio.to_thread(self._write_company, found)

    def _write_company(self, found: Sequence[UUID]) -> None:
        try:
            with self.engine.pool.connection() as conn:
                is_strained = self.engine.turns.loads.strain.level > 0
                company.seen(conn, found, is_strained=is_strained, now=system_now())
        except psycopg.Error as error:
            log.warning("Workers can't see who is there: %s", error)

    def _forget_key(self, key_id: UUID | None) -> None:
        self.engine.key_use.changes += 1
        self.intake.keys.forget(key_id)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await self.intake.stop()
        await asyncio.to_thread(self.engine.key_use.write)
        await asyncio.to_thread(self.engine.api_log.write, self.engine.pool)
        await asyncio.to_thread(self.engine.recent_usages.write, self.engine.pool)
        self.engine.documents.close()
        for reader in (self.engine.reader, self.engine.reader_behind):
            if reader is not None:
                reader.close()
        for pool in self.pools:
            pool.close()


async def feel(loads: Loads, *, alone_seconds: float = COMPANY_SECONDS) -> None:
    """Measure what others feel of those who take most: how long this loop waits, while several are there."""
    while True:
        seconds = TICK_SECONDS if loads.in_company else alone_seconds
        wait = Wait()
        await asyncio.sleep(seconds)
        loads.felt(*wait.over(seconds))


class _Asks(Protocol):
    """Asks the database something, on a connection of its own."""

    def __call__(self, question: Callable[[Connection[Any]], Answer]) -> Answer:
        """Raises Refusal when the database cannot be reached."""


class _Calls(Record):
    """CallDesk."""

    asked: _Asks
    on_loop: LoopConnections

    def prepare(self, organization_id: UUID, calls: Sequence[SentCall]) -> list[PreparedCall]:
        return self.asked(lambda conn: llm_usages.prepare(conn, organization_id, calls))

    def hold(
        self, organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
    ) -> list[PreparedCall]:
        return self.asked(lambda conn: llm_usages.hold(conn, organization_id, calls, now=now))

    def counted(self, organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime) -> None:
        self.asked(lambda conn: llm_usages.counted(conn, organization_id, calls, now=now))

    def look(
        self,
        organization_id: UUID,
        *,
        identities: Sequence[str],
        subscriptions: Collection[str],
        customers: Collection[str],
    ) -> llm_usages.Look:
        return self.asked(
            lambda conn: llm_usages.look(
                conn,
                organization_id,
                identities=identities,
                subscriptions=subscriptions,
                customers=customers,
            )
        )

    async def look_at_once(
        self, organization_id: UUID, *, identities: Sequence[str], subscriptions: Collection[str]
    ) -> llm_usages.Look | None:
        try:
            return await llm_usages.look_at_once(
                self.on_loop, organization_id, identities=identities, subscriptions=subscriptions
            )
        except psycopg.Error as error:
            _refuse_if_passing(error)
            raise

    async def close(self) -> None:
        await self.on_loop.close()


def _refuse_if_passing(error: psycopg.Error) -> None:
    """Raise Refusal where the database cannot be reached, or others were in the way: the request is to be sent again."""
    if is_unavailable(error):
        log.warning("The database cannot be reached: %s", error)
        raise try_again() from error
    if is_passing(error) or is_cut_off(error):
        log.warning("A question of the intake was cut off: %s", error)
        raise cut_off() from error


def intake_of(
    config: Config,
    dsn: str,
    pool: Pool,
    *,
    bodies: BodyMemory | None = None,
    key_use: KeyUse | None = None,
    notes: RecentUsages | None = None,
    loads: Loads | None = None,
) -> EventIntake:
    """The intake of events, with what it asks about a request."""

    def asked(question: Callable[[Connection[Any]], Answer]) -> Answer:
        try:
            with pool.connection() as conn:
                return question(conn)
        except psycopg.Error as error:
            _refuse_if_passing(error)
            raise

    return EventIntake(
        event_log.writers(
            dsn,
            WRITERS,
            series_bytes=config.series_memory_mb * 1024**2,
            is_accelerated=config.accelerator == "on",
        ),
        Answers(
            key=lambda secret: asked(lambda conn: api_keys.by_secret(conn, secret, now=system_now())),
            intakes=lambda owner: asked(lambda conn: by_code(llm_intakes.of_organization(conn, owner))),
            used=(key_use or KeyUse(pool)).note,
            warnings=lambda owner, drafts: asked(lambda conn: warnings_of(conn, owner, drafts)),
            unevaluable=lambda owner, drafts: asked(lambda conn: event_log.unevaluable(conn, owner, drafts)),
            unacceptable=lambda request: asked(lambda conn: event_log.first_unacceptable(conn, request)),
            calls=_Calls(
                asked, LoopConnections(dsn, size=WRITERS, name="permille-intake", limits=limits_of(config))
            ),
            notes=notes or RecentUsages(),
        ),
        bodies or BodyMemory(config.bodies_mb * 1024**2),
        max_body_bytes=config.max_body_bytes,
        batch_max=config.events_batch_max,
        loads=loads,
    )


def limits_of(config: Config) -> Limits:
    """What a request may take of the database."""
    return Limits(
        statement=config.statement_timeout_seconds,
        lock=config.lock_timeout_seconds,
        idle=config.idle_timeout_seconds,
    )


def build(config: Config) -> Application:
    """The application on an already migrated database."""
    if config.database_url is None:
        raise ValueError(
            "No database: set PERMILLE_DATABASE_URL, or run `permille up`, which brings its own."
        )
    limits = limits_of(config)
    pool = open_pool(config.database_url, size=POOL_SIZE, name="permille-serve", limits=limits)
    readers = os.environ.get(READER_SOCKET)
    heavy_pool = open_pool(
        config.database_url, size=HEAVY_POOL_SIZE, name="permille-heavy", limits=limits, gives_way=True
    )
    turns = Turns(config.requests_at_once, config.requests_waiting)
    engine = Engine(
        config=config,
        pool=pool,
        heavy_pool=heavy_pool,
        key_use=KeyUse(pool),
        turns=turns,
        documents=Workshop(config.documents_at_once, loads=turns.loads),
        bodies=BodyMemory(config.bodies_mb * 1024**2),
        reader=Reader(readers, partial(ask_for, READING)) if readers else None,
        reader_behind=Reader(readers, partial(ask_for, READING_BEHIND), is_behind=True) if readers else None,
    )
    intake_pool = open_pool(config.database_url, size=4, name="permille-intake", limits=limits)
    intake = intake_of(
        config,
        config.database_url,
        intake_pool,
        bodies=engine.bodies,
        key_use=engine.key_use,
        notes=engine.recent_usages,
        loads=turns.loads,
    )
    rest = application(
        [
            *health_routes(pool),
            metrics_route(config.metrics_key, [pool, heavy_pool, intake_pool]),
            *(Route(path, intake, methods=["POST"]) for path in INTAKE_PATHS),
            openapi.document_route(engine),
            *routes.all_routes(engine),
            *web.routes(engine),
        ],
        down=web.unavailable,
    )
    return Application(engine=engine, pools=(intake_pool, heavy_pool, pool), intake=intake, rest=rest)
