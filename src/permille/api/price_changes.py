"""When an edit of prices takes effect, and whom it reaches, as a request says it (docs/price-changes.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.validation import INVALID, Fields
from permille.core.instants import parse_day
from permille.core.period import INSTANT, midnight
from permille.store import billing_entities

NOW, NEXT_PERIOD = "now", "next_period"


def beside(call: Call, *names: str) -> Fields:
    """These fields from beside the root object, or from the query."""
    body = call.body if isinstance(call.body, dict) else {}
    return Fields({name: body.get(name, call.query.get(name)) for name in names})


def read_since(call: Call) -> datetime | None:
    """As `read_effect`, from the request. Raises Invalid."""
    fields = beside(call, "effective", "effective_at")
    return read_effect(call.conn, call.organization.id, fields, now=call.now)


def read_effect(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> datetime | None:
    """From when on periods must begin to have the new prices; None: all that are not billed yet.

    Raises Invalid.
    """
    effective = fields.choice("effective", (NOW, NEXT_PERIOD))
    since = fields.instant("effective_at")
    if effective and since:
        fields.refuse("effective_at", INVALID)
    fields.check()
    if effective == NEXT_PERIOD:
        return now + INSTANT
    return _midnight(conn, organization_id, fields.given.get("effective_at")) or since


def _midnight(conn: Connection[Any], organization_id: UUID, sent: Any) -> datetime | None:
    """Where a day alone was sent, its start in the organization's timezone."""
    day = parse_day(sent)
    if day is None:
        return None
    return midnight(day, billing_entities.default(conn, organization_id).timezone)


def cascades(call: Call) -> bool:
    """Whether the plans of single subscriptions are to follow: said in the body's object, or in the query."""
    body = call.body if isinstance(call.body, dict) else {}
    said = [body, *(body.get(root) for root in ("plan", "charge", "fixed_charge", "filter"))]
    fields = [Fields(each) for each in said if isinstance(each, dict)]
    return call.query.get("cascade_updates") == "true" or any(each.flag("cascade_updates") for each in fields)
