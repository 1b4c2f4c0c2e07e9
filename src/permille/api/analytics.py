"""Analytics: figures of an organization by month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from permille.api.http import Call
from permille.api.objects import analytics as objects
from permille.api.validation import INVALID, OUT_OF_RANGE, Fields
from permille.core.errors import Invalid
from permille.core.money import decimal_text
from permille.store import analytics as store, customers
from permille.store.analytics import Span, UsageSpan
from permille.usecases.catalogue import billing_entities

MONTHS_DEFAULT, MONTHS_MAX = 12, 120
DAYS_DEFAULT, DAYS_MAX = 365, 3_660
UNITS = {"daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}
NOBODY = UUID(int=0)
"""The customer of an unknown external id: it has nothing."""


def gross_revenue(call: Call) -> dict[str, Any]:
    """GET /analytics/gross_revenue."""
    shown = [
        objects.GrossRevenue(
            month=_month(each.month),
            amount_cents=each.amount_cents,
            currency=each.currency,
            invoices_count=each.invoices_count,
        )
        for each in store.gross_revenue(call.conn, _span(call))
    ]
    return {"gross_revenues": shown}


def invoice_collection(call: Call) -> dict[str, Any]:
    """GET /analytics/invoice_collection."""
    shown = [
        objects.InvoiceCollection(
            month=_month(each.month),
            payment_status=each.payment_status,
            invoices_count=each.invoices_count,
            amount_cents=each.amount_cents,
            currency=each.currency,
        )
        for each in store.invoice_collection(call.conn, _span(call))
    ]
    return {"invoice_collections": shown}


def invoiced_usage(call: Call) -> dict[str, Any]:
    """GET /analytics/invoiced_usage."""
    shown = [
        objects.InvoicedUsage(
            month=_month(each.month), code=each.code, amount_cents=each.amount_cents, currency=each.currency
        )
        for each in store.invoiced_usage(call.conn, _span(call))
    ]
    return {"invoiced_usages": shown}


def mrr(call: Call) -> dict[str, Any]:
    """GET /analytics/mrr."""
    shown = [
        objects.Mrr(month=_month(each.month), amount_cents=each.amount_cents, currency=each.currency)
        for each in store.mrr(call.conn, _span(call))
    ]
    return {"mrrs": shown}


def overdue_balance(call: Call) -> dict[str, Any]:
    """GET /analytics/overdue_balance."""
    shown = [
        objects.OverdueBalance(
            month=_month(each.month),
            amount_cents=each.amount_cents,
            currency=each.currency,
            lago_invoice_ids=list(each.invoice_ids),
        )
        for each in store.overdue_balance(call.conn, _span(call))
    ]
    return {"overdue_balances": shown}


def usage(call: Call) -> dict[str, Any]:
    """GET /analytics/usage: by day unless another granularity is named."""
    fields = Fields(dict(call.query))
    granularity = fields.choice("time_granularity", tuple(UNITS)) or "daily"
    of = UsageSpan(
        span=_days(call, fields),
        unit=UNITS[granularity],
        country=fields.country("customer_country"),
        customer_type=fields.choice("customer_type", ("individual", "company")),
        external_subscription_id=fields.text("external_subscription_id") or None,
        is_recurring=fields.flag("is_billable_metric_recurring"),
        plan_code=fields.text("plan_code") or None,
        metric_code=fields.text("billable_metric_code") or None,
    )
    fields.check()
    shown = [
        objects.UsageFigure(
            organization_id=call.organization.id,
            start_of_period_dt=each.starts_on,
            end_of_period_dt=_last_day(each.starts_on, granularity),
            amount_currency=each.currency,
            amount_cents=each.amount_cents,
            billable_metric_code=each.code,
            units=decimal_text(each.units),
            is_billable_metric_deleted=each.is_deleted,
        )
        for each in store.usage(call.conn, of)
    ]
    return {"usages": shown}


def _days(call: Call, fields: Fields) -> Span:
    """The days that the query names, the last year by default."""
    since, until = fields.instant("from_date"), fields.instant("to_date")
    last = (until or call.now).date()
    first = since.date() if since else last - timedelta(days=DAYS_DEFAULT)
    if first > last or (last - first).days > DAYS_MAX:
        fields.refuse("from_date", OUT_OF_RANGE)
    return _narrowed(call, fields.given, since=first, until=last + timedelta(days=1))


def _span(call: Call) -> Span:
    """The months that the query names, up to the one that is running, the last year's by default."""
    fields = Fields(dict(call.query))
    months = fields.whole("months", minimum=1, maximum=MONTHS_MAX) or MONTHS_DEFAULT
    fields.currency("currency")
    fields.check()
    today = call.now.date().replace(day=1)
    return _narrowed(call, fields.given, since=_plus_months(today, 1 - months), until=_plus_months(today, 1))


def _narrowed(call: Call, query: Mapping[str, Any], *, since: date, until: date) -> Span:
    currency = query.get("currency") or None
    if currency is not None and len(currency) != 3:
        raise Invalid({"currency": [INVALID]})
    customer_id = None
    if external_id := query.get("external_customer_id"):
        customer = customers.by_external_id(call.conn, call.organization.id, external_id)
        customer_id = customer.id if customer else NOBODY
    code = query.get("billing_entity_code")
    return Span(
        organization_id=call.organization.id,
        since=since,
        until=until,
        currency=currency,
        customer_id=customer_id,
        billing_entity_id=billing_entities.named(call.conn, call.organization.id, code),
    )


def _plus_months(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _last_day(first: date, granularity: str) -> date:
    match granularity:
        case "monthly":
            after = _plus_months(first, 1)
        case "yearly":
            after = _plus_months(first, 12)
        case _:
            after = first + timedelta(days=7 if granularity == "weekly" else 1)
    return after - timedelta(days=1)


def _month(first: date) -> str:
    return f"{first.isoformat()}T00:00:00.000Z"
