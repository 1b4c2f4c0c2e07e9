"""What a rate is compared with: the same rows without HTTP."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg

from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import writer
from permille.events.postgres.writer import Memory, open_connection, store

_COLUMNS = (
    "series_id, at, created_at, identity, value, transaction_id, precise_total_amount_cents, extra, seq"
)


def heap_rate(dsn: str, folder: Path, count: int) -> float:
    """Binary COPY of the newest stored events into a table without an index, over two connections: rows a second.

    No change of Permille's moves it but that of what a row has.
    """
    path = folder / "events.copy"
    with psycopg.connect(dsn, autocommit=True) as conn, path.open("wb") as file:
        newest = f"select {_COLUMNS} from event order by seq desc limit {count}"
        with conn.cursor().copy(f"copy ({newest}) to stdout (format binary)") as copy:
            for part in copy:
                file.write(part)
        conn.execute(f"create table bare_heap as select {_COLUMNS} from event limit 0")
    content = path.read_bytes()
    path.unlink()

    def load() -> None:
        with (
            psycopg.connect(dsn) as own,
            own.cursor().copy("copy bare_heap from stdin (format binary)") as copy,
        ):
            for start in range(0, len(content), 1 << 20):
                copy.write(content[start : start + (1 << 20)])

    seconds = _together(load)
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute("select count(*) from bare_heap").fetchone()
        assert row is not None
        conn.execute("drop table bare_heap")
    return int(row[0]) / seconds


def raw_rate(dsn: str, organization: str, count: int) -> float:
    """Encoded events straight into the events' own table: 1,000 a statement, over two connections, events a second."""
    now = time.time_ns() // 1_000
    statements: list[list[Any]] = []

    class Recorder:
        """Takes the statement that a group makes instead of running it."""

        def __init__(self, conn: psycopg.Connection[Any]) -> None:
            self.conn = conn

        def execute(self, query: Any, parameters: Any = None) -> Any:
            if query == writer._STORE:
                statements.append(parameters)
                return None
            return self.conn.execute(query, parameters)

    conn, memory = open_connection(dsn), Memory()
    for first in range(0, count, 1_000):
        drafts = [
            Draft(uuid.uuid4().hex, "tokens", f"sub-{(first + i) * 7919 % 1000}", now - (first + i) * 7919 % 3_600_000_000, None,
                  {"model": ("8K", "32K")[i % 2], "type": ("input", "output")[i // 2 % 2], "tokens": i + 1})
            for i in range(1_000)
        ]  # fmt: skip
        store(Recorder(conn), memory, [Request(uuid.UUID(organization), drafts, now)])  # type: ignore[arg-type]
    todo = iter(statements)
    lock = threading.Lock()

    def insert() -> None:
        own = open_connection(dsn)
        while True:
            with lock:
                parameters = next(todo, None)
            if parameters is None:
                return
            own.execute(writer._STORE, parameters)

    return count / _together(insert)


def _together(work: Any) -> float:
    """Seconds that two threads take that do this at once."""
    threads = [threading.Thread(target=work) for _ in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started
