"""GET /activity_logs: what was changed, object by object, and by whom."""

from __future__ import annotations

import re
from typing import Any

from permille.api.http import Call
from permille.api.objects.activity_log import ActivityLog
from permille.api.render import instant
from permille.api.validation import parse_uuid, query_day, query_texts
from permille.core.errors import NotFound
from permille.core.instants import end_of_day
from permille.store import activity
from permille.store.activity import ActorKind, ChangeSearch, ObjectChange

SOURCE_OF = {
    ActorKind.API_KEY: "api",
    ActorKind.ADMIN_KEY: "api",
    ActorKind.USER: "front",
    ActorKind.COMMAND_LINE: "system",
}
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def list_activity_logs(call: Call) -> dict[str, Any]:
    """GET /activity_logs, newest first."""
    page = call.page()
    rows, total = activity.changes(
        call.conn, call.organization.id, _search(call), limit=page.per_page, offset=page.offset
    )
    return {"activity_logs": [_rendered(row) for row in rows], "meta": page.meta(total)}


def show_activity_log(call: Call) -> dict[str, Any]:
    """GET /activity_logs/{activity_id}."""
    wanted = parse_uuid(call.path["activity_id"])
    search = ChangeSearch(id=wanted)
    found = activity.changes(call.conn, call.organization.id, search, limit=1, offset=0)[0] if wanted else []
    if not found:
        raise NotFound("activity_log")
    return {"activity_log": _rendered(found[0])}


def _search(call: Call) -> ChangeSearch:
    """The filters of the address. Raises Invalid."""
    query = call.query
    sources = query_texts(query, "activity_sources")
    actors = [kind.value for kind, source in SOURCE_OF.items() if source in sources]
    last = query_day(call.query, "to_date")
    return ChangeSearch(
        since=query_day(call.query, "from_date"),
        until=end_of_day(last) if last else None,
        actors=actors or sources,
        user_emails=query_texts(query, "user_emails"),
        types_and_actions=query_texts(query, "activity_types"),
        object_types=[_CAPITAL.sub("_", name).lower() for name in query_texts(query, "resource_types")],
        object_ids=query_texts(query, "resource_ids"),
        external_customer_id=query.get("external_customer_id") or None,
        external_subscription_id=query.get("external_subscription_id") or None,
    )


def _rendered(row: ObjectChange) -> ActivityLog:
    at = instant(row.at)
    return ActivityLog(
        activity_id=row.id,
        activity_type=f"{row.object_type}.{row.action}",
        activity_source=SOURCE_OF[ActorKind(row.actor)],
        activity_object=None,
        activity_object_changes=row.changes,
        user_email=row.user_email,
        resource_id=row.object_id,
        resource_type=row.object_type.title().replace("_", ""),
        external_customer_id=row.external_customer_id,
        external_subscription_id=row.external_subscription_id,
        organization_id=row.organization_id,
        logged_at=at,
        created_at=at,
    )
