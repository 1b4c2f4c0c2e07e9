"""The audit log: who changed what and when, on a page, and exported as CSV and as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from permille.api.csv_file import ROWS_MAX, csv_file, left_out
from permille.api.http import Raw
from permille.database.connections import encode_answer
from permille.store import activity
from permille.store.activity import Entry, EntrySearch
from permille.web.days import first_and_last
from permille.web.visit import OWNERS, HtmlPage, Visit

PER_PAGE = 50
WHAT = "entries"
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
    context = {"entries": found, "meta": page.meta(total), "filters": filters, "export_max": ROWS_MAX}
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
    return csv_file("audit-log.csv", COLUMNS, _all_rows(visit))


def _all_rows(visit: Visit) -> Iterator[list[str]]:
    for entry in _exported(visit):
        if entry is None:
            yield [left_out(ROWS_MAX, WHAT)]
        else:
            yield from _rows(entry)


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
    over = {"left_out": left_out(ROWS_MAX, WHAT)}
    lines = (encode_answer(over if entry is None else entry) + b"\n" for entry in _exported(visit))
    headers = {"content-disposition": 'attachment; filename="audit-log.jsonl"'}
    return Raw(content=b"".join(lines), media_type="application/x-ndjson", headers=headers)


def _exported(visit: Visit) -> Iterator[Entry | None]:
    """The newest entries, and None at the end where there are more."""
    found = activity.all_entries(
        visit.conn, visit.here.id, _search(visit), with_installation=visit.may(OWNERS), limit=ROWS_MAX + 1
    )
    return (entry if number < ROWS_MAX else None for number, entry in enumerate(found))
