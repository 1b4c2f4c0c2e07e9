"""The audit log: who changed what and when, on a page, and exported as CSV and as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from permille.api.csv_file import csv_file
from permille.api.http import Raw
from permille.database.connections import encode_answer
from permille.store import activity
from permille.store.activity import Entry, EntrySearch
from permille.web.days import first_and_last
from permille.web.visit import OWNERS, HtmlPage, Visit

PER_PAGE = 50
EXPORT_MAX = 100_000
"""Entries of an export: the newest ones."""
FILTERS = ("who", "what", "from", "to")
COLUMNS = (
    *("at", "organization_at", "actor", "who", "operation", "action", "subject", "request_id"),
    *("object_action", "object_type", "object_id", "object_code", "field", "before", "after"),
)


def listing(visit: Visit) -> HtmlPage:
    """GET /app/audit-log."""
    page = visit.page(PER_PAGE)
    found, total = activity.entries(
        visit.conn,
        visit.here.id,
        _search(visit),
        with_installation=visit.may(OWNERS),
        limit=page.per_page,
        offset=page.offset,
    )
    filters = {name: visit.query[name] for name in FILTERS if visit.query.get(name)}
    context = {"entries": found, "meta": page.meta(total), "filters": filters, "export_max": EXPORT_MAX}
    return HtmlPage(template="audit_log.html", context=context)


def _search(visit: Visit) -> EntrySearch:
    """Raises Invalid for what is no day."""
    since, until = first_and_last(visit.query)
    return EntrySearch(
        who=visit.query.get("who", "").strip() or None,
        what=visit.query.get("what", "").strip() or None,
        since=since,
        until=until,
    )


def as_csv(visit: Visit) -> Raw:
    """GET /app/audit-log.csv: a row for each field that was changed."""
    rows = (row for entry in _exported(visit) for row in _rows(entry))
    return csv_file("audit-log.csv", COLUMNS, rows)


def _rows(entry: Entry) -> Iterator[list[str]]:
    own = [
        entry.at.isoformat(),
        entry.organization_at.isoformat() if entry.organization_at else "",
        *(entry.actor, entry.who, entry.operation, entry.action, entry.subject),
        entry.request_id or "",
    ]
    if not entry.objects:
        yield [*own, *[""] * (len(COLUMNS) - len(own))]
    for each in entry.objects:
        names = ("action", "object_type", "object_id", "object_code")
        changed = [each[name] or "" for name in names]
        for field, (before, after) in each["changes"].items():
            yield [*own, *changed, field, _value(before), _value(after)]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else encode_answer(value).decode() if value is not None else ""


def as_json_lines(visit: Visit) -> Raw:
    """GET /app/audit-log.jsonl: a line for each request or command that changed something."""
    lines = (encode_answer(entry) + b"\n" for entry in _exported(visit))
    headers = {"content-disposition": 'attachment; filename="audit-log.jsonl"'}
    return Raw(content=b"".join(lines), media_type="application/x-ndjson", headers=headers)


def _exported(visit: Visit) -> Iterator[Entry]:
    return activity.all_entries(
        visit.conn, visit.here.id, _search(visit), with_installation=visit.may(OWNERS), limit=EXPORT_MAX
    )
