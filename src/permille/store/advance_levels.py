"""How far what is paid in advance has come: the levels of a charge in a period, kept so that a fee need not be
reckoned from all events of the period. They are a shortcut and nothing more: any row may be deleted at any time.

A row holds only under its stamp, the digest of all that its levels depend on besides the events up to its mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.rating.charge import Place
from permille.core.rating.level import LevelState
from permille.core.record import Record, asdict, names_of
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json

_FIND = """
select w.key, l.stamp, l.until_seq, l.events_count, l.levels
from unnest(%(keys)s::int[], %(subscriptions)s::uuid[], %(charges)s::uuid[], %(froms)s::timestamptz[],
        %(tos)s::timestamptz[])
    as w (key, subscription_id, charge_id, from_at, to_at)
left join advance_level l using (subscription_id, charge_id, from_at, to_at)
"""

_KEEP = """
insert into advance_level (subscription_id, charge_id, from_at, to_at, stamp, until_seq, events_count, levels)
select * from unnest(%(subscriptions)s::uuid[], %(charges)s::uuid[], %(froms)s::timestamptz[], %(tos)s::timestamptz[],
    %(stamps)s::uuid[], %(untils)s::bigint[], %(counts)s::bigint[], %(levels)s::jsonb[])
on conflict (subscription_id, charge_id, from_at, to_at) do update
set stamp = excluded.stamp, until_seq = excluded.until_seq, events_count = excluded.events_count,
    levels = excluded.levels
"""

_FIELDS = names_of(LevelState)
"""Part of the stamp: levels that were kept without one of them do not hold."""

# Late events may still come for the period before this one.
_FORGET = """
delete from advance_level l
using unnest(%(subscriptions)s::uuid[], %(charges)s::uuid[], %(froms)s::timestamptz[])
    as w (subscription_id, charge_id, from_at)
where l.subscription_id = w.subscription_id and l.charge_id = w.charge_id and l.to_at < w.from_at
"""


class LevelKey(Record, kw_only=True):
    """Whose levels, and the text of all terms that they depend on."""

    organization_id: UUID
    external_subscription_id: str
    code: str
    subscription_id: UUID
    charge_id: UUID
    from_: datetime
    to: datetime
    terms: str


class KeptLevels(Record, kw_only=True):
    """What the levels had reached after the events up to `until_seq`; nothing (0) where none are kept."""

    stamp: UUID
    until_seq: int = 0
    events_count: int = 0
    """How many events that was."""
    levels: Mapping[Place, LevelState]


def find(conn: Connection[Any], wanted: Sequence[LevelKey], revisions: Sequence[str]) -> list[KeptLevels]:
    """For each key what is kept under its stamp as it is now; `revisions` are those of their events."""
    stamps = [_stamp(key.terms, revision) for key, revision in zip(wanted, revisions, strict=True)]
    found = [KeptLevels(stamp=stamp, levels={}) for stamp in stamps]
    rows = conn.execute(_FIND, {"keys": int_array(range(len(wanted))), **_places(wanted)})
    for key, stamp, until_seq, events_count, levels in rows:
        if stamp == stamps[key]:
            found[key] = KeptLevels(
                stamp=stamp, until_seq=until_seq, events_count=events_count, levels=dict(map(_read, levels))
            )
    return found


def keep(conn: Connection[Any], reached: Sequence[tuple[LevelKey, KeptLevels]]) -> None:
    """Write them in the place of what was kept before."""
    keys = [key for key, _ in reached]
    conn.execute(
        _KEEP,
        {
            **_places(keys),
            "stamps": uuid_array(each.stamp for _, each in reached),
            "untils": int_array(each.until_seq for _, each in reached),
            "counts": int_array(each.events_count for _, each in reached),
            "levels": text_array(exact_json(list(map(_written, each.levels.items()))) for _, each in reached),
        },
    )
    conn.execute(_FORGET, _places(keys))


def _places(keys: Sequence[LevelKey]) -> dict[str, Any]:
    return {
        "subscriptions": uuid_array(each.subscription_id for each in keys),
        "charges": uuid_array(each.charge_id for each in keys),
        "froms": instant_array(each.from_ for each in keys),
        "tos": instant_array(each.to for each in keys),
    }


def _stamp(terms: str, revision: str) -> UUID:
    return UUID(bytes=hashlib.blake2b(f"{revision} {terms}".encode(), digest_size=16).digest())


def _written(item: tuple[Place, LevelState]) -> list[Any]:
    (bucket, group), reached = item
    return [bucket, group, {**asdict(reached), "there": _sorted(reached.there)}]


def _sorted(texts: Iterable[str | None]) -> list[str | None]:
    return sorted(texts, key=lambda text: (text is None, text or ""))


def _read(item: list[Any]) -> tuple[Place, LevelState]:
    bucket, group, kept = item
    numbers = ("units", "highest", "prorated", "precise_amount_cents", "amount", "highest_amount")
    return (bucket, tuple((key, value) for key, value in group)), LevelState(
        **kept
        | {name: Decimal(kept[name]) for name in numbers}
        | {
            "first_values": tuple(map(Decimal, kept["first_values"])),
            "there": frozenset(kept["there"]),
        }
    )
