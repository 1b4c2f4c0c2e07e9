"""Entitlements: what plans and subscriptions grant of features. semantics-billing.md section 9.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from permille.api.features import render_plan_entitlement, render_subscription_entitlement
from permille.api.http import Call
from permille.api.plans import plan_of
from permille.api.subscriptions import asked_row
from permille.api.validation import INVALID
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.errors import BadRequest, Invalid, NotFound
from permille.core.feature import Entitlement
from permille.database import locks
from permille.store import plans
from permille.usecases.catalogue import features as catalogue, plans as plan_catalogue
from permille.usecases.catalogue.features import Values


def list_plan_entitlements(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/entitlements."""
    return _of_plan(call, plan_of(call))


def replace_plan_entitlements(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/entitlements: what is not sent is granted no more."""
    return _grant_by_plan(call, replaces=True)


def merge_plan_entitlements(call: Call) -> dict[str, Any]:
    """PATCH /plans/{code}/entitlements: what is not sent stays."""
    return _grant_by_plan(call, replaces=False)


def _grant_by_plan(call: Call, *, replaces: bool) -> dict[str, Any]:
    plan = _plan_to_change(call)
    catalogue.grant_by_plan(call.conn, plan, _sent(call), replaces=replaces, now=call.now)
    return _of_plan(call, plan)


def show_plan_entitlement(call: Call) -> dict[str, Any]:
    """GET /plans/{code}/entitlements/{feature_code}."""
    return {"entitlement": render_plan_entitlement(_one(call, catalogue.of_plan(call.conn, plan_of(call))))}


def delete_plan_entitlement(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/entitlements/{feature_code}."""
    plan = _plan_to_change(call)
    gone = _one(call, catalogue.of_plan(call.conn, plan))
    catalogue.drop_from_plan(call.conn, plan, gone.feature.code, None, now=call.now)
    return {"entitlement": render_plan_entitlement(gone)}


def delete_plan_privilege(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/entitlements/{feature_code}/privileges/{privilege_code}."""
    plan = _plan_to_change(call)
    catalogue.drop_from_plan(
        call.conn, plan, call.path["feature_code"], call.path["privilege_code"], now=call.now
    )
    return {"entitlement": render_plan_entitlement(_one(call, catalogue.of_plan(call.conn, plan)))}


def _plan_to_change(call: Call) -> Plan:
    return plan_catalogue.to_change(call.conn, call.organization.id, call.path["code"], now=call.now)


def _of_plan(call: Call, plan: Plan) -> dict[str, Any]:
    found = catalogue.of_plan(call.conn, plan)
    return {"entitlements": [render_plan_entitlement(each) for each in found]}


def list_subscription_entitlements(call: Call) -> dict[str, Any]:
    """GET /subscriptions/{external_id}/entitlements."""
    row, _ = asked_row(call)
    return _of_subscription(call, row)


def merge_subscription_entitlements(call: Call) -> dict[str, Any]:
    """PATCH /subscriptions/{external_id}/entitlements: what is not sent stays."""
    row = _subscription_to_change(call)
    catalogue.grant_by_subscription(call.conn, row, _sent(call), now=call.now)
    return _of_subscription(call, row)


def delete_subscription_entitlement(call: Call) -> dict[str, Any]:
    """DELETE /subscriptions/{external_id}/entitlements/{feature_code}: also of one that its plan grants."""
    row = _subscription_to_change(call)
    gone = _one(call, _entitlements(call, row))
    catalogue.drop_from_subscription(call.conn, row, gone.feature.code, None, now=call.now)
    return {"entitlement": render_subscription_entitlement(gone)}


def delete_subscription_privilege(call: Call) -> dict[str, Any]:
    """DELETE /subscriptions/{external_id}/entitlements/{feature_code}/privileges/{privilege_code}."""
    row = _subscription_to_change(call)
    catalogue.drop_from_subscription(
        call.conn, row, call.path["feature_code"], call.path["privilege_code"], now=call.now
    )
    return {"entitlement": render_subscription_entitlement(_one(call, _entitlements(call, row)))}


def _subscription_to_change(call: Call) -> Subscription:
    """The catalogue stays as it is meanwhile, and nobody else changes the subscription."""
    locks.use_catalogue(call.conn, call.organization.id)
    locks.change_subscription(call.conn, call.organization.id, call.path["external_id"])
    return asked_row(call)[0]


def _of_subscription(call: Call, row: Subscription) -> dict[str, Any]:
    return {"entitlements": [render_subscription_entitlement(each) for each in _entitlements(call, row)]}


def _entitlements(call: Call, row: Subscription) -> list[Entitlement]:
    known = plans.plans_by_ids(call.conn, [row.plan_id])
    return catalogue.of_subscriptions(call.conn, [row], known)[row.id]


def _one(call: Call, found: Sequence[Entitlement]) -> Entitlement:
    """The entitlement that the path names. Raises NotFound."""
    for each in found:
        if each.feature.code == call.path["feature_code"]:
            return each
    raise NotFound("entitlement")


def _sent(call: Call) -> Values:
    """The values that are sent. Raises BadRequest and Invalid."""
    sent = call.body.get("entitlements") if isinstance(call.body, dict) else None
    if not isinstance(sent, dict):
        raise BadRequest("param is missing or the value is empty or invalid: entitlements")
    if not all(isinstance(values, dict) or values is None for values in sent.values()):
        raise Invalid({"entitlements": [INVALID]})
    if any("\0" in code for code in sent):
        raise NotFound("feature")
    return {code: values or {} for code, values in sent.items()}
