"""Group commit: requests that wait together are stored in one transaction, each all or not at all.

A group goes in with one statement. Only when that is refused, because an identity is taken or the metering
has changed, is it looked at closely.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, LiteralString
from uuid import UUID

import msgspec
import psycopg
from msgspec.structs import replace
from psycopg import AsyncConnection, Connection
from psycopg.errors import AdminShutdown, DeadlockDetected, QueryCanceled, UniqueViolation

from permille import accelerator
from permille.core.bounds import NAME_MAX
from permille.core.instants import EPOCH
from permille.core.metering.encoding import encode
from permille.core.metering.expression import evaluate_all
from permille.core.record import Record
from permille.database.connections import is_alive, is_passing, is_unavailable
from permille.events.columns import Columns, UsualEvents, joined
from permille.events.draft import Draft
from permille.events.identity import transaction_bounds
from permille.events.log import (
    ChangingError,
    Evaluate,
    PlannedCalls,
    Request,
    UnacceptableError,
    UnavailableError,
)
from permille.events.postgres import arrays, event_errors, metering
from permille.events.postgres.memory import SERIES_BYTES, KnownSeries, Memory, Meterings

__all__ = [
    "Memory",
    "Writer",
    "append",
    "first_unacceptable",
    "open_connection",
    "store",
    "unevaluable",
    "writers",
]

log = logging.getLogger(__name__)

METERING_CHANGED = "PM001"
METERING_CHANGING = "PM002"
CALLS_CHANGED = "PM003"
LIMITS = """
select set_config('lock_timeout', '10s', false), set_config('statement_timeout', '30s', false),
    set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false)
"""
"""How long others may keep a group from being stored: a session that holds a lock and hangs, a host that is gone."""
_LIMIT = "54"
"""The class of SQLSTATEs of what is too large for the server."""
ATTEMPTS_MAX = 50
ON_LOOP_EVENTS = 300
"""More events that are not columns yet keep the loop for milliseconds: a thread makes the statement, with others in between."""

_json = msgspec.json.Encoder(decimal_format="number").encode

_STORE = (
    "select append_events(%s::uuid[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::uuid[],"
    " %s::numeric[], %s::text[], %s::numeric[], %s::jsonb[])"
)
_STORE_IN_ADVANCE = _STORE.replace("append_events(", "append_events_in_advance(").replace(
    "%s::jsonb[])", "%s::jsonb[], %s::uuid[], %s::uuid[])"
)
_COUNT_ONCE = "select count_once(%s::uuid[])"
_COUNT_CALLS = (
    "select count_calls(%s::uuid[], %s::text[], %s::timestamptz[], %s::bigint[], %s::text[], %s::text[],"
    " %s::timestamptz[], %s::uuid[], %s::uuid[])"
)


def unevaluable(conn: Connection[Any], organization_id: UUID, drafts: Mapping[int, Draft]) -> dict[int, str]:
    """The events, not stored, whose metric's expression has no value, and why not."""
    request = Request(organization_id, list(drafts.values()), 0)
    request.derive(metering.load(conn, {organization_id: request.codes})[organization_id].by_code)
    indices = list(drafts)
    return {indices[place]: problem for place, problem in request.unevaluable.items()}


class UnableToStoreError(Exception):
    """The group could not be stored for a reason that repeating does not mend."""


def open_connection(dsn: str) -> Connection[Any]:
    """A connection for `store`: every statement is its own transaction."""
    conn = psycopg.connect(dsn, autocommit=True, application_name="permille-ingest")
    conn.execute(LIMITS)
    arrays.register(conn)
    return conn


async def open_async_connection(dsn: str) -> AsyncConnection[Any]:
    """A connection for `store_at_once`."""
    conn = await AsyncConnection.connect(dsn, autocommit=True, application_name="permille-ingest")
    await conn.execute(LIMITS)
    arrays.register(conn)
    return conn


async def store_at_once(conn: AsyncConnection[Any], memory: Memory, requests: Sequence[Request]) -> bool:
    """Store the group with one statement if all about it is known and it goes in as it is; else nothing is done.

    Raises psycopg.OperationalError when the connection is lost, as `store` does.
    """
    statement = _statement(memory, requests)
    if statement is None:
        return False
    try:
        await conn.execute(*statement)
    except (UniqueViolation, DeadlockDetected):
        return False
    except psycopg.Error as error:
        if error.sqlstate == CALLS_CHANGED:
            left = _without_changed(error, requests)
            return not left or await store_at_once(conn, memory, left)
        if error.sqlstate != METERING_CHANGED:
            raise
        return False
    for request in requests:
        request.duplicates = []
    return True


def store(conn: Connection[Any], memory: Memory, requests: Sequence[Request]) -> None:
    """Store every request that has no duplicate; `duplicates` of each says how it went.

    Raises psycopg.OperationalError when the connection is lost: then nobody knows, and the clients repeat.
    """
    # What had no value for its expressions is looked at once more: they may be of yesterday.
    waiting = [request for request in requests if request.duplicates is None]
    for _ in range(ATTEMPTS_MAX):
        if not waiting:
            return
        try:
            _store_group(conn, memory, waiting)
        except UniqueViolation:
            waiting = _without_duplicates(conn, [one for one in waiting if not one.is_refused])
        except DeadlockDetected:
            continue
        except psycopg.Error as error:
            if error.sqlstate == CALLS_CHANGED:
                waiting = _without_changed(error, waiting)
                continue
            if error.sqlstate != METERING_CHANGED:
                raise
            memory.forget(_codes(waiting))
        else:
            for request in waiting:
                request.duplicates = []
            return
    raise UnableToStoreError(f"{len(waiting)} requests were still refused after {ATTEMPTS_MAX} attempts")


def append(conn: Connection[Any], requests: Sequence[Request]) -> None:
    """Store requests in the caller's transaction; `duplicates` of each and whether it is refused say how it went."""
    arrays.register(conn)
    for _ in range(ATTEMPTS_MAX):
        waiting = _without_duplicates(conn, [one for one in requests if not one.is_decided])
        if not waiting:
            return
        try:
            with conn.transaction():
                _store_group(conn, Memory(), waiting)
        except UniqueViolation:
            continue
        except psycopg.Error as error:
            if error.sqlstate == METERING_CHANGED:
                raise ChangingError([one.organization_id for one in waiting]) from error
            raise _failure_of(error) from error
        for request in waiting:
            if not request.is_refused:
                request.duplicates = []
        return
    raise UnavailableError(f"events were stored by others in {ATTEMPTS_MAX} attempts")


def _store_group(conn: Connection[Any], memory: Memory, requests: Sequence[Request]) -> None:
    codes = _codes(requests)
    known = memory.learn(conn, codes)
    usual, others = _apart(known, requests)
    fine, group = _looked_at(memory, known, others)
    if len(fine) < len(others):
        memory.forget(codes)
        known = memory.learn(conn, codes)  # nothing is refused for a metering of yesterday
        usual, others = _apart(known, requests)
        fine, group = _looked_at(memory, known, others)
    if not fine and not usual:
        return
    if hours := memory.new_hours([*usual, *fine]):
        event_errors.mark(conn, [(organization_id, _hour(number)) for organization_id, number in hours])
        memory.remember(hours)
    _intern(conn, memory, group)
    conn.execute(*_insert(known, usual, fine, group, _planned(requests)))


def _apart(known: Meterings, requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """The requests that are columns already, by the metering as it is known, and the others."""
    usual: list[Request] = []
    others: list[Request] = []
    for request in requests:
        read = request.usual
        is_current = read is not None and read.version == known[request.organization_id].version
        (usual if is_current else others).append(request)
    return usual, others


def _looked_at(memory: Memory, known: Meterings, requests: Sequence[Request]) -> tuple[list[Request], _Group]:
    """The requests that are not refused for what is in their events, and these events."""
    _derive(known, requests)
    fine = [request for request in requests if not request.unevaluable]
    group = _encoded(memory, known, fine)
    if _refuse_long(group, fine):
        fine = [request for request in fine if not request.is_refused]
        group = _encoded(memory, known, fine)
    return fine, group


def first_unacceptable(conn: Connection[Any], request: Request) -> int | None:
    """The index of the first event of a request, not stored, that the database refuses for what is in it.

    None where it refuses none of them by itself. Halves are stored and undone; each with a memory of its own, since the
    series that they begin are undone, too.
    """
    arrays.register(conn)
    _without_duplicates(conn, [request])
    repeated = set(request.duplicates or ())
    left = [index for index in range(len(request.drafts)) if index not in repeated]
    try:
        while len(left) > 1:
            middle = len(left) // 2
            left = left[:middle] if _is_refused(conn, request, left[:middle]) else left[middle:]
        return left[0] if left and _is_refused(conn, request, left) else None
    except psycopg.Error as error:
        if is_unavailable(error):
            raise
        return None


def _is_refused(conn: Connection[Any], request: Request, indices: Sequence[int]) -> bool:
    """Whether these events of the request cannot be stored for what is in them."""
    drafts = [
        replace(
            request.drafts[index], properties=request.originals.get(index, request.drafts[index].properties)
        )
        for index in indices
    ]
    part = Request(request.organization_id, drafts, request.created_at)
    try:
        with conn.transaction(force_rollback=True):
            _store_group(conn, Memory(), [part])
    except Exception as error:
        if isinstance(_failure_of(error), UnacceptableError):
            return True
        raise
    return False


def _codes(requests: Sequence[Request]) -> dict[UUID, set[str]]:
    found: dict[UUID, set[str]] = {}
    for request in requests:
        found.setdefault(request.organization_id, set()).update(request.codes)
    return found


def _hour(number: int) -> datetime:
    return EPOCH + timedelta(hours=number)


def _statement(memory: Memory, requests: Sequence[Request]) -> tuple[LiteralString, list[Any]] | None:
    """The insert and its parameters, None when a code, an hour or a series is not known in this process."""
    known = memory.known(_codes(requests))
    if known is None or memory.new_hours(requests):
        return None
    usual, others = _apart(known, requests)
    if not _derive(known, others):
        return None
    group = _encoded(memory, known, others)
    return None if group.unknown else _insert(known, usual, others, group, _planned(requests))


def _derive(known: Meterings, requests: Sequence[Request], evaluate: Evaluate = evaluate_all) -> bool:
    """Let expressions make their properties, unless they have; whether every one of them had a value."""
    for request in requests:
        layouts = known[request.organization_id]
        if request.derived_under == layouts.version:
            continue
        if request.originals or any(layouts.by_code[code].expression for code in request.codes):
            request.derive(layouts.by_code, evaluate)
            request.derived_under = layouts.version
    return not any(request.unevaluable for request in requests)


@dataclass(slots=True)
class _Group:
    """The events of a group, column by column."""

    series_ids: list[int] = field(default_factory=list)
    """0 where the series is not known."""
    values: list[str | None] = field(default_factory=list)
    extras: list[dict[str, Any] | None] = field(default_factory=list)
    unknown: list[_Unknown] = field(default_factory=list)


class _Unknown(Record):
    """An event of a series that is not known."""

    index: int
    key: metering.SeriesKey
    known: KnownSeries


def _encoded(memory: Memory, known: Meterings, requests: Sequence[Request]) -> _Group:
    group = _Group()
    series_ids, values, extras = group.series_ids, group.values, group.extras
    for request in requests:
        hows = known[request.organization_id].by_code
        known_series = [memory.series_of(request.organization_id, code, hows[code]) for code in request.codes]
        codes = {code: (each, each.find) for code, each in zip(request.codes, known_series, strict=True)}
        for draft in request.drafts:
            series_of_code, find = codes[draft.code]
            how = series_of_code.metering
            series, value, extra = encode(how, draft.properties)
            place = draft.external_subscription_id, series
            series_id = find(place)
            if series_id is None:
                series_id = memory.recall(series_of_code, place)
            if series_id is None:
                key = metering.SeriesKey(
                    request.organization_id.bytes,
                    draft.external_subscription_id,
                    draft.code,
                    how.version,
                    series,
                )
                group.unknown.append(_Unknown(len(series_ids), key, series_of_code))
            series_ids.append(series_id or 0)
            values.append(value)
            extras.append(extra)
    return group


def _refuse_long(group: _Group, requests: Sequence[Request]) -> bool:
    """Whether any request is refused since it would begin a series with a value longer than NAME_MAX."""
    for request in requests:
        request.too_long = {}
    ends = list(accumulate(len(request.drafts) for request in requests))
    found = False
    for each in group.unknown:
        name = _long_dimension(each.known.metering.keys, each.key.values)
        if name is not None:
            place = bisect(ends, each.index)
            request = requests[place]
            request.too_long[each.index - ends[place] + len(request.drafts)] = name
            found = True
    return found


def _long_dimension(keys: Sequence[str], values: Sequence[Any]) -> str | None:
    """The first of the keys whose value, as it is in Encoded.series, is longer than NAME_MAX."""
    for key, value in zip(keys, values, strict=False):
        text = value[1] if isinstance(value, tuple) else value or ""
        if len(text) > NAME_MAX:
            return key
    return None


def _insert(
    known: Meterings,
    usual: Sequence[Request],
    others: Sequence[Request],
    group: _Group,
    planned: Sequence[_Planned],
) -> tuple[LiteralString, list[Any]]:
    """The insert, with its parameters: also of what counts once, and into the queue of fees for what is paid in advance.

    `usual` are columns already; of the others `group` has what was made of them.
    """
    statement, parameters = _STORE, _parameters(known, usual, others, group)
    waiting = _paid_in_advance(known, [*usual, *others])
    if waiting:
        identities, organizations = zip(*waiting, strict=True)
        statement = _STORE_IN_ADVANCE
        parameters += [arrays.uuids(identities), list(organizations)]
    if claims := _claims([*usual, *others]):
        # In order, so that groups with the same claims wait for each other and not in a circle.
        statement = statement.replace("select ", f"{_COUNT_ONCE}, ", 1)
        parameters = [arrays.uuids(sorted(claims)), *parameters]
    if planned:
        # First, as where a call that was kept aside is counted by hand: neither waits for the other in a circle.
        statement = statement.replace("select ", f"{_COUNT_CALLS}, ", 1)
        parameters = [*_calls(planned), *parameters]
    return statement, parameters


_Planned = tuple[Request, PlannedCalls]


def _planned(requests: Sequence[Request]) -> list[_Planned]:
    """Those with calls that were planned, in their order: by their places in it the database names them."""
    return [(each, each.planned) for each in requests if each.planned is not None and not each.is_refused]


def _calls(planned: Sequence[_Planned]) -> list[Any]:
    """The parameters of `count_calls`."""
    requests = [request for request, _ in planned]
    every = [calls for _, calls in planned]
    places: list[int] = []
    firsts: list[bytes] = []
    lasts: list[bytes] = []
    for place, (request, calls) in enumerate(planned, 1):
        places += [place] * len(calls.identities)
        bounds = transaction_bounds(request.organization_id.bytes, calls.identities)
        firsts += bounds[0]
        lasts += bounds[1]
    return [
        arrays.uuids([request.organization_id.bytes for request in requests]),
        [calls.stamp for calls in every],
        arrays.instants(len(requests), arrays.instant_elements([request.created_at for request in requests])),
        arrays.integers(len(places), arrays.integer_elements(places)),
        _texts([name for calls in every for name in calls.identities]),
        _texts([payer for calls in every for payer in calls.payers]),
        arrays.instants(len(places), arrays.instant_elements([at for calls in every for at in calls.ats])),
        arrays.uuids(firsts),
        arrays.uuids(lasts),
    ]


def _without_changed(error: psycopg.Error, requests: Sequence[Request]) -> list[Request]:
    """Those that are left when the requests are refused of whose calls anything else holds than was taken for granted."""
    planned = _planned(requests)
    for place in (error.diag.message_detail or "").split():
        planned[int(place) - 1][0].duplicates = [0]
    return [request for request in requests if not request.is_decided]


def _texts(values: Sequence[str]) -> arrays.Literal:
    return arrays.Literal(b"{" + arrays.text_elements(values) + b"}")


def _paid_in_advance(known: Meterings, requests: Sequence[Request]) -> list[tuple[bytes, UUID]]:
    """The identities of the events that wait for their fees, and whose they are."""
    found: list[tuple[bytes, UUID]] = []
    for request in requests:
        by_code, owner = known[request.organization_id].by_code, request.organization_id
        waiting = {code for code in request.codes if by_code[code].in_advance}
        if waiting == request.codes:
            found += [(identity, owner) for identity in request.identities]
        elif waiting:
            events = zip(request.identities, request.drafts, strict=True)
            found += [(identity, owner) for identity, draft in events if draft.code in waiting]
    return found


def _claims(requests: Sequence[Request]) -> list[bytes]:
    return [claim for request in requests if request.counts_once for claim in request.claims]


def _parameters(
    known: Meterings, usual: Sequence[Request], others: Sequence[Request], group: _Group
) -> list[Any]:
    every = [request.usual.columns for request in usual if request.usual is not None]
    if others:
        every.append(columns_of(others, group))
    count = sum(each.count for each in every)
    created_ats = [
        arrays.instant_elements([request.created_at]) * len(request.drafts) for request in (*usual, *others)
    ]
    organizations = sorted(known)
    return [
        organizations,
        [known[each].version for each in organizations],
        arrays.integers(count, b"".join([each.series_ids for each in every])),
        arrays.instants(count, b"".join([each.ats for each in every])),
        arrays.instants(count, b"".join(created_ats)),
        arrays.uuid_array(count, b"".join([each.identities for each in every])),
        arrays.Literal(joined([(each.count, each.amounts) for each in every])),
        arrays.Literal(joined([(each.count, each.transaction_ids) for each in every])),
        arrays.Literal(joined([(each.count, each.precise) for each in every])),
        arrays.Literal(joined([(each.count, each.extras) for each in every])),
    ]


def columns_of(requests: Sequence[Request], group: _Group) -> Columns:
    """The columns of requests of which `group` has what was made of them."""
    drafts = [draft for request in requests for draft in request.drafts]
    return Columns(
        count=len(drafts),
        series_ids=arrays.integer_elements(group.series_ids),
        ats=arrays.instant_elements([draft.at for draft in drafts]),
        identities=arrays.uuid_elements(
            [identity for request in requests for identity in request.identities]
        ),
        amounts=arrays.number_elements(group.values),
        transaction_ids=arrays.text_elements([draft.transaction_id for draft in drafts]),
        precise=arrays.number_elements([draft.precise for draft in drafts]),
        extras=arrays.document_elements(
            [None if extra is None else _json(extra).decode() for extra in group.extras]
        ),
    )


def _intern(conn: Connection[Any], memory: Memory, group: _Group) -> None:
    """Make or find the series that were not known, and remember them."""
    if not group.unknown:
        return
    fresh = metering.intern(conn, {each.key: each.known.metering for each in group.unknown})
    for each in group.unknown:
        group.series_ids[each.index] = fresh[each.key]
    for key, known in {each.key: each.known for each in group.unknown}.items():
        memory.keep(known, (key.external_subscription_id, key.values), fresh[key])


def _without_duplicates(conn: Connection[Any], requests: Sequence[Request]) -> list[Request]:
    """Refuse the requests that repeat a stored event, one of their own or one of a request before them."""
    every = [identity for request in requests for identity in request.identities]
    rows = conn.execute(
        "select identity from event where identity = any(%s::uuid[])", [arrays.uuids(every)]
    ).fetchall()
    taken = {identity.bytes for (identity,) in rows}
    claimed = _taken_claims(conn, requests)
    remaining: list[Request] = []
    for request in requests:
        seen: set[bytes] = set()
        duplicates: list[int] = []
        for index, identity in enumerate(request.identities):
            if identity in taken or identity in seen:
                duplicates.append(index)
            seen.add(identity)
        claims = request.claims
        if not duplicates and not claims.isdisjoint(claimed):
            duplicates = [0]
        if duplicates:
            request.duplicates = duplicates
        else:
            taken |= seen
            claimed |= claims
            remaining.append(request)
    return remaining


def _taken_claims(conn: Connection[Any], requests: Sequence[Request]) -> set[bytes]:
    claims = _claims(requests)
    if not claims:
        return set()
    rows = conn.execute(
        "select identity from counted_once where identity = any(%s::uuid[])", [arrays.uuids(claims)]
    )
    return {identity.bytes for (identity,) in rows}


def _failure_of(error: Exception) -> Exception:
    """What an error means for those who have sent the group."""
    if isinstance(error, psycopg.Error):
        state = error.sqlstate or ""
        if state == METERING_CHANGING:
            return ChangingError({UUID(each) for each in (error.diag.message_detail or "").split()})
        if is_passing(error) or isinstance(error, QueryCanceled):
            return UnavailableError(str(error))
        is_of_content = isinstance(error, psycopg.DataError | psycopg.IntegrityError) or state.startswith(
            _LIMIT
        )
        return UnacceptableError(str(error)) if is_of_content else error
    if isinstance(error, OSError | MemoryError | UnableToStoreError):
        return UnavailableError(str(error))
    return UnacceptableError(f"{type(error).__name__}: {error}")


class Writer:
    """Appends for one task of an event loop, on connections of its own: one on the loop, for a group with nothing new
    in it, and one in a thread, for what is to be looked at closely or takes long.

    They are opened when they are needed, and again when they were lost while they were idle.
    """

    def __init__(self, dsn: str, memory: Memory) -> None:
        self._dsn = dsn
        self._memory = memory
        self._on_loop: AsyncConnection[Any] | None = None
        self._in_thread: Connection[Any] | None = None

    @property
    def reads_usual(self) -> bool:
        """Whether there is anything that `read_usual` would read."""
        return self._memory.table is not None

    def read_usual(
        self,
        organization_id: UUID,
        body: bytes,
        *,
        created_at: int,
        most: int,
        is_batch: bool,
        is_answered: bool = True,
    ) -> UsualEvents | None:
        """The events of a body, where all about them is usual and known to this process."""
        return self._memory.read_usual(
            organization_id,
            body,
            created_at=created_at,
            most=most,
            is_batch=is_batch,
            is_answered=is_answered,
        )

    def words(self, request: Request) -> int | None:
        """Words of the expressions that `derive` would evaluate; None where a code is not known to this process."""
        known = self._memory.known({request.organization_id: request.codes})
        return None if known is None else request.words(known[request.organization_id].by_code)

    def learn(self, request: Request) -> None:
        """Make the codes known to this process, if the database can be reached. Call it in a thread."""
        with suppress(psycopg.Error), closing(open_connection(self._dsn)) as conn:
            self._memory.learn(conn, {request.organization_id: request.codes})

    def derive(self, request: Request, evaluate: Evaluate) -> None:
        """Evaluate the request's expressions; if their metering changes before it is appended, that is repeated."""
        known = self._memory.known({request.organization_id: request.codes})
        if known is not None:
            _derive(known, [request], evaluate)

    async def append(self, requests: Sequence[Request]) -> None:
        """Store what is not stored of it; once more if the database says that it has ended the attempt.

        A connection that was lost in the middle says nothing: the group may be in, and a second attempt would take it
        for duplicates. Raises UnavailableError.
        """
        try:
            try:
                await self._attempt(requests)
            except AdminShutdown:
                await self.close()
                await self._attempt([request for request in requests if request.duplicates is None])
        except Exception as error:
            failure = _failure_of(error)
            if not isinstance(failure, ChangingError | UnacceptableError):
                await self.close()
            raise failure from error

    async def _attempt(self, requests: Sequence[Request]) -> None:
        takes_long = sum(len(one.drafts) for one in requests if one.usual is None) > ON_LOOP_EVENTS
        if takes_long or not await store_at_once(await self._for_loop(), self._memory, requests):
            await asyncio.to_thread(lambda: store(self._for_thread(), self._memory, requests))

    async def _for_loop(self) -> AsyncConnection[Any]:
        if self._on_loop is None or not is_alive(self._on_loop):
            await self.close()
            self._on_loop = await open_async_connection(self._dsn)
        return self._on_loop

    def _for_thread(self) -> Connection[Any]:
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


def writers(
    dsn: str, count: int, *, series_bytes: int = SERIES_BYTES, is_accelerated: bool = True
) -> list[Writer]:
    """Writers that share what they remember."""
    memory = Memory(series_bytes, is_accelerated=is_accelerated and accelerator.IS_BUILT)
    return [Writer(dsn, memory) for _ in range(count)]
