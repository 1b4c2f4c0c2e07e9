"""Events: the newest ones with what they count as, renewed while one looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from permille.api import events as api
from permille.core.errors import Invalid
from permille.core.plan import Plan
from permille.core.subscription import Subscription
from permille.store import billable_metrics, plans, subscriptions
from permille.web.matching import Verdict, verdict
from permille.web.visit import Page, Visit

FILTERS = ("code", "external_subscription_id", "timestamp_from", "timestamp_to")


def tail(visit: Visit) -> Page:
    """GET /app/events."""
    filters = {name: visit.query[name] for name in FILTERS if visit.query.get(name)}
    context: dict[str, Any] = {
        "filters": filters,
        "events": [],
        "meta": None,
        "bad": None,
        "base_url": visit.engine.config.base_url,
    }
    try:
        found = api.list_events(visit.call(query=visit.page_query(**filters)))
    except Invalid as refusal:
        return Page(template="events.html", context={**context, "bad": refusal.errors})
    return Page(
        template="events.html",
        context={**context, "events": _explained(visit, found["events"]), "meta": found["meta"]},
    )


def _explained(visit: Visit, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each event with its verdict, and with why it is not billed if no subscription takes it.

    Of an amended event (`amended`: the amendment in force) the verdict is on what counts instead.
    """
    counting = [_counting(event) for event in events]
    codes = {event["code"] for event in counting}
    metrics = {code: billable_metrics.by_code(visit.conn, visit.here.id, code) for code in codes}
    priced = {
        code: plans.plans_of_metric(visit.conn, metric.id) if metric else []
        for code, metric in metrics.items()
    }
    names = {event["external_subscription_id"] for event in events if event["external_subscription_id"]}
    known = subscriptions.histories(visit.conn, visit.here.id, names)
    explained = []
    for event, now in zip(events, counting, strict=True):
        rows = known.get(event["external_subscription_id"] or "", [])
        taker = _taker(rows, datetime.fromisoformat(now["timestamp"]))
        own = [plan for plan in priced[now["code"]] if taker is not None and plan.id == taker.plan_id]
        found = verdict(metrics[now["code"]], now["code"], now["properties"], own)
        ignored = _ignored(event["external_subscription_id"], rows, taker, found, own)
        amended = event["amendments"][-1] if event["amendments"] else None
        explained.append({**event, "amended": amended, "now": now, "verdict": found, "ignored": ignored})
    return explained


def _counting(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event with what its amendment in force says instead."""
    says = event["amendments"][-1]["replacement"] if event["amendments"] else None
    return {**event, **says} if says else event


def _taker(rows: Sequence[Subscription], at: datetime) -> Subscription | None:
    """The subscription that runs at that time."""
    for row in rows:
        is_over = row.terminated_at is not None and at >= row.terminated_at
        if row.started_at is not None and row.started_at <= at and not is_over:
            return row
    return None


def _ignored(
    external_id: str | None,
    rows: Sequence[Subscription],
    taker: Subscription | None,
    found: Verdict,
    own: Sequence[Plan],
) -> str | None:
    """Why an event that counts is not billed all the same."""
    if not external_id:
        return "It names no subscription."
    if not rows:
        return "There is no subscription with this id. It counts once there is one that runs at its time."
    if taker is None:
        return "No subscription with this id ran at its time."
    if found.metric is not None and not own:
        return "The subscription's plan doesn't price this metric."
    return None
