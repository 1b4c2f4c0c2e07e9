"""GET /events: lists of events as they were sent, and one by its transaction id. (Posting them: ingest/.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from starlette.datastructures import QueryParams

from permille.api.http import Call, Page
from permille.api.late_usage import render_too_late
from permille.api.objects import event as objects
from permille.api.render import exact_numbers, instant, instant_milliseconds
from permille.core.errors import Forbidden, Invalid, NotFound
from permille.core.instants import parse_instant
from permille.core.metering.amendment import Amendment
from permille.core.money import decimal_text
from permille.events.engine import amendments, event_log, usage
from permille.events.log import EventSearch, StoredEvent
from permille.store import late_usage, subscriptions
from permille.usecases.unpriced import unpriced_by

_NEVER = datetime.max.replace(tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)


def show_event(call: Call) -> dict[str, Any]:
    """GET /events/{transaction_id}."""
    transaction_id = call.path["transaction_id"]
    found = None
    if "\0" not in transaction_id:
        found = event_log.find(call.conn, organization_id=call.organization.id, transaction_id=transaction_id)
    if found is None:
        raise NotFound("event")
    (shown,) = render_events(call.conn, [found])
    return {"event": shown}


def list_events(call: Call) -> dict[str, Any]:
    """GET /events, newest first. Bounds are inclusive, a date is its midnight in UTC."""
    page = call.page()
    total, found = read_events(call.conn, call.organization.id, call.query, page)
    return {"events": render_events(call.conn, found), "meta": page.meta(total)}


def read_events(
    conn: Connection[Any], organization_id: UUID, query: QueryParams, page: Page
) -> tuple[int, list[StoredEvent]]:
    """The number of events that an address's query asks for, and a page of them. Raises Invalid."""
    from_, to = _bounds(conn, organization_id, query)
    search = EventSearch(
        organization_id=organization_id,
        code=_text(query, "code"),
        external_subscription_id=_text(query, "external_subscription_id"),
    )

    def read() -> tuple[int, list[StoredEvent]]:
        return event_log.page(conn, search, from_=from_, to=to, limit=page.per_page, offset=page.offset)

    return usage.under_one_version(conn, [organization_id], read)


def list_enriched_events(_call: Call) -> dict[str, Any]:
    """GET /events_enriched: of Lago's ClickHouse store alone. Raises Forbidden, as its PostgreSQL store does."""
    raise Forbidden("endpoint_not_available")


def _text(query: QueryParams, name: str) -> str | None:
    value = query.get(name)
    return value.replace("\0", "") if value else None


def _bounds(
    conn: Connection[Any], organization_id: UUID, query: QueryParams
) -> tuple[datetime | None, datetime]:
    errors: dict[str, list[str]] = {}
    found: dict[str, datetime | None] = {}
    for name in ("timestamp_from", "timestamp_to"):
        value = query.get(name)
        found[name] = parse_instant(value) if value else None
        if value and found[name] is None:
            errors[name] = ["invalid_date"]
    since_start = query.get("timestamp_from_started_at")
    if since_start not in (None, "true", "false"):
        errors["timestamp_from_started_at"] = ["must be one of: true, false"]
    if since_start == "true" and query.get("timestamp_from"):
        errors["timestamp_from"] = ["cannot be used with timestamp_from_started_at"]
    if since_start == "true" and not query.get("external_subscription_id"):
        errors["external_subscription_id"] = ["required with timestamp_from_started_at"]
    if errors:
        raise Invalid(errors)
    from_, to = found["timestamp_from"], found["timestamp_to"]
    if since_start == "true":
        from_ = _started_at(conn, organization_id, query["external_subscription_id"])
    return from_, to + _INSTANT if to and to < _NEVER else _NEVER


def _started_at(conn: Connection[Any], organization_id: UUID, external_id: str) -> datetime | None:
    """When the newest subscription with that external id started."""
    rows = subscriptions.history(conn, organization_id, external_id.replace("\0", ""))
    return next((row.started_at for row in rows if row.started_at is not None), None)


def render_events(conn: Connection[Any], found: Sequence[StoredEvent]) -> list[objects.EventDetails]:
    """Events with their amendments, and with why they are on no invoice if they came in too late.

    Of an amended event that is said of what counts instead.
    """
    amended = amendments.of_events(conn, [event.identity for event in found])
    counting = {event.identity: _counting(event.identity, amended.get(event.identity, ())) for event in found}
    identities = [identity for identity in counting.values() if identity]
    placed = event_log.placed(conn, identities)
    late = late_usage.too_late(conn, placed)
    unpriced = unpriced_by(conn, placed)
    return [
        objects.EventDetails(
            **_render_event(event, amended.get(event.identity, ())),
            too_late=render_too_late(late.get(identity) if identity else None),
            unpriced_by=unpriced.get(identity, []) if identity else [],
        )
        for event in found
        for identity in [counting[event.identity]]
    ]


def _counting(identity: UUID, amended: Sequence[Amendment]) -> UUID | None:
    """The row of an event that counts: its own or its replacement's, None for a voided one."""
    if not amended:
        return identity
    return amended[-1].id if amended[-1].replacement else None


def _render_event(event: StoredEvent, amended: Sequence[Amendment]) -> dict[str, Any]:
    """Lago's EventObject, and beside it `amendments`, oldest first: the last one is in force.

    What replaces an amended event has that event's id. The two legacy ids are always null, as on
    Lago's PostgreSQL store.
    """
    return {
        "lago_id": amended[0].event_identity if amended else event.identity,
        "transaction_id": event.transaction_id,
        "lago_customer_id": None,
        **_content(event.code, event.at, event.precise_total_amount_cents, event.properties),
        "lago_subscription_id": None,
        "external_subscription_id": event.external_subscription_id,
        "created_at": instant(event.created_at),
        "amendments": [render_amendment(each) for each in amended],
    }


def _content(
    code: str, at: datetime, precise: Decimal | None, properties: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "code": code,
        "timestamp": instant_milliseconds(at),
        "precise_total_amount_cents": None if precise is None else decimal_text(precise),
        "properties": exact_numbers(properties),
    }


def render_amendment(amendment: Amendment) -> objects.Amendment:
    """An amendment. `replacement` is what it says instead, as it was sent; null for a void."""
    says = amendment.replacement
    replacement = (
        objects.EventContent(**_content(says.code, says.at, says.precise_total_amount_cents, says.properties))
        if says
        else None
    )
    return objects.Amendment(
        lago_id=amendment.id,
        transaction_id=amendment.transaction_id,
        kind=amendment.kind,
        reason=amendment.reason,
        lago_event_id=amendment.event_identity,
        event_transaction_id=amendment.event_transaction_id,
        external_subscription_id=amendment.external_subscription_id,
        replacement=replacement,
        lago_api_key_id=amendment.api_key_id,
        lago_superseded_by_id=amendment.superseded_by,
        created_at=instant(amendment.created_at),
    )
