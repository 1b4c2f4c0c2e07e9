"""Events over HTTP: decode, check, queue, answer after the commit.

Two tasks on the event loop commit what waits together, each with a writer of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect

from permille import telemetry
from permille.clock import system_now
from permille.core.api_key import Mode
from permille.core.bounds import EXPRESSION_LENGTH_MAX, EXPRESSION_WORK_AT_ONCE
from permille.core.errors import BadRequest, Invalid, Refusal, Unevaluable
from permille.core.instants import microseconds
from permille.core.llm.call import CallSource, DroppedSpans, PreparedCall
from permille.core.organization import Organization
from permille.core.record import Record, replace
from permille.events.columns import OnDemand, UsualEvents
from permille.events.draft import TOO_LONG, Draft
from permille.events.log import ChangingError, Request, UnacceptableError, UnavailableError, Writer
from permille.http.bodies import BodyMemory, announced_length, read_body
from permille.http.query import query_flag
from permille.http.refusals import STATUS_HEADERS, error_body, refusal_body, try_again
from permille.http.requests import AT_ONCE
from permille.http.shares import EVENTS, Loads, Shares, too_many_requests
from permille.http.words import in_words
from permille.ingest.calls import CallStore
from permille.ingest.decoders import FORMATS, USAGE_FORMATS
from permille.ingest.evaluators import Evaluators
from permille.ingest.intakes import SortedEvents, answered, sort_events
from permille.ingest.planned import PlannedStore
from permille.ingest.planned_call import PaidCall
from permille.ingest.plans import PlanMemory
from permille.ingest.queue import AwaitedRequest, Queue, WaitingRequest
from permille.ingest.senders import Answers, ApiSender, SenderMemory
from permille.ingest.usage_format import CallBatch, UsageFormat
from permille.ingest.wire_format import Faulty, Warnings, WireFormat

log = logging.getLogger(__name__)

Made = TypeVar("Made")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

RECONNECT_SECONDS = 0.2
REPEAT_SECONDS = 0.05
"""How soon a request is stored again of which the metering was being changed."""
EVALUATORS = 2
"""Requests whose expressions take long, at once: each has a thread that waits for a process."""
EVALUATIONS_WAITING = 20
"""Requests of an organization that wait for theirs."""
LARGE_BODY_BYTES = 65_536
LONG_BODY_BYTES = 262_144
"""A longer one is read by a thread, as each large one is whose events are not usual."""
READINGS_WAITING = 2_000
"""Large requests of an organization that wait to be read."""

CLIENT_MAX = 200
_JSON = "application/json"
_USUAL_TYPE = b"application/json"
_encode = msgspec.json.Encoder(decimal_format="number").encode
_formats = {each.path: each for each in FORMATS if not each.media_type}
_other_formats = {(each.path, each.media_type): each for each in FORMATS if each.media_type}
_usage_formats = {each.path: each for each in USAGE_FORMATS}


class EventBatch(Record, kw_only=True):
    """Events of a request that are to be stored together."""

    wire: WireFormat
    scope: Scope
    organization_id: UUID
    drafts: Sequence[Draft]
    places: Sequence[int]
    """Their indices in what was sent."""
    at: datetime
    usual: UsualEvents | None = None
    """The same events, where they were read in one pass."""


class EventIntake:
    """The ASGI handler of the hot path. `start` it on the loop that serves it."""

    def __init__(
        self,
        writers: Sequence[Writer],
        answers: Answers,
        bodies: BodyMemory,
        *,
        max_body_bytes: int,
        batch_max: int,
        loads: Loads | None = None,
    ) -> None:
        loads = loads or Loads()
        self.writers = writers
        self.answers = answers
        self.bodies = bodies
        self.max_body_bytes = max_body_bytes
        self.batch_max = batch_max
        self.queue = Queue(loads)
        self.keys = SenderMemory(answers)
        self.tasks: list[asyncio.Task[None]] = []
        self.repeating: set[asyncio.Task[None]] = set()
        self.evaluations = Shares(1, EVALUATIONS_WAITING, refusal=too_many_requests, loads=loads)
        self.readings = Shares(1, READINGS_WAITING, refusal=too_many_requests)
        self.lookups = self.keys.lookups
        self.planned = PlannedStore(
            desk=answers.calls,
            plans=PlanMemory(),
            turns=self.lookups,
            read=self._read_planned,
            store=self._store,
        )
        self.evaluators = Evaluators()
        self.evaluating = ThreadPoolExecutor(EVALUATORS, thread_name_prefix="expressions")

    async def start(self) -> None:
        self.tasks = [asyncio.create_task(self._write(writer)) for writer in self.writers]

    async def stop(self) -> None:
        """Store and answer what was taken in, then end."""
        self.queue.close()
        await asyncio.gather(*self.tasks)
        await asyncio.gather(*self.repeating)
        await self.answers.calls.close()
        self.evaluating.shutdown()
        self.evaluators.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body, media_type = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        except Refusal as refusal:
            status, body, media_type = refusal.status, _encode(refusal_body(refusal)), _JSON
            count_refused(refusal)
        at_once = scope.get(AT_ONCE)
        if at_once is not None and media_type == _JSON and at_once(status, body):
            return
        headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        if status in STATUS_HEADERS:
            headers += [(name.encode(), value.encode()) for name, value in STATUS_HEADERS[status].items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, str]:
        secret = secret_of(scope["headers"])
        sender = None if secret is None else await self.keys.sender(secret)
        if sender is None:
            return 401, _encode(error_body(401, in_words("unauthorized"))), _JSON
        sender.key.require("event", Mode.WRITE)
        organization = sender.key.organization
        telemetry.belongs_to(organization.id)
        length = announced_length(scope["headers"])
        is_small = length is not None and length <= LARGE_BODY_BYTES
        piece = nullcontext() if is_small else self.queue.loads.piece(organization.id, EVENTS)
        async with piece:
            with self.bodies.of(organization.id) as share:
                body = await read_body(scope["headers"], receive, self.max_body_bytes, share)
                return await self._answer_body(scope, sender, body)

    async def _answer_body(self, scope: Scope, sender: ApiSender, body: bytes) -> tuple[int, bytes, str]:
        organization = sender.key.organization
        now = organization.now(system_now())
        path = scope["path"].rstrip("/")
        if path in _usage_formats:
            return await self._take_calls(_usage_formats[path], scope, organization, body, now)
        wire = wire_of(path, scope["headers"])
        assert wire is not None, "only addresses of events come here"
        usual = await self._read_usual(wire, scope, sender, body, now)
        drafts = await self._drafts(wire, organization.id, body, now, usual)
        telemetry.brings(len(drafts))
        batch = EventBatch(
            wire=wire,
            scope=scope,
            organization_id=organization.id,
            drafts=drafts,
            places=range(len(drafts)),
            at=now,
            usual=usual,
        )
        if usual is None and sender.intakes:
            sorted_events = sort_events(drafts, sender.intakes, is_batch=wire.is_batch)
            if sorted_events.calls:
                return await self._take_mixed(batch, sorted_events)
        request, warnings = await self._take_events(batch)
        return 200, wire.answer(request, warnings) if usual is None else usual.answer, _JSON

    async def _read_usual(
        self, wire: WireFormat, scope: Scope, sender: ApiSender, body: bytes, now: datetime
    ) -> UsualEvents | None:
        """What one pass reads, None for all that is to be decoded: a large body is read when its organization's turn comes."""
        if scope.get("query_string"):
            return None
        read = partial(self.read_usual, wire, sender, body, now)
        if len(body) <= LARGE_BODY_BYTES:
            return read()
        async with self.readings.turn(sender.key.organization.id):
            await asyncio.sleep(0)
            return read() if len(body) <= LONG_BODY_BYTES else await asyncio.to_thread(read)

    def read_usual(
        self, wire: WireFormat, sender: ApiSender, body: bytes, now: datetime
    ) -> UsualEvents | None:
        """What one pass reads, None for all that is to be decoded."""
        if not wire.may_be_usual:
            return None
        usual = self.writers[0].read_usual(
            sender.key.organization.id,
            body,
            created_at=microseconds(now),
            most=self.batch_max,
            is_batch=wire.is_batch,
        )
        return None if usual is None or not usual.codes.isdisjoint(sender.intakes) else usual

    def _read_planned(
        self, organization_id: UUID, body: bytes, now: datetime, most: int
    ) -> UsualEvents | None:
        return self.writers[0].read_usual(
            organization_id,
            body,
            created_at=microseconds(now),
            most=most,
            is_batch=True,
            is_answered=False,
        )

    async def _take_events(self, batch: EventBatch) -> tuple[Request, Warnings | None]:
        """Store events. What is wrong with them is said by their places."""
        drafts, places, organization_id = batch.drafts, batch.places, batch.organization_id
        request = Request(
            organization_id=organization_id,
            drafts=drafts,
            created_at=microseconds(batch.at),
            usual=batch.usual,
        )
        if batch.usual is None and self.may_take_long(request):
            await self._derive(request)
        await self._store([request])
        if not request.is_stored:
            raise await self.refusal(request, batch)
        telemetry.stored.inc(len(drafts))
        query = batch.scope.get("query_string")
        if not query or not query_flag(QueryParams(query), "strict"):
            return request, None
        async with self.lookups.turn(organization_id):
            warnings = await asyncio.to_thread(self.answers.warnings, organization_id, drafts)
        return request, [(places[index], each) for index, each in warnings]

    async def refusal(self, request: Request, batch: EventBatch) -> Refusal:
        """Why a request was not stored."""
        if request.failure is not None:
            if isinstance(request.failure, UnacceptableError):
                return await self._unacceptable(request, batch)
            return try_again()
        duplicates = len(request.duplicates or ())
        telemetry.duplicate.inc(duplicates)
        telemetry.brings(len(request.drafts) - duplicates)
        return _refused(request, batch)

    async def _take_mixed(self, batch: EventBatch, events: SortedEvents) -> tuple[int, bytes, str]:
        """Store events of which some are usage of language models. A call that was counted before is no error.

        Calls come first: they may be sent again, after which events that are in would refuse the whole request.
        """
        organization_id, now = batch.organization_id, batch.at
        source = CallSource(road=batch.wire.path, client=_client(batch.scope), at=now)
        store = CallStore(desk=self.answers.calls, turns=self.lookups, store=self._store)
        calls = await store.take(organization_id, list(events.calls.values()), now=now, is_dry_run=False)
        self._note_calls(organization_id, source, calls)
        warnings: Warnings | None = None
        if events.others:
            others = [batch.drafts[index] for index in events.others]
            _, warnings = await self._take_events(replace(batch, drafts=others, places=events.others))
        by_index = dict(zip(events.calls, calls, strict=True))
        shown = answered(organization_id, batch.drafts, by_index, created_at=microseconds(now))
        return 200, batch.wire.answer(shown, warnings), _JSON

    async def _take_calls(
        self, wire: UsageFormat, scope: Scope, organization: Organization, body: bytes, now: datetime
    ) -> tuple[int, bytes, str]:
        """Usage of language models: read, stored, and noted for those who look at what came in."""
        source = CallSource(road=wire.path, client=_client(scope), at=now)
        try:
            batch, calls = await self._stored_calls(wire, scope, organization.id, body, now)
        except (BadRequest, Invalid) as refusal:
            self.answers.notes.note(organization.id, source, [refusal])
            raise
        if not batch.is_dry_run:
            self._note_calls(organization.id, source, calls, batch.dropped)
        return 200, wire.answer(calls, batch), batch.media_type

    async def _stored_calls(
        self, wire: UsageFormat, scope: Scope, organization_id: UUID, body: bytes, now: datetime
    ) -> tuple[CallBatch, list[PreparedCall | PaidCall]]:
        """What came of each usage of a body: by plans, and where that doesn't go, read."""
        media_type = _media_type(scope["headers"])
        batch = await self._read_calls(
            organization_id, lambda: self._call_batch(wire, organization_id, body, media_type, now)
        )
        goes_by_plans = not batch.is_dry_run and self.writers[0].reads_usual
        found: list[PaidCall | None] = [None] * len(batch.usages)
        if goes_by_plans:
            found = await self.planned.take(organization_id, wire, batch, now=now)
            if batch.shaped is None:
                self.planned.plans.learn_spans(organization_id, wire, body, media_type, now)
        if None not in found:
            return batch, [call for call in found if call is not None]
        left = [batch.usages[index] for index, call in enumerate(found) if call is None]
        calls = await self._read_calls(organization_id, lambda: wire.calls(left, now))
        store = CallStore(desk=self.answers.calls, turns=self.lookups, store=self._store)
        read = iter(await store.take(organization_id, calls, now=now, is_dry_run=batch.is_dry_run))
        if goes_by_plans:
            await self.planned.learn(organization_id, left, now)
        return batch, [next(read) if call is None else call for call in found]

    def _call_batch(
        self, wire: UsageFormat, organization_id: UUID, body: bytes, media_type: str, now: datetime
    ) -> CallBatch:
        """The usages of a body, not decoded where that isn't needed."""
        batch = None
        if self.writers[0].reads_usual:
            batch = self.planned.plans.alike(organization_id, wire, body, media_type, now)
        return batch or wire.decode(body, media_type)

    def _note_calls(
        self,
        organization_id: UUID,
        source: CallSource,
        calls: Sequence[PreparedCall | PaidCall],
        dropped: Sequence[DroppedSpans] = (),
    ) -> None:
        telemetry.stored.inc(sum(call.events_count for call in calls))
        telemetry.duplicate.inc(sum(isinstance(call, PreparedCall) and call.is_repeated for call in calls))
        noted = [call.prepared if isinstance(call, PaidCall) else call for call in calls]
        self.answers.notes.note(organization_id, source, [*dropped, *noted])

    async def _read_calls(self, organization_id: UUID, read: Callable[[], Made]) -> Made:
        """Usages of an organization are read one request at a time, as large ones of events are."""
        async with self.readings.turn(organization_id):
            await asyncio.sleep(0)
            return read()

    async def _drafts(
        self, wire: WireFormat, organization_id: UUID, body: bytes, now: datetime, usual: UsualEvents | None
    ) -> Sequence[Draft]:
        """The drafts of a body. What was read already is decoded only if somebody looks closely."""
        if usual is not None:
            return self.drafts_of(usual, wire, body, now)
        try:
            if len(body) <= LARGE_BODY_BYTES:
                return wire.decode(body, now, self.batch_max)
            return await self._read(wire, organization_id, body, now)
        except Faulty as faulty:
            await self._raise_unevaluable(organization_id, faulty)
            raise

    def drafts_of(self, usual: UsualEvents, wire: WireFormat, body: bytes, now: datetime) -> Sequence[Draft]:
        """The drafts of a body that was read in one pass, decoded when somebody looks at them."""
        return OnDemand(usual.columns.count, partial(wire.decode, body, now, self.batch_max))

    async def _read(self, wire: WireFormat, organization_id: UUID, body: bytes, now: datetime) -> list[Draft]:
        """The drafts of a large body. Those of an organization are read one at a time, with others' requests in between."""
        async with self.readings.turn(organization_id):
            return await asyncio.to_thread(wire.decode, body, now, self.batch_max)

    async def _raise_unevaluable(self, organization_id: UUID, faulty: Faulty) -> None:
        """Raise Unevaluable where events have no value for their expressions: that is said before other errors."""
        async with self.evaluations.turn(organization_id):
            problems = await asyncio.to_thread(self.answers.unevaluable, organization_id, faulty.evaluable)
        if problems:
            said = {str(index): text for index, text in problems.items()}
            raise Unevaluable({**faulty.errors, **said} if faulty.is_batch else problems[0])

    def may_take_long(self, request: Request) -> bool:
        """Whether its expressions are too long for a writer to evaluate, or not known yet."""
        if len(request.drafts) * EXPRESSION_LENGTH_MAX <= EXPRESSION_WORK_AT_ONCE:
            return False
        words = self.writers[0].words(request)
        return words is None or words > EXPRESSION_WORK_AT_ONCE

    async def _derive(self, request: Request) -> None:
        """Evaluate expressions that are long in a process beside this one, one request of an organization at a time.

        Their time counts as their organization's, though that process may have waited: it gives way to all others.
        """
        async with self.evaluations.turn(request.organization_id):
            began = time.monotonic()
            await asyncio.get_running_loop().run_in_executor(self.evaluating, self._evaluate, request)
            self.queue.loads.add(request.organization_id, time.monotonic() - began)

    def _evaluate(self, request: Request) -> None:
        writer = self.writers[0]
        if writer.words(request) is None:
            writer.learn(request)
        if self.may_take_long(request):
            writer.derive(request, self.evaluators.evaluate)

    async def _store(self, requests: Sequence[Request]) -> None:
        """Wait until each is decided; one that fails is sent again by its client."""
        loop = asyncio.get_running_loop()
        queued: list[AwaitedRequest] = []
        for request in requests:
            waiting = AwaitedRequest(request, loop.create_future())
            if self.queue.put(waiting):
                queued.append(waiting)
            else:
                request.failure = UnavailableError("no room in the queue")
        for waiting in queued:
            await waiting.answered

    async def _unacceptable(self, request: Request, batch: EventBatch) -> Refusal:
        """Why nothing of the request is stored: the database refuses what is in it, in a batch the event with this index."""
        problem = {"event": ["cannot_be_stored"]}
        if not batch.wire.is_batch:
            return Invalid(problem)
        async with self.lookups.turn(request.organization_id):
            index = await asyncio.to_thread(self.answers.unacceptable, request)
        return Invalid(
            {"events": ["cannot_be_stored"]} if index is None else {str(batch.places[index]): problem}
        )

    async def _write(self, writer: Writer) -> None:
        """The life of a writer: take a group, store it, answer it."""
        while group := await self.queue.take():
            await _append(writer, [waiting.request for waiting in group])
            self.queue.written(group)
            _decide([waiting for waiting in group if waiting.request.is_decided])
            self._repeat([waiting for waiting in group if not waiting.request.is_decided])
        await writer.close()

    def _repeat(self, group: Sequence[WaitingRequest]) -> None:
        """Store again what waits for a change of its organization's metering."""
        if group:
            task = asyncio.create_task(self._put_again(group))
            self.repeating.add(task)
            task.add_done_callback(self.repeating.discard)

    async def _put_again(self, group: Sequence[WaitingRequest]) -> None:
        await asyncio.sleep(REPEAT_SECONDS)
        for waiting in group:
            if time.monotonic() > waiting.until or not self.queue.put(waiting):
                waiting.request.failure = ChangingError([waiting.request.organization_id])
                _decide([waiting])


def _header(headers: Headers, wanted: bytes) -> bytes:
    for name, value in headers:
        if name == wanted:
            return value
    return b""


def _media_type(headers: Headers) -> str:
    return _header(headers, b"content-type").decode("latin-1").partition(";")[0].strip().lower()


def wire_of(path: str, headers: Headers) -> WireFormat | None:
    """The format of events that a request to this address comes in."""
    if _header(headers, b"content-type") == _USUAL_TYPE:
        return _formats.get(path)
    return _other_formats.get((path, _media_type(headers))) or _formats.get(path)


def _client(scope: Scope) -> str | None:
    return _header(scope["headers"], b"user-agent").decode("latin-1")[:CLIENT_MAX] or None


def _decide(group: Iterable[WaitingRequest]) -> None:
    """Each answers its sender. One whose answer fails keeps no other from its own."""
    for waiting in group:
        try:
            waiting.decide()
        except Exception:
            log.exception(
                "A request of organization %s was decided and not answered", waiting.request.organization_id
            )


async def _append(writer: Writer, requests: Sequence[Request]) -> None:
    """Store requests; what goes wrong is its own request's failure. Those of which the metering is being changed stay undecided.

    A group that cannot be stored is halved until what is wrong in it is alone.
    """
    try:
        await writer.append(requests)
    except ChangingError as error:
        others = [request for request in requests if request.organization_id not in error.organization_ids]
        if 0 < len(others) < len(requests):
            await _append(writer, _unstored(others))
    except UnavailableError as error:
        log.warning("A group of %d requests was not stored: %s", len(requests), error)
        _fail(requests, error)
        await asyncio.sleep(RECONNECT_SECONDS)
    except Exception as error:
        unstored = _unstored(requests)
        if len(unstored) < 2:
            log.exception("A request of organization %s was not stored", requests[0].organization_id)
            _fail(unstored, error)
            return
        middle = len(unstored) // 2
        await _append(writer, unstored[:middle])
        await _append(writer, unstored[middle:])


def _unstored(requests: Sequence[Request]) -> list[Request]:
    return [request for request in requests if request.duplicates is None]


def _fail(requests: Sequence[Request], error: Exception) -> None:
    for request in _unstored(requests):
        request.failure = error


def count_refused(refusal: Refusal) -> None:
    """Count the events of a request of which none is stored; one that can't be read counts as one."""
    outcome = telemetry.unavailable if refusal.status in {429, 503} else telemetry.refused
    outcome.inc(telemetry.brought())


def secret_of(headers: Headers) -> str | None:
    """The API key: a bearer token, or the password that clients with a pair of keys send."""
    words = _header(headers, b"authorization").split()
    if len(words) < 2:
        return None
    return _password(words[1]) if words[0].lower() == b"basic" else words[1].decode("latin-1")


def _password(encoded: bytes) -> str | None:
    try:
        user, _, password = b64decode(encoded, validate=True).decode("latin-1").partition(":")
    except ValueError:
        return None
    return password or user or None


def _refused(request: Request, batch: EventBatch) -> Refusal:
    """Why nothing of the request is stored: an expression without a value, a dimension that is too long, or events that are stored already."""
    is_batch, places = batch.wire.is_batch, batch.places
    if problems := request.unevaluable:
        return Unevaluable(
            {str(places[index]): text for index, text in problems.items()} if is_batch else problems[0]
        )
    if request.too_long:
        errors = {
            str(places[index]): {f"properties.{name}": [TOO_LONG]} for index, name in request.too_long.items()
        }
        return Invalid(errors if is_batch else errors["0"])
    error = {"transaction_id": ["value_already_exist"]}
    if not is_batch:
        return Invalid(error)
    return Invalid({str(places[index]): error for index in request.duplicates or ()})
