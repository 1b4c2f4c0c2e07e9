"""Ways to keep events, each with all that one costs from its arrival to its sums: store, roll up, read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import Connection, sql

from permille.events.postgres import arrays, rollup
from permille.events.postgres.metering import ROLL_UP_LOCK

FOLD = rollup.CHUNK


class Row(NamedTuple):
    """An event of a group; `packed` is what a block of its series has of it: instant, identity, value, transaction id."""

    series_id: int
    at: int
    """Microseconds since 1970."""
    value: int
    packed: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """1,000 events or so as parameters, made beforehand; the columns in the order of `append_events`."""

    organization_id: UUID
    created_at: datetime
    columns: Sequence[Any]
    """series_ids, ats, created_ats, identities, amounts, transaction_ids, precise_amounts, extras"""
    hashes: Any
    """8 bytes of each identity as bigint[]."""
    places: Sequence[tuple[int, int, int]]
    """Hash, series and place within the group of each event, in the order of hashes."""
    rows: Sequence[Row]


class Rows:
    """A row an event, as events/postgres keeps them: statements of the engine itself."""

    what = "rows"
    tables: tuple[str, ...] = ("event", "usage_cell", "series_month")

    def __init__(self, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self.name = self.what + (", ordered identities" if ordered else "")

    def prepare(self, conn: Connection[Any]) -> None:
        conn.execute("set enable_seqscan = off")

    def load(self, conn: Connection[Any], events: int) -> None:
        """As many events of before, which nobody reads."""
        conn.execute(_EARLIER, {"events": events})
        conn.execute("update metering_state set rolled_up_to = (select last_value from event_seq_seq)")

    def store(self, conn: Connection[Any], group: Group) -> None:
        conn.execute(_STORE, [[group.organization_id], [0], *group.columns])

    def roll_up(self, conn: Connection[Any]) -> None:
        rollup.roll_up(conn)

    def tidy(self, conn: Connection[Any]) -> None:
        rollup.summarize(conn)

    def edge(self, conn: Connection[Any], series: int, from_: datetime, to: datetime) -> Any:
        return conn.execute(
            "select count(value), sum(value), max(value) from counted_event"
            " where series_id = %s and at >= %s and at < %s and seq <= (select rolled_up_to from metering_state)",
            [series, from_, to],
        ).fetchone()

    def find(self, conn: Connection[Any], identity: UUID, transaction_id: str) -> Any:
        return conn.execute(
            "select series_id, at, value, transaction_id from event where identity = %s and transaction_id = %s",
            [identity, transaction_id],
        ).fetchone()

    def page(self, conn: Connection[Any], series: Sequence[int]) -> Any:
        return conn.execute(
            "select e.transaction_id, e.at from unnest(%s::bigint[]) as w (id) cross join lateral"
            " (select * from sent_event where series_id = w.id order by at desc, transaction_id limit 20) e"
            " order by e.at desc, e.transaction_id limit 20",
            [series],
        ).fetchall()

    def tail(self, conn: Connection[Any], series: Sequence[int]) -> Any:
        return conn.execute(
            "with tail as materialized (select series_id, at, value from counted_event"
            " where seq > (select rolled_up_to from metering_state) and (series_id + 0) = any(%s))"
            " select count(value), sum(value) from tail",
            [series],
        ).fetchone()


class Postings(Rows):
    """Rows without the B-tree (series, at): the roll-up writes where the events of a series are, a row a series and fold."""

    what = "rows, places by series"
    tables = ("event", "event_posting", "usage_cell", "series_month")

    def prepare(self, conn: Connection[Any]) -> None:
        super().prepare(conn)
        conn.execute(
            "drop index event_of_series; create table event_posting (series_id bigint not null, first_at timestamptz not null,"
            " last_at timestamptz not null, places tid[] not null); create index on event_posting (series_id, last_at)"
        )

    def roll_up(self, conn: Connection[Any]) -> None:
        with conn.transaction():
            conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
            conn.execute(_FOLD_POSTINGS)
            conn.execute("update metering_state set rolled_up_to = (select last_value from event_seq_seq)")

    def edge(self, conn: Connection[Any], series: int, from_: datetime, to: datetime) -> Any:
        return conn.execute(
            "select count(value), sum(value), max(value) from event e where ctid = any(array("
            " select unnest(places) from event_posting where series_id = %s and last_at >= %s and first_at < %s"
            ")) and at >= %s and at < %s and not exists (select from struck_event s where s.identity = e.identity)",
            [series, from_, to, from_, to],
        ).fetchone()

    def page(self, conn: Connection[Any], series: Sequence[int]) -> Any:
        return conn.execute(_PAGE_POSTINGS, [series]).fetchall()


class Chunks:
    """A group is one row of arrays; the roll-up writes its events again as blocks, sorted by series.

    `identities` says how a taken identity is found: "uuid" by all 16 bytes, "hash" by 8, "copy" by 8 that COPY brings.
    `many` is how many events a block takes together, of as many series as that needs; 0: a block is of one series.
    """

    tables: tuple[str, ...] = ("event_chunk", "event_block", "event_hash", "usage_cell", "series_month")

    def __init__(
        self, *, identities: str, storage: LiteralString, many: int = 0, ordered: bool = False
    ) -> None:
        self.ordered = ordered
        self.identities, self.storage, self.many = identities, storage, many
        self.name = f"chunks, {identities}, {storage}, blocks of {many or 'a series'}"
        if ordered:
            self.name += ", ordered identities"

    def prepare(self, conn: Connection[Any]) -> None:
        how = f"storage {self.storage}"
        statement = _TABLES.replace("{key}", "uuid" if self.identities == "uuid" else "bigint")
        conn.execute(statement)
        for table, columns in (
            ("event_chunk", _CHUNK_COLUMNS),
            ("event_block", ("seqs", "created_ats", *_CHUNK_COLUMNS)),
        ):
            for column in columns:
                conn.execute(
                    sql.SQL("alter table {} alter {} set " + how).format(
                        sql.Identifier(table), sql.Identifier(column)
                    )
                )
        conn.execute(_BLOCK_INDEX_MANY if self.many else _BLOCK_INDEX)

    def load(self, conn: Connection[Any], events: int) -> None:
        key = "gen_random_uuid()" if self.identities == "uuid" else "hashint8extended(n, 1)"
        conn.execute(_EARLIER_HASHES.format(key=key), [events])

    def store(self, conn: Connection[Any], group: Group) -> None:
        series, ats, _, identities, amounts, transactions, precise, extras = group.columns
        columns = [series, ats, identities, amounts, transactions, precise, extras]
        if self.identities == "copy":
            with conn.transaction():
                row = conn.execute(
                    _STORE_CHUNK, [[group.organization_id], group.created_at, *columns]
                ).fetchone()
                assert row is not None
                first = row[0] << 20
                rows = [
                    struct.pack(">hiqiqiq", 3, 8, h, 8, s, 8, first | place) for h, s, place in group.places
                ]
                with conn.cursor().copy("copy event_hash from stdin (format binary)") as copy:
                    copy.write(_copied(rows))
            return
        keys = identities if self.identities == "uuid" else group.hashes
        conn.execute(_STORE_BOTH, [[group.organization_id], group.created_at, *columns, keys, series])

    def roll_up(self, conn: Connection[Any]) -> None:
        with conn.transaction():
            conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
            conn.execute(
                _FOLD_CHUNKS.format(blocks=_BLOCKS_OF_MANY if self.many else _BLOCKS_OF_ONE),
                {"many": self.many or None},
            )
            conn.execute("delete from event_chunk")
            conn.execute(
                "update metering_state set rolled_up_to = (select last_value from event_chunk_seq) << 20"
            )

    def tidy(self, conn: Connection[Any]) -> None:
        conn.execute("vacuum event_chunk")

    def edge(self, conn: Connection[Any], series: int, from_: datetime, to: datetime) -> Any:
        return conn.execute(
            "select count(value), sum(value), max(value) from ("
            + (_OF_SERIES_MANY if self.many else _OF_SERIES)
            + ") e where at >= %(from)s and at < %(to)s",
            {"series": series, "from": from_, "to": to},
        ).fetchone()

    def find(self, conn: Connection[Any], identity: UUID, transaction_id: str) -> Any:
        key: Any = (
            identity if self.identities == "uuid" else int.from_bytes(identity.bytes[:8], "big", signed=True)
        )
        block = (
            "event_block b on b.last_seq >= h.place and b.first_seq <= h.place and b.last_series >= h.series_id and b.first_series <= h.series_id"
            if self.many
            else "event_block b on b.series_id = h.series_id and b.last_seq >= h.place and b.first_seq <= h.place"
        )
        return conn.execute(
            f"select h.series_id, u.at, u.value, u.transaction_id from event_hash h join {block}"
            " cross join lateral unnest(b.identities, b.ats, b.amounts, b.transaction_ids) u (identity, at, value, transaction_id)"
            " where h.hash = %s and u.identity = %s and u.transaction_id = %s",
            [key, identity, transaction_id],
        ).fetchone()

    def page(self, conn: Connection[Any], series: Sequence[int]) -> Any:
        return conn.execute(_PAGE_MANY if self.many else _PAGE, {"series": series}).fetchall()

    def tail(self, conn: Connection[Any], series: Sequence[int]) -> Any:
        return conn.execute(
            "select count(u.value), sum(u.value) from event_chunk c"
            " cross join lateral unnest(c.series_ids, c.ats, c.amounts) u (series_id, at, value)"
            " where u.series_id = any(%s)",
            [series],
        ).fetchone()


class Packed:
    """As Chunks with hashes, but a chunk and a block are bytes that only a program outside PostgreSQL can read.

    What that program costs is not counted: it is what a roll-up in C would be at best. Nothing is read.
    """

    tables = ("event_chunk", "event_block", "event_hash", "usage_cell", "series_month")

    def __init__(self, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self.name = "packed outside (not counted)" + (", ordered identities" if ordered else "")
        self.waiting: list[Group] = []
        self.number = 0

    def prepare(self, conn: Connection[Any]) -> None:
        conn.execute(_PACKED_TABLES)

    def load(self, conn: Connection[Any], events: int) -> None:
        conn.execute(_EARLIER_HASHES.format(key="hashint8extended(n, 1)"), [events])

    def store(self, conn: Connection[Any], group: Group) -> None:
        data = b"".join([each.packed for each in group.rows])
        conn.execute(
            _STORE_PACKED, [[group.organization_id], group.created_at, data, group.hashes, group.columns[0]]
        )
        self.waiting.append(group)

    def roll_up(self, conn: Connection[Any]) -> None:
        rows = [
            (row, (self.number + n) << 20 | m)
            for n, group in enumerate(self.waiting)
            for m, row in enumerate(group.rows)
        ]
        self.number += len(self.waiting)
        self.waiting = []
        rows.sort(key=lambda each: each[0][:2])
        blocks = [list(found) for _, found in groupby(rows, key=lambda each: each[0].series_id)]
        with conn.transaction():
            conn.execute("select pg_advisory_xact_lock(%s)", [ROLL_UP_LOCK])
            conn.execute("select id, created_at, data from event_chunk", binary=True).fetchall()
            with conn.cursor().copy("copy event_block from stdin (format binary)") as copy:
                copy.write(_copied(map(_packed_block, blocks)))
            conn.execute(_CELLS_PACKED, _cells(blocks))
            conn.execute("delete from event_chunk")

    def tidy(self, conn: Connection[Any]) -> None:
        conn.execute("vacuum event_chunk")


def bigints(values: Sequence[int]) -> arrays.Integers:
    return arrays.integers(len(values), arrays.integer_elements(values))


def instants(values: Sequence[int]) -> arrays.Instants:
    """From microseconds since 1970."""
    return arrays.instants(len(values), arrays.instant_elements(values))


def literal(values: Iterable[object]) -> str:
    """Of what needs no quotes."""
    return "{" + ",".join(map(str, values)) + "}"


def _copied(rows: Iterable[bytes]) -> bytes:
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(rows) + b"\xff\xff"


def _packed_block(rows: Sequence[tuple[Row, int]]) -> bytes:
    data = b"".join([struct.pack("<iq", seq & 0xFFFFF, seq >> 20) + row.packed for row, seq in rows])
    first, last = (row.at - 946_684_800_000_000 for row, _ in (rows[0], rows[-1]))
    seqs = [seq for _, seq in rows]
    numbers = (rows[0][0].series_id, first, last, min(seqs), max(seqs))
    return (
        struct.pack(">h" + "iq" * 5, 6, *[part for number in numbers for part in (8, number)])
        + struct.pack(">i", len(data))
        + data
    )


def _cells(blocks: Sequence[Sequence[tuple[Row, int]]]) -> list[Any]:
    """Sums by series and hour, as columns."""
    series, hours, counts, sums, most, moments = [], [], [], [], [], []
    for rows in blocks:
        for hour, found in groupby(rows, key=lambda each: each[0].at // 3_600_000_000):
            inside = [row for row, _ in found]
            values = [row.value for row in inside]
            series.append(inside[0].series_id)
            hours.append(hour * 3_600_000_000)
            counts.append(len(values))
            sums.append(str(sum(values)))
            most.append(str(max(values)))
            moments.append(str(Decimal(sum(row.value * row.at for row in inside)) / 1_000_000))
    return [bigints(series), instants(hours), bigints(counts), *map(literal, (sums, most, moments))]


_STORE = (
    "select append_events(%s::uuid[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::uuid[],"
    " %s::numeric[], %s::text[], %s::numeric[], %s::jsonb[])"
)
_CHUNK_COLUMNS = (
    "series_ids",
    "ats",
    "identities",
    "amounts",
    "transaction_ids",
    "precise_amounts",
    "extras",
)

_TABLES = """
create sequence event_chunk_seq;
create table event_chunk (
    id bigint primary key, created_at timestamptz not null, series_ids bigint[], ats timestamptz[], identities uuid[],
    amounts numeric[], transaction_ids text[], precise_amounts numeric[], extras jsonb[]
);
create table event_hash (hash {key} primary key, series_id bigint not null, place bigint not null);
create table event_block (
    first_series bigint not null, last_series bigint not null, series_id bigint, first_at timestamptz not null,
    last_at timestamptz not null, first_seq bigint not null, last_seq bigint not null, series_ids bigint[], seqs bigint[],
    created_ats timestamptz[], ats timestamptz[], identities uuid[], amounts numeric[], transaction_ids text[],
    precise_amounts numeric[], extras jsonb[]
)
"""
_BLOCK_INDEX = "create index on event_block (series_id, last_at)"
_BLOCK_INDEX_MANY = "create index on event_block (last_series, first_series, last_at, first_at)"

_ENTER = "select enter_events(%s::uuid[], '{0}')"
_CHUNK = (
    "insert into event_chunk select nextval('event_chunk_seq'), %s, %s::bigint[], %s::timestamptz[], %s::uuid[],"
    " %s::numeric[], %s::text[], nullif(%s::numeric[], '{}'), nullif(%s::jsonb[], '{}') from entered returning id"
)
_STORE_CHUNK = f"with entered as materialized ({_ENTER}) {_CHUNK}"
_STORE_BOTH = (
    f"with entered as materialized ({_ENTER}), chunk as ({_CHUNK}) insert into event_hash"
    " select u.hash, u.series_id, c.id << 20 | u.place from chunk c,"
    " unnest(%s, %s::bigint[]) with ordinality as u (hash, series_id, place)"
)

_EARLIER = """
insert into event (series_id, at, created_at, identity, value, transaction_id)
select -n %% 400000, d.at, d.at, gen_random_uuid(), n %% 4000, md5(n::text)
from generate_series(1, %(events)s) n, lateral (select now() - interval '90 days' + n * interval '1 second' as at) d
"""
_EARLIER_HASHES = "insert into event_hash select {key}, -n, n from generate_series(1, %s) n"

_PACKED_TABLES = """
create sequence event_chunk_seq;
create table event_chunk (id bigint primary key, created_at timestamptz not null, data bytea not null);
alter table event_chunk alter data set storage external;
create table event_hash (hash bigint primary key, series_id bigint not null, place bigint not null);
create table event_block (
    series_id bigint not null, first_at timestamptz not null, last_at timestamptz not null, first_seq bigint not null,
    last_seq bigint not null, data bytea not null
);
alter table event_block alter data set storage external;
create index on event_block (series_id, last_at)
"""
_STORE_PACKED = (
    f"with entered as materialized ({_ENTER}), chunk as (insert into event_chunk"
    " select nextval('event_chunk_seq'), %s, %s from entered returning id) insert into event_hash"
    " select u.hash, u.series_id, c.id << 20 | u.place from chunk c,"
    " unnest(%s, %s::bigint[]) with ordinality as u (hash, series_id, place)"
)
_CELLS_PACKED = (
    "with hours as materialized (select series_id, starts_at, n as events_count, n as values_count, sum, max,"
    " 0::numeric as precise_amount_cents, moment"
    " from unnest(%s, %s, %s, %s::numeric[], %s::numeric[], %s::numeric[]) as u (series_id, starts_at, n, sum, max, moment)"
    "), days as" + rollup._ADD.partition("), days as")[2]
)

_FOLD_CHUNKS = """
with counted_event as materialized (
    select c.id << 20 | u.place as seq, u.series_id, u.at, c.created_at, u.identity, u.value, u.transaction_id,
        u.precise_total_amount_cents, u.extra
    from event_chunk c cross join lateral unnest(
        c.series_ids, c.ats, c.identities, c.amounts, c.transaction_ids, c.precise_amounts, c.extras
    ) with ordinality as u (series_id, at, identity, value, transaction_id, precise_total_amount_cents, extra, place)
), {blocks}, """ + rollup._ADD.format(condition="true").strip().removeprefix("with ")
_FOLD_POSTINGS = """
with counted_event as materialized (
    select e.*, e.ctid as place from event e where seq > (select rolled_up_to from metering_state)
        and not exists (select from struck_event s where s.identity = e.identity)
), postings as (
    insert into event_posting select series_id, min(at), max(at), array_agg(place) from counted_event group by series_id
), """ + rollup._ADD.format(condition="true").strip().removeprefix("with ")
_PAGE_POSTINGS = """
select e.transaction_id, e.at from unnest(%s::bigint[]) as w (id) cross join lateral (
    select * from event where ctid = any(array(
        select unnest(places) from (
            select places from event_posting where series_id = w.id order by last_at desc limit 20
        ) b
    )) order by at desc, transaction_id limit 20
) e order by e.at desc, e.transaction_id limit 20
"""
_AGGREGATES = """
    array_agg(seq), array_agg(created_at), array_agg(at), array_agg(identity), array_agg(value), array_agg(transaction_id),
    case when count(precise_total_amount_cents) > 0 then array_agg(precise_total_amount_cents) end,
    case when count(extra) > 0 then array_agg(extra) end
"""
_BLOCKS_OF_ONE = f"""
blocks as (
    insert into event_block
    select series_id, series_id, series_id, min(at), max(at), min(seq), max(seq), null, {_AGGREGATES}
    from (select * from counted_event order by series_id, at) e group by series_id
)
"""
_BLOCKS_OF_MANY = f"""
blocks as (
    insert into event_block
    select min(series_id), max(series_id), null, min(at), max(at), min(seq), max(seq), array_agg(series_id), {_AGGREGATES}
    from (select *, (row_number() over (order by series_id, at) - 1) / %(many)s as block from counted_event) e
    group by block
)
"""
_OF_SERIES = """
select u.at, u.value from event_block b cross join lateral unnest(b.ats, b.amounts) u (at, value)
where b.series_id = %(series)s and b.last_at >= %(from)s and b.first_at < %(to)s
"""
_OF_SERIES_MANY = """
select u.at, u.value from event_block b cross join lateral unnest(b.series_ids, b.ats, b.amounts) u (series_id, at, value)
where b.last_series >= %(series)s and b.first_series <= %(series)s and b.last_at >= %(from)s and b.first_at < %(to)s
    and u.series_id = %(series)s
"""
# The newest 20 events are in the 20 blocks that end last.
_PAGE = """
select e.transaction_id, e.at from unnest(%(series)s::bigint[]) as w (id) cross join lateral (
    select u.* from (
        select ats, identities, transaction_ids from event_block where series_id = w.id order by last_at desc limit 20
    ) b cross join lateral unnest(b.ats, b.identities, b.transaction_ids) u (at, identity, transaction_id)
    order by u.at desc, u.transaction_id limit 20
) e order by e.at desc, e.transaction_id limit 20
"""
_PAGE_MANY = """
select e.transaction_id, e.at from unnest(%(series)s::bigint[]) as w (id) cross join lateral (
    select u.* from event_block b
    cross join lateral unnest(b.series_ids, b.ats, b.identities, b.transaction_ids) u (series_id, at, identity, transaction_id)
    where b.last_series >= w.id and b.first_series <= w.id and u.series_id = w.id
    order by u.at desc, u.transaction_id limit 20
) e order by e.at desc, e.transaction_id limit 20
"""
