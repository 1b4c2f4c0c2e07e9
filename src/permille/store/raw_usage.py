"""Usage of codes whose history is being moved to another encoding: from the events alone, each encoded as it is read.

It costs as much as there are events, and is as exact as ever: one statement reads them all, so that an event is seen
once, whichever series it is in at that moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.encoding import Metering, dimensions_of, encode
from permille.core.event import property_text
from permille.core.money import ZERO, exact
from permille.core.rule import TEXT_MAX
from permille.core.usage import Operation, Partial, epoch_seconds, standing_at
from permille.store.bulk import instant_array, int_array, text_array, uuid_array
from permille.store.metering import PROPERTIES
from permille.store.window import BEGINNING, SeriesUsage, ToldEvent, Window

_EVENTS = f"""
select w.key, s.code, e.series_id, e.identity, e.at, e.seq, e.precise_total_amount_cents, {PROPERTIES}
from unnest(%(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[],
        %(froms)s::timestamptz[], %(tos)s::timestamptz[])
    as w (key, organization_id, external_subscription_id, code, from_at, to_at)
cross join lateral (
    select id, code, dimensions, value_key, value_is_text from series where organization_id = w.organization_id
        and external_subscription_id = w.external_subscription_id and code = w.code offset 0
) s
cross join lateral (
    select * from counted_event
    where series_id = s.id and at >= w.from_at and at < w.to_at offset 0
) e
"""

_IS_ADD = {"add": True, "remove": False}


class _Event(NamedTuple):
    identity: UUID
    at: datetime
    seq: int
    value: Decimal | None
    precise_amount_cents: Decimal
    properties: Mapping[str, Any]


def raw_usage(
    conn: Connection[Any], windows: Sequence[Window], meterings: Mapping[tuple[UUID, str], Metering]
) -> list[list[SeriesUsage]]:
    """For each window what its codes among these came to, by the dimensions of their present metering."""
    pairs = [
        (key, window, code)
        for key, window in enumerate(windows)
        for code in window.codes
        if (window.organization_id, code) in meterings
    ]
    found: list[list[SeriesUsage]] = [[] for _ in windows]
    if not pairs:
        return found
    told: dict[tuple[int, str, tuple[Any, ...]], list[_Event]] = defaultdict(list)
    series: dict[tuple[int, str, tuple[Any, ...]], int] = {}
    for key, code, series_id, identity, at, seq, precise, properties in conn.execute(
        _EVENTS, _parameters(pairs)
    ):
        encoded = encode(meterings[windows[key].organization_id, code], properties)
        value = None if encoded.value is None else Decimal(encoded.value)
        place = key, code, encoded.series[:-1]
        series[place] = series_id
        told[place].append(_Event(identity, at, seq, value, precise or ZERO, properties))
    for place, events in sorted(told.items(), key=lambda each: repr(each[0])):
        key, code, values = place
        how = meterings[windows[key].organization_id, code]
        dimensions = dimensions_of(how, values)
        found[key].append(
            SeriesUsage(
                series_id=series[place],
                code=code,
                dimensions={name: property_text(value) for name, value in dimensions.items()},
                partial=_partial(windows[key], code, events),
                told=tuple(ToldEvent(each.at, each.identity, each.value is not None) for each in events),
            )
        )
    return found


def _parameters(pairs: Sequence[tuple[int, Window, str]]) -> dict[str, Any]:
    return {
        "keys": int_array(key for key, _, _ in pairs),
        "organizations": uuid_array(window.organization_id for _, window, _ in pairs),
        "subscriptions": text_array(window.external_subscription_id for _, window, _ in pairs),
        "codes": text_array(code for _, _, code in pairs),
        "froms": instant_array(window.from_ or BEGINNING for _, window, _ in pairs),
        "tos": instant_array(window.to for _, window, _ in pairs),
    }


def _partial(window: Window, code: str, events: Sequence[_Event]) -> Partial:
    """What store.usage makes of cells and events, of these events alone."""
    valued = sorted((each.at, each.seq, each.value) for each in events if each.value is not None)
    with exact():
        partial = Partial(
            events_count=len(events),
            values_count=len(valued),
            sum=sum((value for _, _, value in valued), ZERO),
            moment=sum((value * epoch_seconds(at) for at, _, value in valued), ZERO),
            max=max((value for _, _, value in valued), default=None),
            precise_amount_cents=sum(
                (each.precise_amount_cents for each in events if each.value is not None), ZERO
            ),
        )
    if window.is_standing:
        partial = standing_at(partial, window.to)
    if code in window.newest and valued:
        partial = replace(partial, last=valued[-1])
    if code in window.each_value or code in window.daily:
        partial = replace(partial, values=tuple(valued))
    fields = dict(window.unique_fields)
    if code in fields:
        operations = _operations(events, fields[code])
        partial = replace(
            partial,
            uniques={text: (at, seq, is_add) for at, seq, text, is_add in operations},
            operations=tuple(operations) if code in dict(window.operation_fields) else (),
        )
    names = dict(window.custom).get(code)
    if names is not None:
        partial = replace(partial, custom_events=(tuple(_custom(events, names)),))
    return partial


def _operations(events: Iterable[_Event], field_name: str) -> list[Operation]:
    """In the order of time, then of arrival: the last of a value is the one that counts."""
    found = []
    for each in events:
        operation = property_text(each.properties.get("operation_type"))
        is_add = _IS_ADD.get("add" if operation is None else operation)
        if is_add is not None:
            found.append((each.at, each.seq, property_text(each.properties.get(field_name)), is_add))
    return sorted(found, key=lambda operation: operation[:2])


def _custom(
    events: Iterable[_Event], names: Sequence[str]
) -> Iterable[tuple[datetime, int, tuple[str | None, ...]]]:
    for each in events:
        texts = [property_text(each.properties.get(name)) for name in names]
        cut = tuple([None if text is None else text[: TEXT_MAX + 1] for text in texts])
        yield each.at, each.seq, cut
