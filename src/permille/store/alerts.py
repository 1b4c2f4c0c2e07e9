"""Alerts and what they have fired. Subscription alerts are kept by external id, so that they outlast a change of plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from permille.core.alert import Alert, AlertOwner, AlertType, Look, Threshold
from permille.core.record import Record, names_of
from permille.database.bulk import instant_array, text_array, uuid_array

_NAMES = names_of(Alert)
_COLUMNS = ", ".join(f"a.{name}" for name in _NAMES)
_OF_OWNER = (
    "a.organization_id = %(organization)s"
    " and (a.external_subscription_id = %(external_id)s or a.wallet_id = %(wallet)s)"
)

_MARK = """
insert into alert_mark (organization_id, external_subscription_id, wallet_id)
select distinct a.organization_id, a.external_subscription_id, a.wallet_id
from unnest(%s::uuid[], %s::text[]) as w (organization_id, external_id)
join alert a on a.organization_id = w.organization_id and a.external_subscription_id = w.external_id
"""

_MARK_OF_PLANS = """
insert into alert_mark (organization_id, external_subscription_id, wallet_id)
select distinct a.organization_id, a.external_subscription_id, a.wallet_id
from subscription s join alert a
    on a.organization_id = s.organization_id and a.external_subscription_id = s.external_id
where s.plan_id = any(%s::uuid[]) and s.status = 'active'
"""

_MARK_WALLETS = """
insert into alert_mark (organization_id, external_subscription_id, wallet_id)
select distinct a.organization_id, null, a.wallet_id from alert a where a.wallet_id = any(%s::uuid[])
"""

_MARK_OWN = """
insert into alert_mark (organization_id, external_subscription_id, wallet_id)
select distinct a.organization_id, a.external_subscription_id, a.wallet_id from alert a where a.id = any(%s::uuid[])
"""

# A customer for whom it has failed is left alone until it may be tried again, and a wallet until its ongoing balance is reckoned:
# what an invoice has taken is still in the one before as usage.
_TAKE = """
with taken as (
    select m.ctid from alert_mark m
    left join subscription s on s.organization_id = m.organization_id
        and s.external_id = m.external_subscription_id and s.status = 'active'
    left join wallet w on w.id = m.wallet_id
    where m.organization_id = %(organization)s and not exists (
        select from fence f where f.organization_id = m.organization_id and f.task = %(task)s
            and f.customer_id in (s.customer_id, w.customer_id) and f.retry_at > %(now)s
    ) and (
        w.status <> 'active' or not exists (select from wallet_to_refresh r where r.customer_id = w.customer_id)
    )
    limit %(limit)s for update of m skip locked
)
delete from alert_mark where ctid = any(array(select ctid from taken))
returning external_subscription_id, wallet_id
"""

# One look at an alert at a time: what the one before has seen is what it is compared with.
_LOCKED = f"""
select {_COLUMNS} from alert a
where a.organization_id = %(organization)s
    and (a.external_subscription_id = any(%(external_ids)s::text[]) or a.wallet_id = any(%(wallets)s::uuid[]))
order by a.id for no key update
"""

_SETTLE = """
update alert a set previous_value = v.value, period_from = v.period_from, last_processed_at = %(now)s
from unnest(%(ids)s::uuid[], %(values)s::numeric[], %(periods)s::timestamptz[]) as v (id, value, period_from)
where a.id = v.id
"""


class TriggeredAlert(Record, kw_only=True):
    """A firing, with the figure that fired it; it stays as it is when the alert is changed or deleted."""

    id: UUID
    organization_id: UUID
    alert_id: UUID
    alert_type: AlertType
    alert_code: str
    alert_name: str | None
    subscription_id: UUID | None
    external_subscription_id: str | None
    wallet_id: UUID | None
    external_customer_id: str
    billable_metric_code: str | None
    current_value: Decimal
    previous_value: Decimal
    crossed_thresholds: tuple[Threshold, ...]
    triggered_at: datetime


_FIRING_NAMES = names_of(TriggeredAlert)
_FIRING_COLUMNS = ", ".join(_FIRING_NAMES)


def thresholds_json(thresholds: Iterable[Threshold]) -> list[dict[str, Any]]:
    """How thresholds are kept."""
    return [
        {"code": each.code, "value": format(each.value, "f"), "recurring": each.recurring}
        for each in thresholds
    ]


def _thresholds(kept: Iterable[Mapping[str, Any]]) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(code=each["code"], value=Decimal(each["value"]), recurring=each["recurring"])
        for each in kept
    )


def _alert(row: Mapping[str, Any]) -> Alert:
    changed = {"alert_type": AlertType(row["alert_type"]), "thresholds": _thresholds(row["thresholds"])}
    return Alert(**{**row, **changed})


def _select(conn: Connection[Any], condition: str, values: Mapping[str, Any]) -> list[Alert]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from alert a where {condition}", values)
        return [_alert(row) for row in rows]


def _owner(organization_id: UUID, owner: AlertOwner) -> dict[str, Any]:
    return {
        "organization": organization_id,
        "external_id": owner.external_subscription_id,
        "wallet": owner.wallet_id,
    }


def of_owner(conn: Connection[Any], organization_id: UUID, owner: AlertOwner) -> list[Alert]:
    """All alerts of a subscription or a wallet, the oldest first: one of a type, or of a type and metric, each."""
    return _select(conn, f"{_OF_OWNER} order by a.created_at, a.id", _owner(organization_id, owner))


def listing(
    conn: Connection[Any], organization_id: UUID, owner: AlertOwner, *, limit: int, offset: int
) -> tuple[list[Alert], int]:
    """A page of them, newest first, and how many there are."""
    values = {**_owner(organization_id, owner), "limit": limit, "offset": offset}
    found = _select(
        conn, f"{_OF_OWNER} order by a.created_at desc, a.id limit %(limit)s offset %(offset)s", values
    )
    row = conn.execute(f"select count(*) from alert a where {_OF_OWNER}", values).fetchone()
    return found, row[0] if row else 0


def add(conn: Connection[Any], alerts: Sequence[Alert]) -> None:
    """New alerts. What they look at is looked at soon."""
    places = ", ".join(f"%({name})s" for name in _NAMES)
    query = f"insert into alert ({', '.join(_NAMES)}, updated_at) values ({places}, %(created_at)s)"
    with conn.cursor() as cursor:
        cursor.executemany(query, [_values(each) for each in alerts])
    mark_own(conn, [each.id for each in alerts])


def _values(alert: Alert) -> dict[str, Any]:
    values = {name: getattr(alert, name) for name in _NAMES}
    return {**values, "thresholds": Jsonb(thresholds_json(alert.thresholds))}


def replace(conn: Connection[Any], alert: Alert, *, now: datetime) -> None:
    """Write what may be changed of an alert."""
    conn.execute(
        "update alert set code = %(code)s, name = %(name)s, billable_metric_id = %(billable_metric_id)s,"
        " thresholds = %(thresholds)s, updated_at = %(now)s where id = %(id)s",
        {**_values(alert), "now": now},
    )


def delete(conn: Connection[Any], ids: Collection[UUID]) -> None:
    """What they have fired stays."""
    conn.execute("delete from alert where id = any(%s::uuid[])", [uuid_array(ids)])


def delete_of_metric(conn: Connection[Any], metric_id: UUID) -> None:
    """The alerts on a metric that is deleted."""
    conn.execute("delete from alert where billable_metric_id = %s", [metric_id])


def is_any_on_usage(conn: Connection[Any]) -> bool:
    """Whether any organization has an alert of a subscription."""
    row = conn.execute(
        "select exists (select from alert where external_subscription_id is not null)"
    ).fetchone()
    return row is not None and row[0]


def is_any(conn: Connection[Any], organization_id: UUID) -> bool:
    """Whether the organization has an alert."""
    row = conn.execute(
        "select exists (select from alert where organization_id = %s)", [organization_id]
    ).fetchone()
    return row is not None and row[0]


def mark(conn: Connection[Any], of: Collection[tuple[UUID, str]]) -> None:
    """What these subscriptions have used may have changed: organizations and external ids. It waits for nobody."""
    if of:
        organizations, external_ids = zip(*of, strict=True)
        conn.execute(_MARK, [uuid_array(organizations), text_array(external_ids)])


def mark_of_plans(conn: Connection[Any], plan_ids: Collection[UUID]) -> None:
    """As mark, for all subscriptions on these plans."""
    conn.execute(_MARK_OF_PLANS, [uuid_array(plan_ids)])


def mark_wallets(conn: Connection[Any], wallet_ids: Collection[UUID], *, now: datetime) -> None:
    """What these wallets have may have changed; the instant changes nothing. It waits for nobody."""
    del now
    conn.execute(_MARK_WALLETS, [uuid_array(wallet_ids)])


def mark_own(conn: Connection[Any], ids: Collection[UUID]) -> None:
    """These alerts are to be looked at, with the others of their owners."""
    conn.execute(_MARK_OWN, [uuid_array(ids)])


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with alerts that are to be looked at."""
    rows = conn.execute("select distinct organization_id from alert_mark")
    return [organization_id for (organization_id,) in rows]


def take_marks(
    conn: Connection[Any], organization_id: UUID, *, task: str, now: datetime, limit: int
) -> list[AlertOwner]:
    """Take marks of what may have changed; those that another worker has are skipped."""
    values = {"organization": organization_id, "task": task, "now": now, "limit": limit}
    rows = conn.execute(_TAKE, values)
    return [
        AlertOwner(external_subscription_id=external_id, wallet_id=wallet) for external_id, wallet in rows
    ]


def lock(conn: Connection[Any], organization_id: UUID, owners: Collection[AlertOwner]) -> list[Alert]:
    """The alerts of these subscriptions and wallets, locked until the transaction ends."""
    values = {
        "organization": organization_id,
        "external_ids": [each.external_subscription_id for each in owners if each.external_subscription_id],
        "wallets": [each.wallet_id for each in owners if each.wallet_id],
    }
    with conn.cursor(row_factory=dict_row) as cursor:
        return [_alert(row) for row in cursor.execute(_LOCKED, values)]


def settle(conn: Connection[Any], looks: Sequence[Look], *, now: datetime) -> None:
    """Write what the alerts have seen."""
    conn.execute(
        _SETTLE,
        {
            "ids": uuid_array(each.alert.id for each in looks),
            "values": [each.value for each in looks],
            "periods": instant_array(each.period_from for each in looks),
            "now": now,
        },
    )


def add_firings(conn: Connection[Any], firings: Sequence[TriggeredAlert]) -> None:
    """Keep what alerts have fired."""
    places = ", ".join(f"%({name})s" for name in _FIRING_NAMES)
    with conn.cursor() as cursor:
        cursor.executemany(
            f"insert into triggered_alert ({_FIRING_COLUMNS}) values ({places})",
            [
                {
                    **{name: getattr(each, name) for name in _FIRING_NAMES},
                    "crossed_thresholds": Jsonb(thresholds_json(each.crossed_thresholds)),
                }
                for each in firings
            ],
        )


def firings(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, TriggeredAlert]:
    """What was fired, by id."""
    found = _firings(conn, "id = any(%s::uuid[])", [uuid_array(ids)])
    return {each.id: each for each in found}


def newest_firings(
    conn: Connection[Any], organization_id: UUID, owner: AlertOwner, *, limit: int
) -> list[TriggeredAlert]:
    """What alerts of a subscription or a wallet have fired last."""
    return _firings(
        conn,
        "organization_id = %s and (external_subscription_id = %s or wallet_id = %s)"
        " order by triggered_at desc, id desc limit %s",
        [organization_id, owner.external_subscription_id, owner.wallet_id, limit],
    )


def _firings(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[TriggeredAlert]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_FIRING_COLUMNS} from triggered_alert where {condition}", values)
        return [
            TriggeredAlert(
                **{
                    **row,
                    "alert_type": AlertType(row["alert_type"]),
                    "crossed_thresholds": _thresholds(row["crossed_thresholds"]),
                }
            )
            for row in rows
        ]
