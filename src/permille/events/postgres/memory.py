"""What a process remembers of how events are stored: the metering of codes, the ids of series, the hours that are marked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from sys import getsizeof
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille import accelerator
from permille.core.metering.encoding import SeriesLayout
from permille.core.record import Record, field
from permille.events.columns import Columns, UsualEvents
from permille.events.log import KnownLayouts, Request
from permille.events.postgres import metering

_HOUR = 3_600_000_000
SERIES_BYTES = 256 * 1024**2
"""What the ids of series may take of a process's memory."""
_BYTES_OF_A_SERIES = 300
"""What remembering one takes beside its texts: tuples, the id, its place in a dictionary."""
CODES_REMEMBERED = 20_000
HOURS_REMEMBERED = 20_000
LAYOUTS_REMEMBERED = 2 * CODES_REMEMBERED
READERS_REMEMBERED = 10_000
LONG_BODY_BYTES = 256 * 1024
"""While a longer body is read, other threads go on."""


SeriesPlace = tuple[str | None, tuple[Any, ...]]


def series_bytes(place: SeriesPlace) -> int:
    """About what it takes to remember a series."""
    subscription, values = place
    return _BYTES_OF_A_SERIES + sum(map(getsizeof, (subscription, *values)))


class KnownSeries(Record):
    """The ids of a code's series under one metering: (subscription, Encoded.series) -> id.

    `ids` are those that were used lately, `older` those that were used before.
    """

    metering: SeriesLayout
    ids: dict[SeriesPlace, int] = field(default_factory=dict)
    older: dict[SeriesPlace, int] = field(default_factory=dict)
    layout: accelerator.usual.Layout | None = None
    """What has them instead of these where events are read in one pass."""

    @property
    def find(self) -> Callable[[SeriesPlace], int | None]:
        """The id of a series that was used lately."""
        return self.ids.get if self.layout is None else self.layout.get


class _Reader(Record):
    """What reads an organization's usual bodies under one version of its metering, and the codes that it was given."""

    known: KnownLayouts
    organization: accelerator.usual.Organization
    codes: set[str]


def _layout(
    table: accelerator.usual.Table, organization_id: UUID, code: str, how: SeriesLayout
) -> accelerator.usual.Layout | None:
    """A code's series in the table; None where it has more dimensions, or stranger names, than that takes."""
    try:
        return accelerator.usual.Layout(
            table, organization_id.bytes, code, how.version, how.field_name, how.keys
        )
    except ValueError:
        return None


Codes = Mapping[UUID, set[str]]
"""Organization -> codes."""
Meterings = Mapping[UUID, KnownLayouts]
"""Organization -> the metering of its codes."""


class Memory:
    """What a process remembers: the metering of codes, and the ids of series.

    Threads share it. The metering of an organization is replaced as a whole, so that nobody sees codes of two versions.
    """

    def __init__(self, series_bytes: int = SERIES_BYTES, *, is_accelerated: bool = False) -> None:
        self.meterings: dict[UUID, KnownLayouts] = {}
        self.series: dict[tuple[UUID, str, int], KnownSeries] = {}
        self.used_lately = 0
        """Bytes of the series that were used lately."""
        self.used_lately_max = series_bytes // 2
        self.hours: set[tuple[UUID, int]] = set()
        self.table = accelerator.usual.Table(series_bytes) if is_accelerated else None
        self.readers: dict[UUID, _Reader] = {}

    def series_of(self, organization_id: UUID, code: str, how: SeriesLayout) -> KnownSeries:
        """What is known of a code's series under a metering."""
        place = (organization_id, code, how.version)
        found = self.series.get(place)
        if found is not None:
            return found
        layout = None if self.table is None else _layout(self.table, organization_id, code, how)
        if layout is not None and len(self.series) >= LAYOUTS_REMEMBERED:
            self.series = {}  # the ids are in the table
        return self.series.setdefault(place, KnownSeries(how, layout=layout))

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
        """The events of a body, if all about them is usual and known."""
        known = self.meterings.get(organization_id)
        if self.table is None or known is None:
            return None
        reader = self.readers.get(organization_id)
        if reader is None or reader.known is not known:
            reader = self._reader(organization_id, known, reader)
            if len(self.readers) >= READERS_REMEMBERED:
                self.readers = {}
            self.readers[organization_id] = reader
        frees_interpreter = len(body) > LONG_BODY_BYTES
        found = reader.organization.read(body, created_at, most, is_batch, is_answered, frees_interpreter)
        if found is None:
            return None
        count, codes, series_ids, ats, identities, amounts, transaction_ids, precise, extras, answer = found
        columns = Columns(count, series_ids, ats, identities, amounts, transaction_ids, precise, extras)
        return UsualEvents(columns, codes, known.version, answer)

    def _reader(self, organization_id: UUID, known: KnownLayouts, before: _Reader | None) -> _Reader:
        """What reads bodies by this metering. Codes are added to what was there for the same version."""
        reader = _Reader(known, accelerator.usual.Organization(organization_id.bytes), set())
        if (
            before is not None
            and before.known.version == known.version
            and len(before.codes) < CODES_REMEMBERED
        ):
            reader = _Reader(known, before.organization, before.codes)
        for code in known.by_code.keys() - reader.codes:
            how = known.by_code[code]
            layout = self.series_of(organization_id, code, how).layout
            if layout is not None and how.expression is None:
                reader.organization.add(layout)
            reader.codes.add(code)
        return reader

    def recall(self, known: KnownSeries, place: SeriesPlace) -> int | None:
        """The id of a series that was not used lately, None when it is not remembered."""
        series_id = known.older.get(place)
        if series_id is not None:
            self.keep(known, place, series_id)
        return series_id

    def keep(self, known: KnownSeries, place: SeriesPlace, series_id: int) -> None:
        """Remember a series that is used. Before they take too much, those that were not used lately are forgotten."""
        if known.layout is not None:
            known.layout.keep(place, series_id)
            return
        size = series_bytes(place)
        if self.used_lately + size > self.used_lately_max:
            self.used_lately = 0
            self.series = {
                name: KnownSeries(each.metering, older=each.ids)
                for name, each in list(self.series.items())
                if each.ids
            }
        known.ids[place] = series_id
        self.used_lately += size

    def new_hours(self, requests: Sequence[Request]) -> set[tuple[UUID, int]]:
        """The organizations and hours since 1970 of these requests that are not marked yet."""
        return {(one.organization_id, one.created_at // _HOUR) for one in requests} - self.hours

    def remember(self, hours: set[tuple[UUID, int]]) -> None:
        """These hours are marked."""
        self.hours = hours | (self.hours if len(self.hours) < HOURS_REMEMBERED else set())

    def known(self, codes: Codes) -> Meterings | None:
        """The metering of these codes, None unless it is known of all of them."""
        found = {organization_id: self.meterings.get(organization_id) for organization_id in codes}
        known = {organization_id: each for organization_id, each in found.items() if each is not None}
        if len(known) < len(codes):
            return None
        return None if any(wanted - known[each].by_code.keys() for each, wanted in codes.items()) else known

    def learn(self, conn: Connection[Any], codes: Codes) -> Meterings:
        """The metering of these codes, those of an organization all of one version."""
        found = {each: known for each in codes if (known := self.meterings.get(each)) is not None}
        missing = {
            each: wanted
            for each, wanted in codes.items()
            if each not in found or wanted - found[each].by_code.keys()
        }
        if missing:
            fresh = {
                each: _joined(found.get(each), new, missing[each])
                for each, new in metering.load(conn, missing).items()
            }
            found |= fresh
            self.meterings = _bounded({**self.meterings, **fresh}, found)
        return found

    def forget(self, codes: Codes) -> None:
        """The metering of these organizations has changed."""
        self.meterings = {each: known for each, known in self.meterings.items() if each not in codes}


def _joined(old: KnownLayouts | None, new: KnownLayouts, needed: Collection[str]) -> KnownLayouts:
    """What was known of an organization and what was read just now, unless the version has changed in between."""
    if old is None or old.version != new.version:
        return new
    kept = old.by_code
    if len(kept) >= CODES_REMEMBERED:  # the older half is forgotten, but for what is needed now
        names = [*islice(kept, CODES_REMEMBERED // 2, None), *(kept.keys() & needed)]
        kept = {name: kept[name] for name in names}
    return KnownLayouts(new.version, {**kept, **new.by_code})


def _bounded(known: dict[UUID, KnownLayouts], needed: Meterings) -> dict[UUID, KnownLayouts]:
    """The same with half of the organizations, if they have too many codes together, and those that are needed now."""
    if sum(len(each.by_code) for each in known.values()) <= 2 * CODES_REMEMBERED:
        return known
    return {**dict(islice(known.items(), len(known) // 2, None)), **needed}
