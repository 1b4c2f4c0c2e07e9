"""The events of custom aggregations: single ones, as their rules see them. They are read through the index by series
and time, at a cost that grows with their number: no sum of them could be kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.metering.rule import TEXT_MAX
from permille.core.metering.usage import CustomEvent
from permille.core.record import Record
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json

LONGEST = TEXT_MAX + 1
"""Texts are cut where the rules take none."""


def texts_of(window: str) -> str:
    """SQL of the texts of an event `e` of a series `s` by the names in jsonb that its window asks for, given its alias."""
    return f"""array(
    select left(
        coalesce(
            e.extra ->> n.name, s.dimensions ->> n.name,
            case when n.name = s.value_key then e.value::text end
        ), {LONGEST}
    )
    from jsonb_array_elements_text({window}.names) with ordinality as n (name, place) order by n.place
)"""


# "offset 0": a series at a time, its events by their instants.
_EVENTS = f"""
select w.key, s.id, e.at, e.seq, {texts_of("w")}
from unnest(
    %(keys)s::int[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[], %(names)s::jsonb[],
    %(froms)s::timestamptz[], %(tos)s::timestamptz[]
) as w (key, organization_id, external_subscription_id, code, names, from_at, to_at)
cross join lateral (
    select id, dimensions, value_key from series where organization_id = w.organization_id
        and external_subscription_id = w.external_subscription_id and code = w.code offset 0
) s
cross join lateral (
    select at, seq, value, extra from counted_event
    where series_id = s.id and at >= w.from_at and at < w.to_at offset 0
) e
"""


class CustomWindow(Record, kw_only=True):
    """The events of a code in [from_, to), with the properties that its metric's rules look at. `key` is the asker's."""

    key: int
    organization_id: UUID
    external_subscription_id: str
    code: str
    names: tuple[str, ...]
    from_: datetime
    to: datetime


def custom_events(
    conn: Connection[Any], windows: Sequence[CustomWindow]
) -> dict[tuple[int, int], tuple[CustomEvent, ...]]:
    """(key, series) -> its events in no order; set-based, whatever the number of windows."""
    found: dict[tuple[int, int], list[CustomEvent]] = defaultdict(list)
    parameters = {
        "keys": int_array(each.key for each in windows),
        "organizations": uuid_array(each.organization_id for each in windows),
        "subscriptions": text_array(each.external_subscription_id for each in windows),
        "codes": text_array(each.code for each in windows),
        "names": text_array(exact_json(each.names) for each in windows),
        "froms": instant_array(each.from_ for each in windows),
        "tos": instant_array(each.to for each in windows),
    }
    for key, series_id, at, seq, texts in conn.execute(_EVENTS, parameters):
        found[key, series_id].append((at, seq, tuple(texts)))
    return {where: tuple(events) for where, events in found.items()}
