"""What mails are about: the objects of each kind, with what a mail needs to know of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.mail import MailKind
from permille.core.record import Record
from permille.database.bulk import uuid_array


class MailSubject(Record, kw_only=True):
    """An object that can be sent by mail."""

    id: UUID
    number: str | None
    """None for a payment request."""
    external_customer_id: str
    email: str | None
    """The payment request's where it has one, else the customer's."""
    amount_cents: int
    currency: str
    may_be_sent: bool
    """An invoice that is not final is sent to nobody."""
    is_worth_sending: bool
    """Whether it is sent without being asked: an invoice for nothing is not."""
    email_settings: list[str]
    """The billing entity's: what is sent without being asked."""


_SELECT = """
select o.id, o.number, c.external_id as external_customer_id, coalesce(o.email, c.email) as email,
    o.amount_cents::bigint, o.currency, o.may_be_sent, o.is_worth_sending, b.email_settings
"""
_WHERE = """
join customer c on c.id = o.customer_id join billing_entity b on b.id = o.billing_entity_id
where o.organization_id = %(organization)s and o.id = any(%(ids)s::uuid[])
"""

_INVOICES = f"""
{_SELECT} from (
    select id, organization_id, number, customer_id, billing_entity_id, null as email, total_amount_cents as amount_cents,
        currency, status = 'finalized' as may_be_sent, fees_amount_cents <> 0 as is_worth_sending
    from invoice where status in ('draft', 'finalized', 'voided')) o
{_WHERE}
"""

_CREDIT_NOTES = f"""
{_SELECT} from (
    select id, organization_id, number, customer_id, billing_entity_id, null as email,
        credit_amount_cents + refund_amount_cents + offset_amount_cents as amount_cents, currency,
        true as may_be_sent, credit_status is distinct from 'voided' as is_worth_sending
    from credit_note) o
{_WHERE}
"""

_RECEIPTS = f"""
{_SELECT} from (
    select r.id, r.organization_id, r.number, r.customer_id, null as email, p.amount_cents, p.currency,
        true as may_be_sent, true as is_worth_sending,
        (select i.billing_entity_id from invoice_payment ip join invoice i on i.id = ip.invoice_id
            where ip.payment_id = p.id order by i.number, i.id limit 1) as billing_entity_id
    from payment_receipt r join payment p on p.id = r.payment_id) o
{_WHERE}
"""

_REQUESTS = f"""
{_SELECT} from (
    select id, organization_id, null as number, customer_id, billing_entity_id, email, amount_cents, currency,
        true as may_be_sent, true as is_worth_sending
    from payment_request) o
{_WHERE}
"""

_OF_KIND: Mapping[MailKind, str] = {
    MailKind.INVOICE: _INVOICES,
    MailKind.CREDIT_NOTE: _CREDIT_NOTES,
    MailKind.PAYMENT_RECEIPT: _RECEIPTS,
    MailKind.PAYMENT_REQUEST: _REQUESTS,
}


def by_ids(
    conn: Connection[Any], organization_id: UUID, kind: MailKind, ids: Collection[UUID]
) -> dict[UUID, MailSubject]:
    """The organization's objects of a kind; none of a test, which is about nothing."""
    statement = _OF_KIND.get(kind)
    if not ids or statement is None:
        return {}
    with conn.cursor(row_factory=class_row(MailSubject)) as cursor:
        rows = cursor.execute(statement, {"organization": organization_id, "ids": uuid_array(ids)}).fetchall()
    return {row.id: row for row in rows}
