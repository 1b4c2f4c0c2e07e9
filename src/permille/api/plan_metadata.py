"""What a client notes on a plan: texts by names of its own. They are also a field of the plan itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.http import Call
from permille.api.metadata import checked_metadata, sent_metadata, without_key
from permille.core.contract.plan import Plan
from permille.usecases.catalogue import plans as catalogue


def replace_metadata(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/metadata: what is not sent is gone."""
    plan = _plan_to_change(call)
    return _set(call, plan, sent_metadata(call))


def merge_metadata(call: Call) -> dict[str, Any]:
    """PATCH /plans/{code}/metadata: what is not sent stays."""
    plan = _plan_to_change(call)
    return _set(call, plan, {**(plan.metadata or {}), **sent_metadata(call)})


def delete_metadata(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/metadata."""
    return _set(call, _plan_to_change(call), {})


def delete_metadata_key(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/metadata/{key}."""
    plan = _plan_to_change(call)
    return _set(call, plan, without_key(plan.metadata, call.path["key"]))


def _plan_to_change(call: Call) -> Plan:
    return catalogue.to_change(call.conn, call.organization.id, call.path["code"], now=call.now)


def _set(call: Call, plan: Plan, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kept = checked_metadata(metadata)
    catalogue.set_metadata(call.conn, plan, kept, now=call.now)
    return {"metadata": kept}
