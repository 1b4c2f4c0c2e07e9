"""Late usage: finding events that came in after their period was billed, and what has been decided about them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.invoice.late_usage import LateUsageStatus, Line
from permille.core.metering.event import Arrived, PlacedEvent, Series
from permille.core.money import decimal_text
from permille.core.record import Record, astuple, names_of
from permille.database.bulk import instant_array, int_array, text_array, uuid_array
from permille.database.typed_rows import typed_row
from permille.store.past_usage import BILLS_PERIOD

CHUNK = 200_000
UNDECIDED_MAX = 1_000
"""The number of proposals whose usage the home page adds up."""


class LateUsage(Record, kw_only=True):
    """What a billed period of a charge comes to more than was billed of it; the period's end is exclusive."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    subscription_id: UUID
    charge_id: UUID
    code: str
    invoice_id: UUID
    """The invoice that had billed the period."""
    from_at: datetime
    to_at: datetime
    currency: str
    status: str
    events_count: int
    units: Decimal
    amount_cents: int
    lines: Sequence[Mapping[str, Any]]
    """The difference by price and group, as `line_json` writes it."""
    seen_to: int
    """The last seq of an event when it was priced."""
    adjusting_invoice_id: UUID | None
    """The invoice that bills it."""
    reason: str | None
    """Why it is not billed."""
    decided_by: UUID | None
    """The API key that the decision came with; None for a user of the web admin."""
    decided_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> tuple[UUID, UUID, datetime, datetime]:
        """Subscription, charge and period."""
        return self.subscription_id, self.charge_id, self.from_at, self.to_at


class Mark(Record, kw_only=True):
    """A billed period of a subscription for which events of a metric came in later."""

    subscription_id: UUID
    customer_id: UUID
    invoice_id: UUID
    code: str
    from_at: datetime
    to_at: datetime


class Undecided(Record, kw_only=True):
    """Open late usage of one metric."""

    code: str
    proposals: int
    events_count: int
    units: Decimal
    since: datetime


class TooLate(Record, kw_only=True):
    """Why an event is on no invoice: its period was billed before it came in, or its subscription ended without a bill."""

    event_identity: UUID
    invoice_id: UUID | None
    invoice_number: str | None
    from_at: datetime | None
    to_at: datetime | None
    late_usage_id: UUID | None
    status: str | None
    """What has been decided; None while it is not priced yet."""
    adjusting_invoice_number: str | None
    reason: str | None


_COLUMNS = ", ".join(names_of(LateUsage))

_BILLED_BEYOND = """
select w.organization_id, w.external_subscription_id, w.code, max(r.charges_billed_until)
from unnest(%(organizations)s::uuid[], %(external_ids)s::text[], %(codes)s::text[], %(ats)s::timestamptz[])
    as w (organization_id, external_subscription_id, code, at)
join subscription r on r.organization_id = w.organization_id and r.external_id = w.external_subscription_id
    and r.charges_billed_until > w.at
group by 1, 2, 3
"""

_MARK = f"""
insert into late_mark (organization_id, subscription_id, invoice_id, code)
select distinct l.organization_id, r.id, p.invoice_id, l.code
from unnest(%(organizations)s::uuid[], %(external_ids)s::text[], %(codes)s::text[], %(ats)s::timestamptz[],
        %(seqs)s::bigint[])
    as l (organization_id, external_subscription_id, code, at, seq)
join billable_metric m on m.organization_id = l.organization_id and m.code = l.code and m.deleted_at is null
join subscription r on r.organization_id = l.organization_id and r.external_id = l.external_subscription_id
join invoice_subscription p on p.subscription_id = r.id and p.charges_to_at > l.at
    and {BILLS_PERIOD}
    and (m.recurring or p.charges_from_at <= l.at) and l.seq > coalesce(p.counted_to, 0)
join invoice i on i.id = p.invoice_id and i.status in ('finalized', 'closed')
on conflict do nothing
"""

_CLAIM = """
with taken as (
    delete from late_mark where (organization_id, subscription_id, invoice_id, code) in (
        select m.organization_id, m.subscription_id, m.invoice_id, m.code
        from late_mark m left join subscription r on r.id = m.subscription_id
        where m.organization_id = %(organization)s and not exists (
            select from fence where organization_id = m.organization_id and task = %(task)s
                and customer_id = r.customer_id and retry_at > %(now)s
        )
        order by m.subscription_id, m.invoice_id, m.code limit %(limit)s for update of m skip locked
    ) returning subscription_id, invoice_id, code
)
select t.subscription_id, r.customer_id, t.invoice_id, t.code, p.charges_from_at as from_at, p.charges_to_at as to_at
from taken t join subscription r on r.id = t.subscription_id
join invoice_subscription p on p.invoice_id = t.invoice_id and p.subscription_id = t.subscription_id
order by t.subscription_id, p.charges_from_at, t.code
"""

# The subscription that takes an event is the one that ran at its time; on a tie the one that runs on. What is billed in
# arrears is on the invoice of its period; what is paid in advance has a fee of its own while the subscription runs.
_TOO_LATE = f"""
with e as (
    select * from unnest(%(identities)s::uuid[], %(organizations)s::uuid[], %(subscriptions)s::text[], %(codes)s::text[],
            %(ats)s::timestamptz[], %(seqs)s::bigint[], %(transaction_ids)s::text[])
        as e (identity, organization_id, external_subscription_id, code, at, seq, transaction_id)
)
select e.identity as event_identity, i.id as invoice_id, case when i.status = 'finalized' then i.number end as invoice_number,
    p.charges_from_at as from_at, p.charges_to_at as to_at, d.id as late_usage_id, d.status,
    j.number as adjusting_invoice_number, d.reason
from e
cross join lateral (
    select id, customer_id, plan_id, status from subscription
    where organization_id = e.organization_id and external_id = e.external_subscription_id
        and status in ('active', 'terminated') and started_at <= e.at
        and (terminated_at is null or terminated_at >= e.at)
    order by terminated_at desc nulls first, started_at desc limit 1
) r
cross join lateral (
    select bool_and(c.pay_in_advance) as in_advance
    from charge c join billable_metric m on m.id = c.billable_metric_id
    where c.plan_id = r.plan_id and c.deleted_at is null and m.code = e.code
) c
left join lateral (
    select invoice_id, charges_from_at, charges_to_at, seen_to from invoice_subscription
    where not c.in_advance and subscription_id = r.id and charges_to_at > e.at and charges_from_at <= e.at
        and {BILLS_PERIOD}
    order by charges_to_at limit 1
) p on true
left join invoice i on i.id = p.invoice_id
left join lateral (
    select id, status, adjusting_invoice_id, reason from late_usage
    where subscription_id = r.id and code = e.code and from_at = p.charges_from_at and seen_to >= e.seq
    order by created_at, id limit 1
) d on true
left join invoice j on j.id = d.adjusting_invoice_id
where case
    when c.in_advance then r.status = 'terminated'
        and not exists (select from fee where organization_id = e.organization_id
            and event_transaction_id = e.transaction_id and subscription_id = r.id)
        and not exists (select from advance_event where organization_id = e.organization_id and seq = e.seq)
        and not exists (select from held_advance_event where customer_id = r.customer_id and seq = e.seq)
    when not c.in_advance and p.invoice_id is null then r.status = 'terminated'
    when not c.in_advance then i.status in ('finalized', 'closed') and e.seq > p.seen_to
    else false end
"""


class Check(NamedTuple):
    """How far arrivals were looked through, and up to which they are looked through next."""

    checked_to: int
    next_to: int | None
    is_over: bool
    """Whether every transaction is over that was under way when `next_to` was settled."""


def check_of_arrivals(conn: Connection[Any]) -> Check:
    """Where the search for late events is, locked until the transaction ends."""
    row = conn.execute(
        "select checked_to, next_to,"
        " next_to is not null and next_xid <= pg_snapshot_xmin(pg_current_snapshot())"
        " from late_check for update"
    ).fetchone()
    assert row is not None, "late_check has its one row from its migration on"
    return Check(*row)


def begin_check(conn: Connection[Any], *, checked_to: int, settled: int) -> None:
    """Arrivals up to `checked_to` are looked through; those that are settled after them come next."""
    conn.execute(
        "update late_check set checked_to = %(checked)s,"
        " next_to = nullif(least(%(settled)s, %(checked)s + %(chunk)s), %(checked)s),"
        " next_xid = pg_snapshot_xmax(pg_current_snapshot())",
        {"checked": checked_to, "settled": settled, "chunk": CHUNK},
    )


def billed_beyond(conn: Connection[Any], arrived: Sequence[Arrived]) -> list[tuple[UUID, str, str, datetime]]:
    """Organization, external subscription id and code of those whose usage is billed beyond their first time, and how far.

    But for a period's first hours hardly any event is older than what is billed.
    """
    return conn.execute(_BILLED_BEYOND, _arrived(arrived)).fetchall()


def mark(conn: Connection[Any], late: Sequence[Arrived]) -> None:
    """Mark the billed periods that these events came in for later."""
    conn.execute(_MARK, {**_arrived(late), "seqs": int_array(each.seq for each in late)})


def price_again(conn: Connection[Any], organization_id: UUID) -> None:
    """Prices of the organization have changed: its open late usage is to be priced again."""
    conn.execute(
        "insert into late_mark (organization_id, subscription_id, invoice_id, code)"
        " select distinct organization_id, subscription_id, invoice_id, code from late_usage"
        " where organization_id = %s and status = 'open' on conflict do nothing",
        [organization_id],
    )


def price_again_for(
    conn: Connection[Any], organization_id: UUID, external_subscription_ids: Collection[str]
) -> None:
    """What these subscriptions have used is another: their open late usage is to be priced again."""
    conn.execute(
        "insert into late_mark (organization_id, subscription_id, invoice_id, code)"
        " select distinct l.organization_id, l.subscription_id, l.invoice_id, l.code"
        " from subscription s join late_usage l on l.subscription_id = s.id and l.status = 'open'"
        " where s.organization_id = %s and s.external_id = any(%s::text[]) on conflict do nothing",
        [organization_id, text_array(external_subscription_ids)],
    )


def _arrived(arrived: Sequence[Arrived]) -> dict[str, Any]:
    return {
        "organizations": uuid_array(each.organization_id for each in arrived),
        "external_ids": text_array(each.external_subscription_id for each in arrived),
        "codes": text_array(each.code for each in arrived),
        "ats": instant_array(each.at for each in arrived),
    }


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with marks, each once, by hops through the index."""
    rows = conn.execute(
        "with recursive w as ("
        "   (select organization_id from late_mark order by organization_id limit 1)"
        "   union all"
        "   select (select m.organization_id from late_mark m where m.organization_id > w.organization_id"
        "       order by m.organization_id limit 1) from w where w.organization_id is not null"
        ") select organization_id from w where organization_id is not null"
    ).fetchall()
    return [organization_id for (organization_id,) in rows]


def claim_marks(
    conn: Connection[Any], organization_id: UUID, *, task: str, now: datetime, limit: int
) -> list[Mark]:
    """Take marks away, but for those that someone else has taken, and those of customers that the task leaves alone."""
    with conn.cursor(row_factory=class_row(Mark)) as cursor:
        return cursor.execute(
            _CLAIM, {"organization": organization_id, "task": task, "now": now, "limit": limit}
        ).fetchall()


def mark_again(conn: Connection[Any], organization_id: UUID, marks: Sequence[Mark]) -> None:
    """Put back marks that were taken away in vain."""
    conn.execute(
        "insert into late_mark (organization_id, subscription_id, invoice_id, code)"
        " select %s, * from unnest(%s::uuid[], %s::uuid[], %s::text[]) on conflict do nothing",
        [
            organization_id,
            uuid_array(mark.subscription_id for mark in marks),
            uuid_array(mark.invoice_id for mark in marks),
            text_array(mark.code for mark in marks),
        ],
    )


def line_json(line: Line) -> dict[str, Any]:
    """A line as it is kept."""
    return {
        "charge_filter_id": str(line.charge_filter_id) if line.charge_filter_id else None,
        "grouped_by": dict(line.grouped_by),
        "is_true_up": line.is_true_up,
        "units": decimal_text(line.units),
        "events_count": line.events_count,
        "amount_cents": line.amount_cents,
        "precise_amount_cents": decimal_text(line.precise_amount_cents),
        "unit_cents": [line.unit_cents[0], decimal_text(line.unit_cents[1])] if line.unit_cents else None,
        "is_unpriced": line.is_unpriced,
        "is_commitment": line.is_commitment,
    }


def lines_of(found: LateUsage) -> list[Line]:
    """The lines as they were kept."""
    return [
        Line(
            charge_filter_id=UUID(each["charge_filter_id"]) if each["charge_filter_id"] else None,
            grouped_by=each["grouped_by"],
            is_true_up=each["is_true_up"],
            units=Decimal(each["units"]),
            events_count=each["events_count"],
            amount_cents=each["amount_cents"],
            precise_amount_cents=Decimal(each["precise_amount_cents"]),
            unit_cents=(each["unit_cents"][0], Decimal(each["unit_cents"][1]))
            if each["unit_cents"]
            else None,
            is_unpriced=each.get("is_unpriced", False),
            is_commitment=each.get("is_commitment", False),
        )
        for each in found.lines
    ]


def of_subscriptions(conn: Connection[Any], subscription_ids: Collection[UUID]) -> list[LateUsage]:
    """All late usage of these subscriptions, decided or not, the oldest first."""
    return _select(conn, "subscription_id = any(%s) order by created_at, id", [uuid_array(subscription_ids)])


def scheduled(conn: Connection[Any], customer_ids: Collection[UUID]) -> list[LateUsage]:
    """What the next invoices of these customers are to bill, the oldest first."""
    return _select(
        conn,
        "status = 'scheduled' and customer_id = any(%s) order by created_at, id",
        [uuid_array(customer_ids)],
    )


def on_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> list[LateUsage]:
    """What these invoices bill, the oldest first."""
    return _select(conn, "adjusting_invoice_id = any(%s) order by created_at, id", [uuid_array(invoice_ids)])


def by_id(
    conn: Connection[Any], late_usage_id: UUID, organization_id: UUID | None = None, *, lock: bool = False
) -> LateUsage | None:
    """One of any organization, or of this one; locked, if asked for."""
    found = _select(
        conn,
        f"id = %s and organization_id = coalesce(%s, organization_id){' for no key update' if lock else ''}",
        [late_usage_id, organization_id],
    )
    return found[0] if found else None


def listing(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    status: str | None,
    external_subscription_id: str | None,
    limit: int,
    offset: int,
) -> tuple[list[LateUsage], int]:
    """Late usage, the newest first, and how much there is in all."""
    where = "organization_id = %s"
    values: list[Any] = [organization_id]
    if status is not None:
        where += " and status = %s"
        values.append(status)
    if external_subscription_id is not None:
        where += " and subscription_id in (select id from subscription where organization_id = %s and external_id = %s)"
        values += [organization_id, external_subscription_id]
    found = _select(
        conn, f"{where} order by created_at desc, id limit %s offset %s", [*values, limit, offset]
    )
    row = conn.execute(f"select count(*) from late_usage where {where}", values).fetchone()
    return found, row[0] if row else 0


def undecided(conn: Connection[Any], organization_id: UUID) -> list[Undecided]:
    """Open late usage by metric, of the newest UNDECIDED_MAX proposals."""
    with conn.cursor(row_factory=class_row(Undecided)) as cursor:
        return cursor.execute(
            "select code, count(*) as proposals, sum(events_count)::bigint as events_count, sum(units) as units,"
            " min(created_at) as since from ("
            "   select code, events_count, units, created_at from late_usage"
            "   where organization_id = %s and status = 'open' order by created_at desc, id limit %s"
            ") w group by code order by code",
            [organization_id, UNDECIDED_MAX],
        ).fetchall()


def if_sent_now(
    conn: Connection[Any], organization_id: UUID, events: Sequence[tuple[str, str, datetime]]
) -> dict[int, TooLate]:
    """Those of the events (external subscription id, code, time) that would be too late, by their place in `events`."""
    sent = [
        PlacedEvent(
            UUID(int=place), "", at, 2**63 - 1, True, Series(0, organization_id, subscription, code, {})
        )
        for place, (subscription, code, at) in enumerate(events)
    ]
    return {identity.int: found for identity, found in too_late(conn, sent).items()}


def too_late(conn: Connection[Any], events: Sequence[PlacedEvent]) -> dict[UUID, TooLate]:
    """Those of the events that came in too late, by identity."""
    values = {
        "identities": uuid_array(each.identity for each in events),
        "organizations": uuid_array(each.series.organization_id for each in events),
        "subscriptions": [each.series.external_subscription_id for each in events],
        "codes": text_array(each.series.code for each in events),
        "ats": instant_array(each.at for each in events),
        "seqs": int_array(each.seq for each in events),
        "transaction_ids": text_array(each.transaction_id for each in events),
    }
    with conn.cursor(row_factory=class_row(TooLate)) as cursor:
        return {row.event_identity: row for row in cursor.execute(_TOO_LATE, values)}


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[LateUsage]:
    with conn.cursor(row_factory=typed_row(LateUsage)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from late_usage where {condition}", values).fetchall()


def changed_since(conn: Connection[Any], billed: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Those (charge, invoice) of which the charge was saved again since the invoice was final."""
    rows = conn.execute(
        "select w.charge_id, w.invoice_id from unnest(%s::uuid[], %s::uuid[]) as w (charge_id, invoice_id)"
        " join charge c on c.id = w.charge_id join invoice i on i.id = w.invoice_id"
        " where c.updated_at >= coalesce(i.finalized_at, i.created_at)",
        [
            uuid_array(charge_id for charge_id, _ in billed),
            uuid_array(invoice_id for _, invoice_id in billed),
        ],
    ).fetchall()
    return set(rows)


def put(conn: Connection[Any], proposals: Sequence[LateUsage]) -> set[UUID]:
    """Write open late usage; the ids of that which there was not before. One of the same period is replaced."""
    new: set[UUID] = set()
    for each in proposals:
        row = conn.execute(
            f"insert into late_usage ({_COLUMNS}) values ({', '.join(['%s'] * len(names_of(LateUsage)))})"
            " on conflict (subscription_id, charge_id, from_at, to_at) where status = 'open' do update"
            " set events_count = excluded.events_count, units = excluded.units, lines = excluded.lines,"
            " amount_cents = excluded.amount_cents, seen_to = excluded.seen_to, updated_at = excluded.updated_at"
            " returning id",
            [_value(value) for value in astuple(each)],
        ).fetchone()
        if row and row[0] == each.id:
            new.add(each.id)
    return new


def _value(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, list) else value


def drop(conn: Connection[Any], ids: Collection[UUID]) -> None:
    """Forget open late usage that is none any more."""
    conn.execute("delete from late_usage where id = any(%s) and status = 'open'", [list(ids)])


def decide(
    conn: Connection[Any],
    late_usage_id: UUID,
    *,
    status: LateUsageStatus,
    reason: str | None,
    decided_by: UUID | None,
    now: datetime,
) -> None:
    """Write down what is decided about open late usage."""
    conn.execute(
        "update late_usage set status = %s, reason = %s, decided_by = %s, decided_at = %s, updated_at = %s"
        " where id = %s and status = 'open'",
        [status, reason, decided_by, now, now, late_usage_id],
    )


def set_billed(conn: Connection[Any], invoices: Mapping[UUID, UUID]) -> None:
    """Late usage -> the invoice that bills it now."""
    if invoices:
        conn.execute(
            "update late_usage l set status = 'billed', adjusting_invoice_id = w.invoice_id"
            " from unnest(%s::uuid[], %s::uuid[]) as w (id, invoice_id) where l.id = w.id",
            [uuid_array(invoices), uuid_array(invoices.values())],
        )
