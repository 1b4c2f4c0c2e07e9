"""The versions of the price catalogue of organizations, and the prices that hold for each by them.

Files never change, so what was read of them is remembered by their digests: a look costs one small statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.llm.catalogue.effective import DatedCatalogue, EffectiveCatalogue
from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.sources import SOURCES
from permille.core.record import Record, names_of
from permille.ids import new_id
from permille.store import price_files, shipped_prices

BY_ITSELF = "Permille"
"""Who imports what is shipped, and approves the first version and what is within the bound."""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by key, the newest so many: what is made of files takes a while to read, and never changes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[Key, Value] = {}
        self._lock = Lock()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key; the first time it is made."""
        found = self._values.get(key)
        if found is None:
            with self._lock:
                found = self._values.get(key)
                if found is None:
                    found = self._values[key] = make()
                    while len(self._values) > self._limit:
                        del self._values[next(iter(self._values))]
        return found


class CatalogueVersion(Record, kw_only=True):
    """A price file in an organization: pending, or approved and valid from a UTC date on; None: always."""

    id: UUID
    organization_id: UUID
    digest: bytes
    source: str
    label: str
    created_at: datetime
    imported_by: str
    approved_at: datetime | None = None
    approved_by: str | None = None
    approval: int | None = None
    """The place in the order of approvals."""
    valid_from: date | None = None
    accepted_outliers: Sequence[str] = ()


class _Approved(NamedTuple):
    """An approved version, as what holds is made of it."""

    source: str
    digest: bytes
    label: str
    valid_from: date | None


_COLUMNS = ", ".join(names_of(CatalogueVersion))
_catalogues: Remembered[tuple[bytes, str], Catalogue] = Remembered(64)
_effective: Remembered[tuple[_Approved, ...], EffectiveCatalogue] = Remembered(1_024)


def catalogue_of(conn: Connection[Any], organization_id: UUID) -> EffectiveCatalogue:
    """The prices that hold for an organization. All that needs prices asks here."""
    return catalogues_of(conn, [organization_id])[organization_id]


def catalogues_of(
    conn: Connection[Any], organization_ids: Collection[UUID]
) -> dict[UUID, EffectiveCatalogue]:
    """Organization -> the prices that hold for it, by one statement."""
    rows = conn.execute(
        "select organization_id, source, digest, label, valid_from from catalogue_version"
        " where organization_id = any(%s) and approval is not null order by organization_id, approval",
        [list(organization_ids)],
    ).fetchall()
    approved: dict[UUID, list[_Approved]] = defaultdict(list)
    for organization_id, *version in rows:
        approved[organization_id].append(_Approved(*version))
    return {each: _of_versions(conn, tuple(approved[each])) for each in organization_ids}


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[CatalogueVersion], int]:
    """A page of the versions, newest first, and how many there are."""
    found = _select(
        conn,
        "organization_id = %s order by created_at desc, id desc limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(
        "select count(*) from catalogue_version where organization_id = %s", [organization_id]
    ).fetchone()
    return found, row[0] if row else 0


def by_id(conn: Connection[Any], organization_id: UUID, version_id: UUID) -> CatalogueVersion | None:
    found = _select(conn, "organization_id = %s and id = %s", [organization_id, version_id])
    return found[0] if found else None


def of_file(conn: Connection[Any], organization_id: UUID, digest: bytes) -> CatalogueVersion | None:
    """The newest version of a file."""
    found = _select(
        conn,
        "organization_id = %s and digest = %s order by created_at desc, id desc limit 1",
        [organization_id, digest],
    )
    return found[0] if found else None


def approved_last(conn: Connection[Any], organization_id: UUID, source: str) -> CatalogueVersion | None:
    """The version of a source that was approved last."""
    found = _select(
        conn,
        "organization_id = %s and source = %s and approval is not null order by approval desc limit 1",
        [organization_id, source],
    )
    return found[0] if found else None


def add(conn: Connection[Any], version: CatalogueVersion) -> None:
    """Store a pending version, whose file is kept."""
    conn.execute(
        "insert into catalogue_version (id, organization_id, digest, source, label, created_at, imported_by)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        [
            version.id,
            version.organization_id,
            version.digest,
            version.source,
            version.label,
            version.created_at,
            version.imported_by,
        ],
    )


def approve(conn: Connection[Any], version: CatalogueVersion) -> None:
    """Store that a pending version is approved, after all that were approved before."""
    conn.execute(
        "update catalogue_version set approved_at = %s, approved_by = %s, valid_from = %s, accepted_outliers = %s,"
        " approval = (select coalesce(max(approval), 0) + 1 from catalogue_version where organization_id = %s)"
        " where id = %s",
        [
            version.approved_at,
            version.approved_by,
            version.valid_from,
            list(version.accepted_outliers),
            version.organization_id,
            version.id,
        ],
    )


def delete(conn: Connection[Any], version_id: UUID) -> None:
    """Delete a pending version, and its file where no other version has it."""
    gone = conn.execute(
        "delete from catalogue_version where id = %s and approval is null returning digest", [version_id]
    ).fetchone()
    if gone is not None:
        price_files.forget(conn, gone[0])


def kept(conn: Connection[Any], organization_id: UUID) -> tuple[int, int]:
    """How many versions an organization has, and the bytes of their files."""
    row = conn.execute(
        "select count(*), coalesce(sum(f.size), 0)::bigint"
        " from catalogue_version v join price_file f on f.digest = v.digest where v.organization_id = %s",
        [organization_id],
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[CatalogueVersion]:
    with conn.cursor(row_factory=class_row(CatalogueVersion)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from catalogue_version where {condition}", values
        ).fetchall()


def _of_versions(conn: Connection[Any], approved: tuple[_Approved, ...]) -> EffectiveCatalogue:
    """What holds by versions in the order of their approvals: the same object each time."""
    return _effective.get(approved, lambda: _make(conn, approved or (_shipped(),)))


def _make(conn: Connection[Any], approved: Sequence[_Approved]) -> EffectiveCatalogue:
    by_source = [
        [
            DatedCatalogue(read(conn, each.digest, each.label), each.valid_from)
            for each in approved
            if each.source == source
        ]
        for source in SOURCES
    ]
    return EffectiveCatalogue(tuple(map(tuple, by_source)))


def _shipped() -> _Approved:
    """What an organization has that was made without the file that was shipped then."""
    file = shipped_prices.price_file()
    return _Approved(file.source, file.digest, shipped_prices.name(), None)


def read(conn: Connection[Any], digest: bytes, label: str) -> Catalogue:
    """What is in a file that is kept."""
    if (digest, label) == (shipped_prices.price_file().digest, shipped_prices.name()):
        return shipped_prices.catalogue()
    return _catalogues.get((digest, label), lambda: price_files.by_digest(conn, digest).read(label))


def adopt_shipped(
    conn: Connection[Any], organization_ids: Collection[UUID] | None = None, *, now: datetime
) -> set[UUID]:
    """Give the file that comes with this release to organizations that never had it, or to all that there are.

    It is pending, and approved where it is the first version. Answers the organizations where it is pending.
    """
    file = shipped_prices.price_file()
    lacking = conn.execute(_LACKING, {"digest": file.digest, "ids": _ids(organization_ids)}).fetchall()
    if not lacking:
        return set()
    price_files.add(conn, file, now=now)
    rows = conn.execute(
        _ADOPT,
        {
            "ids": [new_id(now) for _ in lacking],
            "organizations": [organization_id for organization_id, _ in lacking],
            "are_first": [is_first for _, is_first in lacking],
            "digest": file.digest,
            "source": file.source,
            "label": shipped_prices.name(),
            "now": now,
            "who": BY_ITSELF,
        },
    ).fetchall()
    return {organization_id for organization_id, is_pending in rows if is_pending}


def _ids(organization_ids: Collection[UUID] | None) -> list[UUID] | None:
    return None if organization_ids is None else list(organization_ids)


_LACKING = """
select o.id, not exists (select from catalogue_version v where v.organization_id = o.id and v.approval is not null)
from organization o
where (%(ids)s::uuid[] is null or o.id = any(%(ids)s))
and not exists (select from catalogue_version v where v.organization_id = o.id and v.digest = %(digest)s)
"""
_ADOPT = """
insert into catalogue_version
    (id, organization_id, digest, source, label, created_at, imported_by, approved_at, approved_by, approval)
select n.id, n.organization_id, %(digest)s, %(source)s, %(label)s, %(now)s, %(who)s,
    case when n.is_first then %(now)s end, case when n.is_first then %(who)s end, case when n.is_first then 1 end
from unnest(%(ids)s::uuid[], %(organizations)s::uuid[], %(are_first)s::bool[]) as n (id, organization_id, is_first)
on conflict do nothing
returning organization_id, approval is null
"""
