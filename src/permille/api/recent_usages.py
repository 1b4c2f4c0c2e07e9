"""The last usages of language models that came in, and what became of them."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.store import recent_usages as store
from permille.store.recent_usages import RecentUsage


def list_recent_usages(call: Call) -> dict[str, Any]:
    """GET /llm/recent_usages."""
    page = call.page()
    found, total = store.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"recent_usages": [render_recent_usage(each) for each in found], "meta": page.meta(total)}


def render_recent_usage(usage: RecentUsage) -> objects.RecentUsage:
    """A usage that came in lately as the API shows it."""
    return objects.RecentUsage(
        lago_id=usage.id,
        created_at=instant(usage.at),
        road=usage.road,
        client=usage.client,
        status=usage.status,
        count=usage.count,
        id=usage.identity,
        provider=usage.provider,
        model=usage.model,
        external_subscription_id=usage.external_subscription_id,
        external_customer_id=usage.external_customer_id,
        problem=None
        if usage.message is None
        else objects.UsageProblem(code=usage.code or usage.status, message=usage.message),
        events=[dict(each) for each in usage.events],
        warnings=[dict(each) for each in usage.warnings],
    )
