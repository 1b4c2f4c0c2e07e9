"""Usage of language models that was kept aside: listed, and counted for a subscription."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import NotFound
from permille.store import held_usages as store
from permille.store.held_usages import HeldUsage
from permille.usecases import llm_usages
from permille.usecases.llm_usages import Attribution


def list_held_usages(call: Call) -> dict[str, Any]:
    """GET /llm/held_usages."""
    page = call.page()
    found, total = store.listing(
        call.conn,
        call.organization.id,
        is_counted=call.query.get("status") == "counted",
        limit=page.per_page,
        offset=page.offset,
    )
    return {"held_usages": [render_held_usage(each) for each in found], "meta": page.meta(total)}


def show_held_usage(call: Call) -> dict[str, Any]:
    """GET /llm/held_usages/{lago_id}."""
    held_id = parse_uuid(call.path["lago_id"])
    if held_id is None:
        raise NotFound("held_usage")
    return {"held_usage": render_held_usage(llm_usages.by_id(call.conn, call.organization.id, held_id))}


def attribute_held_usage(call: Call) -> dict[str, Any]:
    """POST /llm/held_usages/{lago_id}/attribute: count it. With nothing said, it is tried again as it is."""
    held_id = parse_uuid(call.path["lago_id"])
    if held_id is None:
        raise NotFound("held_usage")
    fields = Fields(call.optional_root("held_usage"))
    said = Attribution(
        external_subscription_id=fields.text("external_subscription_id") or None,
        external_customer_id=fields.text("external_customer_id") or None,
        model=fields.text("model") or None,
        response_id=fields.text("id") or None,
    )
    fields.check()
    held = llm_usages.attribute(call.conn, call.organization.id, held_id, said, now=call.now)
    return {"held_usage": render_held_usage(held)}


def render_held_usage(held: HeldUsage) -> objects.HeldUsage:
    """A held usage as it is answered."""
    return objects.HeldUsage(
        lago_id=held.id,
        id=held.identity,
        provider=held.provider,
        model=held.model,
        status="held" if held.counted_at is None else "counted",
        problem=objects.UsageProblem(code=held.code, message=held.message),
        external_subscription_id=held.external_subscription_id,
        external_customer_id=held.external_customer_id,
        timestamp=instant(held.at),
        properties=dict(held.properties),
        payer_names=dict(held.payer_names),
        sent=dict(held.sent),
        created_at=instant(held.created_at),
        counted_at=None if held.counted_at is None else instant(held.counted_at),
        counted_for=held.counted_for,
    )
