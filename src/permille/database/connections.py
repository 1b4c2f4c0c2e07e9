"""Connections to PostgreSQL: one pool for a process, exact JSON, UTC."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from psycopg import AsyncConnection, BaseConnection, Connection
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool

from permille import niceness, processors
from permille.core.record import Record

WAIT_SECONDS = 5.0
"""How long anybody waits for a connection, and how long the pool tries to make one before the next who asks for it."""

IDLE_SECONDS = 5.0
"""After so long without use a connection is closed, one at a time: each takes 3 MiB of PostgreSQL."""

# Exact both ways: a JSON number with a fraction is a Decimal here, and a Decimal is written as a number.
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def as_number(value: Any) -> msgspec.Raw:
    """A JSON number from a kind of Decimal that encoders do not know (their enc_hook)."""
    if isinstance(value, Decimal):
        return msgspec.Raw(str(value).encode())
    raise NotImplementedError(type(value).__name__)


_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=as_number)

encode_answer = msgspec.json.Encoder(decimal_format="string", enc_hook=as_number).encode
"""JSON of an object as answers and webhooks carry it: decimals are texts, but for those that were sent as numbers."""


def exact_value(data: str | bytes) -> Any:
    """The value of JSON, numbers with a fraction as Decimals."""
    return _decoder.decode(data)


def exact_json(value: Any) -> str:
    """A value as JSON, Decimals as numbers."""
    return _encoder.encode(value).decode()


def use_exact_json() -> None:
    """Make psycopg read and write JSON without floats, for the whole process."""
    set_json_loads(exact_value)
    set_json_dumps(_encoder.encode)


_DOWN = ("08", "57P", "58")
"""Beginnings of SQLSTATEs: the connection is lost, the server stops or starts, its machine fails."""
_FULL = ("53100", "53300")
"""No room on its disk, no more connections."""
_IN_THE_WAY = ("40", "55P03")
"""Another transaction was."""
_CUT_OFF = ("57014", "25P03")
"""A statement took too long, or a transaction did nothing for too long."""


def is_unavailable(error: BaseException) -> bool:
    """Whether the database is not to be had at the moment: lost, stopped, starting, full, or all connections are in use."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate in _FULL or error.sqlstate.startswith(_DOWN)


def is_passing(error: BaseException) -> bool:
    """Whether the same may go well when it is tried again, since it failed for what others do."""
    if is_unavailable(error):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_IN_THE_WAY)


def is_cut_off(error: BaseException) -> bool:
    """Whether a statement or a transaction has run into its time limit."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _CUT_OFF


def is_alive(conn: BaseConnection[Any]) -> bool:
    """Whether an idle connection is still there, without asking the server.

    One that is going away says so, or its end has come: then there is something to read that nobody has asked for.
    """
    if conn.closed:
        return False
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return not poll.poll(0)


class _Database(threading.local):
    took = waited = 0.0
    """How long PostgreSQL's processes had a processor for this thread, and waited for one."""


_database = _Database()


def processor_seconds() -> float:
    """What this thread took of processors, with what PostgreSQL did for it on this machine over connections of a Pool."""
    return time.thread_time() + _database.took


def processor_waits() -> float:
    """How many seconds this thread was ready and had no processor, and PostgreSQL for it, as far as the kernel says."""
    _, waited = processors.seconds_of(processors.THIS_THREAD) or (0.0, 0.0)
    return waited + _database.waited


def _process_of(conn: Connection[Any]) -> Path | None:
    """The connection's PostgreSQL process, under /proc, where that is one of ours on this machine."""
    with suppress(OSError, psycopg.Error):
        found = Path(f"/proc/{conn.info.backend_pid}")
        if conn.info.host.startswith("/") and (found / "comm").read_bytes() == b"postgres\n":
            return found
    return None


class Pool(ConnectionPool[Connection[Any]]):
    """A pool that gives no connection which was lost while it was idle, however many were: the database was restarted.

    What PostgreSQL does over a connection counts for the thread that gives it back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._processes = WeakKeyDictionary[Connection[Any], tuple[Path, tuple[float, float]]]()
        """Those of connections in use, with how long they had a processor, and waited for one, before."""
        super().__init__(*args, **kwargs)

    def getconn(self, timeout: float | None = None) -> Connection[Any]:
        while not is_alive(conn := super().getconn(timeout)):
            conn.close()
            self.putconn(conn)
        if (process := _process_of(conn)) and (seconds := processors.seconds_of(process)):
            self._processes[conn] = process, seconds
        return conn

    def _get_ready_connection(self, timeout: float | None) -> Connection[Any] | None:
        """The one that was used last: it has its plans and knows its tables, which takes PostgreSQL longer than the work of a bill."""
        self._pool.rotate(1)  # the library takes the first and adds to the end
        return super()._get_ready_connection(timeout)

    def putconn(self, conn: Connection[Any]) -> None:
        if (found := self._processes.pop(conn, None)) is not None:
            process, before = found
            took, waited = processors.seconds_of(process) or before
            _database.took += took - before[0]
            _database.waited += waited - before[1]
        super().putconn(conn)


class Limits(Record, kw_only=True):
    """Seconds that the database gives a connection's statements; 0 is without end."""

    statement: int = 0
    lock: int = 0
    """For the wait for each lock."""
    idle: int = 0
    """For what a transaction does beside its statements, at a time."""


NO_LIMITS = Limits()


_SET = "select set_config(name, value, false) from unnest(%s::text[], %s::text[]) as s (name, value)"


def _settings(limits: Limits) -> list[list[str]]:
    """The values of _SET for a connection."""
    values = {
        "TimeZone": "UTC",
        "statement_timeout": f"{limits.statement}s",
        "lock_timeout": f"{limits.lock}s",
        "idle_in_transaction_session_timeout": f"{limits.idle}s",
    }
    return [list(values), list(values.values())]


def _configured(limits: Limits, *, gives_way: bool) -> Callable[[Connection[Any]], None]:
    settings = _settings(limits)

    def configure(conn: Connection[Any]) -> None:
        conn.execute(_SET, settings)
        conn.commit()
        if gives_way:
            _give_way(conn)

    return configure


def _give_way(conn: Connection[Any]) -> None:
    """Lower the priority of the connection's PostgreSQL process, where that is one of ours on this machine."""
    if _process_of(conn) is not None:
        niceness.lower(conn.info.backend_pid)


class LoopConnections:
    """Connections for what tasks of one event loop ask in a single statement, which takes them a third of what a thread does.

    They are opened when they are needed, and again when they were lost while they were idle.
    """

    def __init__(self, dsn: str, *, size: int, name: str, limits: Limits = NO_LIMITS) -> None:
        self._dsn, self._name, self._settings = dsn, name, _settings(limits)
        self._turns = asyncio.Semaphore(size)
        self._idle: list[AsyncConnection[Any]] = []

    async def row(self, query: LiteralString, values: Sequence[Any]) -> tuple[Any, ...]:
        """The one row that a statement answers. Raises psycopg.Error."""
        async with self._turns:
            conn = await self._connection()
            try:
                row = await (await conn.execute(query, values)).fetchone()
            except BaseException:
                await conn.close()
                raise
            self._idle.append(conn)
        assert row is not None, "the statement answers one row"
        return tuple(row)

    async def _connection(self) -> AsyncConnection[Any]:
        while self._idle:
            if is_alive(conn := self._idle.pop()):
                return conn
            await conn.close()
        conn = await AsyncConnection.connect(self._dsn, autocommit=True, application_name=self._name)
        await conn.execute(_SET, self._settings)
        return conn

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()


def _reset(conn: Connection[Any]) -> None:
    """Leave nothing of one user to the next."""
    conn.isolation_level = None


def keep_plans(conn: Connection[Any]) -> None:
    """Until the transaction ends, plan a prepared statement once, whatever its values.

    For statements that find everything by keys, to which planning takes longer than the work itself. Lists are not so: how
    far an index is worth walking depends on the page, and on whose rows it holds.
    """
    conn.execute("set local plan_cache_mode = force_generic_plan")


def open_pool(dsn: str, *, size: int, name: str, limits: Limits = NO_LIMITS, gives_way: bool = False) -> Pool:
    """An open pool of at most `size` connections; each block of `with pool.connection()` is one transaction.

    One that `gives_way` lets everything else on the machine of its database go first, as far as that is ours, and keeps no
    connection that nobody uses. Raises PoolTimeout when none is to be had in time.
    """
    return Pool(
        dsn,
        min_size=0 if gives_way else 1,
        max_size=size,
        open=True,
        configure=_configured(limits, gives_way=gives_way),
        reset=_reset,
        max_idle=IDLE_SECONDS,
        timeout=WAIT_SECONDS,
        reconnect_timeout=WAIT_SECONDS,
        kwargs={"application_name": name},
        name=name,
    )
