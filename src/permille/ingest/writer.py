"""Group commit: requests that wait together are stored in one transaction, each all or not at all.

A group goes in with one statement. Only when that is refused, because an identity is taken or the metering
has changed, is it looked at closely.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.errors import DeadlockDetected, UniqueViolation

from permille.core.encoding import encode
from permille.ingest import arrays
from permille.ingest.identity import event_identity
from permille.ingest.intake import Draft
from permille.store import metering

log = logging.getLogger(__name__)

METERING_CHANGED = "PM001"
SERIES_REMEMBERED = 200_000
CODES_REMEMBERED = 20_000
ATTEMPTS_MAX = 50

_json = msgspec.json.Encoder(decimal_format="number").encode

_STORE = (
    "select store_events(%s::bigint, %s::int[], %s::timestamptz[], %s::timestamptz[], %s::uuid[],"
    " %s::numeric[], %s::text[], %s::numeric[], %s::jsonb[])"
)


@dataclass(slots=True)
class Request:
    """One request's events; `duplicates` are the indices for which it was refused, None while it waits."""

    organization_id: UUID
    drafts: Sequence[Draft]
    created_at: int
    """Microseconds since 1970."""
    identities: list[bytes] = field(default_factory=list)
    duplicates: list[int] | None = None
    failure: Exception | None = None
    codes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        organization = self.organization_id.bytes
        self.codes = {draft.code for draft in self.drafts}
        self.identities = [
            event_identity(organization, draft.external_subscription_id, draft.transaction_id)
            for draft in self.drafts
        ]


class UnableToStoreError(Exception):
    """The group could not be stored for a reason that repeating does not mend."""


class Memory:
    """What a process remembers: the metering of codes under one version, and the ids of series.

    Threads share it. The metering is replaced as a whole, so that nobody sees codes of two versions.
    """

    def __init__(self) -> None:
        self.metering = metering.Known(-1, {})
        self.series: dict[metering.SeriesKey, int] = {}

    def learn(self, conn: Connection[Any], codes: set[tuple[UUID, str]]) -> metering.Known:
        """The metering of these codes, all of one version."""
        known = self.metering
        missing = codes - known.by_code.keys()
        if not missing:
            return known
        fresh = metering.load(conn, missing)
        if fresh.version == known.version and len(known.by_code) < CODES_REMEMBERED:
            fresh = metering.Known(known.version, {**known.by_code, **fresh.by_code})
        elif len(missing) < len(codes):
            fresh = metering.load(conn, codes)
        self.metering = fresh
        return fresh


def open_connection(dsn: str) -> Connection[Any]:
    """A connection for `store`: every statement is its own transaction."""
    conn = psycopg.connect(dsn, autocommit=True, application_name="permille-ingest")
    arrays.register(conn)
    return conn


async def open_async_connection(dsn: str) -> AsyncConnection[Any]:
    """A connection for `store_at_once`."""
    conn = await AsyncConnection.connect(dsn, autocommit=True, application_name="permille-ingest")
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
        await conn.execute(_STORE, statement)
    except (UniqueViolation, DeadlockDetected):
        return False
    except psycopg.Error as error:
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
    waiting = list(requests)
    for _ in range(ATTEMPTS_MAX):
        if not waiting:
            return
        try:
            _store_group(conn, memory, waiting)
        except UniqueViolation:
            waiting = _without_duplicates(conn, waiting)
        except DeadlockDetected:
            continue
        except psycopg.Error as error:
            if error.sqlstate != METERING_CHANGED:
                raise
            memory.metering = metering.Known(-1, {})
        else:
            for request in waiting:
                request.duplicates = []
            return
    raise UnableToStoreError(f"{len(waiting)} requests were still refused after {ATTEMPTS_MAX} attempts")


def _store_group(conn: Connection[Any], memory: Memory, requests: Sequence[Request]) -> None:
    codes = {(request.organization_id, code) for request in requests for code in request.codes}
    known = memory.learn(conn, codes)
    group = _encoded(known, requests)
    conn.execute(_STORE, _parameters(known, requests, group, _series_ids(conn, memory, group.keys, known)))


def _statement(memory: Memory, requests: Sequence[Request]) -> list[Any] | None:
    """The parameters of the insert, None when a code or a series is not known in this process."""
    known = memory.metering
    codes = {(request.organization_id, code) for request in requests for code in request.codes}
    if codes - known.by_code.keys():
        return None
    group = _encoded(known, requests)
    ids = [memory.series.get(key) for key in group.keys]
    return None if None in ids else _parameters(known, requests, group, ids)


@dataclass(slots=True)
class _Group:
    """The events of a group, column by column."""

    keys: list[metering.SeriesKey]
    values: list[str | None]
    extras: list[dict[str, Any] | None]


def _encoded(known: metering.Known, requests: Sequence[Request]) -> _Group:
    group = _Group([], [], [])
    for request in requests:
        organization = request.organization_id.bytes
        hows = {code: known.by_code[request.organization_id, code] for code in request.codes}
        for draft in request.drafts:
            how = hows[draft.code]
            series, value, extra = encode(how, draft.properties)
            group.keys.append(
                _series_key((organization, draft.external_subscription_id, draft.code, how.version, series))
            )
            group.values.append(value)
            group.extras.append(extra)
    return group


def _parameters(
    known: metering.Known, requests: Sequence[Request], group: _Group, series_ids: Sequence[Any]
) -> list[Any]:
    drafts = [draft for request in requests for draft in request.drafts]
    return [
        known.version,
        arrays.integers(series_ids),
        arrays.instants([draft.at for draft in drafts]),
        arrays.instants([request.created_at for request in requests for _ in request.drafts]),
        arrays.uuids([identity for request in requests for identity in request.identities]),
        arrays.numbers(group.values),
        arrays.texts([draft.transaction_id for draft in drafts]),
        arrays.numbers([draft.precise for draft in drafts]),
        arrays.documents([None if extra is None else _json(extra).decode() for extra in group.extras]),
    ]


# NamedTuple's own constructor takes three times as long as that of a tuple.
_series_key = partial(tuple.__new__, metering.SeriesKey)


def _series_ids(
    conn: Connection[Any], memory: Memory, keys: Sequence[metering.SeriesKey], meterings: metering.Known
) -> list[int]:
    known = memory.series
    ids = [known.get(key) for key in keys]
    if None not in ids:
        return ids  # type: ignore[return-value]  # just checked
    missing = {
        key: meterings.by_code[UUID(bytes=key.organization), key.code]
        for key, series_id in zip(keys, ids, strict=True)
        if series_id is None
    }
    fresh = metering.intern(conn, missing)
    if len(known) + len(fresh) > SERIES_REMEMBERED:
        known = memory.series = {key: known[key] for key in keys if key in known}
    known.update(fresh)
    return [known[key] for key in keys]


def _without_duplicates(conn: Connection[Any], requests: Sequence[Request]) -> list[Request]:
    """Refuse the requests that repeat a stored event, one of their own or one of a request before them."""
    every = [identity for request in requests for identity in request.identities]
    rows = conn.execute(
        "select identity from event where identity = any(%s::uuid[])", [arrays.uuids(every)]
    ).fetchall()
    taken = {identity.bytes for (identity,) in rows}
    remaining: list[Request] = []
    for request in requests:
        seen: set[bytes] = set()
        duplicates: list[int] = []
        for index, identity in enumerate(request.identities):
            if identity in taken or identity in seen:
                duplicates.append(index)
            seen.add(identity)
        if duplicates:
            request.duplicates = duplicates
        else:
            taken |= seen
            remaining.append(request)
    return remaining
