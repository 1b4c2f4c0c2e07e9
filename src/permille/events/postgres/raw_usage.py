"""Usage of codes whose history is being moved to another encoding: from the events alone, whatever series they are in.

It costs as much as there are events, and is as exact as ever: one statement reads all of a code, so that an event is
seen once, whichever series it is in at that moment. Where sums are enough the database adds them up; else each event is
encoded as it is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.metering.encoding import SeriesLayout, dimensions_of, encode, is_dimension
from permille.core.metering.event import is_add, property_text, property_texts
from permille.core.metering.rule import TEXT_MAX
from permille.core.metering.usage import Operation, Partial, epoch_seconds
from permille.core.money import ZERO, exact
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.events.postgres.metering import PROPERTIES
from permille.events.usage import BEGINNING, SeriesUsage, UsageEvent, UsageQuery

_SERIES = """
from unnest(%(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[],
        %(froms)s::timestamptz[], %(tos)s::timestamptz[])
    as w (key, organization_id, external_subscription_id, code, from_at, to_at)
cross join lateral (
    select id, dimensions, value_key, value_is_text from series where organization_id = w.organization_id
        and external_subscription_id = w.external_subscription_id and code = w.code offset 0
) s
"""

_EVENTS = f"""
select w.key, e.series_id, e.identity, e.at, e.seq, e.precise_total_amount_cents, {PROPERTIES}
{_SERIES}
cross join lateral (
    select * from counted_event
    where series_id = s.id and at >= w.from_at and at < w.to_at offset 0
) e
"""

# The values of the keys are in the series or, where it is older than they are, in the event.
_SUMS = """
select w.key, s.id, s.dimensions, array[{keys}]::jsonb[] as key_values, count(*), count(e.number), coalesce(sum(e.number), 0),
    max(e.number), coalesce(sum(e.precise_total_amount_cents) filter (where e.number is not null), 0),
    coalesce(sum(e.number * extract(epoch from e.at)), 0)
{series}
cross join lateral (
    select at, extra, precise_total_amount_cents, case when s.value_key = %(field)s then value end as number
    from counted_event where series_id = s.id and at >= w.from_at and at < w.to_at offset 0
) e
group by w.key, s.id, s.dimensions, key_values
"""

_OTHER_VALUES = """
select exists (
    select from series where organization_id = %s and code = %s and value_key is distinct from %s
)
"""


class _Event(NamedTuple):
    identity: UUID
    at: datetime
    seq: int
    value: Decimal | None
    precise_amount_cents: Decimal
    properties: Mapping[str, Any]


def raw_usage(
    conn: Connection[Any],
    windows: Sequence[UsageQuery],
    meterings: Mapping[tuple[UUID, str], SeriesLayout],
    *,
    with_events: bool,
) -> list[list[SeriesUsage]]:
    """For each window what its codes among these came to, by the dimensions of their present metering.

    `with_events` the events, or where more than sums is wanted, they are read one by one.
    """
    found: list[list[SeriesUsage]] = [[] for _ in windows]
    for (organization_id, code), how in sorted(meterings.items()):
        pairs = [
            (key, window)
            for key, window in enumerate(windows)
            if window.organization_id == organization_id and code in window.codes
        ]
        plain = [] if with_events else [pair for pair in pairs if not _needs_events(pair[1], code)]
        if plain and _has_other_values(conn, organization_id, code, how):
            plain = []
        keys = {key for key, _ in plain}
        single = [pair for pair in pairs if pair[0] not in keys]
        for key, used in _summed(conn, code, how, plain) if plain else ():
            found[key].append(used)
        for key, used in _one_by_one(conn, code, how, single) if single else ():
            found[key].append(used)
    return found


def _needs_events(window: UsageQuery, code: str) -> bool:
    named = (*window.newest, *window.each_value, *window.daily)
    pairs = (*window.unique_fields, *window.operation_fields, *window.custom)
    return code in named or any(code == name for name, _ in pairs)


def _has_other_values(conn: Connection[Any], organization_id: UUID, code: str, how: SeriesLayout) -> bool:
    """Whether the number of some events is not the one that the metric takes now, or distinguishes them as well."""
    if how.value_key != how.field_name:
        return True
    row = conn.execute(_OTHER_VALUES, [organization_id, code, how.value_key]).fetchone()
    return bool(row and row[0])


def _summed(
    conn: Connection[Any], code: str, how: SeriesLayout, pairs: Sequence[tuple[int, UsageQuery]]
) -> Iterable[tuple[int, SeriesUsage]]:
    names = {f"key_{n}": name for n, name in enumerate(how.keys)}
    statement = _SUMS.format(
        series=_SERIES, keys=", ".join(f"e.extra -> %({place})s::text" for place in names)
    )
    windows = dict(pairs)
    for key, series_id, dimensions, key_values, *sums in conn.execute(
        statement.encode(), _parameters(code, pairs) | names | {"field": how.value_key}
    ):
        properties = {
            name: value for name, value in zip(how.keys, key_values, strict=True) if is_dimension(value)
        }
        properties |= {name: dimensions[name] for name in how.keys if name in dimensions}
        partial = windows[key].partial_of(Partial(*sums))
        used = SeriesUsage(
            series_id=series_id, code=code, dimensions=property_texts(properties), partial=partial
        )
        yield key, used


def _one_by_one(
    conn: Connection[Any], code: str, how: SeriesLayout, pairs: Sequence[tuple[int, UsageQuery]]
) -> Iterable[tuple[int, SeriesUsage]]:
    read: dict[tuple[int, tuple[Any, ...]], list[_Event]] = defaultdict(list)
    series: dict[tuple[int, tuple[Any, ...]], int] = {}
    windows = dict(pairs)
    for key, series_id, identity, at, seq, precise, properties in conn.execute(
        _EVENTS, _parameters(code, pairs)
    ):
        encoded = encode(how, properties)
        value = None if encoded.value is None else Decimal(encoded.value)
        place = key, encoded.series[:-1]
        series[place] = series_id
        read[place].append(_Event(identity, at, seq, value, precise or ZERO, properties))
    for place, events in read.items():
        key, values = place
        yield (
            key,
            SeriesUsage(
                series_id=series[place],
                code=code,
                dimensions=property_texts(dimensions_of(how, values)),
                partial=_partial(windows[key], code, events),
                events=tuple(UsageEvent(each.at, each.identity, each.value is not None) for each in events),
            ),
        )


def _parameters(code: str, pairs: Sequence[tuple[int, UsageQuery]]) -> dict[str, Any]:
    return {
        "keys": int_array(key for key, _ in pairs),
        "organizations": uuid_array(window.organization_id for _, window in pairs),
        "subscriptions": text_array(window.external_subscription_id for _, window in pairs),
        "codes": text_array(code for _ in pairs),
        "froms": instant_array(window.from_ or BEGINNING for _, window in pairs),
        "tos": instant_array(window.to for _, window in pairs),
    }


def _partial(window: UsageQuery, code: str, events: Sequence[_Event]) -> Partial:
    """What store.usage makes of cells and events, of these events alone."""
    valued = sorted((each.at, each.seq, each.value) for each in events if each.value is not None)
    with exact():
        partial = window.partial_of(
            Partial(
                len(events),
                len(valued),
                sum((value for _, _, value in valued), ZERO),
                max((value for _, _, value in valued), default=None),
                sum((each.precise_amount_cents for each in events if each.value is not None), ZERO),
                sum((value * epoch_seconds(at) for at, _, value in valued), ZERO),
            )
        )
    if code in window.newest and valued:
        partial = partial._replace(last=valued[-1])
    if code in window.each_value or code in window.daily:
        partial = partial._replace(values=tuple(valued))
    fields = dict(window.unique_fields)
    if code in fields:
        operations = _operations(events, fields[code])
        partial = partial._replace(
            uniques={text: (at, seq, is_add) for at, seq, text, is_add in operations},
            operations=tuple(operations) if code in dict(window.operation_fields) else (),
        )
    names = dict(window.custom).get(code)
    if names is not None:
        partial = partial._replace(custom_events=(tuple(_custom(events, names)),))
    return partial


def _operations(events: Iterable[_Event], field_name: str) -> list[Operation]:
    """In the order of time, then of arrival: the last of a value is the one that counts."""
    found = []
    for each in events:
        adds = is_add(property_text(each.properties.get("operation_type")))
        if adds is not None:
            found.append((each.at, each.seq, property_text(each.properties.get(field_name)), adds))
    return sorted(found, key=lambda operation: operation[:2])


def _custom(
    events: Iterable[_Event], names: Sequence[str]
) -> Iterable[tuple[datetime, int, tuple[str | None, ...]]]:
    for each in events:
        texts = [property_text(each.properties.get(name)) for name in names]
        cut = tuple([None if text is None else text[: TEXT_MAX + 1] for text in texts])
        yield each.at, each.seq, cut
