"""Customers with something due that cannot be billed as it is: nothing that is due of them is done for a while.

A row without `retry_at` holds up nothing: it was released to be tried again, and is kept so that its webhook is not sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.database.bulk import uuid_array

HELD = (
    "(select customer_id from billing_hold where organization_id = %(organization)s and retry_at is not null)"
)
NOT_HELD = f"customer_id not in {HELD}"
"""The columns of a row with a customer."""

# At first after a minute, then when as much time has passed again, at least once an hour. Work that is due later than
# what has failed before is new: that one was mended.
_HOLD = """
with before as (
    select due_at from billing_hold where customer_id = %(customer)s
)
insert into billing_hold as h (customer_id, organization_id, due_at, since, retry_at, reason)
values (%(customer)s, %(organization)s, %(due_at)s, %(now)s, %(now)s + interval '1 minute', %(reason)s)
on conflict (customer_id) do update set
    due_at = greatest(h.due_at, excluded.due_at),
    since = case when excluded.due_at > h.due_at then excluded.since else h.since end,
    retry_at = case when excluded.due_at > h.due_at then excluded.retry_at else excluded.since
        + least(greatest(excluded.since - h.since, interval '1 minute'), interval '1 hour') end,
    reason = excluded.reason
returning retry_at, coalesce((select due_at from before) < %(due_at)s, true)
"""

_MOVE_BACK = """
with back as (
    delete from held_advance_event where customer_id = any(%s::uuid[])
    returning organization_id, seq, identity, due_at, charge_ids
)
insert into advance_event (organization_id, seq, identity, due_at, charge_ids) select * from back
"""


_RETRY_SOON = (
    """
    update billing_hold set retry_at = %(now)s where customer_id in (
        select customer_id from billing_hold where organization_id = %(organization)s and retry_at > %(now)s
        for update skip locked)
    """,
    """
    update invoice set price_retry_at = %(now)s where id in (
        select id from invoice where organization_id = %(organization)s and price_retry_at > %(now)s
        for update skip locked)
    """,
    """
    update unpriced_advance_event set retry_at = %(now)s where (organization_id, seq) in (
        select organization_id, seq from unpriced_advance_event
        where organization_id = %(organization)s and retry_at > %(now)s for update skip locked)
    """,
    # by the system's clock, which this may not be
    """
    update fence f set retry_at = f.since from (
        select task, customer_id from fence where organization_id = %(organization)s and retry_at > since
        for update skip locked
    ) l where f.organization_id = %(organization)s and f.task = l.task and f.customer_id is not distinct from l.customer_id
    """,
)


class HeldCustomer(Record, kw_only=True):
    """A customer with something due that cannot be billed."""

    external_customer_id: str
    due_at: datetime
    since: datetime
    retry_at: datetime
    reason: str


class NewHold(Record, kw_only=True):
    """A customer that is held from now on."""

    retry_at: datetime
    is_new: bool
    """Whether this instant's work has failed for the first time."""


def hold(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    customer_id: UUID,
    due_at: datetime,
    reason: str,
    now: datetime,
) -> NewHold:
    """Hold a customer, which is locked, as of the organization's clock."""
    row = conn.execute(
        _HOLD,
        {
            "customer": customer_id,
            "organization": organization_id,
            "due_at": due_at,
            "reason": reason,
            "now": now,
        },
    ).fetchone()
    assert row is not None, customer_id
    return NewHold(retry_at=row[0], is_new=row[1])


def release(conn: Connection[Any], organization_id: UUID, *, until: datetime | None) -> None:
    """Let what is held up to an instant be tried again, or without one all, also what someone else is at."""
    rows = conn.execute(
        "update billing_hold set retry_at = null where customer_id in ("
        "   select customer_id from billing_hold where organization_id = %s"
        "   and retry_at <= coalesce(%s, 'infinity'::timestamptz)"
        f"  order by customer_id for update {'skip locked' if until else ''})"
        " returning customer_id",
        [organization_id, until],
    ).fetchall()
    _move_back(conn, [customer_id for (customer_id,) in rows])


def release_customers(conn: Connection[Any], customer_ids: Collection[UUID]) -> None:
    """Let what is held of customers be tried again."""
    rows = conn.execute(
        "update billing_hold set retry_at = null where customer_id = any(%s::uuid[]) and retry_at is not null"
        " returning customer_id",
        [uuid_array(customer_ids)],
    ).fetchall()
    _move_back(conn, [customer_id for (customer_id,) in rows])


def _move_back(conn: Connection[Any], customer_ids: Sequence[UUID]) -> None:
    """By a statement after the release: a transaction that held on to the hold until then has left its events there."""
    if customer_ids:
        conn.execute(_MOVE_BACK, [uuid_array(customer_ids)])


def retry_soon(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> None:
    """Something was mended: what is held is tried again at the next occasion, but for what is being tried now.

    Likewise what waits for a price.
    """
    for statement in _RETRY_SOON:
        conn.execute(statement, {"organization": organization_id, "now": now})


def of_customer(conn: Connection[Any], customer_id: UUID) -> tuple[datetime, str] | None:
    """Since when what is due of a customer is held, and why; None where it is not."""
    return conn.execute(
        "select due_at, reason from billing_hold where customer_id = %s and retry_at is not null",
        [customer_id],
    ).fetchone()


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[HeldCustomer], int]:
    """The customers that are held, the oldest hold first, and how many there are."""
    with conn.cursor(row_factory=class_row(HeldCustomer)) as cursor:
        found = cursor.execute(
            "select c.external_id as external_customer_id, h.due_at, h.since, h.retry_at, h.reason"
            " from billing_hold h join customer c on c.id = h.customer_id"
            " where h.organization_id = %s and h.retry_at is not null"
            " order by h.since, c.external_id limit %s offset %s",
            [organization_id, limit, offset],
        ).fetchall()
    return found, count(conn, organization_id)


def count(conn: Connection[Any], organization_id: UUID) -> int:
    """How many customers are held."""
    row = conn.execute(
        "select count(*) from billing_hold where organization_id = %s and retry_at is not null",
        [organization_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


def still_held(conn: Connection[Any], customer_ids: Collection[UUID]) -> set[UUID]:
    """Those of the customers that are held, and are so until the transaction ends."""
    rows = conn.execute(
        "select customer_id from billing_hold where customer_id = any(%s) and retry_at is not null"
        " order by customer_id for share",
        [list(customer_ids)],
    ).fetchall()
    return {customer_id for (customer_id,) in rows}
