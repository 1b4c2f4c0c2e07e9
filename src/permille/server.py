"""`permille serve`: uvicorn around the application, which answers 503 until the database is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import psycopg
import uvicorn

from permille import logs
from permille.api.health import LIVE, is_alive
from permille.api.http import json_response
from permille.app import INTAKE_PATHS, Application, Receive, Scope, Send, build
from permille.clock import system_now
from permille.config import Config
from permille.database.migrate import pending
from permille.embedded import running
from permille.embedded.unprivileged import leave_root
from permille.http.door import DoorLimits, raise_open_files
from permille.http.quick import ShortWay, quick
from permille.http.requests import Requests
from permille.ingest.quick import QuickDesk
from permille.memory import calm_collector, quick_turns
from permille.usecases import price_catalogue, watch
from permille.web.sign_in import first_user_link

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
LOOK_SECONDS = 10.0
"""How often a server looks whether its schema and its clock are still right."""


class NotMigratedError(RuntimeError):
    """The database lacks migrations: run `permille db migrate`."""


def _build_when_ready(config: Config) -> Application:
    if config.database_url is not None and pending(config.database_url):
        raise NotMigratedError("The database lacks migrations: run `permille db migrate`.")
    application = build(config)
    try:
        _look(application)
        _adopt_prices(application)
        _invite(config)
    except BaseException:
        for pool in application.pools:
            pool.close()
        raise
    return application


def _look(application: Application) -> None:
    """Raises MustStopError, and UnableToMigrateError, when the application must not go on."""
    with application.engine.pool.connection() as conn:
        watch.check(conn)


def _adopt_prices(application: Application) -> None:
    """The price file of a new release waits for approval."""
    with application.engine.pool.connection() as conn:
        price_catalogue.adopt_shipped(conn, now=system_now())


class Gate:
    """Listens at once, and lets requests in when the application is ready."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.application: Application | None = None
        self.failure: BaseException | None = None
        """Why it never lets requests in; `give_up` is called then."""
        self.give_up: Callable[[], None] = lambda: None
        self.protocol = quick(door_limits(config))
        self.requests = Requests(self, fixed=INTAKE_PATHS, logs_requests=config.log_format == "json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self.application is not None:
            await self.application(scope, receive, send)
        elif scope["path"] == LIVE:
            await is_alive()(scope, receive, send)
        else:
            await json_response({"status": "starting"}, 503)(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        opening = asyncio.create_task(self._open())
        opening.add_done_callback(self._check)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        opening.cancel()
        if self.application is not None:
            await self.application.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def _check(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled():
            self.failure = opening.exception()
        if self.failure is not None:
            log.critical("The server stops: %s", self.failure)
            self.give_up()

    async def _open(self) -> None:
        while True:
            try:
                application = await asyncio.to_thread(_build_when_ready, self.config)
                await application.start()
            except (psycopg.OperationalError, NotMigratedError) as error:
                log.warning("Waiting for the database: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.application = application
                self.protocol.short_way = ShortWay(QuickDesk(application.intake), self.requests)
                calm_collector()
                quick_turns()
                await self._keep_looking(application)

    async def _keep_looking(self, application: Application) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(_look, application)
            except psycopg.Error as error:
                log.warning("The clock and the schema could not be looked at: %s", error)


def _invite(config: Config) -> None:
    """While nobody can sign in to the web admin, say how the first one does."""
    link = first_user_link(config)
    if link is not None:
        log.warning("The web admin has no user yet. Within a day, become the first at %s", link)


def listening(gate: Gate, config: Config) -> uvicorn.Config:
    """How uvicorn serves. Behind trusted proxies a request's client and scheme are the ones that they saw."""
    return uvicorn.Config(
        gate.requests,
        host=config.host,
        port=config.port,
        loop="uvloop",
        http=gate.protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level=config.log_level,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        server_header=False,
        proxy_headers=bool(config.trusted_proxies),
        forwarded_allow_ips=config.trusted_proxies.each(),
    )


def door_limits(config: Config) -> DoorLimits:
    """The bounds of the door, no more connections than there can be open files."""
    return DoorLimits(
        request_seconds=config.request_seconds,
        connections=min(config.connections_max, raise_open_files()),
        connections_of_address=config.connections_per_address,
        trusted_proxies=config.trusted_proxies,
        hosts=frozenset(each.strip().lower() for each in (config.allowed_hosts or "").split(",") if each),
    )


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; what was taken in is committed and answered before the end.

    Raises UnusableError when the port can't be listened on, and what waiting for the database can't mend:
    UnableToMigrateError when it has migrations that we don't know, MustStopError when the clock is wrong.
    """
    logs.configure(config.log_level, config.log_format)
    error = running.why_taken(config.host, config.port)
    if error is not None:
        raise running.UnusableError(running.cannot_listen(config.host, config.port, error))
    gate = Gate(config)
    settings = listening(gate, config)
    listener = settings.bind_socket()  # a port below 1024 needs root
    leave_root(config)
    server = uvicorn.Server(settings)

    def end() -> None:
        server.should_exit = True

    gate.give_up = end
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if gate.failure is not None:
        raise gate.failure
