"""GET /fees/{lago_id}/explanation: ours, not Lago's. Where a fee comes from, down to its very events."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.events import render_amendment, render_events
from permille.api.fees import fee_of
from permille.api.http import Call
from permille.api.objects import fee_explanation as objects
from permille.api.render import MICROSECOND, instant
from permille.core.contract.plan import PlanFilter
from permille.core.errors import Invalid
from permille.core.instants import EPOCH
from permille.core.money import ZERO, decimal_text
from permille.events.log import EventPosition
from permille.store.fees import StoredFee
from permille.usecases.invoices.explanation import Explanation, explain


def explain_fee(call: Call) -> dict[str, Any]:
    """The formula, the price that matched, events (`cursor`, `per_page`) and whether it comes out the same now."""
    fee = fee_of(call)
    found = explain(call.conn, fee, after=read_cursor(call.query), limit=call.page().per_page)
    return {"fee_explanation": render_explanation(call.conn, fee, found)}


def render_explanation(conn: Connection[Any], fee: StoredFee, found: Explanation) -> objects.FeeExplanation:
    charge = found.charge
    return objects.FeeExplanation(
        lago_fee_id=fee.id,
        amount_cents=fee.amount_cents,
        amount_currency=fee.amount_currency,
        units=decimal_text(fee.units),
        from_datetime=instant(fee.from_at),
        to_datetime=instant(fee.to_at - MICROSECOND) if fee.to_at else None,
        billable_metric_code=charge.metric.code if charge else None,
        aggregation_type=charge.metric.aggregation_type if charge else None,
        recurring=charge.metric.recurring if charge else None,
        charge_model=charge.charge_model if charge else None,
        filter=_matched(found.filter),
        grouped_by=fee.grouped_by,
        formula=[
            objects.FormulaStep(text=step.text, amount=decimal_text(step.amount)) for step in found.steps
        ],
        events=_events(conn, fee, found),
        recomputed=_recomputed(found),
        amendments=[render_amendment(each) for each in found.amendments],
    )


def _matched(matched: PlanFilter | None) -> objects.MatchedFilter | None:
    if matched is None:
        return None
    return objects.MatchedFilter(
        lago_id=matched.id,
        invoice_display_name=matched.invoice_display_name,
        values=matched.values,
    )


def _events(conn: Connection[Any], fee: StoredFee, found: Explanation) -> objects.FeeEvents | None:
    if found.digest is None:
        return None
    return objects.FeeEvents(
        count=found.digest.count,
        count_on_fee=fee.events_count,
        digest=found.digest.digest,
        page=render_events(conn, found.listed),
        next_cursor=_cursor(found.next_place) if found.next_place else None,
    )


def _recomputed(found: Explanation) -> objects.RecomputedFee | None:
    """What it comes to now: nothing at all where nothing replaces it. None for a fee of no charge."""
    fee = found.recomputed
    if found.charge is None:
        return None
    return objects.RecomputedFee(
        amount_cents=fee.amount_cents if fee else 0,
        units=decimal_text(fee.units if fee else ZERO),
        events_count=fee.events_count if fee else 0,
        is_same=found.is_same,
    )


def _cursor(place: EventPosition) -> str:
    microseconds = (place.at - EPOCH) // timedelta(microseconds=1)
    return urlsafe_b64encode(microseconds.to_bytes(8, "big", signed=True) + place.identity.bytes).decode()


def read_cursor(query: Mapping[str, str]) -> EventPosition | None:
    """The event after which the list goes on, None for its start. Raises Invalid."""
    cursor = query.get("cursor")
    if not cursor:
        return None
    try:
        data = urlsafe_b64decode(cursor)
        at: datetime = EPOCH + timedelta(microseconds=int.from_bytes(data[:8], "big", signed=True))
        return EventPosition(at, UUID(bytes=data[8:]))
    except (ValueError, OverflowError) as error:
        raise Invalid({"cursor": ["value_is_invalid"]}) from error
