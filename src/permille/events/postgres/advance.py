"""Events of what is paid in advance: those that wait for their fee, and those that a fee is priced by."""

from __future__ import annotations

from collections.abc import Container, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.encoding import SeriesLayout, dimensions_of, encode
from permille.core.metering.event import is_add, property_text, property_texts
from permille.core.metering.usage import AdvanceEvent
from permille.core.record import replace
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json
from permille.events.postgres.custom_usage import texts_of
from permille.events.postgres.metering import PROPERTIES, being_rebuilt
from permille.events.usage import AdvanceWindow

_WINDOWS = """
with w as materialized (
    select * from unnest(%(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[],
            %(fields)s::text[], %(names)s::jsonb[], %(froms)s::timestamptz[], %(tos)s::timestamptz[],
            %(afters)s::bigint[], %(untils)s::bigint[], %(rebuilt)s::boolean[])
        as w (key, organization_id, external_subscription_id, code, field_name, names, from_at, to_at, after_seq,
            until_seq, is_rebuilt)
), wanted as materialized (
    select w.*, s.* from w cross join lateral (
        select id, dimensions, value_key, value_is_text from series where organization_id = w.organization_id
            and external_subscription_id = w.external_subscription_id and code = w.code offset 0
    ) s
)
"""

# While a code's history is moved to another encoding, its series do not hold everything: then the event does.
_EVENT_COLUMNS = f"""
select s.key, e.seq, e.at, e.value, coalesce(e.precise_total_amount_cents, 0), s.dimensions,
    coalesce(e.extra ->> s.field_name, s.dimensions ->> s.field_name),
    coalesce(e.extra ->> 'operation_type', s.dimensions ->> 'operation_type', 'add'),
    case when s.names <> '[]' then {texts_of("s")} else '{{}}' end,
    case when s.is_rebuilt then {PROPERTIES} end
"""

_BY_SERIES = f"""
{_WINDOWS}
{_EVENT_COLUMNS}
from wanted s cross join lateral (
    select seq, at, value, precise_total_amount_cents, extra from counted_event
    where series_id = s.id and at >= s.from_at and at < s.to_at and seq > s.after_seq and seq <= s.until_seq offset 0
) e
order by s.key, e.seq
"""

# "id + 0" keeps the planner from walking through all events of a series to find the few new ones.
_BY_ARRIVAL = f"""
{_WINDOWS}
, tail as materialized (
    select series_id, seq, at, value, precise_total_amount_cents, extra from counted_event
    where seq > %(least)s and seq <= %(most)s and (series_id + 0) in (select id from wanted)
)
{_EVENT_COLUMNS}
from wanted s join tail e on e.series_id = s.id
    and e.at >= s.from_at and e.at < s.to_at and e.seq > s.after_seq and e.seq <= s.until_seq
order by s.key, e.seq
"""


def events_of(conn: Connection[Any], windows: Sequence[AdvanceWindow]) -> list[list[AdvanceEvent]]:
    """The events of each window in the order of arrival.

    They are looked for among all that arrived since a window's first, or among all of its period: where fewer are.
    """
    found: list[list[AdvanceEvent]] = [[] for _ in windows]
    rebuilt = being_rebuilt(conn, {each.organization_id for each in windows})
    last = _last_seq(conn)
    since = [min(each.until_seq, last) - each.after_seq for each in windows]
    near = [key for key, each in enumerate(windows) if since[key] <= each.passed]
    far = [key for key, each in enumerate(windows) if since[key] > each.passed]
    for statement, keys in ((_BY_SERIES, far), (_BY_ARRIVAL, near)):
        if not keys:
            continue
        if statement is _BY_ARRIVAL:
            conn.execute("select set_config('enable_seqscan', 'off', true)")
        for row in conn.execute(statement, _parameters(windows, keys, rebuilt)):
            window = windows[row[0]]
            how = rebuilt.get((window.organization_id, window.code))
            found[row[0]].append(_event(row) if how is None else _event_encoded_again(row, window, how))
    return found


def _last_seq(conn: Connection[Any]) -> int:
    """The highest number of an event: all that have arrived have at most this one."""
    row = conn.execute("select last_value from event_seq_seq").fetchone()
    assert row is not None, "a sequence has its one row"
    return int(row[0])


def _parameters(
    windows: Sequence[AdvanceWindow], keys: Sequence[int], rebuilt: Container[tuple[UUID, str]]
) -> dict[str, Any]:
    chosen = [windows[key] for key in keys]
    return {
        "keys": int_array(keys),
        "organizations": uuid_array(each.organization_id for each in chosen),
        "subscriptions": text_array(each.external_subscription_id for each in chosen),
        "codes": text_array(each.code for each in chosen),
        "fields": [each.field_name for each in chosen],
        "names": text_array(exact_json(each.names) for each in chosen),
        "froms": instant_array(each.from_ for each in chosen),
        "tos": instant_array(each.to for each in chosen),
        "afters": int_array(each.after_seq for each in chosen),
        "untils": int_array(each.until_seq for each in chosen),
        "rebuilt": [(each.organization_id, each.code) in rebuilt for each in chosen],
        "least": min(each.after_seq for each in chosen),
        "most": max(each.until_seq for each in chosen),
    }


def _event(row: tuple[Any, ...]) -> AdvanceEvent:
    _, seq, at, value, precise, dimensions, text, operation, texts, _ = row
    return AdvanceEvent(
        seq=seq,
        at=at,
        dimensions=property_texts(dimensions),
        value=value,
        text=text,
        is_add=is_add(operation),
        precise_amount_cents=precise,
        texts=tuple(texts),
    )


def _event_encoded_again(row: tuple[Any, ...], window: AdvanceWindow, metering: SeriesLayout) -> AdvanceEvent:
    """As the present metering takes it, whatever the series it is in."""
    properties = row[-1]
    encoded = encode(metering, properties)
    return replace(
        _event(row),
        dimensions=property_texts(dimensions_of(metering, encoded.series[:-1])),
        value=None if encoded.value is None else Decimal(encoded.value),
        text=property_text(properties.get(window.field_name or "")),
    )
