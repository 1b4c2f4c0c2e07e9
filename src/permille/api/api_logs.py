"""The log of an organization's requests that write: what is noted of each, and GET /api_logs."""

from __future__ import annotations

from typing import Any

import msgspec

from permille.api.http import Call
from permille.api.objects.api_log import ApiLogEntry
from permille.api.render import instant
from permille.api.validation import query_day, query_texts
from permille.core.errors import Invalid, NotFound
from permille.core.instants import end_of_day
from permille.store import api_logs
from permille.store.api_logs import LoggedRequest, LogSearch

VERSION = "v1"
RANGES = {"succeeded": (200, 399), "failed": (400, 599)}


def list_api_logs(call: Call) -> dict[str, Any]:
    """GET /api_logs, newest first."""
    page = call.page()
    wanted = _search(call)
    if call.query.get("api_version") not in {None, "", VERSION}:
        return {"api_logs": [], "meta": page.meta(0)}
    found, total = api_logs.search(
        call.conn, call.organization.id, wanted, limit=page.per_page, offset=page.offset
    )
    return {"api_logs": [_rendered(row) for row in found], "meta": page.meta(total)}


def show_api_log(call: Call) -> dict[str, Any]:
    """GET /api_logs/{request_id}: the newest, where a client has used the identifier again."""
    wanted = LogSearch(request_id=call.path["request_id"])
    found, _ = api_logs.search(call.conn, call.organization.id, wanted, limit=1, offset=0)
    if not found:
        raise NotFound("api_log")
    return {"api_log": _rendered(found[0])}


def _search(call: Call) -> LogSearch:
    """The filters of the address. Raises Invalid."""
    last = query_day(call.query, "to_date")
    return LogSearch(
        since=query_day(call.query, "from_date"),
        until=end_of_day(last) if last else None,
        methods=[text.lower() for text in query_texts(call.query, "http_methods")],
        statuses=[_statuses(text) for text in query_texts(call.query, "http_statuses")],
        paths=query_texts(call.query, "request_paths"),
    )


def _statuses(text: str) -> tuple[int, int]:
    if text in RANGES:
        return RANGES[text]
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        raise Invalid({"http_statuses": ["value_is_invalid"]})
    return int(text), int(text)


def _json(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def _rendered(row: LoggedRequest) -> ApiLogEntry:
    at = instant(row.at)
    return ApiLogEntry(
        request_id=row.request_id,
        api_version=VERSION,
        client=row.client,
        http_method=row.method,
        http_status=row.status,
        request_origin=row.origin,
        request_path=row.path,
        request_body={} if row.body is None else _json(row.body),
        request_response=_json(row.answer),
        lago_api_key_id=row.api_key_id,
        duration_ms=row.duration_ms,
        logged_at=at,
        created_at=at,
    )
