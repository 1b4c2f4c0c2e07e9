"""Usage without a price: what is still to be looked at for it, and what was found (docs/unpriced-usage.md).

The log of events keeps the series that came into use; changes of prices, metrics and subscriptions have series looked at
again that they may concern.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.metering.aggregations import AGGREGATIONS, SUM
from permille.core.metering.event import PlacedEvent, Series, property_texts
from permille.core.period import Interval
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import Record
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row

_OF_NUMBERS = [each.name for each in AGGREGATIONS if not each.counts_every_event]

COMBINATIONS_MAX = 1_000
"""The most combinations of a charge: what comes after them is not recorded, so that no sender of ever new values fills the table."""
SERIES_COUNTED_MAX = 1_000
"""The most events of a combination that are looked at for its units, so that the home page is fast whatever is used."""

_UNDECIDED = (
    "c.deleted_at is null and (c.charge_model = 'catalogue' or (c.unlisted_values <> 'default'"
    " and exists (select from charge_filter where charge_id = c.id and deleted_at is null)))"
)

_UNDECIDED_METRIC = f"""
join billable_metric m on m.organization_id = s.organization_id and m.code = s.code and m.deleted_at is null
    and exists (
        select from plan p join charge c on c.plan_id = p.id and c.billable_metric_id = m.id and {_UNDECIDED}
        where p.id = u.plan_id or (p.version_of = u.plan_id and p.deleted_at is null)
    )
"""

_SERIES = """
unnest(%(series)s::bigint[], %(organizations)s::uuid[], %(external_ids)s::text[], %(codes)s::text[],
    %(dimensions)s::jsonb[])
"""

_CANDIDATES = f"""
select s.id as series_id, null as event_identity, %(at)s::timestamptz as at, u.id as subscription_id, u.customer_id, u.plan_id, s.code, s.dimensions
from {_SERIES} as s (id, organization_id, external_subscription_id, code, dimensions)
join subscription u on u.organization_id = s.organization_id and u.external_id = s.external_subscription_id
    and u.status = 'active'
{_UNDECIDED_METRIC}
"""

# An event without a number counts as nothing where numbers are added up or compared.
_CANDIDATES_OF_EVENTS = f"""
select s.id as series_id, s.identity as event_identity, s.at, u.id as subscription_id, u.customer_id, u.plan_id, s.code, s.dimensions
from rows from (
    {_SERIES.strip()}, unnest(%(identities)s::uuid[], %(ats)s::timestamptz[], %(has_values)s::boolean[])
) as s (id, organization_id, external_subscription_id, code, dimensions, identity, at, has_value)
join lateral (
    select id, customer_id, plan_id from subscription
    where organization_id = s.organization_id and external_id = s.external_subscription_id
        and started_at <= s.at and (terminated_at is null or terminated_at > s.at)
    order by started_at desc limit 1
) u on true
{_UNDECIDED_METRIC}
where s.has_value or m.aggregation_type <> all(%(of_numbers)s)
"""

_CODES = f"""
select distinct m.code from billable_metric m join charge c on c.billable_metric_id = m.id
where m.organization_id = %s and m.deleted_at is null and {_UNDECIDED}
"""

# The first of each charge, as many as still fit; what is there already stays as it is.
_ADD = """
insert into unpriced_usage (charge_id, digest, organization_id, code, values, noticed_at)
select w.charge_id, w.digest, %(organization)s, w.code, w.values, %(now)s
from (
    select *, row_number() over (partition by charge_id order by digest)
        + (select count(*) from unpriced_usage k where k.charge_id = n.charge_id) as place
    from unnest(%(charges)s::uuid[], %(digests)s::uuid[], %(codes)s::text[], %(values)s::jsonb[])
        as n (charge_id, digest, code, values)
    where not exists (select from unpriced_usage k where k.charge_id = n.charge_id and k.digest = n.digest)
) w
where w.place <= %(most)s
on conflict do nothing
returning charge_id, digest
"""

_ADD_SERIES = """
insert into unpriced_series (charge_id, digest, series_id)
select w.charge_id, w.digest, w.series_id
from unnest(%s::uuid[], %s::uuid[], %s::bigint[]) as w (charge_id, digest, series_id)
join unpriced_usage u using (charge_id, digest)
on conflict do nothing
"""

_NEWEST = """
select u.code, u.values, u.noticed_at, c.code as charge_code, p.code as plan_code,
    case when c.charge_model <> 'catalogue' then c.unlisted_values
        when c.properties ->> 'unpriced' = 'free' then 'free' else 'held' end as unlisted_values,
    p.parent_id is not null as is_own, m.aggregation_type = %(sum)s as is_sum,
    array(
        select series_id from unpriced_series where charge_id = u.charge_id and digest = u.digest
        limit %(counted)s + 1
    ) as series_ids
from (
    select * from unpriced_usage where organization_id = %(organization)s
    order by noticed_at desc, charge_id, digest limit %(limit)s
) u
join charge c on c.id = u.charge_id join plan p on p.id = c.plan_id
join billable_metric m on m.id = c.billable_metric_id
order by u.noticed_at desc, u.charge_id, u.digest
"""


class Candidate(Record, kw_only=True):
    """A series as it is used at an instant, or an event, of a subscription whose plan may leave some of the metric's values without a price."""

    series_id: int
    event_identity: UUID | None
    at: datetime
    subscription_id: UUID
    customer_id: UUID
    plan_id: UUID
    code: str
    dimensions: Mapping[str, Any]

    @property
    def texts(self) -> dict[str, str | None]:
        """The property texts of the dimensions."""
        return property_texts(self.dimensions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """Values of dimensions that have no price under a charge; the digest is that of the values."""

    charge_id: UUID
    digest: UUID
    code: str = field(compare=False)
    """The code of the metric."""
    values: Mapping[str, str | None] = field(compare=False)


class KnownUnpriced(Record, kw_only=True):
    """What was found before, and the plan of its charge; None where that is gone."""

    charge_id: UUID
    digest: UUID
    values: Mapping[str, str | None]
    plan_id: UUID | None


class ShownUnpriced(Record, kw_only=True):
    """For the home page: a combination of values without a price, and the series that have it, some of very many."""

    code: str
    values: Mapping[str, str | None]
    noticed_at: datetime
    charge_code: str
    unlisted_values: UnlistedValues
    plan_code: str
    is_own: bool
    is_sum: bool
    series_ids: Sequence[int]

    @property
    def is_more(self) -> bool:
        """Whether it has more series than are counted."""
        return len(self.series_ids) > SERIES_COUNTED_MAX


def recheck(conn: Connection[Any], organization_ids: Collection[UUID]) -> None:
    """Prices, metrics or filters of these organizations have changed: their series are to be looked at again."""
    conn.execute(
        "insert into unchecked_organization (organization_id) select unnest(%s::uuid[])"
        " on conflict (organization_id) do update set look_at = excluded.look_at",
        [uuid_array(organization_ids)],
    )


def recheck_at(conn: Connection[Any], organization_id: UUID, at: datetime) -> None:
    """The organization's series are to be looked at again at an instant of its clock, if not before."""
    conn.execute(
        "insert into unchecked_organization (organization_id, look_at) values (%s, %s) on conflict (organization_id)"
        " do update set look_at = least(unchecked_organization.look_at, excluded.look_at)",
        [organization_id, at],
    )


def ends_of_versions(
    conn: Connection[Any], organization_id: UUID, *, since: datetime
) -> list[tuple[datetime, Interval]]:
    """When prices of the organization's plans end, after an instant, with the plans' intervals."""
    rows = conn.execute(
        "select valid_until, interval from plan where organization_id = %s and valid_until > %s"
        " and version_of is not null and deleted_at is null",
        [organization_id, since],
    ).fetchall()
    return [(at, Interval(interval)) for at, interval in rows]


def organizations_waiting(conn: Connection[Any], now: datetime) -> list[UUID]:
    """The organizations whose prices, metrics or filters have changed. `now` is the system's clock."""
    rows = conn.execute(
        "select u.organization_id from unchecked_organization u join organization o on o.id = u.organization_id"
        " where u.look_at <= coalesce(o.test_now, %s)",
        [now],
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim_organization(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> bool:
    """Whether the organization's prices have changed by now; then that is seen to from now on."""
    claimed = conn.execute(
        "delete from unchecked_organization where organization_id in (select organization_id"
        " from unchecked_organization where organization_id = %s and look_at <= %s for update skip locked)",
        [organization_id, now],
    )
    return bool(claimed.rowcount)


def undecided_codes(conn: Connection[Any], organization_id: UUID) -> list[str]:
    """The codes of metrics with a charge that has not chosen what unlisted values cost."""
    return [code for (code,) in conn.execute(_CODES, [organization_id])]


def candidates(conn: Connection[Any], series: Sequence[Series], *, at: datetime) -> list[Candidate]:
    """Those of the series that a charge prices, in any version of its prices, where unlisted values are undecided."""
    with conn.cursor(row_factory=class_row(Candidate)) as cursor:
        return cursor.execute(_CANDIDATES, {**_columns(series), "at": at}).fetchall()


def candidates_of_events(conn: Connection[Any], events: Sequence[PlacedEvent]) -> list[Candidate]:
    """The same of single events, by the subscriptions that ran at their times."""
    values = {
        **_columns([each.series for each in events]),
        "identities": uuid_array(each.identity for each in events),
        "ats": instant_array(each.at for each in events),
        "has_values": [each.has_value for each in events],
        "of_numbers": _OF_NUMBERS,
    }
    with conn.cursor(row_factory=class_row(Candidate)) as cursor:
        return cursor.execute(_CANDIDATES_OF_EVENTS, values).fetchall()


def _columns(series: Sequence[Series]) -> dict[str, Any]:
    return {
        "series": int_array(each.id for each in series),
        "organizations": uuid_array(each.organization_id for each in series),
        "external_ids": [each.external_subscription_id for each in series],
        "codes": text_array(each.code for each in series),
        "dimensions": text_array(exact_json(each.dimensions) for each in series),
    }


def known(conn: Connection[Any], organization_id: UUID) -> list[KnownUnpriced]:
    """What was found of the organization before; it is at most COMBINATIONS_MAX for each charge."""
    with conn.cursor(row_factory=class_row(KnownUnpriced)) as cursor:
        return cursor.execute(
            "select u.charge_id, u.digest, u.values, c.plan_id from unpriced_usage u"
            " left join charge c on c.id = u.charge_id where u.organization_id = %s",
            [organization_id],
        ).fetchall()


def forget(conn: Connection[Any], found: Sequence[KnownUnpriced]) -> None:
    """These have a price now, or nobody can have them any more."""
    conn.execute(
        "delete from unpriced_usage u using unnest(%s::uuid[], %s::uuid[]) as w (charge_id, digest)"
        " where u.charge_id = w.charge_id and u.digest = w.digest",
        [uuid_array(each.charge_id for each in found), uuid_array(each.digest for each in found)],
    )


def add(
    conn: Connection[Any],
    organization_id: UUID,
    found: Mapping[Unpriced, Sequence[int]],
    *,
    now: datetime,
) -> list[Unpriced]:
    """Record values without a price, with their series; those that were not there before."""
    unpriced = list(found)
    rows = conn.execute(
        _ADD,
        {
            "organization": organization_id,
            "charges": uuid_array(each.charge_id for each in unpriced),
            "digests": uuid_array(each.digest for each in unpriced),
            "codes": [each.code for each in unpriced],
            "values": [exact_json(each.values) for each in unpriced],
            "now": now,
            "most": COMBINATIONS_MAX,
        },
    ).fetchall()
    pairs = [(each, series_id) for each, series_ids in found.items() for series_id in series_ids]
    conn.execute(
        _ADD_SERIES,
        [
            uuid_array(each.charge_id for each, _ in pairs),
            uuid_array(each.digest for each, _ in pairs),
            int_array(series_id for _, series_id in pairs),
        ],
    )
    new = set(rows)
    return [each for each in unpriced if (each.charge_id, each.digest) in new]


def newest(conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[ShownUnpriced]:
    """The combinations without a price that were noticed last."""
    with conn.cursor(row_factory=typed_row(ShownUnpriced)) as cursor:
        values = {
            "organization": organization_id,
            "limit": limit,
            "counted": SERIES_COUNTED_MAX,
            "sum": SUM.name,
        }
        return cursor.execute(_NEWEST, values).fetchall()


def count(conn: Connection[Any], organization_id: UUID) -> int:
    """How many combinations have no price, at most COMBINATIONS_MAX."""
    row = conn.execute(
        "select count(*) from (select from unpriced_usage where organization_id = %s limit %s) u",
        [organization_id, COMBINATIONS_MAX],
    ).fetchone()
    return row[0] if row else 0


def drafts_waiting(conn: Connection[Any], organization_id: UUID) -> int:
    """How many drafts wait for a price, at most COMBINATIONS_MAX."""
    row = conn.execute(
        "select count(*) from (select from invoice where organization_id = %s and waits_for_price limit %s) i",
        [organization_id, COMBINATIONS_MAX],
    ).fetchone()
    return row[0] if row else 0
