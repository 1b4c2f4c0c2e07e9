"""Subscriptions: several rows may share an external id over time, at most one of them active."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.contract.subscription import Due, Run, Subscription
from permille.core.record import Record, asdict, names_of
from permille.database.bulk import text_array, uuid_array
from permille.database.typed_rows import typed_row

_NAMES = names_of(Subscription)
_COLUMNS = ", ".join(f"s.{name}" for name in _NAMES)


class SubscriptionSearch(Record, kw_only=True):
    """What a list of subscriptions is narrowed to; an empty sequence and None narrow nothing."""

    statuses: Sequence[str] = ()
    external_customer_id: str | None = None
    plan_code: str | None = None
    currencies: Sequence[str] = ()
    billing_entity_codes: Sequence[str] = ()


def _select(
    conn: Connection[Any], condition: str, values: Sequence[Any] | Mapping[str, Any]
) -> list[Subscription]:
    with conn.cursor(row_factory=typed_row(Subscription)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from subscription s where {condition}", values).fetchall()


def active(conn: Connection[Any], organization_id: UUID, external_id: str) -> Subscription | None:
    """The running row of an external id."""
    found = _select(
        conn,
        "s.organization_id = %s and s.external_id = %s and s.status = 'active'",
        [organization_id, external_id],
    )
    return found[0] if found else None


def running(
    conn: Connection[Any], organization_id: UUID, external_ids: Collection[str]
) -> dict[str, Subscription]:
    """The running rows of these external ids, by them."""
    condition = "s.organization_id = %s and s.external_id = any(%s) and s.status = 'active'"
    return {row.external_id: row for row in _select(conn, condition, [organization_id, list(external_ids)])}


def history(conn: Connection[Any], organization_id: UUID, external_id: str) -> list[Subscription]:
    """Every row of an external id, newest first."""
    return _select(
        conn,
        "s.organization_id = %s and s.external_id = %s order by s.created_at desc, s.id desc",
        [organization_id, external_id],
    )


def running_of_customers(conn: Connection[Any], customer_ids: Collection[UUID]) -> list[Subscription]:
    """The running rows of these customers, the oldest first."""
    return _select(
        conn,
        "s.customer_id = any(%s) and s.status = 'active' order by s.created_at, s.id",
        [list(customer_ids)],
    )


def histories(
    conn: Connection[Any], organization_id: UUID, external_ids: Collection[str]
) -> dict[str, list[Subscription]]:
    """Every row of each of these external ids that has any, newest first."""
    found: dict[str, list[Subscription]] = {}
    condition = "s.organization_id = %s and s.external_id = any(%s) order by s.created_at desc, s.id desc"
    for row in _select(conn, condition, [organization_id, list(external_ids)]):
        found.setdefault(row.external_id, []).append(row)
    return found


def runs(conn: Connection[Any], organization_id: UUID, external_ids: Collection[str]) -> dict[str, list[Run]]:
    """As histories, of each row only when it runs."""
    found: dict[str, list[Run]] = {}
    for external_id, started_at, terminated_at in conn.execute(
        "select s.external_id, s.started_at, s.terminated_at from subscription s"
        " where s.organization_id = %s and s.external_id = any(%s::text[]) order by s.created_at desc, s.id desc",
        [organization_id, text_array(external_ids)],
    ):
        found.setdefault(external_id, []).append(Run(started_at, terminated_at))
    return found


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Subscription]:
    return {row.id: row for row in _select(conn, "s.id = any(%s)", [uuid_array(ids)])}


def for_update(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Subscription]:
    """As by_ids, locked until the transaction ends; always in the order of the ids, so that runs never deadlock."""
    rows = _select(conn, "s.id = any(%s) order by s.id for no key update", [list(ids)])
    return {row.id: row for row in rows}


class Neighbours(Record, kw_only=True):
    """The plans before and after a row of an external id; `takes_over_at` while the next one waits."""

    previous_plan_code: str | None
    next_plan_code: str | None
    takes_over_at: datetime | None


ALONE = Neighbours(previous_plan_code=None, next_plan_code=None, takes_over_at=None)


def neighbours(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Neighbours]:
    """The other side of each row that a change of plan made, or will end."""
    rows = conn.execute(
        "select s.id, before_plan.code, next_plan.code,"
        " case when next.status = 'pending' then next.activates_at end"
        " from subscription s"
        " left join subscription before on before.id = s.previous_subscription_id"
        " left join plan before_plan on before_plan.id = before.plan_id"
        " left join lateral (select status, plan_id, activates_at from subscription"
        "   where previous_subscription_id = s.id and status <> 'canceled'"
        "   order by created_at desc, id desc limit 1) next on true"
        " left join plan next_plan on next_plan.id = next.plan_id"
        " where s.id = any(%s) and (before.id is not null or next.plan_id is not null)",
        [list(ids)],
    ).fetchall()
    return {
        row_id: Neighbours(previous_plan_code=previous, next_plan_code=following, takes_over_at=at)
        for row_id, previous, following, at in rows
    }


def next_plan_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Row -> the plan that took over from it, where one did."""
    rows = conn.execute(
        "select previous_subscription_id, plan_id from subscription"
        " where previous_subscription_id = any(%s) and status in ('active', 'terminated')",
        [list(ids)],
    ).fetchall()
    return dict(rows)


def following(conn: Connection[Any], ids: Collection[UUID]) -> list[Subscription]:
    """The rows that wait to take over from these."""
    return _select(
        conn,
        "s.previous_subscription_id = any(%s) and s.status in ('pending', 'incomplete') order by s.id",
        [list(ids)],
    )


def living_of_customer(conn: Connection[Any], customer_id: UUID) -> list[Subscription]:
    """A customer's rows that run or may run yet, oldest first."""
    return _select(
        conn,
        "s.customer_id = %s and s.status in ('active', 'pending', 'incomplete') order by s.created_at, s.id",
        [customer_id],
    )


def living_of_plan(conn: Connection[Any], plan_id: UUID) -> list[Subscription]:
    """A plan's rows that run or may run yet, with those on copies of it, oldest first."""
    return _select(
        conn,
        "s.plan_id = any(array(select id from plan where id = %(id)s or parent_id = %(id)s))"
        " and s.status in ('active', 'pending', 'incomplete') order by s.created_at, s.id",
        {"id": plan_id},
    )


def started_of_plan(conn: Connection[Any], plan_id: UUID) -> list[Subscription]:
    """Those that run on this very plan, and those that do once they are paid, locked."""
    return _select(
        conn,
        "s.plan_id = %s and s.status in ('active', 'incomplete') order by s.id for no key update",
        [plan_id],
    )


def running_on_plans(
    conn: Connection[Any], plan_ids: Collection[UUID], *, limit: int
) -> tuple[list[UUID], int]:
    """The first `limit` active rows on these plans, the oldest first, and how many there are."""
    rows = conn.execute(
        "select id, count(*) over () from subscription where plan_id = any(%s) and status = 'active'"
        " order by id limit %s",
        [list(plan_ids), limit],
    ).fetchall()
    return [row_id for row_id, _ in rows], rows[0][1] if rows else 0


def downgrades_of_plan(conn: Connection[Any], plan_id: UUID) -> list[Subscription]:
    """The rows that wait to take over from or to a plan, or a copy of it, oldest first."""
    return _select(
        conn,
        "s.status = 'pending' and s.id in ("
        "with copies as (select id from plan where id = %(id)s or parent_id = %(id)s)"
        " select id from subscription where plan_id in (select id from copies)"
        "   and previous_subscription_id is not null"
        " union select next.id from subscription next join subscription before"
        "   on before.id = next.previous_subscription_id"
        "   where before.plan_id in (select id from copies) and before.status = 'active'"
        ") order by s.created_at, s.id",
        {"id": plan_id},
    )


def ids_of_plan(conn: Connection[Any], plan_id: UUID) -> list[UUID]:
    """The rows of any status on a plan or on copies of it."""
    rows = conn.execute(
        "select id from subscription where plan_id = any(array("
        "select id from plan where id = %(id)s or parent_id = %(id)s))",
        {"id": plan_id},
    ).fetchall()
    return [row_id for (row_id,) in rows]


def living_of_billing_entity(conn: Connection[Any], billing_entity_id: UUID) -> list[Subscription]:
    """Active and pending rows of the customers who inherit the billing entity's timezone."""
    return _select(
        conn,
        "s.status in ('active', 'pending') and s.customer_id in"
        " (select id from customer where billing_entity_id = %s and timezone is null) order by s.created_at, s.id",
        [billing_entity_id],
    )


def first_starts(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When each row's customer first had its external id running: trials count from there."""
    rows = conn.execute(
        "select s.id, min(o.started_at) from subscription s join subscription o"
        " on o.organization_id = s.organization_id and o.external_id = s.external_id"
        " and o.customer_id = s.customer_id and o.started_at is not null"
        " where s.id = any(%s) group by s.id",
        [list(ids)],
    ).fetchall()
    return dict(rows)


def listing(
    conn: Connection[Any], organization_id: UUID, search: SubscriptionSearch, *, limit: int, offset: int
) -> tuple[list[Subscription], int]:
    """Subscriptions by their anchor, newest first, and how many there are."""
    condition, values = _conditions(organization_id, search)
    rows = _select(
        conn,
        f"{condition} order by s.subscription_at desc, s.created_at desc, s.id limit %s offset %s",
        [*values, limit, offset],
    )
    row = conn.execute(f"select count(*) from subscription s where {condition}", values).fetchone()
    return rows, row[0] if row else 0


def _conditions(organization_id: UUID, search: SubscriptionSearch) -> tuple[str, list[Any]]:
    parts = ["s.organization_id = %s"]
    values: list[Any] = [organization_id]
    if search.statuses:
        parts.append("s.status = any(%s)")
        values.append(list(search.statuses))
    if search.external_customer_id is not None:
        parts.append(
            "s.customer_id in (select id from customer where organization_id = %s and external_id = %s"
            " and deleted_at is null)"
        )
        values += [organization_id, search.external_customer_id]
    if search.plan_code is not None:
        parts.append("s.plan_id in (select id from plan where organization_id = %s and code = %s)")
        values += [organization_id, search.plan_code]
    if search.currencies:
        parts.append("s.plan_id in (select id from plan where amount_currency = any(%s))")
        values.append(list(search.currencies))
    if search.billing_entity_codes:
        parts.append(
            "(s.billing_entity_id in (select id from billing_entity where organization_id = %s and code = any(%s))"
            " or s.billing_entity_id is null and s.customer_id in (select c.id from customer c"
            "   join billing_entity b on b.id = c.billing_entity_id where b.organization_id = %s and b.code = any(%s)))"
        )
        values += 2 * [organization_id, list(search.billing_entity_codes)]
    return " and ".join(parts), values


def add(conn: Connection[Any], subscription: Subscription) -> None:
    places = ", ".join(f"%({name})s" for name in _NAMES)
    values = {**asdict(subscription), "usage_thresholds": Jsonb(list(subscription.usage_thresholds))}
    conn.execute(f"insert into subscription ({', '.join(_NAMES)}) values ({places})", values)


def update(
    conn: Connection[Any], *, subscription_id: UUID, columns: Mapping[str, Any], now: datetime
) -> Subscription:
    """The row with the given columns set; the names come from code, never from a request."""
    return update_all(conn, [subscription_id], columns=columns, now=now)[0]


def update_all(
    conn: Connection[Any], ids: Sequence[UUID], *, columns: Mapping[str, Any], now: datetime
) -> list[Subscription]:
    """As update, for many rows at once, in the order of `ids`."""
    changed = {**columns, "updated_at": now}
    if "usage_thresholds" in columns:
        changed["usage_thresholds"] = Jsonb(list(columns["usage_thresholds"]))
    changes = ", ".join(f"{name} = %({name})s" for name in changed)
    with conn.cursor(row_factory=class_row(Subscription)) as cursor:
        rows = cursor.execute(
            f"update subscription s set {changes} where s.id = any(%(where_ids)s) returning {_COLUMNS}",
            {**changed, "where_ids": list(ids)},
        )
        found = {row.id: row for row in rows}
    return [found[row_id] for row_id in ids]


def set_due(conn: Connection[Any], due: Mapping[UUID, Due], *, now: datetime) -> None:
    """Write down what is due, for any number of rows in one statement."""
    conn.execute(
        "update subscription s set next_billing_at = d.next_billing_at, activates_at = d.activates_at,"
        " ends_at = d.ends_at, end_alert_at = d.end_alert_at, updated_at = %s"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])"
        " as d (id, next_billing_at, activates_at, ends_at, end_alert_at) where s.id = d.id",
        [
            now,
            list(due),
            [one.next_billing_at for one in due.values()],
            [one.activates_at for one in due.values()],
            [one.ends_at for one in due.values()],
            [one.end_alert_at for one in due.values()],
        ],
    )


def set_end_alerts(conn: Connection[Any], alerts: Mapping[UUID, datetime | None]) -> None:
    """When the ends of these rows are announced next, None: not any more."""
    conn.execute(
        "update subscription s set end_alert_at = a.at from unnest(%s::uuid[], %s::timestamptz[]) as a (id, at)"
        " where s.id = a.id",
        [uuid_array(alerts), list(alerts.values())],
    )


def next_billing_at(conn: Connection[Any], organization_id: UUID, *, after: datetime) -> datetime | None:
    """The next instant after `after` at which an active subscription of the organization is billed."""
    row = conn.execute(
        "select min(next_billing_at) from subscription"
        " where organization_id = %s and status = 'active' and next_billing_at > %s",
        [organization_id, after],
    ).fetchone()
    return row[0] if row else None
