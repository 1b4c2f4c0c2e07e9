"""Invoices at usage thresholds: what they have billed, what others have taken off for it, and which thresholds these were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.contract.threshold import UsageThreshold, threshold_json, thresholds_of_json
from permille.core.invoice.credit import CreditKind, InvoiceCredit
from permille.core.invoice.draft import InvoiceDraft
from permille.core.invoice.progressive import BilledBefore, FeeKey, fee_key, left_cents
from permille.core.period import Period
from permille.core.record import Record
from permille.database.bulk import instant_array, uuid_array
from permille.ids import new_id

# An invoice at a threshold is made in the period that it bills.
_LAST = """
select distinct on (w.subscription_id) w.subscription_id, i.id, i.fees_amount_cents, i.coupons_amount_cents,
    (
        select coalesce(sum(c.amount_cents), 0)::bigint from progressive_credit c join invoice o on o.id = c.invoice_id
        where c.progressive_invoice_id = i.id and o.status not in ('voided', 'closed', 'deleted') and o.id <> all(%(without)s)
    ),
    (
        select coalesce(sum(
            case when n.catalogue_version_id is null then n.credit_amount_cents else n.sub_total_excluding_taxes_amount_cents end
        ), 0)::bigint from credit_note n
        where n.invoice_id = i.id and n.credit_status is distinct from 'voided'
    )
from unnest(%(ids)s::uuid[], %(begins)s::timestamptz[], %(ends)s::timestamptz[]) as w (subscription_id, begins, ends)
join invoice_subscription p on p.subscription_id = w.subscription_id and p.invoicing_reason = 'progressive_billing'
join invoice i on i.id = p.invoice_id and i.status = 'finalized' and i.created_at >= w.begins and i.created_at < w.ends
order by w.subscription_id, i.created_at desc, i.sequential_id desc
"""

_WITH_THRESHOLDS = """
s.status = 'active' and not s.progressive_billing_disabled and (
    s.usage_thresholds <> '[]' or exists (
        select from plan p left join plan parent on parent.id = p.parent_id
        where p.id = s.plan_id and (p.usage_thresholds <> '[]' or parent.usage_thresholds <> '[]')
    )
)
"""
"""The condition on a subscription s that may be billed at thresholds."""

_MARK = f"""
insert into threshold_mark (organization_id, external_subscription_id)
select distinct s.organization_id, s.external_id
from unnest(%s::uuid[], %s::text[]) as w (organization_id, external_id)
join subscription s on s.organization_id = w.organization_id and s.external_id = w.external_id
where {_WITH_THRESHOLDS}
"""

_MARK_OF_PLAN = f"""
insert into threshold_mark (organization_id, external_subscription_id)
select s.organization_id, s.external_id from subscription s
where s.plan_id = any(array(select id from plan where id = %(plan)s or parent_id = %(plan)s)) and {_WITH_THRESHOLDS}
"""

_MARK_OF_PLANS = f"""
insert into threshold_mark (organization_id, external_subscription_id)
select s.organization_id, s.external_id from subscription s
where s.plan_id = any(%s::uuid[]) and {_WITH_THRESHOLDS}
"""

# A customer for whom it has failed is left alone until it may be tried again.
_TAKE = """
with taken as (
    select m.ctid from threshold_mark m
    left join subscription s on s.organization_id = m.organization_id
        and s.external_id = m.external_subscription_id and s.status = 'active'
    where m.organization_id = %(organization)s and not exists (
        select from fence f where f.organization_id = m.organization_id and f.task = %(task)s
            and f.customer_id = s.customer_id and f.retry_at > %(now)s
    )
    and s.next_billing_at <= %(at)s is not true and s.charges_billed_until > %(at)s is not true
    limit %(limit)s for update of m skip locked
)
delete from threshold_mark where ctid = any(array(select ctid from taken)) returning external_subscription_id
"""


def billed_before(
    conn: Connection[Any],
    organization_id: UUID,
    periods: Mapping[UUID, Period],
    *,
    without: Collection[UUID] = (),
) -> dict[UUID, BilledBefore]:
    """Subscription -> the last invoice at a threshold of its period; what the invoices `without` have taken off is left."""
    if not periods or not _is_any(conn, organization_id):
        return {}
    values = {
        "ids": uuid_array(periods),
        "begins": instant_array(period.from_ for period in periods.values()),
        "ends": instant_array(period.to for period in periods.values()),
        "without": uuid_array(without),
    }
    rows = conn.execute(_LAST, values).fetchall()
    fees = _fees(conn, [invoice_id for _, invoice_id, *_ in rows]) if rows else {}
    return {
        subscription_id: BilledBefore(
            invoice_id=invoice_id,
            fees_amount_cents=cents,
            left_cents=left_cents(
                cents, coupons_cents=coupons, taken_off_cents=taken, credited_cents=credited
            ),
            fees=fees.get(invoice_id, {}),
        )
        for subscription_id, invoice_id, cents, coupons, taken, credited in rows
    }


def _is_any(conn: Connection[Any], organization_id: UUID) -> bool:
    row = conn.execute(
        "select exists (select from invoice where organization_id = %s and invoice_type = 'progressive_billing')",
        [organization_id],
    ).fetchone()
    return row is not None and row[0]


def _fees(conn: Connection[Any], invoice_ids: Sequence[UUID]) -> dict[UUID, dict[FeeKey, int]]:
    rows = conn.execute(
        "select invoice_id, charge_id, charge_filter_id, grouped_by, amount_cents from fee"
        " where invoice_id = any(%s) order by invoice_id, position",
        [invoice_ids],
    )
    found: dict[UUID, dict[FeeKey, int]] = defaultdict(lambda: defaultdict(int))
    for invoice_id, charge_id, filter_id, grouped_by, cents in rows:
        found[invoice_id][fee_key(charge_id, filter_id, grouped_by)] += cents
    return found


def save_credits(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Write what these new invoices have taken off."""
    rows = [
        (new_id(draft.at), draft.id, each.subscription_id, each.invoice_id, each.amount_cents, draft.at)
        for draft in drafts
        for each in draft.progressive_credits
    ]
    if rows:
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into progressive_credit (id, invoice_id, subscription_id, progressive_invoice_id,"
                " amount_cents, created_at) values (%s, %s, %s, %s, %s, %s)",
                rows,
            )


def replace_credits(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Write again what drafts that are stored take off."""
    conn.execute(
        "delete from progressive_credit where invoice_id = any(%s)", [uuid_array(each.id for each in drafts)]
    )
    save_credits(conn, drafts)


def credits_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[InvoiceCredit]]:
    """Invoice -> what it has taken off."""
    rows = conn.execute(
        "select c.id, c.invoice_id, c.progressive_invoice_id, i.number, c.amount_cents"
        " from progressive_credit c join invoice i on i.id = c.progressive_invoice_id"
        " where c.invoice_id = any(%s) order by c.id",
        [list(invoice_ids)],
    )
    found: dict[UUID, list[InvoiceCredit]] = defaultdict(list)
    for credit_id, invoice_id, item_id, number, cents in rows:
        found[invoice_id].append(
            InvoiceCredit(
                id=credit_id,
                invoice_id=invoice_id,
                kind=CreditKind.INVOICE,
                item_id=item_id,
                code=number,
                name=number,
                amount_cents=cents,
            )
        )
    return found


class AppliedThreshold(Record, kw_only=True):
    """A threshold that a subscription has reached, as it was then, and the invoice that was made of it."""

    id: UUID
    organization_id: UUID
    invoice_id: UUID
    subscription_id: UUID
    threshold: UsageThreshold
    lifetime_usage_amount_cents: int
    created_at: datetime


def add_applied(conn: Connection[Any], applied: Sequence[AppliedThreshold]) -> None:
    """Write thresholds that were reached."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into applied_usage_threshold (id, organization_id, invoice_id, subscription_id, threshold,"
            " lifetime_usage_amount_cents, created_at) values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    each.id,
                    each.organization_id,
                    each.invoice_id,
                    each.subscription_id,
                    Jsonb(threshold_json(each.threshold)),
                    each.lifetime_usage_amount_cents,
                    each.created_at,
                )
                for each in applied
            ],
        )


def applied_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, AppliedThreshold]:
    """Reached thresholds by id."""
    return {each.id: each for each in _applied(conn, "id = any(%s)", ids)}


def applied_on(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[AppliedThreshold]]:
    """Invoice -> the thresholds that it was made of."""
    found: dict[UUID, list[AppliedThreshold]] = defaultdict(list)
    for each in _applied(conn, "invoice_id = any(%s)", invoice_ids):
        found[each.invoice_id].append(each)
    return found


def applied_of(conn: Connection[Any], subscription_ids: Collection[UUID]) -> list[AppliedThreshold]:
    """The thresholds that these subscriptions have reached, the first ones first."""
    return _applied(conn, "subscription_id = any(%s)", subscription_ids)


def _applied(conn: Connection[Any], condition: str, ids: Collection[UUID]) -> list[AppliedThreshold]:
    rows = conn.execute(
        "select id, organization_id, invoice_id, subscription_id, threshold, lifetime_usage_amount_cents,"
        f" created_at from applied_usage_threshold where {condition} order by created_at, id",
        [list(ids)],
    ).fetchall()
    return [
        AppliedThreshold(
            id=row_id,
            organization_id=organization_id,
            invoice_id=invoice_id,
            subscription_id=subscription_id,
            threshold=thresholds_of_json([threshold])[0],
            lifetime_usage_amount_cents=cents,
            created_at=created_at,
        )
        for row_id, organization_id, invoice_id, subscription_id, threshold, cents, created_at in rows
    ]


def is_any_threshold(conn: Connection[Any], organization_id: UUID | None = None) -> bool:
    """Whether the organization, or any, has a threshold."""
    row = conn.execute(
        "select exists (select from plan where usage_thresholds <> '[]'"
        "   and (%(organization)s::uuid is null or organization_id = %(organization)s))"
        " or exists (select from subscription where usage_thresholds <> '[]'"
        "   and (%(organization)s::uuid is null or organization_id = %(organization)s))",
        {"organization": organization_id},
    ).fetchone()
    return row is not None and row[0]


def mark(conn: Connection[Any], of: Collection[tuple[UUID, str]]) -> None:
    """The usage of these subscriptions, by organization and external id, may have reached a threshold."""
    if of:
        organizations, external_ids = zip(*of, strict=True)
        conn.execute(_MARK, [list(organizations), list(external_ids)])


def mark_of_plan(conn: Connection[Any], plan_id: UUID) -> None:
    """As mark, for all subscriptions on a plan or on copies of it."""
    conn.execute(_MARK_OF_PLAN, {"plan": plan_id})


def mark_of_plans(conn: Connection[Any], plan_ids: Collection[UUID]) -> None:
    """As mark, for all subscriptions on these very plans."""
    conn.execute(_MARK_OF_PLANS, [uuid_array(plan_ids)])


def organizations_waiting(conn: Connection[Any]) -> list[UUID]:
    """The organizations with subscriptions that are to be looked at."""
    rows = conn.execute("select distinct organization_id from threshold_mark")
    return [organization_id for (organization_id,) in rows]


def take_marks(
    conn: Connection[Any], organization_id: UUID, *, task: str, at: datetime, now: datetime, limit: int
) -> list[str]:
    """Take the external ids of subscriptions that are to be looked at; those that another worker has are skipped.

    Those whose period has ended by the organization's instant `at`, or was billed already, wait for the next one.
    """
    values = {"organization": organization_id, "task": task, "at": at, "now": now, "limit": limit}
    return list({external_id for (external_id,) in conn.execute(_TAKE, values)})
