"""Events: the newest ones with what they count as, renewed while one looks; one of them, to void or to replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec.structs import asdict

from permille.api.amendments import read_amendment, render_amendments
from permille.api.events import read_events, render_events
from permille.api.objects.event import EventContent, EventDetails
from permille.api.render import instant_milliseconds
from permille.core.contract.subscription import Subscription, running_at
from permille.core.errors import Invalid, NotFound
from permille.core.instants import microseconds, parse_instant
from permille.core.metering.amendment import AmendmentKind
from permille.core.metering.event import EventState
from permille.events.engine import amendments, event_log
from permille.events.log import StoredEvent
from permille.ids import new_id
from permille.store import billable_metrics, subscriptions
from permille.usecases import amendments as usecase
from permille.usecases.amendments import AmendmentRequest
from permille.usecases.event_warnings import prices_at
from permille.web.forms import read_json
from permille.web.matching import Verdict, verdict
from permille.web.shown import in_path, in_query, json_lines
from permille.web.typed_number import number_or_none, plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit

FILTERS = ("code", "external_subscription_id", "timestamp_from", "timestamp_to")


def tail(visit: Visit) -> HtmlPage:
    """GET /app/events."""
    filters = {name: visit.query[name] for name in FILTERS if visit.query.get(name)}
    context: dict[str, Any] = {
        "filters": filters,
        "events": [],
        "meta": None,
        "bad": None,
        "base_url": visit.engine.config.base_url,
    }
    page = visit.page()
    try:
        total, found = read_events(visit.conn, visit.here.id, visit.query, page)
    except Invalid as refusal:
        return HtmlPage(template="events.html", context={**context, "bad": refusal.errors})
    shown = _explained(visit, render_events(visit.conn, found))
    return HtmlPage(template="events.html", context={**context, "events": shown, "meta": page.meta(total)})


def event_url(transaction_id: str, external_subscription_id: str | None) -> str:
    named = f"?subscription={in_query(external_subscription_id)}" if external_subscription_id else ""
    return f"/app/events/{in_path(transaction_id)}{named}"


def _event(visit: Visit) -> StoredEvent:
    """The event that the address names, as it was sent. Raises NotFound."""
    wanted = visit.query.get("subscription") or None
    (sent,) = amendments.sent_events(visit.conn, visit.here.id, [visit.path["transaction_id"]])
    fitting = [each for each in sent if wanted in (None, each.external_subscription_id)]
    if not fitting:
        raise NotFound("event")
    return event_log.by_identities(visit.conn, [fitting[0].identity])[fitting[0].identity]


def detail(visit: Visit) -> HtmlPage:
    """GET /app/events/{transaction_id}?subscription=..."""
    found = _event(visit)
    (event,) = _explained(visit, render_events(visit.conn, [found]))
    history = amendments.of_events(visit.conn, [found.identity]).get(found.identity, ())
    own = render_amendments(visit.conn, visit.here.id, history[::-1])
    now = event["now"]
    context = {
        "event": event,
        "history": own,
        "notes": own[0].proposed_credit_notes if own else [],
        "before": {
            "code": now.code,
            "timestamp": _typed_time(now.timestamp),
            "properties": json_lines(now.properties),
            "precise_total_amount_cents": now.precise_total_amount_cents or "",
        },
    }
    return HtmlPage(template="event.html", context=context)


def _typed_time(timestamp: str) -> str:
    """2026-10-01T12:00:00.250Z -> 2026-10-01 12:00:00.250"""
    return timestamp.replace("T", " ").removesuffix("Z").removesuffix(".000")


def amend(visit: Visit) -> Done:
    """POST /app/events/{transaction_id}: the event is voided, or something else counts in its place."""
    form, found = visit.form, _event(visit)
    kind = form.get("kind")
    body: dict[str, Any] = {
        "transaction_id": f"admin-{new_id(visit.system_now)}",
        "event_transaction_id": found.transaction_id,
        "external_subscription_id": found.external_subscription_id,
        "kind": kind,
        "reason": form.get("reason"),
    }
    if kind == AmendmentKind.REPLACE:
        body |= _replacement(form, found)
    _amend(visit, body)
    to = event_url(found.transaction_id, found.external_subscription_id)
    return Done(
        action="voided event" if kind == AmendmentKind.VOID else "replaced event",
        subject=found.transaction_id,
        to=f"{to}{'&' if '?' in to else '?'}said=amended",
        details=body,
    )


def _amend(visit: Visit, wanted: Mapping[str, Any]) -> None:
    """Raises Invalid."""
    asked = read_amendment(wanted)
    if not isinstance(asked, AmendmentRequest):
        raise Invalid(asked)
    try:
        usecase.amend(visit.conn, visit.here.id, [asked], api_key_id=None, now=visit.now)
    except usecase.UnableToAmendError as refused:
        raise Invalid(refused.errors[0]) from refused


def _replacement(form: Form, sent: StoredEvent) -> dict[str, Any]:
    """What counts instead; what is as it was sent is left out. Raises Invalid for what can't be read."""
    errors: dict[str, list[str]] = {}
    says: dict[str, Any] = {"properties": read_json(form.get("properties") or "{}")}
    if not isinstance(says["properties"], dict):
        errors["properties"] = ["invalid_json"]
    if form.get("code") != sent.code:
        says["code"] = form.get("code")
    if form.get("timestamp") != _typed_time(instant_milliseconds(sent.at) or ""):
        at = parse_instant(form.get("timestamp").replace(" ", "T", 1))
        says["timestamp"] = Decimal(microseconds(at)) / 1_000_000 if at else None
        if at is None:
            errors["timestamp"] = ["invalid_time"]
    if text := form.get("precise_total_amount_cents"):
        says["precise_total_amount_cents"] = plain_number(text)
        if number_or_none(text) is None:
            errors["precise_total_amount_cents"] = ["value_is_invalid"]
    if errors:
        raise Invalid(errors)
    return says


def _explained(visit: Visit, events: Sequence[EventDetails]) -> list[dict[str, Any]]:
    """Each event with its verdict, and with why it is not billed if no subscription takes it.

    Of an amended event (`amended`: the amendment in force) the verdict is on what counts instead.
    """
    counting = [_counting(event) for event in events]
    codes = {event.code for event in counting}
    metrics = {code: billable_metrics.by_code(visit.conn, visit.here.id, code) for code in codes}
    names = {event.external_subscription_id for event in events if event.external_subscription_id}
    known = subscriptions.histories(visit.conn, visit.here.id, names)
    histories = [known.get(event.external_subscription_id or "", []) for event in events]
    ats = [datetime.fromisoformat(now.timestamp) for now in counting]
    takers = [running_at(rows, at) for rows, at in zip(histories, ats, strict=True)]
    priced = prices_at(visit.conn, [(taker, at) for taker, at in zip(takers, ats, strict=True) if taker])
    explained = []
    for event, now, rows, taker, at in zip(events, counting, histories, takers, ats, strict=True):
        own = [priced[taker.id, at]] if taker else []
        found = verdict(metrics[now.code], now.code, now.properties, own)
        ignored = _ignored(event.external_subscription_id, rows, taker, found)
        amended = event.amendments[-1] if event.amendments else None
        state = EventState.IGNORED if ignored else found.state
        if event.too_late and state is not EventState.IGNORED:
            state = EventState.TOO_LATE
        explained.append(
            {
                **asdict(event),
                "amended": amended,
                "now": now,
                "verdict": found,
                "state": state,
                "ignored": ignored,
            }
        )
    return explained


def _counting(event: EventDetails) -> EventDetails | EventContent:
    """What counts: the event, or what its amendment in force says instead."""
    says = event.amendments[-1].replacement if event.amendments else None
    return says or event


def _ignored(
    external_id: str | None,
    rows: Sequence[Subscription],
    taker: Subscription | None,
    found: Verdict,
) -> str | None:
    """Why an event that counts is not billed all the same."""
    if not external_id:
        return "It names no subscription."
    if not rows:
        return "There is no subscription with this id. It counts once there is one that runs at its time."
    if taker is None:
        return "No subscription with this id ran at its time."
    if found.metric is not None and not found.matches:
        return "The subscription's plan doesn't price this metric."
    return None
