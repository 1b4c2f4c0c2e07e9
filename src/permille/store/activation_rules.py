"""Rules about what has to happen before subscriptions run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.activation import ActivationRule, RuleStatus
from permille.database.bulk import columns_of, uuid_array
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.store.billing_holds import NOT_HELD

_COLUMNS = columns_of(ActivationRule)


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[ActivationRule]:
    with conn.cursor(row_factory=typed_row(ActivationRule)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from activation_rule where {condition}", values).fetchall()


def of_subscriptions(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, ActivationRule]:
    """Subscription -> its rule, of those that have one."""
    if not ids:
        return {}
    rows = _select(conn, "subscription_id = any(%s)", [list(ids)])
    return {row.subscription_id: row for row in rows}


def pending_of_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> list[ActivationRule]:
    """The rules that wait for the payment of these invoices."""
    return _select(
        conn,
        "invoice_id = any(%s) and status = 'pending' order by created_at, id",
        [list(invoice_ids)],
    )


def put(conn: Connection[Any], rule: ActivationRule) -> None:
    """The rule of a subscription, instead of the one that it has, if any."""
    conn.execute("delete from activation_rule where subscription_id = %s", [rule.subscription_id])
    conn.execute(
        f"insert into activation_rule ({_COLUMNS})"
        f" select {_COLUMNS} from jsonb_populate_record(null::activation_rule, %s::jsonb)",
        [exact_json(rule)],
    )


def remove(conn: Connection[Any], subscription_id: UUID) -> None:
    """The subscription waits for nothing."""
    conn.execute("delete from activation_rule where subscription_id = %s", [subscription_id])


def wait(conn: Connection[Any], rules: Sequence[ActivationRule]) -> None:
    """They wait from now on for the payment of the invoices of their subscriptions; set-based."""
    conn.execute(
        "update activation_rule r set status = 'pending', expires_at = w.expires_at, invoice_id = w.invoice_id,"
        " updated_at = w.updated_at"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::uuid[], %s::timestamptz[])"
        " as w (id, expires_at, invoice_id, updated_at) where r.id = w.id",
        [
            [rule.id for rule in rules],
            [rule.expires_at for rule in rules],
            [rule.invoice_id for rule in rules],
            [rule.updated_at for rule in rules],
        ],
    )


def end(conn: Connection[Any], ids: Collection[UUID], status: RuleStatus, *, now: datetime) -> None:
    """What became of rules."""
    conn.execute(
        "update activation_rule set status = %s, updated_at = %s where id = any(%s)",
        [status, now, list(ids)],
    )


def open_invoices(conn: Connection[Any], subscription_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Subscription -> its invoice that waits for its payment."""
    rows = conn.execute(
        "select s.subscription_id, i.id from invoice_subscription s join invoice i on i.id = s.invoice_id"
        " where s.subscription_id = any(%s::uuid[]) and i.status = 'open'",
        [uuid_array(subscription_ids)],
    ).fetchall()
    return dict(rows)


_DUE = (
    "r.organization_id = %(organization)s and r.status = 'pending' and r.expires_at <= %(until)s"
    f" and s.{NOT_HELD}"
)


def first_to_expire(conn: Connection[Any], organization_id: UUID, *, until: datetime) -> datetime | None:
    """The first instant up to `until` at which a subscription has waited for long enough."""
    row = conn.execute(
        "select min(r.expires_at) from activation_rule r join subscription s on s.id = r.subscription_id"
        f" where {_DUE}",
        {"organization": organization_id, "until": until},
    ).fetchone()
    return row[0] if row else None


def live_to_expire(conn: Connection[Any], *, until: datetime) -> list[UUID]:
    """The live organizations with a subscription that has waited for long enough."""
    rows = conn.execute(
        "select o.id from organization o where not o.test_mode and exists (select from activation_rule"
        " where organization_id = o.id and status = 'pending' and expires_at <= %s)",
        [until],
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim_expired(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[ActivationRule]:
    """Lock rules whose time is over, with their customers. Rows that another worker has locked are skipped unless `wait` is set."""
    rows = conn.execute(
        "select r.id from activation_rule r join subscription s on s.id = r.subscription_id"
        f" join customer c on c.id = s.customer_id where {_DUE} order by r.expires_at, r.id limit %(limit)s"
        f" for no key update of c, r {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    return _select(conn, "id = any(%s) order by expires_at, id", [[rule_id for (rule_id,) in rows]])
