"""Sums of usage by kind: for whole organizations at once, of which many subscriptions use the same few models.

Each kind is one row with arrays of its sums, so that the cost of reading it is hardly one of rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.encoding import SeriesLayout
from permille.core.metering.event import property_texts
from permille.core.money import exact
from permille.core.record import replace
from permille.events.postgres.metering import being_rebuilt, under_one_version
from permille.events.postgres.raw_usage import raw_usage
from permille.events.postgres.usage import (
    PARTS,
    WANTED,
    down_month,
    is_cut_late,
    pieces_of,
    scope,
    under_one_mark,
    up_month,
    without,
)
from permille.events.usage import Cut, KindUsage, UsageQuery

Rebuilt = Mapping[tuple[UUID, str], SeriesLayout]

# Kinds are numbered before anything is added up by them: their dimensions are compared once for a series. The full joins
# are as in usage.py.
_KINDS = (
    WANTED
    + PARTS
    + """
, kind as materialized (
    select d.dimensions, coalesce((
        select jsonb_object_agg(name, d.dimensions -> name) from unnest(%(names)s::text[]) as name
        where d.dimensions ? name
    ), '{}') as read
    from (select distinct dimensions from wanted) d
), numbered as materialized (
    select dimensions, read, dense_rank() over (order by read) as kind from kind
), placed as materialized (
    select w.key, w.series_id, w.code, n.kind from wanted w full join numbered n on n.dimensions = w.dimensions
), summed as (
    select g.number, w.code, w.kind, sum(g.sign * p.events_count)::bigint as events_count,
        sum(g.sign * p.values_count)::bigint as values_count, sum(g.sign * p.sum) as sum
    from part p
    full join placed w on w.key = p.key and w.series_id = p.series_id
    join unnest(%(bound_keys)s::int[], %(groups)s::int[], %(signs)s::int[]) as g (key, number, sign)
        on g.key = coalesce(p.key, -1)
    group by g.number, w.code, w.kind having sum(g.sign * p.events_count) > 0
), shown as (
    select code, kind, array_agg(number) as numbers, array_agg(events_count) as events_counts,
        array_agg(values_count) as values_counts, array_agg(sum) as sums
    from summed group by code, kind
)
select s.*, m.rolled_up_to from metering_state m left join (
    select s.code, n.read, s.numbers, s.events_counts, s.values_counts, s.sums from shown s
    join (select distinct kind, read from numbered) n on n.kind = s.kind
) s on true
"""
)


@dataclass(slots=True)
class _Variant:
    """Windows of a group with the same mark and the same cut."""

    group: int
    mark: tuple[str, str] | None
    cut: Cut | None = None
    """Where they were read whole, although it matters to some kinds."""
    whole: list[UsageQuery] = field(default_factory=list)


def usage_of_kinds(
    conn: Connection[Any], windows: Sequence[UsageQuery], groups: Sequence[int], names: Sequence[str]
) -> list[KindUsage]:
    """The sums of windows, added up by the texts of these properties and by the group of each window; as exact."""
    if not windows:
        return []
    organization_ids = {window.organization_id for window in windows}

    def read() -> list[KindUsage]:
        rebuilt = being_rebuilt(conn, organization_ids)
        parts: list[tuple[UsageQuery, _Variant]] = []
        variants: dict[Any, _Variant] = {}
        for window, group in zip(windows, groups, strict=True):
            is_late = is_cut_late(window, rebuilt)
            for part in window.apart(() if is_late else None):
                cut = window.cut if is_late else None
                variant = variants.setdefault((group, part.mark, id(cut)), _Variant(group, part.mark, cut))
                variant.whole.append(window)
                parts.append((part, variant))
        found: list[KindUsage] = []
        cut_at: dict[frozenset[date], dict[int, _Variant]] = defaultdict(dict)
        for kind, of in _read(conn, parts, rebuilt, names):
            whole = []
            dates_of: dict[int, frozenset[date]] = {}
            for place, variant in enumerate(of):
                dates = dates_of.get(id(variant.cut))
                if dates is None:
                    dates = dates_of[id(variant.cut)] = _dates(variant.cut, kind)
                if dates:
                    cut_at[dates][id(variant)] = variant
                else:
                    whole.append(place)
            found += _by_mark(kind, of, whole)
        for dates, several in cut_at.items():
            again = [
                (part, _Variant(variant.group, part.mark, variant.cut))
                for variant in several.values()
                for window in variant.whole
                for part in window.apart(dates)
            ]
            for kind, of in _read(conn, again, rebuilt, names):
                asked = [place for place, variant in enumerate(of) if _dates(variant.cut, kind) == dates]
                found += _by_mark(kind, of, asked)
        return found

    return under_one_version(conn, organization_ids, read)


def _dates(cut: Cut | None, kind: KindUsage) -> frozenset[date]:
    """The dates that matter to a kind."""
    return cut.dates_of(kind.dimensions) if cut else frozenset()


def _by_mark(kind: KindUsage, of: Sequence[_Variant], places: Sequence[int]) -> Iterable[KindUsage]:
    """Some places of a kind, whose variants are these, by their marks and with their groups."""
    by_mark: dict[tuple[str, str] | None, list[int]] = defaultdict(list)
    for place in places:
        by_mark[of[place].mark].append(place)
    for mark, own in by_mark.items():
        yield KindUsage(
            kind.code,
            {**kind.dimensions, mark[0]: mark[1]} if mark else kind.dimensions,
            [of[place].group for place in own],
            [kind.events_counts[place] for place in own],
            [kind.values_counts[place] for place in own],
            [kind.sums[place] for place in own],
        )


def _read(
    conn: Connection[Any],
    parts: Sequence[tuple[UsageQuery, _Variant]],
    rebuilt: Rebuilt,
    names: Sequence[str],
) -> Iterable[tuple[KindUsage, list[_Variant]]]:
    """The kinds of parts, each with the variant that each of its sums is of."""
    variants = list({id(variant): variant for _, variant in parts}.values())
    number_of = {id(variant): number for number, variant in enumerate(variants)}
    windows, numbers = [part for part, _ in parts], [number_of[id(variant)] for _, variant in parts]
    kept = [without(window, rebuilt) for window in windows] if rebuilt else windows
    added = [
        (sign, number, each)
        for number, window in zip(numbers, kept, strict=True)
        for sign, each in signed(window)
    ]
    read = [each for _, _, each in added]
    parameters = scope(read, lambda window: window.codes) | pieces_of((each.from_, each.to) for each in read)
    parameters |= {"groups": [number for _, number, _ in added], "signs": [sign for sign, _, _ in added]}
    rows = under_one_mark(conn, _KINDS, {**parameters, "names": list(names)})
    kinds = [KindUsage(code, property_texts(kind), *columns) for code, kind, *columns, _ in rows]
    if rebuilt:
        kinds += _raw_kinds(conn, windows, rebuilt, numbers, names)
    for kind in kinds:
        yield kind, [variants[number] for number in kind.groups]


def signed(window: UsageQuery) -> list[tuple[int, UsageQuery]]:
    """The window; or, where that is less to read, it with its whole last month, less what the window leaves of it."""
    first, end = down_month(window.to.astimezone(UTC)), up_month(window.to.astimezone(UTC))
    start = first if window.from_ is None else max(first, window.from_)
    if window.to >= end or (start - first) + (end - window.to) >= window.to - start:
        return [(1, window)]
    before = [(-1, replace(window, from_=first, to=start))] if start > first else []
    whole = replace(window, from_=first if before else window.from_, to=end)
    return [(1, whole), *before, (-1, replace(window, from_=window.to, to=end))]


def _raw_kinds(
    conn: Connection[Any],
    windows: Sequence[UsageQuery],
    rebuilt: Rebuilt,
    groups: Sequence[int],
    names: Collection[str],
) -> list[KindUsage]:
    """The same of codes whose cells are being built."""
    found: dict[Any, dict[int, tuple[int, int, Decimal]]] = defaultdict(dict)
    with exact():
        for group, used in zip(groups, raw_usage(conn, windows, rebuilt, with_events=False), strict=True):
            for each in used:
                read = tuple(sorted((name, text) for name, text in each.dimensions.items() if name in names))
                events, values, total = found[each.code, read].get(group, (0, 0, Decimal(0)))
                partial = each.partial
                found[each.code, read][group] = (
                    events + partial.events_count,
                    values + partial.values_count,
                    total + partial.sum,
                )
    return [
        KindUsage(code, dict(read), list(own), *map(list, zip(*own.values(), strict=True)))
        for (code, read), own in found.items()
    ]
