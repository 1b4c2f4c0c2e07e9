"""The edge: from a request to one function call, and from its answer or refusal to a Lago-shaped response.

An endpoint is a plain function `(call: Call) -> dict | Raw`. It runs in a worker thread, in one
transaction: what it returns is committed, what it raises is rolled back.
"""

from __future__ import annotations

import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import Connection, IsolationLevel
from psycopg_pool import ConnectionPool
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from permille import request_ids, telemetry
from permille.api.addresses import Route, canonical_path
from permille.api.noting import logged
from permille.api.objects.pagination import Pagination
from permille.clock import system_now
from permille.config import Config
from permille.core.api_key import ApiKey, Mode
from permille.core.errors import BadRequest, Invalid, NotAllowed, NotFound, Refusal
from permille.core.organization import Organization
from permille.core.record import Record, field
from permille.database.connections import (
    encode_answer,
    is_cut_off,
    is_passing,
    is_unavailable,
    keep_plans,
    processor_seconds,
)
from permille.http.bodies import BodyMemory, BodyShare, brings_body, read_body
from permille.http.clients import client_address, household
from permille.http.guesses import Guesses
from permille.http.reads import Read, Reader, Reading
from permille.http.refusals import STATUS_HEADERS, cut_off, error_body, refusal_body, try_again
from permille.http.shares import Turns, Workshop
from permille.http.words import in_words
from permille.store import api_keys
from permille.store.activity import ActorKind
from permille.usecases import activity, holds
from permille.usecases.api_log import ApiLog
from permille.usecases.key_use import KeyUse, MetKey
from permille.usecases.recent_usages import RecentUsages

log = logging.getLogger(__name__)

PER_PAGE_DEFAULT = 100
PER_PAGE_OF_JUNK = 25
PER_PAGE_MAX = 1_000

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


KeyScope = tuple[str, Mode]
"""A kind of object, and what is done with it."""


class Engine(Record, kw_only=True):
    """What every endpoint may use; built once, in app.py."""

    config: Config
    pool: ConnectionPool[Connection[Any]]
    key_use: KeyUse
    heavy_pool: ConnectionPool[Connection[Any]] | None = None
    """For organizations that take more than their share; None: they use the same as all."""
    api_log: ApiLog = field(default_factory=ApiLog)
    recent_usages: RecentUsages = field(default_factory=RecentUsages)
    turns: Turns = field(default_factory=Turns)
    """Those of requests, on the event loop."""
    guesses: Guesses = field(default_factory=Guesses)
    """Guesses of the admin key."""
    bodies: BodyMemory = field(default_factory=lambda: BodyMemory(512 * 1024**2))
    documents: Workshop = field(default_factory=Workshop)
    """Where documents are made."""
    reader: Reader | None = None
    """Who does heavy reads, if not this process itself."""
    reader_behind: Reader | None = None
    """Who makes documents, and reads for organizations that take more than their share."""

    def pool_for(self, *, is_heavy: bool) -> ConnectionPool[Connection[Any]]:
        """The connections for a turn of an organization."""
        return self.heavy_pool if is_heavy and self.heavy_pool is not None else self.pool


class Page(Record, kw_only=True):
    number: int
    per_page: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.per_page

    def meta(self, total: int) -> Pagination:
        """Lago's pagination block for a list of `total` rows."""
        pages = math.ceil(total / self.per_page)
        return Pagination(
            current_page=self.number if total else 0,
            next_page=self.number + 1 if self.number < pages else None,
            prev_page=self.number - 1 if total and self.number > 1 else None,
            total_pages=pages,
            total_count=total,
        )


class Call(Record, kw_only=True):
    """One authenticated request: whose it is, when it is (the organization's clock), and what it says."""

    engine: Engine
    conn: Connection[Any]
    organization: Organization
    now: datetime
    path: Mapping[str, str]
    query: QueryParams
    body: Any
    key_id: UUID
    """The API key that the request came with."""

    def root(self, key: str) -> dict[str, Any]:
        """The object under the request's root key. Raises BadRequest as Lago does when it is missing."""
        return root_object(self.body, key)

    def optional_root(self, key: str) -> dict[str, Any]:
        """The object under the request's root key, empty where nothing is sent. Raises BadRequest for what is no object."""
        found = self.body.get(key) if isinstance(self.body, dict) else self.body
        return {} if found in (None, {}) else root_object(self.body, key)

    def page(self) -> Page:
        """The page asked for: junk counts as pages of PER_PAGE_OF_JUNK, as in Lago. Raises Invalid for pages of nothing."""
        per_page = self.query.get("per_page")
        size = PER_PAGE_DEFAULT if per_page is None else _whole(per_page, default=PER_PAGE_OF_JUNK)
        if size == 0:
            raise Invalid({"per_page": ["value_is_out_of_range"]})
        return page_of(self.query, min(size, PER_PAGE_MAX))


class Raw(Record, kw_only=True):
    """An answer that is no JSON object, e.g. a PDF.

    What takes its time is a function: it is called in the workshop, when the database is free for others again.
    """

    content: bytes | Callable[[], bytes]
    media_type: str
    headers: Mapping[str, str]


class Accepted(Record, kw_only=True):
    """An answer while what was asked for goes on: 202."""

    content: dict[str, Any]


Endpoint = Callable[[Call], dict[str, Any] | Raw | Accepted]


def root_object(body: Any, key: str) -> dict[str, Any]:
    found = body.get(key) if isinstance(body, dict) else None
    if not isinstance(found, dict) or not found:
        raise BadRequest(f"param is missing or the value is empty or invalid: {key}")
    return found


def page_of(query: Mapping[str, str], per_page: int) -> Page:
    """The page that the query names, in pages of a size; junk counts as the first one."""
    return Page(number=_whole(query.get("page", ""), default=1) or 1, per_page=per_page)


def _whole(text: str, *, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else default


def json_response(content: Any, status: int = 200) -> Response:
    headers = STATUS_HEADERS.get(status)
    return Response(
        encode_answer(content), status_code=status, headers=headers, media_type="application/json"
    )


def unavailable() -> Response:
    return refused(try_again())


def unauthorized() -> Response:
    return json_response(error_body(401, in_words("unauthorized")), 401)


def refused(refusal: Refusal) -> Response:
    return json_response(refusal_body(refusal), refusal.status)


def bearer(request: Request) -> str | None:
    """The second word of the Authorization header; Lago does not look at the first."""
    words = request.headers.get("authorization", "").split()
    return words[1] if len(words) > 1 else None


def refuse_nul(request: Request) -> None:
    """Raises BadRequest for parameters with a NUL: no text of the database can hold one."""
    if any("\0" in name or "\0" in value for name, value in request.query_params.multi_items()):
        raise BadRequest("the address has a NUL character")


async def read_json(request: Request, limit: int, share: BodyShare) -> Any:
    """The decoded body, None when there is none. Raises BadRequest on bad JSON, and what `read_body` raises."""
    raw = await read_body(request.headers.raw, request.receive, limit, share)
    return decode_json(raw) if raw.strip() else None


def decode_json(raw: bytes) -> Any:
    """JSON with exact numbers. Raises BadRequest for what is none."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error


def _answer(
    engine: Engine,
    endpoint: Endpoint,
    request: Request,
    body: Any,
    *,
    met: MetKey | None,
    scope: KeyScope | None,
    operation: str,
    keeps_plans: bool,
    is_heavy: bool,
) -> Response | Raw:
    key = bearer(request)
    with engine.pool_for(is_heavy=is_heavy).connection() as conn:
        if request.method == "GET":
            conn.isolation_level = IsolationLevel.REPEATABLE_READ  # all of an answer is of one instant
        if keeps_plans:
            keep_plans(conn)
        now = system_now()
        if met is not None and met.is_right(engine.key_use):
            known: ApiKey | None = met.key
        else:
            known = api_keys.by_secret(conn, key, now=now) if key else None
        if key is None or known is None:
            return unauthorized()
        request.state.known, request.state.body = known, body
        organization = known.organization
        engine.turns.learn(key, organization.id)
        telemetry.belongs_to(organization.id)
        engine.key_use.note(known.id, now)
        if scope is not None:
            known.require(*scope)
        if request.method != "GET":
            activity.begin(
                conn,
                ActorKind.API_KEY,
                operation,
                organization=organization,
                api_key_id=known.id,
                now=now,
            )
        call = Call(
            engine=engine,
            conn=conn,
            organization=organization,
            now=organization.now(now),
            path=request.path_params,
            query=request.query_params,
            body=body,
            key_id=known.id,
        )
        with holds.refusing_unbillable():
            answer = endpoint(call)
    if isinstance(answer, Accepted):
        return json_response(answer.content, 202)
    return answer if isinstance(answer, Raw) else json_response(answer)


def _is_cut_off(error: Exception) -> bool:
    return (is_passing(error) and not is_unavailable(error)) or is_cut_off(error)


def _cut_off(error: Exception) -> Response:
    log.warning("A request was cut off: %s", error)
    return refused(cut_off())


def _status_of(error: psycopg.Error) -> int:
    """What a request is answered with whose work raised it."""
    return 503 if is_unavailable(error) or _is_cut_off(error) else 500


async def _meet(engine: Engine, key: str) -> MetKey | None:
    """Look a key up that this process has not met, before a body is read. None: it is no key."""
    changes = engine.key_use.changes

    def look() -> MetKey | None:
        with engine.pool.connection() as conn:
            known = api_keys.by_secret(conn, key, now=system_now())
        if known is None:
            return None
        engine.turns.learn(key, known.organization.id)
        return MetKey(key=known, at=time.monotonic(), changes=changes)

    return await engine.turns.run(key, lambda _: look())


async def finished(
    engine: Engine,
    answer: Response | Raw,
    credential: str | None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response to a request with this key or session; one that is no page or JSON has these headers beside its own."""
    if not isinstance(answer, Raw):
        return answer
    content = answer.content
    if not isinstance(content, bytes):
        content = await engine.documents.make(engine.turns.owner(credential or ""), content)
    return Response(content, media_type=answer.media_type, headers={**(headers or {}), **answer.headers})


class Apart(Enum):
    """Which requests of an operation the reader answers."""

    ALWAYS = auto()
    WHERE_HEAVY = auto()
    """Those of organizations that take more than their share."""
    DOCUMENT = auto()
    """All whose key is known, in their owner's turn at documents."""
    NEVER = auto()


Reads = Callable[[Engine, Reading], Read]
"""A heavy read, as the reader does it."""


def read_apart(
    path: str, endpoint: Endpoint, *, scope: KeyScope | None, keeps_plans: bool
) -> tuple[str, Reads]:
    """The path, and how the reader answers it: as the server does, by what it is asked.

    Raises what the server answers in its own way, but not what was cut off: that is not tried twice.
    """

    def read(engine: Engine, asked: Reading) -> Read:
        began = processor_seconds()
        request = Request(
            {
                "type": "http",
                "method": "GET",
                "path": path,
                "path_params": asked.path,
                "query_string": asked.query,
                "headers": [(b"authorization", asked.authorization)],
            }
        )
        try:
            answer = _answer(
                engine,
                endpoint,
                request,
                None,
                met=None,
                scope=scope,
                operation=f"GET {path}",
                keeps_plans=keeps_plans,
                is_heavy=asked.is_heavy,
            )
            found = _response(answer)
        except Refusal as refusal:
            found = refused(refusal)
        except psycopg.Error as error:
            if not _is_cut_off(error):
                raise
            found = _cut_off(error)
        known: ApiKey | None = getattr(request.state, "known", None)
        return Read(
            status=found.status_code,
            headers=found.raw_headers,
            content=bytes(found.body),
            key_id=None if known is None else known.id,
            organization_id=None if known is None else known.organization.id,
            seconds=processor_seconds() - began,
        )

    return path, read


def _response(answer: Response | Raw) -> Response:
    """The response of an answer, whose content is made here if it has to be."""
    if not isinstance(answer, Raw):
        return answer
    content = answer.content if isinstance(answer.content, bytes) else answer.content()
    return Response(content, media_type=answer.media_type, headers=answer.headers)


def _read_elsewhere(
    engine: Engine, reader: Reader | None, request: Request, path: str, *, is_heavy: bool
) -> Response | None:
    """The reader's answer, with what this process keeps of a request noted; None: this process has to read."""
    key = bearer(request)
    if reader is None or key is None:
        return None
    found = reader.read(
        Reading(
            route=path,
            path=request.path_params,
            query=request.scope["query_string"],
            authorization=request.headers["authorization"].encode("latin-1"),
            request_id=request_ids.current.get(),
            is_heavy=is_heavy,
        )
    )
    if found is None:
        return None
    request.state.elsewhere = found.seconds
    if found.key_id is not None and found.organization_id is not None:
        engine.turns.learn(key, found.organization_id)
        telemetry.belongs_to(found.organization_id)
        engine.key_use.note(found.key_id, system_now())
    response = Response(found.content, status_code=found.status)
    response.raw_headers = found.headers
    return response


async def _document_elsewhere(engine: Engine, request: Request, path: str) -> Response | None:
    """The reader's answer in the owner's turn at documents; None: this process has to make it, or to find out whose the key is.

    Raises Refusal when too many wait.
    """
    owner = engine.turns.owner_of(bearer(request))
    if engine.reader_behind is None or owner is None:
        return None
    read = partial(_read_elsewhere, engine, engine.reader_behind, request, path, is_heavy=False)
    return await engine.documents.make(owner, partial(copy_context().run, read))


async def _answer_in_turn(
    engine: Engine,
    request: Request,
    path: str,
    apart: Apart,
    answer: Callable[[bool], Response | Raw],
) -> Response | Raw:
    """What is answered when the owner of the request's key has its turn, by whichever process. Raises what `Turns.run` raises."""
    key = bearer(request)
    found: Response | Raw | None = None
    if apart is Apart.DOCUMENT:
        found = await _document_elsewhere(engine, request, path)
    if found is None:
        found = await engine.turns.run(key, answer, path)
    _count_elsewhere(engine, request, key)
    return found


def _count_elsewhere(engine: Engine, request: Request, key: str | None) -> None:
    """What the reader took of a processor is the owner's, as what a thread here takes. Call it on the event loop."""
    seconds = getattr(request.state, "elsewhere", None)
    if seconds is not None and key is not None:
        engine.turns.loads.add(engine.turns.owner(key), seconds)


def route(
    engine: Engine,
    methods: Sequence[str],
    path: str,
    endpoint: Endpoint,
    *,
    scope: KeyScope | None,
    keeps_plans: bool = False,
    apart: Apart = Apart.NEVER,
) -> Route:
    """An authenticated route of the API; one that `keeps_plans` reads by keys alone, and often.

    A key needs the permission that `scope` names; None: any key will do. `apart` is which of its requests the reader answers
    where there is one.
    """

    def answer(request: Request, body: Any, met: MetKey | None, is_heavy: bool) -> Response | Raw:
        is_apart = apart is Apart.ALWAYS or (apart is Apart.WHERE_HEAVY and is_heavy)
        if is_apart and request.method == "GET" and body is None:
            reader = engine.reader_behind if is_heavy else engine.reader
            found = _read_elsewhere(engine, reader, request, path, is_heavy=is_heavy)
            if found is not None:
                return found
        return _answer(
            engine,
            endpoint,
            request,
            body,
            met=met,
            scope=scope,
            operation=f"{request.method} {path}",
            keeps_plans=keeps_plans,
            is_heavy=is_heavy,
        )

    async def handle(request: Request) -> Response:
        began = time.perf_counter()
        status, found = 500, None
        try:
            found = await answered(request)
            status = found.status_code
        except psycopg.Error as error:
            status = _status_of(error)
            raise
        finally:
            known = getattr(request.state, "known", None)
            if known is not None and request.method != "GET":
                engine.api_log.note(logged(request, known, status=status, answer=found, began=began))
        return found

    async def answered(request: Request) -> Response:
        key, met = bearer(request), None
        try:
            refuse_nul(request)
            if brings_body(request.headers.raw) and engine.turns.owner_of(key) is None:
                met = await _meet(engine, key) if key else None
                if met is None:
                    return unauthorized()
            with engine.bodies.of(engine.turns.owner_of(key)) as share:
                body = await read_json(request, engine.config.max_body_bytes, share)
                work = partial(answer, request, body, met)
                found = await _answer_in_turn(engine, request, path, apart, work)
            return await finished(engine, found, key)
        except Refusal as refusal:
            return refused(refusal)

    return Route(path, handle, methods=methods)


AdminEndpoint = Callable[[Connection[Any], Any, Mapping[str, str]], dict[str, Any]]


def admin_route(engine: Engine, method: str, path: str, endpoint: AdminEndpoint) -> Route:
    """A route of the admin API: the bearer is PERMILLE_ADMIN_KEY, and without one the API is off. Guesses are counted."""

    def answer(body: Any, path_params: Mapping[str, str]) -> Response:
        with engine.pool.connection() as conn:
            if method != "GET":
                activity.begin(conn, ActorKind.ADMIN_KEY, f"{method} {path}", now=system_now())
            return json_response(endpoint(conn, body, path_params))

    async def handle(request: Request) -> Response:
        admin_key = engine.config.admin_key
        try:
            if not admin_key:
                raise NotFound("resource")
            address = household(client_address(request.scope))
            engine.guesses.check(address)
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), admin_key.encode()):
                engine.guesses.add(address)
                return unauthorized()
            refuse_nul(request)
            with engine.bodies.of("admin") as share:
                body = await read_json(request, engine.config.max_body_bytes, share)
                return await run_in_threadpool(answer, body, request.path_params)
        except Refusal as refusal:
            return refused(refusal)

    return Route(path, handle, methods=[method])


class _CanonicalPaths:
    """Middleware: routes are chosen by the canonical path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope["path"] = canonical_path(scope)
            except BadRequest as refusal:
                await refused(refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def application(
    routes: Sequence[BaseRoute], *, down: Callable[[Request], Response] = lambda _: unavailable()
) -> Starlette:
    """The routes, with the answers to what none of them answers; `down` is that while the database is not to be had."""

    async def database_failed(request: Request, error: Exception) -> Response:
        if _is_cut_off(error):
            return _cut_off(error)
        if not is_unavailable(error):
            return await _crashed(request, error)
        log.warning("The database is not to be had: %s", error)
        return down(request)

    app = Starlette(
        routes=routes,
        middleware=[Middleware(_CanonicalPaths)],
        exception_handlers={
            404: _unknown_route,
            405: _unknown_method,
            ClientDisconnect: _gone,
            psycopg.Error: database_failed,
            Exception: _crashed,
        },
    )
    app.router.redirect_slashes = False  # the redirect would lead to whatever host the request names
    return app


async def _unknown_route(_request: Request, _error: Exception) -> Response:
    return refused(NotFound("resource"))


async def _unknown_method(request: Request, _error: Exception) -> Response:
    """405 with every method that the path has."""
    allowed: set[str] = set()
    for each in request.app.routes:
        if isinstance(each, StarletteRoute) and each.matches(request.scope)[0] is not Match.NONE:
            allowed |= each.methods or set()
    answer = refused(NotAllowed("method_not_allowed"))
    answer.headers["allow"] = ", ".join(sorted(allowed))
    return answer


async def _gone(_request: Request, _error: Exception) -> Response:
    """The client went away while it was sending: nobody reads the answer."""
    return refused(BadRequest("the request ended before its body did"))


async def _crashed(_request: Request, error: Exception) -> Response:
    log.error("A request crashed", exc_info=error)
    return json_response(error_body(500, in_words("crashed")), 500)
