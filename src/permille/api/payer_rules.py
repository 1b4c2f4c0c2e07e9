"""Rules about who pays for calls of language models."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import INVALID, MANDATORY, Fields, parse_uuid
from permille.core.llm.payer import NAME_LENGTH_MAX, POSITION_MAX, SET_BY_REQUESTS, PayerName, PayerRule
from permille.core.record import replace
from permille.ids import new_id
from permille.store import payer_rules as store
from permille.usecases import payer_rules as usecase


def create_payer_rule(call: Call) -> dict[str, Any]:
    """POST /llm/payer_rules: what waits for want of who pays and has the name is counted."""
    fields = Fields(call.root("payer_rule"))
    made = read_rule(fields, call.organization.id, now=call.now)
    fields.check()
    counted = usecase.add(call.conn, made, now=call.now)
    return {"payer_rule": render_rule(made, counted)}


def list_payer_rules(call: Call) -> dict[str, Any]:
    """GET /llm/payer_rules."""
    page = call.page()
    found, total = store.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"payer_rules": [render_rule(each) for each in found], "meta": page.meta(total)}


def show_payer_rule(call: Call) -> dict[str, Any]:
    """GET /llm/payer_rules/{lago_id}."""
    return {"payer_rule": render_rule(_to_change(call))}


def update_payer_rule(call: Call) -> dict[str, Any]:
    """PUT /llm/payer_rules/{lago_id}: who pays from now on, and for what waits."""
    before = _to_change(call)
    fields = Fields(call.root("payer_rule"))
    after = read_changed_rule(fields, before)
    fields.check()
    counted = usecase.change(call.conn, after, now=call.now)
    return {"payer_rule": render_rule(after, counted)}


def delete_payer_rule(call: Call) -> dict[str, Any]:
    """DELETE /llm/payer_rules/{lago_id}."""
    gone = _to_change(call)
    usecase.remove(call.conn, gone)
    return {"payer_rule": render_rule(gone)}


def _to_change(call: Call) -> PayerRule:
    return usecase.to_change(call.conn, call.organization.id, parse_uuid(call.path["lago_id"]))


def read_rule(fields: Fields, organization_id: UUID, *, now: datetime) -> PayerRule:
    """A new rule; problems gather in `fields`."""
    chosen = fields.choice("field", list(PayerName), mandatory=True)
    kind = PayerName(chosen) if chosen in set(PayerName) else PayerName.KEY
    return _with_payer(
        fields,
        PayerRule(
            id=new_id(now),
            organization_id=organization_id,
            field=kind,
            value=fields.text("value", mandatory=True, limit=NAME_LENGTH_MAX) or "",
            external_subscription_id=None,
            external_customer_id=None,
            overrides_request=kind not in SET_BY_REQUESTS,
            created_at=now,
        ),
    )


def read_changed_rule(fields: Fields, before: PayerRule) -> PayerRule:
    """The rule with who pays by it; its name stays. Problems gather in `fields`."""
    fields.refuse_changed(field=before.field, value=before.value)
    return _with_payer(fields, before)


def _with_payer(fields: Fields, rule: PayerRule) -> PayerRule:
    overrides = fields.flag("overrides_request")
    if overrides and rule.field in SET_BY_REQUESTS:
        fields.refuse("overrides_request", INVALID)
    position = fields.whole("position", minimum=1, maximum=POSITION_MAX)
    after = replace(
        rule,
        overrides_request=rule.overrides_request if overrides is None else overrides,
        position=position if fields.has("position") else rule.position,
    )
    customer, subscription = (
        fields.text(name) or None for name in ("external_customer_id", "external_subscription_id")
    )
    if customer and subscription:
        fields.refuse("external_subscription_id", "incompatible_params")
    if customer or subscription:
        return replace(after, external_customer_id=customer, external_subscription_id=subscription)
    if not (rule.external_customer_id or rule.external_subscription_id):
        fields.refuse("external_customer_id", MANDATORY)
    return after


def render_rule(rule: PayerRule, counted: int = 0) -> objects.PayerRule:
    """A rule; `counted` is how many held usages it has just counted."""
    return objects.PayerRule(
        lago_id=rule.id,
        field=rule.field,
        value=rule.value,
        external_customer_id=rule.external_customer_id,
        external_subscription_id=rule.external_subscription_id,
        overrides_request=rule.overrides_request,
        position=rule.position,
        counted_usages=counted,
        created_at=instant(rule.created_at),
    )
