"""Figures by month: what was billed, what is collected and overdue, and which usage it was. Each is one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record

# Partners are paid, not billed: their invoices are no revenue.
OF_PAYERS = "i.customer_id not in (select id from customer where organization_id = %(organization)s and account_type = 'partner')"
_OF_ENTITY = "(%(entity)s::uuid is null or i.billing_entity_id = %(entity)s)"

_FINAL = (
    "i.organization_id = %(organization)s and i.status = 'finalized' and i.issuing_date >= %(since)s"
    " and i.issuing_date < %(until)s and (%(currency)s::text is null or i.currency = %(currency)s)"
    f" and (%(customer)s::uuid is null or i.customer_id = %(customer)s) and {_OF_ENTITY} and {OF_PAYERS}"
)

_ISSUED = f"""
select date_trunc('month', i.issuing_date)::date as month, i.currency, i.id, i.payment_status, i.invoice_type,
    i.sub_total_excluding_taxes_amount_cents as net_cents, i.total_amount_cents
from invoice i where {_FINAL} and i.payment_dispute_lost_at is null
"""

# An invoice at a threshold lists usage that the invoice of its period lists again.
_LISTS_USAGE = "i.invoice_type <> 'progressive_billing'"

# Fees without an invoice are revenue of the month in which they were made; a credit invoice is none: it is what its credits pay.
_GROSS_REVENUE = f"""
select month, currency, sum(net_cents)::bigint as amount_cents, count(id)::bigint as invoices_count
from (
    select month, currency, net_cents, id from ({_ISSUED}) issued where invoice_type <> 'credit'
    union all
    select date_trunc('month', f.created_at, 'UTC')::date, f.amount_currency, f.amount_cents, null
    from fee f
    where f.organization_id = %(organization)s and f.invoice_id is null and f.pay_in_advance
        and f.created_at >= %(since)s::timestamp at time zone 'UTC'
        and f.created_at < %(until)s::timestamp at time zone 'UTC'
        and (%(currency)s::text is null or f.amount_currency = %(currency)s)
        and (%(customer)s::uuid is null or f.customer_id = %(customer)s)
        and (%(entity)s::uuid is null or %(entity)s = coalesce(
            (select s.billing_entity_id from subscription s where s.id = f.subscription_id),
            (select c.billing_entity_id from customer c where c.id = f.customer_id)))
        and {OF_PAYERS.replace("i.", "f.")}
) r
group by 1, 2 order by 1, 2
"""

# A credit invoice has to be paid, and what its credits pay is not in the totals of others.
_COLLECTION = f"""
select month, currency, payment_status, sum(total_amount_cents)::bigint as amount_cents,
    count(*)::bigint as invoices_count
from ({_ISSUED}) r group by 1, 2, 3 order by 1, 2, 3
"""

_INVOICED_USAGE = f"""
select date_trunc('month', i.issuing_date)::date as month, i.currency, m.code, sum(f.amount_cents)::bigint as amount_cents
from invoice i join fee f on f.invoice_id = i.id and f.fee_type = 'charge'
join charge c on c.id = f.charge_id join billable_metric m on m.id = c.billable_metric_id
where {_FINAL} and {_LISTS_USAGE} group by 1, 2, 3 order by 1, 2, 3
"""

# A fee of several months is spread over those that its period has, from the month in which it begins: a first period that
# is cut has fewer. A weekly one counts in the month of its invoice, as 4.33 times the average of those of a subscription.
_MRR = f"""
with fees as (
    select f.subscription_id, i.currency, p.interval, date_trunc('month', i.issuing_date)::date as issued,
        date_trunc('month', f.from_at at time zone i.timezone)::date as begins,
        f.amount_cents - f.precise_coupons_amount_cents as net_cents,
        age(((f.to_at - interval '1 microsecond') at time zone i.timezone)::date + 1,
            (f.from_at at time zone i.timezone)::date) as lasts
    from invoice i join fee f on f.invoice_id = i.id and f.fee_type = 'subscription'
    join subscription s on s.id = f.subscription_id join plan p on p.id = s.plan_id
    where {_FINAL.replace("%(since)s", "%(since)s::date - interval '13 months'")}
), long as (
    select begins, currency, net_cents,
        (extract(year from lasts) * 12 + extract(month from lasts) + (extract(day from lasts) > 0)::int)::int as months
    from fees where interval not in ('weekly', 'monthly')
), spread as (
    select (begins + number * interval '1 month')::date as month, currency, net_cents / months as cents
    from long cross join lateral generate_series(0, months - 1) as number
    union all
    select issued, currency, net_cents from fees where interval = 'monthly'
    union all
    select issued, currency, avg(net_cents) * 4.33 from fees where interval = 'weekly'
    group by issued, currency, subscription_id
)
select month, currency, round(sum(cents))::bigint as amount_cents from spread
where month >= %(since)s and month < %(until)s group by 1, 2 order by 1, 2
"""

_OVERDUE = f"""
select date_trunc('month', i.payment_due_date)::date as month, i.currency,
    sum(i.total_amount_cents - i.total_paid_amount_cents - i.offset_amount_cents)::bigint as amount_cents,
    array_agg(i.id order by i.payment_due_date, i.id) as invoice_ids
from invoice i
where i.organization_id = %(organization)s and i.payment_overdue and i.status = 'finalized'
    and i.payment_due_date >= %(since)s and i.payment_due_date < %(until)s
    and (%(currency)s::text is null or i.currency = %(currency)s)
    and (%(customer)s::uuid is null or i.customer_id = %(customer)s) and {_OF_ENTITY} and {OF_PAYERS}
group by 1, 2 order by 1, 2
"""

_USAGE = f"""
select date_trunc(%(unit)s, i.issuing_date)::date as starts_on, i.currency, m.code, m.deleted_at is not null as is_deleted,
    sum(f.amount_cents)::bigint as amount_cents,
    coalesce(sum(f.units) filter (where f.true_up_parent_fee_id is null), 0) as units
from invoice i join fee f on f.invoice_id = i.id and f.fee_type = 'charge'
join charge c on c.id = f.charge_id join billable_metric m on m.id = c.billable_metric_id
join customer u on u.id = i.customer_id
join subscription s on s.id = f.subscription_id join plan p on p.id = s.plan_id
where i.organization_id = %(organization)s and i.status in ('finalized', 'draft') and {_LISTS_USAGE}
    and i.issuing_date >= %(since)s and i.issuing_date < %(until)s
    and (%(currency)s::text is null or i.currency = %(currency)s)
    and (%(customer)s::uuid is null or i.customer_id = %(customer)s) and {_OF_ENTITY}
    and (%(country)s::text is null or u.country = %(country)s)
    and (%(customer_type)s::text is null or u.customer_type = %(customer_type)s)
    and (%(subscription)s::text is null or s.external_id = %(subscription)s)
    and (%(recurring)s::boolean is null or m.recurring = %(recurring)s)
    and (%(plan)s::text is null or p.code = %(plan)s)
    and (%(metric)s::text is null or m.code = %(metric)s) and {OF_PAYERS}
group by 1, 2, 3, 4 order by 1, 2, 3 limit 10000
"""


class Span(Record, kw_only=True):
    """The organization and the days that are asked for; one customer, currency and billing entity alone where they are given."""

    organization_id: UUID
    since: date
    until: date
    """The first day after them."""
    currency: str | None = None
    customer_id: UUID | None = None
    billing_entity_id: UUID | None = None

    @property
    def values(self) -> dict[str, Any]:
        return {
            "organization": self.organization_id,
            "since": self.since,
            "until": self.until,
            "currency": self.currency,
            "customer": self.customer_id,
            "entity": self.billing_entity_id,
        }


class MonthlyAmount(Record, kw_only=True):
    """An amount of a month; the other figures where they are asked for."""

    month: date
    currency: str
    amount_cents: int
    invoices_count: int = 0
    payment_status: str = ""
    code: str = ""
    invoice_ids: Sequence[UUID] = ()


class UsageSpan(Record, kw_only=True):
    """Which usage is added up, by `unit` of days; what is None narrows nothing."""

    span: Span
    unit: str
    country: str | None = None
    customer_type: str | None = None
    external_subscription_id: str | None = None
    is_recurring: bool | None = None
    plan_code: str | None = None
    metric_code: str | None = None


class UsedInSpan(Record, kw_only=True):
    """Usage of a metric in some days."""

    starts_on: date
    currency: str
    code: str
    is_deleted: bool
    amount_cents: int
    units: Decimal


def _monthly(conn: Connection[Any], query: str, span: Span) -> list[MonthlyAmount]:
    with conn.cursor(row_factory=class_row(MonthlyAmount)) as cursor:
        return cursor.execute(query, span.values).fetchall()


def gross_revenue(conn: Connection[Any], span: Span) -> list[MonthlyAmount]:
    """What was billed, after discounts and before taxes."""
    return _monthly(conn, _GROSS_REVENUE, span)


def invoice_collection(conn: Connection[Any], span: Span) -> list[MonthlyAmount]:
    """What final invoices come to, by how far they are paid."""
    return _monthly(conn, _COLLECTION, span)


def invoiced_usage(conn: Connection[Any], span: Span) -> list[MonthlyAmount]:
    """Usage on final invoices, by metric."""
    return _monthly(conn, _INVOICED_USAGE, span)


def mrr(conn: Connection[Any], span: Span) -> list[MonthlyAmount]:
    """Subscription fees by the months that they are for, after discounts and before taxes."""
    return _monthly(conn, _MRR, span)


def overdue_balance(conn: Connection[Any], span: Span) -> list[MonthlyAmount]:
    """What is still to be paid of overdue invoices, by the month in which it was due."""
    return _monthly(conn, _OVERDUE, span)


def usage(conn: Connection[Any], of: UsageSpan) -> list[UsedInSpan]:
    """Usage on invoices and drafts, by metric, of the days on which they are issued."""
    values = {
        **of.span.values,
        "unit": of.unit,
        "country": of.country,
        "customer_type": of.customer_type,
        "subscription": of.external_subscription_id,
        "recurring": of.is_recurring,
        "plan": of.plan_code,
        "metric": of.metric_code,
    }
    with conn.cursor(row_factory=class_row(UsedInSpan)) as cursor:
        return cursor.execute(_USAGE, values).fetchall()
