"""The dates of an invoice. Source: semantics-billing.md section 4.4."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from permille.core.customer import Customer
from permille.core.invoice.draft import InvoiceDates, InvoiceDraft, InvoiceKind, InvoiceStatus, changed
from permille.core.invoice.facts import Facts
from permille.core.period import local_date, midnight
from permille.core.record import replace

_REMEMBERED = 1024


def dates(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Date a new invoice, and a draft that becomes final; one that stays a draft keeps its dates."""
    term = draft.customer.applicable_net_payment_term
    if draft.dates is None:
        retry_at = draft.at if draft.waits_for_price else None
        return changed(draft, dates=_new_dates(draft), price_retry_at=retry_at)
    if draft.status is InvoiceStatus.DRAFT:
        return changed(draft, dates=replace(draft.dates, net_payment_term=term))
    keeps_anchor = draft.customer.applicable_issuing_date_adjustment == "keep_anchor"
    stays = draft.is_recurring and keeps_anchor
    issued_on = draft.dates.issuing_date if stays else local_date(draft.made_at, draft.timezone)
    return changed(
        draft,
        dates=InvoiceDates(
            issuing_date=issued_on,
            payment_due_date=payment_due_date(issued_on, net_payment_term=term),
            expected_finalization_date=draft.dates.expected_finalization_date,
            net_payment_term=term,
            finalizes_at=None,
        ),
    )


def _new_dates(draft: InvoiceDraft) -> InvoiceDates:
    return dates_by_terms(
        draft.customer,
        draft.at,
        timezone=draft.timezone,
        recurring=draft.is_recurring,
        has_grace_period=draft.kind is InvoiceKind.SUBSCRIPTION,
        is_draft=draft.status is InvoiceStatus.DRAFT,
    )


def dates_by_terms(
    customer: Customer,
    at: datetime,
    *,
    timezone: str,
    recurring: bool,
    has_grace_period: bool = True,
    is_draft: bool = True,
) -> InvoiceDates:
    """The dates of an invoice that was due at `at`, by the terms that its customer has now."""
    return _dates_of(
        at,
        timezone=timezone,
        recurring=recurring,
        grace_period_days=customer.applicable_invoice_grace_period if has_grace_period else 0,
        anchor=customer.applicable_issuing_date_anchor,
        adjustment=customer.applicable_issuing_date_adjustment,
        term=customer.applicable_net_payment_term,
        is_draft=is_draft,
    )


@lru_cache(maxsize=_REMEMBERED)
def _dates_of(
    at: datetime,
    *,
    timezone: str,
    recurring: bool,
    grace_period_days: int,
    anchor: str,
    adjustment: str,
    term: int,
    is_draft: bool,
) -> InvoiceDates:
    """The dates of a new invoice: a run makes thousands that are alike in this."""
    expected_on = expected_finalization_date(at, timezone=timezone, grace_period_days=grace_period_days)
    issued_on = issuing_date(
        at,
        timezone=timezone,
        recurring=recurring,
        grace_period_days=grace_period_days,
        anchor=anchor,
        adjustment=adjustment,
    )
    return InvoiceDates(
        issuing_date=issued_on,
        payment_due_date=payment_due_date(issued_on, net_payment_term=term),
        expected_finalization_date=expected_on,
        net_payment_term=term,
        finalizes_at=finalizes_at(expected_on, timezone=timezone) if is_draft else None,
    )


def issuing_date(
    at: datetime,
    *,
    timezone: str,
    recurring: bool,
    grace_period_days: int = 0,
    anchor: str = "next_period_start",
    adjustment: str = "align_with_finalization_date",
) -> date:
    """The date on a subscription invoice that was due at `at`.

    `anchor` next_period_start or current_period_end; `adjustment` keep_anchor or
    align_with_finalization_date. Both are about periodic invoices; others follow the grace period.
    """
    shift = grace_period_days
    if recurring:
        anchor_shift = -1 if anchor == "current_period_end" else 0
        keeps_anchor = adjustment == "keep_anchor" or not grace_period_days
        shift = anchor_shift if keeps_anchor else grace_period_days
    return local_date(at, timezone) + timedelta(days=shift)


def expected_finalization_date(at: datetime, *, timezone: str, grace_period_days: int = 0) -> date:
    """The date on which a draft that was due at `at` becomes final."""
    return local_date(at, timezone) + timedelta(days=grace_period_days)


def finalizes_at(expected_on: date, *, timezone: str) -> datetime:
    """The instant at which a draft becomes final: the customer's midnight of its day."""
    return midnight(expected_on, timezone)


def payment_due_date(issued_on: date, *, net_payment_term: int) -> date:
    """The last day to pay, so many days after the issuing date."""
    return issued_on + timedelta(days=net_payment_term)
