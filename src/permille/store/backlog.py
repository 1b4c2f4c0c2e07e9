"""What waits in the database, counted up to a bound: it costs the same however much there is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record

COUNTED_MAX = 10_000
ORGANIZATIONS_MAX = 1_000
DUE_OF_ORGANIZATION_MAX = 100
FAILED_WITHIN = timedelta(days=1)

_BACKLOG = """
select
    due.count as bills_due,
    coalesce(extract(epoch from %(now)s - due.oldest), 0)::float as bills_due_oldest_seconds,
    (select count(*) from (select from billing_hold where retry_at is not null limit %(most)s) as found) as customers_held,
    (select count(*) from (select from fence limit %(most)s) as found) as fences,
    (select count(*) from (select from invoice where price_retry_at is not null limit %(most)s) as found) as invoices_without_price,
    (select count(*) from (select from mail where next_attempt_at is not null limit %(most)s) as found) as mails_waiting,
    (select count(*) from (select from vat_check where next_attempt_at is not null limit %(most)s) as found) as vat_checks_waiting,
    (select count(*) from (select from webhook where next_attempt_at is not null limit %(most)s) as found) as webhooks_waiting,
    (select count(*) from (
        select from webhook where status = 'failed' and last_attempt_at > %(failed_since)s limit %(most)s
    ) as found) as webhooks_failed,
    (select count(*) from (select from procrastinate_jobs where status = 'todo' limit %(most)s) as found) as jobs_waiting,
    (select count(*) from (select from procrastinate_jobs where status = 'doing' limit %(most)s) as found) as jobs_running,
    (select extract(epoch from at)::float from clock_seen) as worker_seen_at
from (
    select coalesce(sum(each.count), 0)::bigint as count, min(each.oldest) as oldest
    from (select id from organization where not test_mode order by id limit %(organizations)s) as o
    cross join lateral (
        select count(*) as count, min(s.next_billing_at) as oldest from (
            select next_billing_at from subscription
            where organization_id = o.id and next_billing_at <= %(now)s and status = 'active'
            order by next_billing_at limit %(due)s
        ) as s
    ) as each
) as due
"""


class Backlog(Record, kw_only=True):
    """Counts end at COUNTED_MAX, or at what is looked at."""

    bills_due: int
    bills_due_oldest_seconds: float
    customers_held: int
    fences: int
    invoices_without_price: int
    mails_waiting: int
    vat_checks_waiting: int
    webhooks_waiting: int
    webhooks_failed: int
    jobs_waiting: int
    jobs_running: int
    worker_seen_at: float | None


def backlog(conn: Connection[Any], *, now: datetime) -> Backlog:
    with conn.cursor(row_factory=class_row(Backlog)) as cursor:
        found = cursor.execute(
            _BACKLOG,
            {
                "now": now,
                "most": COUNTED_MAX,
                "organizations": ORGANIZATIONS_MAX,
                "due": DUE_OF_ORGANIZATION_MAX,
                "failed_since": now - FAILED_WITHIN,
            },
        ).fetchone()
    assert found is not None
    return found
