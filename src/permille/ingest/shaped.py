"""Usages that are well-formed, taken apart: what plans look at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from permille import accelerator
from permille.core.llm.call import OWN_PROPERTIES
from permille.core.llm.payer import PayerName
from permille.core.llm.redact import COUNTS, IDS, NAMES, NESTED
from permille.core.llm.shape import Shape, shape_of
from permille.ingest.decoders.llm_usage import called_at, problems
from permille.ingest.planned_call import ShapedUsage, in_json

_FIELDS = frozenset(
    [
        "provider",
        "api",
        "model",
        "id",
        "tier",
        "response",
        "usage",
        "external_subscription_id",
        "external_customer_id",
        "timestamp",
        "properties",
        "payer_names",
        "payer_requested",
        "client",
    ]
)
_PAYER_NAMES = frozenset(map(str, PayerName))


def shaped(usage: Any, now: datetime, *, names_clients: bool) -> ShapedUsage | None:
    """A usage as plans look at it; None for one that is to be read. Without a time it is of `now`."""
    shape = shape_of_usage(usage)
    if shape is None or problems(usage):
        return None
    properties = usage.get("properties")
    return ShapedUsage(
        shape=shape,
        external_subscription_id=usage.get("external_subscription_id"),
        external_customer_id=usage.get("external_customer_id"),
        has_payer_names=has_payer_names(usage),
        client=usage.get("client") if names_clients else None,
        at=called_at(usage, now),
        properties=_properties(properties) if properties else "",
    )


def shape_of_usage(usage: Any) -> Shape | None:
    """Its shape, by the accelerator where that knows it."""
    if type(usage) is not dict or not usage.keys() <= _FIELDS or usage.get("provider") == "litellm":
        return None
    if (usage.get("response") is None) is (usage.get("usage") is None):
        return None
    found = accelerator.usual.shape_of(usage, COUNTS, NESTED, IDS, NAMES) if accelerator.IS_BUILT else None
    return shape_of(usage) if found is None else Shape(*found)


def has_payer_names(usage: Mapping[str, Any]) -> bool:
    """Whether rules may say who pays."""
    properties = usage.get("properties")
    return bool(usage.get("payer_names") or (properties and not _PAYER_NAMES.isdisjoint(properties)))


def _properties(sent: Mapping[str, Any]) -> str:
    """Free properties as the beginning of an object in JSON."""
    free = {name: value for name, value in sent.items() if name not in OWN_PROPERTIES}
    return f"{in_json(free)[1:-1]}," if free else ""
