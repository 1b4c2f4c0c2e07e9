"""Who pays for usage of language models, and what fees came to: the rows that margins are made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record

_DAY = timedelta(days=1)

_PLAN = "coalesce(parent.code, p.code)"
_TIMEZONE = "coalesce(c.timezone, e.timezone)"

_PAYERS = f"""
select s.external_id as external_subscription_id, c.external_id as customer, {_PLAN} as plan,
    p.amount_currency as currency, {_TIMEZONE} as timezone, s.started_at
from subscription s join customer c on c.id = s.customer_id join billing_entity e on e.id = c.billing_entity_id
join plan p on p.id = s.plan_id left join plan parent on parent.id = p.parent_id
where s.organization_id = %s and s.external_id = any(%s) and s.started_at is not null
order by s.external_id, s.started_at, s.created_at, s.id
"""

# Prepaid credits are no revenue but pay for it, a progressive invoice's fees are on the period's invoice again, and partners
# are paid. A fee counts on the last day of its period; one that was made before that, on the day when it was made.
_FEES = f"""
select customer, plan, case when %(by_day)s then day end as day, currency, grouped, listed,
    coalesce(sum(amount_cents) filter (where is_final), 0)::bigint as billed_cents,
    coalesce(sum(amount_cents) filter (where not is_final), 0)::bigint as unbilled_cents,
    coalesce(sum(amount_cents) filter (where not is_costed), 0)::bigint as without_cost_cents
from (
    select case when %(by_customer)s then c.external_id end as customer, case when %(by_plan)s then {_PLAN} end as plan,
        f.amount_currency as currency, f.amount_cents, coalesce(i.status, 'finalized') = 'finalized' as is_final,
        f.fee_type <> 'charge' or m.code = any(%(costed)s) as is_costed,
        least(
            ((f.to_at - interval '1 microsecond') at time zone {_TIMEZONE})::date,
            (f.created_at at time zone {_TIMEZONE})::date
        ) as day,
        array(select f.grouped_by ->> name from unnest(%(names)s::text[]) as name) as grouped,
        array(select (x.values -> name)::text from unnest(%(names)s::text[]) as name) as listed
    from fee f join customer c on c.id = f.customer_id join billing_entity e on e.id = c.billing_entity_id
    left join invoice i on i.id = f.invoice_id
    left join subscription s on s.id = f.subscription_id
    left join plan p on p.id = s.plan_id left join plan parent on parent.id = p.parent_id
    left join charge_filter x on x.id = f.charge_filter_id
    left join charge h on h.id = f.charge_id left join billable_metric m on m.id = h.billable_metric_id
    where f.organization_id = %(organization)s and f.created_at >= %(earliest)s
        and f.fee_type <> 'credit' and c.account_type <> 'partner'
        and case when f.invoice_id is null then f.pay_in_advance
            else i.status in ('finalized', 'draft') and i.invoice_type not in ('credit', 'progressive_billing') end
) r
where r.day between %(since)s and %(until)s
group by 1, 2, 3, 4, 5, 6
"""


class Payer(Record, kw_only=True):
    """A row of a subscription: who pays for its usage from its start on, and how."""

    external_subscription_id: str
    customer: str
    plan: str
    currency: str
    timezone: str
    started_at: datetime


class FeeSearch(Record, kw_only=True):
    """The fees of some days, and what they are added up by."""

    organization_id: UUID
    since: date
    until: date
    """The last day."""
    costed: Sequence[str]
    """The metrics whose cost is looked up."""
    names: Sequence[str] = ()
    """Properties of usage."""
    by_customer: bool = False
    by_plan: bool = False
    by_day: bool = False


class FeeSum(Record, kw_only=True):
    """What some fees come to: on final invoices or paid by themselves, and on drafts."""

    customer: str | None
    plan: str | None
    day: date | None
    currency: str
    grouped_by: Mapping[str, str | None]
    filter_values: Mapping[str, Sequence[str]]
    billed_cents: int
    unbilled_cents: int
    without_cost_cents: int
    """The part of both that is for usage by metrics whose cost is not looked up."""


def payers(conn: Connection[Any], organization_id: UUID, external_ids: Collection[str]) -> list[Payer]:
    """The rows of these subscriptions that have started, in the order of their starts."""
    with conn.cursor(row_factory=class_row(Payer)) as cursor:
        return cursor.execute(_PAYERS, [organization_id, list(external_ids)]).fetchall()


def fee_sums(conn: Connection[Any], search: FeeSearch) -> list[FeeSum]:
    """What fees of these days come to, without taxes and before coupons."""
    values = {
        "organization": search.organization_id,
        "since": search.since,
        "until": search.until,
        "earliest": datetime.combine(search.since, time(), UTC) - _DAY,
        "names": list(search.names),
        "costed": list(search.costed),
        "by_customer": search.by_customer,
        "by_plan": search.by_plan,
        "by_day": search.by_day,
    }
    return [
        FeeSum(
            customer=customer,
            plan=plan,
            day=day,
            currency=currency,
            grouped_by=dict(zip(search.names, grouped, strict=True)),
            filter_values={
                name: json.loads(text) for name, text in zip(search.names, listed, strict=True) if text
            },
            billed_cents=billed,
            unbilled_cents=unbilled,
            without_cost_cents=without_cost,
        )
        for customer, plan, day, currency, grouped, listed, billed, unbilled, without_cost in conn.execute(
            _FEES, values
        )
    ]
