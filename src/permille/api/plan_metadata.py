"""What a client notes on a plan: texts by names of its own. They are also a field of the plan itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.http import Call
from permille.api.metadata import read_metadata
from permille.api.validation import Fields
from permille.core.contract.plan import Plan
from permille.core.errors import BadRequest, NotFound
from permille.usecases.catalogue import plans as catalogue


def replace_metadata(call: Call) -> dict[str, Any]:
    """POST /plans/{code}/metadata: what is not sent is gone."""
    plan = _plan_to_change(call)
    return _set(call, plan, _sent(call))


def merge_metadata(call: Call) -> dict[str, Any]:
    """PATCH /plans/{code}/metadata: what is not sent stays."""
    plan = _plan_to_change(call)
    return _set(call, plan, {**(plan.metadata or {}), **_sent(call)})


def delete_metadata(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/metadata."""
    return _set(call, _plan_to_change(call), {})


def delete_metadata_key(call: Call) -> dict[str, Any]:
    """DELETE /plans/{code}/metadata/{key}."""
    plan = _plan_to_change(call)
    kept = dict(plan.metadata or {})
    if call.path["key"] not in kept:
        raise NotFound("metadata")
    del kept[call.path["key"]]
    return _set(call, plan, kept)


def _plan_to_change(call: Call) -> Plan:
    return catalogue.to_change(call.conn, call.organization.id, call.path["code"], now=call.now)


def _sent(call: Call) -> Mapping[str, Any]:
    if not isinstance(call.body, dict) or "metadata" not in call.body:
        raise BadRequest("param is missing or the value is empty or invalid: metadata")
    fields = Fields(call.body)
    found = read_metadata(fields)
    fields.check()
    return found or {}


def _set(call: Call, plan: Plan, metadata: Mapping[str, Any]) -> dict[str, Any]:
    fields = Fields({"metadata": metadata})
    kept = read_metadata(fields)  # what is there already may be too much together with what is sent
    fields.check()
    catalogue.set_metadata(call.conn, plan, kept, now=call.now)
    return {"metadata": kept}
