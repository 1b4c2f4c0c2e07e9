"""Held usages by what they have in common: listed, and counted by groups."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import Fields
from permille.core.llm.held import GROUP_PROPERTIES, HeldGroup
from permille.store import held_groups as store
from permille.store.held_groups import HeldSum
from permille.usecases import held_groups
from permille.usecases.llm_usages import Attribution


def list_held_groups(call: Call) -> dict[str, Any]:
    """GET /llm/held_usage_groups."""
    page = call.page()
    found, total = store.groups(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"held_usage_groups": [render_held_group(each) for each in found], "meta": page.meta(total)}


def attribute_held_group(call: Call) -> dict[str, Any]:
    """POST /llm/held_usage_groups/attribute."""
    sent = call.root("held_usage_group")
    fields = Fields(sent)
    group = HeldGroup(
        code=fields.text("code", mandatory=True) or "",
        external_subscription_id=fields.text("external_subscription_id") or None,
        external_customer_id=fields.text("external_customer_id") or None,
        properties={name: text for name in GROUP_PROPERTIES if (text := fields.text(name))},
    )
    payer = Fields(sent["payer"] if isinstance(sent.get("payer"), dict) else {})
    said = Attribution(
        external_subscription_id=payer.text("external_subscription_id") or None,
        external_customer_id=payer.text("external_customer_id") or None,
        model=payer.text("model") or None,
        response_id=None,
    )
    fields.check()
    payer.check()
    counted = held_groups.attribute_group(call.conn, call.organization.id, group, said, now=call.now)
    waiting = store.count_in(call.conn, call.organization.id, group)
    return {"held_usage_group": objects.CountedGroup(counted_count=counted, waiting_count=waiting)}


def render_held_group(found: HeldSum) -> objects.HeldUsageGroup:
    """A group as the API shows it."""
    named = found.group.properties
    return objects.HeldUsageGroup(
        code=found.group.code,
        message=found.message,
        external_subscription_id=found.group.external_subscription_id,
        external_customer_id=found.group.external_customer_id,
        key=named.get("key"),
        team=named.get("team"),
        user=named.get("user"),
        models=found.models,
        calls_count=found.count,
        first_used_at=instant(found.first_at),
        last_used_at=instant(found.last_at),
    )
