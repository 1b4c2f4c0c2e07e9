"""Saving edits of prices: at once, or for periods that begin from an instant on (docs/price-changes.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from permille.api.http import Call
from permille.api.metered import meter
from permille.api.validation import INVALID, Fields
from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import edit_prices, unschedulable
from permille.core.errors import Invalid
from permille.core.instants import parse_day
from permille.core.period import INSTANT, midnight
from permille.ids import new_id
from permille.store import billing_entities, plans

NOW, NEXT_PERIOD = "now", "next_period"


def beside(call: Call, *names: str) -> Fields:
    """These fields from beside the root object, or from the query."""
    body = call.body if isinstance(call.body, dict) else {}
    return Fields({name: body.get(name, call.query.get(name)) for name in names})


def read_since(call: Call) -> datetime | None:
    """From when on periods must begin to have the new prices; None: all that are not billed yet.

    Raises Invalid.
    """
    fields = beside(call, "effective", "effective_at")
    effective = fields.choice("effective", (NOW, NEXT_PERIOD))
    since = fields.instant("effective_at")
    if effective and since:
        fields.refuse("effective_at", INVALID)
    fields.check()
    if effective == NEXT_PERIOD:
        return call.now + INSTANT
    return _midnight(call, fields.given["effective_at"]) or since


def _midnight(call: Call, sent: Any) -> datetime | None:
    """Where a day alone was sent, its start in the organization's timezone."""
    day = parse_day(sent)
    if day is None:
        return None
    timezone = billing_entities.default(call.conn, call.organization.id).timezone
    return midnight(day, timezone)


def edited_plan(call: Call, before: Plan, after: Plan) -> Plan:
    """The plan as the edit leaves it, not stored. Raises Invalid for what cannot change from an instant on."""
    since = read_since(call)
    if since is not None and (names := unschedulable(before, after)):
        raise Invalid({name: ["cannot_be_scheduled"] for name in names})
    return edit_prices(before, after, since=since, now=call.now, version_id=new_id(call.now))


def save_edit(call: Call, before: Plan, after: Plan) -> Plan:
    """Store an edit of the plan in force, from when the request says. Raises Invalid."""
    edited = edited_plan(call, before, after)
    store_edit(call, before, edited)
    return edited


def store_edit(call: Call, before: Plan, edited: Plan) -> None:
    """Write the plan, with every version of its prices."""
    plans.replace(call.conn, before=before, after=edited, now=call.now)
    meter(call, [*before.charges, *edited.charges, *(c for v in edited.price_versions for c in v.charges)])
