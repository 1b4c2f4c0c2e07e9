"""The periods of a subscription that are billed, read back from the invoices."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPeriod:
    """A period [from_at, to_at) on an invoice; the amounts are the whole invoice's, as in Lago."""

    invoice_id: UUID
    subscription_id: UUID
    from_at: datetime
    to_at: datetime
    issuing_date: date
    currency: str
    fees_amount_cents: int
    taxes_amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFee:
    """A charge fee with the charge, filter and metric it is of, also when these are deleted since."""

    invoice_id: UUID
    subscription_id: UUID
    charge_id: UUID
    charge_code: str
    charge_model: str
    charge_invoice_display_name: str | None
    charge_has_filters: bool
    metric_id: UUID
    metric_name: str
    metric_code: str
    aggregation_type: str
    filter_id: UUID | None
    filter_invoice_display_name: str | None
    filter_values: Mapping[str, list[str]] | None
    grouped_by: Mapping[str, str | None]
    units: Decimal
    total_aggregated_units: Decimal | None
    events_count: int | None
    amount_cents: int


_PERIODS = (
    "from invoice_subscription p join invoice i on i.id = p.invoice_id"
    " join subscription s on s.id = p.subscription_id join customer c on c.id = s.customer_id"
    " where s.organization_id = %s and s.external_id = %s and c.external_id = %s and c.deleted_at is null"
    " and p.charges_from_at is not null and p.charges_to_at is not null"
)


def periods(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    external_customer_id: str,
    external_subscription_id: str,
    limit: int,
    offset: int,
) -> tuple[list[PastPeriod], int]:
    """The billed periods, newest first, and how many there are; none for what is not known."""
    whose = [organization_id, external_subscription_id, external_customer_id]
    with conn.cursor(row_factory=class_row(PastPeriod)) as cursor:
        rows = cursor.execute(
            "select p.invoice_id, p.subscription_id, p.charges_from_at as from_at, p.charges_to_at as to_at,"
            " i.issuing_date, i.currency, i.fees_amount_cents,"
            " (select coalesce(sum(f.taxes_amount_cents), 0)::bigint from fee f where f.invoice_id = i.id)"
            f" as taxes_amount_cents {_PERIODS}"
            " order by p.charges_from_at desc, i.created_at desc, i.id limit %s offset %s",
            [*whose, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) {_PERIODS}", whose).fetchone()
    return rows, row[0] if row else 0


def charge_fees(
    conn: Connection[Any], *, invoice_ids: Collection[UUID], billable_metric_code: str | None
) -> list[PastFee]:
    """The charge fees of these invoices, of one metric or of all, in the order of the invoice."""
    with conn.cursor(row_factory=class_row(PastFee)) as cursor:
        return cursor.execute(
            "select f.invoice_id, f.subscription_id, c.id as charge_id, c.code as charge_code, c.charge_model,"
            " c.invoice_display_name as charge_invoice_display_name,"
            " exists (select from charge_filter o where o.charge_id = c.id) as charge_has_filters,"
            " m.id as metric_id, m.name as metric_name, m.code as metric_code, m.aggregation_type,"
            " cf.id as filter_id, cf.invoice_display_name as filter_invoice_display_name,"
            " cf.values as filter_values, f.grouped_by, f.units, f.total_aggregated_units, f.events_count,"
            " f.amount_cents"
            " from fee f join charge c on c.id = f.charge_id"
            " join billable_metric m on m.id = c.billable_metric_id"
            " left join charge_filter cf on cf.id = f.charge_filter_id"
            " where f.invoice_id = any(%(invoices)s) and f.fee_type = 'charge'"
            " and (%(code)s::text is null or m.code = %(code)s) order by f.invoice_id, f.position, f.id",
            {"invoices": list(invoice_ids), "code": billable_metric_code},
        ).fetchall()
