"""GET /late_usage and the decisions on it: ours, not Lago's. Usage that came in after its period was billed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import late_usage as objects
from permille.api.objects.event import TooLate as EventTooLate
from permille.api.render import MICROSECOND, instant
from permille.api.validation import INVALID, LONG_TEXT, Fields, parse_uuid
from permille.core.contract.price_versions import versions_of
from permille.core.errors import Invalid
from permille.core.invoice.draft import InvoiceStatus
from permille.core.invoice.late_usage import LateUsageStatus
from permille.core.money import decimal_text
from permille.store import customers, invoices, late_usage as store, plans, subscriptions
from permille.store.late_usage import LateUsage, TooLate
from permille.usecases.invoices.late_usage import accept, bill, by_id


def list_late_usage(call: Call) -> dict[str, Any]:
    """GET /late_usage, the newest first."""
    page = call.page()
    found, total = store.listing(
        call.conn,
        call.organization.id,
        status=read_status(call.query.get("status")),
        external_subscription_id=call.query.get("external_subscription_id") or None,
        limit=page.per_page,
        offset=page.offset,
    )
    return {"late_usage": render_late_usage(call.conn, found), "meta": page.meta(total)}


def read_status(text: str | None) -> LateUsageStatus | None:
    """Raises Invalid for what is no status."""
    if text and text not in list(LateUsageStatus):
        raise Invalid({"status": [INVALID]})
    return LateUsageStatus(text) if text else None


def show_late_usage(call: Call) -> dict[str, Any]:
    """GET /late_usage/{lago_id}."""
    return _shown(call, _late_usage(call))


def bill_late_usage(call: Call) -> dict[str, Any]:
    """POST /late_usage/{lago_id}/bill: on the subscription's next invoice, or at once where it is over."""
    return _shown(call, bill(call.conn, _late_usage(call), decided_by=_key_id(call), now=call.now))


def accept_late_usage(call: Call) -> dict[str, Any]:
    """POST /late_usage/{lago_id}/accept: it is written off, for a reason."""
    late = _late_usage(call)
    reason = read_reason(Fields(call.root("late_usage")))
    return _shown(call, accept(call.conn, late, reason=reason, decided_by=_key_id(call), now=call.now))


def read_reason(given: Fields) -> str:
    """Why late usage is written off. Raises Invalid."""
    reason = given.text("reason", mandatory=True, limit=LONG_TEXT)
    given.check()
    return reason or ""


def _late_usage(call: Call) -> LateUsage:
    return by_id(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def _key_id(call: Call) -> UUID | None:
    return call.key_id


def _shown(call: Call, late: LateUsage) -> dict[str, Any]:
    (shown,) = render_late_usage(call.conn, [late])
    return {"late_usage": shown}


def render_late_usage(conn: Connection[Any], found: Sequence[LateUsage]) -> list[objects.LateUsage]:
    """Late usage with its lines: what each price and group comes to more than was billed."""
    rows = subscriptions.by_ids(conn, {each.subscription_id for each in found})
    known = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    payers = customers.by_ids(conn, {each.customer_id for each in found})
    ids = {each.invoice_id for each in found}
    ids |= {each.adjusting_invoice_id for each in found if each.adjusting_invoice_id}
    numbers = {
        invoice.id: invoice.number if invoice.status is InvoiceStatus.FINALIZED else None
        for invoice in invoices.invoices_by_ids(conn, ids).values()
    }
    changed = store.changed_since(conn, [(each.charge_id, each.invoice_id) for each in found])
    filters = {
        str(each.id): each.invoice_display_name or dict(each.values)
        for plan in known.values()
        for version in versions_of(plan)
        for charge in version.charges
        for each in charge.filters
    }
    return [
        objects.LateUsage(
            lago_id=each.id,
            status=each.status,
            external_customer_id=payers[each.customer_id].external_id,
            external_subscription_id=rows[each.subscription_id].external_id,
            lago_subscription_id=each.subscription_id,
            lago_charge_id=each.charge_id,
            billable_metric_code=each.code,
            lago_invoice_id=each.invoice_id,
            invoice_number=numbers[each.invoice_id],
            from_date=instant(each.from_at),
            to_date=instant(each.to_at - MICROSECOND),
            currency=each.currency,
            events_count=each.events_count,
            units=decimal_text(each.units),
            amount_cents=each.amount_cents,
            is_charge_changed=(each.charge_id, each.invoice_id) in changed,
            lines=[_line(line, filters) for line in each.lines],
            lago_adjusting_invoice_id=each.adjusting_invoice_id,
            adjusting_invoice_number=numbers.get(each.adjusting_invoice_id)
            if each.adjusting_invoice_id
            else None,
            reason=each.reason,
            lago_api_key_id=each.decided_by,
            decided_at=instant(each.decided_at),
            created_at=instant(each.created_at),
            updated_at=instant(each.updated_at),
        )
        for each in found
    ]


def _line(line: Mapping[str, Any], filters: Mapping[str, Any]) -> objects.LateUsageLine:
    filter_id = line["charge_filter_id"]
    return objects.LateUsageLine(
        lago_charge_filter_id=filter_id,
        filter=filters.get(filter_id),
        grouped_by=line["grouped_by"],
        is_true_up=line["is_true_up"],
        is_commitment=line.get("is_commitment", False),
        units=line["units"],
        events_count=line["events_count"],
        amount_cents=line["amount_cents"],
    )


def whole_late_usage(conn: Connection[Any], late_usage_id: UUID) -> objects.LateUsage | None:
    """As a webhook shows it; None when it is none any more."""
    found = store.by_id(conn, late_usage_id)
    return render_late_usage(conn, [found])[0] if found else None


def render_too_late(late: TooLate | None) -> EventTooLate | None:
    """Why an event is on no invoice, or on which other one; None for an event that came in time."""
    if late is None:
        return None
    return EventTooLate(
        lago_invoice_id=late.invoice_id,
        invoice_number=late.invoice_number,
        from_date=instant(late.from_at),
        to_date=instant(late.to_at - MICROSECOND if late.to_at else None),
        lago_late_usage_id=late.late_usage_id,
        late_usage_status=late.status,
        adjusting_invoice_number=late.adjusting_invoice_number,
        reason=late.reason,
    )
