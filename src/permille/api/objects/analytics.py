"""Figures by month, in the smallest unit of their currency."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from permille.api.objects.base import Answer, Currency, instant_of, says, text_of_number

Month = Annotated[str, instant_of("Start of the month.")]
Amount = Annotated[int, says("The amount, in the smallest unit.")]
InvoicesCount = Annotated[int, says("Number of invoices.")]
MetricCode = Annotated[str, says("Code of the metric.")]


class GrossRevenue(Answer, kw_only=True):
    """What was billed in a month, after discounts and before taxes."""

    month: Month
    amount_cents: Amount
    currency: Currency
    invoices_count: InvoicesCount


class InvoiceCollection(Answer, kw_only=True):
    """What the invoices of a month come to, by how far they are paid."""

    month: Month
    payment_status: Annotated[str, says("How far they are paid.", example="succeeded")]
    invoices_count: InvoicesCount
    amount_cents: Amount
    currency: Currency


class InvoicedUsage(Answer, kw_only=True):
    """Usage of a metric on the invoices of a month."""

    month: Month
    code: MetricCode
    amount_cents: Amount
    currency: Currency


class Mrr(Answer, kw_only=True):
    """Subscription fees that are for a month."""

    month: Month
    amount_cents: Amount
    currency: Currency


class OverdueBalance(Answer, kw_only=True):
    """What was due in a month and is overdue."""

    month: Month
    amount_cents: Amount
    currency: Currency
    lago_invoice_ids: Annotated[list[UUID], says("The invoices.")]


class UsageFigure(Answer, kw_only=True):
    """Usage of a metric on the invoices of some days."""

    organization_id: Annotated[UUID, says("The organization.")]
    start_of_period_dt: Annotated[date, says("First day.")]
    end_of_period_dt: Annotated[date, says("Last day.")]
    amount_currency: Currency
    amount_cents: Amount
    billable_metric_code: MetricCode
    units: Annotated[str, text_of_number("Units used.")]
    is_billable_metric_deleted: Annotated[bool, says("Whether the metric is deleted.")]
