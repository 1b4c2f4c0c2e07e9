"""What an event costs PostgreSQL from its arrival to its sums, as rows and as chunks: processor time of the backends that
do it, write-ahead log, disk; and what reads cost afterwards. All ways get the same groups, in turns.

    .venv/bin/python -m benchmarks.chunks [--events 1000000] [--series 4000] [--stored 0] [--writers 1] [--only TEXT]

Each way has a database of its own on one embedded server, with the settings that `permille up` gives it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from tests.conftest import fresh_database

from benchmarks.chunks.layouts import (
    FOLD,
    Chunks,
    Group,
    Packed,
    Postings,
    Row,
    Rows,
    bigints,
    instants,
    literal,
)
from permille.config import from_environment
from permille.database.migrate import migrate
from permille.embedded.postgres import EmbeddedPostgres
from permille.events.identity import event_identities
from permille.events.postgres import arrays

SIZE = 1_000
BEGIN = 1_800_000_000_000_000
"""When the first event happens, in microseconds since 1970; there is one a millisecond, so that hours pass."""
LAYOUTS: tuple[Rows | Chunks | Packed, ...] = (
    Rows(),
    Postings(),
    Chunks(identities="uuid", storage="external"),
    Chunks(identities="hash", storage="external"),
    Chunks(identities="hash", storage="extended"),
    Chunks(identities="copy", storage="external"),
    Chunks(identities="copy", storage="external", many=500),
    Packed(),
    Rows(ordered=True),
    Postings(ordered=True),
    Chunks(identities="hash", storage="external", ordered=True),
    Packed(ordered=True),
)
READS = 30
ORGANIZATION = UUID(int=1)

_CELLS = "select count(*), sum(events_count), sum(sum), sum(max), sum(moment) from usage_cell"

Layout = Rows | Chunks | Packed


class Backend:
    """Connections to a database of their own, and what their processes have cost so far."""

    def __init__(self, dsn: str, writers: int) -> None:
        self.writers: list[Connection[Any]] = [psycopg.connect(dsn, autocommit=True) for _ in range(writers)]
        for conn in self.writers:
            arrays.register(conn)
        self.conn = self.writers[0]
        self._schedules = [Path(f"/proc/{conn.info.backend_pid}/schedstat") for conn in self.writers]

    def store(self, layout: Layout, groups: Sequence[Group]) -> None:
        """By all writers at once."""

        def some(first: int) -> None:
            for group in groups[first :: len(self.writers)]:
                layout.store(self.writers[first], group)

        with ThreadPoolExecutor(len(self.writers)) as pool:
            list(pool.map(some, range(len(self.writers))))

    def cost(self) -> tuple[float, int]:
        """Microseconds on a core, and bytes of the log."""
        row = self.conn.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert row is not None
        return sum(int(each.read_text().split()[0]) for each in self._schedules) / 1_000, int(row[0])

    def disk(self, tables: Sequence[str]) -> int:
        row = self.conn.execute(
            "select sum(pg_total_relation_size(t::regclass)) from unnest(%s::text[]) t", [list(tables)]
        ).fetchone()
        assert row is not None
        return int(row[0])


class Case:
    """A way to keep events at work, and what each step of it has cost."""

    def __init__(self, layout: Layout, backend: Backend) -> None:
        self.layout, self.backend = layout, backend
        self.empty = backend.disk(layout.tables)
        self.spent: dict[str, float] = defaultdict(float)
        self.logged: dict[str, int] = defaultdict(int)

    def count(self, step: str, work: Callable[[], object]) -> None:
        cpu, log = self.backend.cost()
        work()
        cpu_after, log_after = self.backend.cost()
        self.spent[step] += cpu_after - cpu
        self.logged[step] += log_after - log

    def store(self, groups: Sequence[dict[bool, Group]]) -> None:
        mine = [each[self.layout.ordered] for each in groups]
        self.count("store", lambda: self.backend.store(self.layout, mine))

    def fold(self) -> None:
        self.count("roll up", lambda: self.layout.roll_up(self.backend.conn))
        self.count("tidy", lambda: self.layout.tidy(self.backend.conn))


class Traffic:
    """Groups of events, each with identities at random and with such as are in the order of time, as UUIDv7 would allow."""

    def __init__(self, organization_id: UUID, series: int) -> None:
        self.organization_id, self.series = organization_id, series
        self.chance = random.Random(1)
        self.examples: list[dict[bool, tuple[UUID, str]]] = []
        """Of an event of each group the identity, by whether it is ordered, and the transaction id."""
        self._made = 0

    def groups(self) -> list[dict[bool, Group]]:
        """As many as are folded at once."""
        return [self._group() for _ in range(FOLD // SIZE)]

    def _group(self) -> dict[bool, Group]:
        number, chance = self._made, self.chance
        self._made += 1
        now = BEGIN + number * SIZE * 1_000
        ids = [chance.randrange(1, self.series + 1) for _ in range(SIZE)]
        ats = [now - chance.randrange(60_000_000) for _ in range(SIZE)]
        values = [chance.randrange(1, 4_000) for _ in range(SIZE)]
        names = [f"{chance.getrandbits(128):032x}" for _ in range(SIZE)]
        at_random = event_identities(self.organization_id.bytes, [f"sub-{each // 4}" for each in ids], names)
        ordered = [struct.pack(">Q", number * SIZE + n << 16) + each[8:] for n, each in enumerate(at_random)]
        self.examples.append(
            {is_: (UUID(bytes=found[0]), names[0]) for is_, found in ((False, at_random), (True, ordered))}
        )

        def group(identities: list[bytes]) -> Group:
            hashes = [int.from_bytes(each[:8], "big", signed=True) for each in identities]
            return Group(
                self.organization_id,
                datetime.fromtimestamp(now / 1_000_000, UTC),
                [
                    bigints(ids),
                    instants(ats),
                    instants([now] * SIZE),
                    arrays.uuids(identities),
                    literal(values),
                    literal(names),
                    "{}",
                    "{}",
                ],
                bigints(hashes),
                sorted(zip(hashes, ids, range(1, SIZE + 1), strict=True)),
                [
                    Row(
                        each,
                        at,
                        value,
                        struct.pack(f"<iq16siB{len(name)}s", each, at, i, value, len(name), name.encode()),
                    )
                    for each, at, i, value, name in zip(ids, ats, identities, values, names, strict=True)
                ],
            )

        return {False: group(at_random), True: group(ordered)}


def set_up(dsn: str, series: int) -> None:
    """An organization with so many series."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "insert into organization (id, name, hmac_key, created_at, updated_at) values (%s, 'o', 'k', now(), now())",
            [ORGANIZATION],
        )
        conn.execute(
            "insert into series (id, organization_id, external_subscription_id, code, metering_version, value_key, dimensions, identity)"
            " overriding system value"
            " select n, %s, 'sub-' || n / 4, 'tokens', 0, 'tokens', '{}', gen_random_uuid() from generate_series(1, %s) n",
            [ORGANIZATION, series],
        )
        conn.execute("vacuum analyze series")


def run(server: EmbeddedPostgres, given: argparse.Namespace) -> None:
    with ExitStack() as stack:
        cases = [
            case_of(layout, stack.enter_context(fresh_database(server, "layout")), given, stack)
            for layout in LAYOUTS
            if any(word in layout.name for word in given.only.split("|"))
        ]
        measure(cases, given)


def case_of(layout: Layout, dsn: str, given: argparse.Namespace, stack: ExitStack) -> Case:
    set_up(dsn, given.series)
    backend = Backend(dsn, given.writers)
    for conn in backend.writers:
        stack.callback(conn.close)
    layout.prepare(backend.conn)
    if given.stored:
        layout.load(backend.conn, given.stored)
    return Case(layout, backend)


def measure(cases: Sequence[Case], given: argparse.Namespace) -> None:
    traffic = Traffic(ORGANIZATION, given.series)
    for _ in range(given.events // FOLD):
        groups = traffic.groups()
        for case in cases:
            case.store(groups)
            case.fold()
    print(
        f"{given.events:,} events of {given.series:,} series in groups of {SIZE:,}, folds of {FOLD:,},"
        f" after {given.stored:,} others, by {given.writers} at once;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    cells = {case.backend.conn.execute(_CELLS).fetchone() for case in cases}
    assert len(cells) == 1, cells
    print_costs(cases, given.events)
    print_reads(cases, traffic, given.events)


def print_costs(cases: Sequence[Case], events: int) -> None:
    print(f"{'':<60}{'CPU us: store':>14}{'roll up':>9}{'tidy':>6}{'all':>7}{'ratio':>7}{'log B: store':>14}{'roll up':>9}{'all':>6}{'disk B':>8}")  # fmt: skip
    base = 0.0
    for case in cases:
        cpu = {step: spent / events for step, spent in case.spent.items()}
        log = {step: logged / events for step, logged in case.logged.items()}
        whole, log_whole = sum(cpu.values()), sum(log.values())
        base = base or whole
        disk = (case.backend.disk(case.layout.tables) - case.empty) / events
        print(f"{case.layout.name:<60}{cpu['store']:>14.2f}{cpu['roll up']:>9.2f}{cpu['tidy']:>6.2f}{whole:>7.2f}{whole / base:>7.2f}{log['store']:>14.0f}{log_whole - log['store']:>9.0f}{log_whole:>6.0f}{disk:>8.0f}", flush=True)  # fmt: skip


def print_reads(cases: Sequence[Case], traffic: Traffic, events: int) -> None:
    """Milliseconds of a core for each read, in turns; all must answer alike."""
    chance = random.Random(2)
    begin = datetime.fromtimestamp(BEGIN / 1_000_000, UTC)
    readable = [(case, case.layout) for case in cases if not isinstance(case.layout, Packed)]
    for case, layout in readable:
        for table in layout.tables:
            case.backend.conn.execute(sql.SQL("vacuum analyze {}").format(sql.Identifier(table)))

    def read(what: str, call: Callable[[Rows | Chunks, Connection[Any]], Any]) -> None:
        answers: list[Any] = []
        for case, layout in readable:
            case.count(what, lambda: answers.append(call(layout, case.backend.conn)))  # noqa: B023
        assert all(answer == answers[0] for answer in answers), (what, answers)

    folded = list(traffic.examples)
    for _ in range(READS):
        series = [chance.randrange(1, traffic.series + 1) for _ in range(4)]
        from_ = begin + timedelta(milliseconds=events) * chance.random()
        to = from_ + timedelta(minutes=10)
        example = chance.choice(folded)
        read("edge of 10 minutes", lambda layout, conn: layout.edge(conn, series[0], from_, to))  # noqa: B023
        read("find", lambda layout, conn: layout.find(conn, *example[layout.ordered]))  # noqa: B023
        read("page of 4 series", lambda layout, conn: layout.page(conn, series))  # noqa: B023
    groups = traffic.groups()
    for case in cases:
        case.store(groups)
    for _ in range(READS):
        series = [chance.randrange(1, traffic.series + 1) for _ in range(4)]
        read("tail of 4 series", lambda layout, conn: layout.tail(conn, series))  # noqa: B023
    names = ("edge of 10 minutes", "find", "page of 4 series", "tail of 4 series")
    print(f"{'reads, ms of CPU':<60}" + "".join(f"{name:>22}" for name in names))
    for case, layout in readable:
        print(f"{layout.name:<60}" + "".join(f"{case.spent[name] / READS / 1_000:>22.2f}" for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=4_000)
    parser.add_argument("--stored", type=int, default=0, help="events that are there before")
    parser.add_argument(
        "--ordered", action="store_true", help="identities in the order of time, as UUIDv7 would let them be"
    )
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--only", default="", help="ways whose names contain one of these, with | between")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="permille-chunks-", dir="/tmp"))
    folder.chmod(0o711)
    started = time.perf_counter()
    try:
        with EmbeddedPostgres(folder / "postgres", bin_dir=from_environment().pg_bin) as server:
            migrate(server.dsn)
            run(server, given)
    finally:
        shutil.rmtree(folder)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
