"""What LiteLLM's callbacks send of a call, as a usage of `POST /api/v1/llm/usage`.

Facts: the payload of `generic_api`, and the events of `lago` and `openmeter`, as the proxy of version 1.106.12 sends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.core.llm.apis.litellm import LITELLM, LITELLM_EVENT
from permille.core.llm.call import SUBSCRIPTION_NAMES
from permille.core.llm.model_name import provider_of_model
from permille.core.llm.parts import OWN_ID, Usage, identity_of
from permille.core.llm.payer import payer_names

_CUSTOMERS = ("user_api_key_team_id", "user_api_key_org_id", "user_api_key_user_id")
_NAMES = {
    "key": ("user_api_key_alias", "user_api_key_hash"),
    "user": ("user_api_key_user_id", "user_api_key_user_email"),
    "team": ("user_api_key_team_id", "user_api_key_team_alias"),
    "organization": ("user_api_key_org_id", "user_api_key_org_alias"),
    "end_user": ("user_api_key_end_user_id",),
}
_PROPERTIES = {
    "key": "user_api_key_alias",
    "team": "user_api_key_team_alias",
    "user": "user_api_key_user_id",
}
_LONGEST = 255


def usage_in(payload: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage of a call; None for one that failed and used nothing.

    The end user pays, else the key's team, its organization, its user; a subscription that the request's metadata
    names goes before them. A call that LiteLLM answered from its own cache has the property `cache_hit`.
    """
    metadata = _mapping(payload.get("metadata"))
    counts = _mapping(metadata.get("usage_object")) or _totals(payload)
    if payload.get("status") == "failure" and not any(counts.values()):
        return None
    response = _mapping(payload.get("response"))
    breakdown = _mapping(payload.get("cost_breakdown"))
    usage = {
        "api": "litellm",
        "provider": _text(payload.get("custom_llm_provider")),
        "model": _text(payload.get("model")),
        "id": _text(payload.get("id")) or _text(payload.get("litellm_call_id")),
        "timestamp": _seconds(payload.get("endTime")),
        "tier": _text(response.get("service_tier")) or _text(breakdown.get("service_tier")),
        "cost": payload.get("response_cost"),
        "usage": counts,
        "properties": _properties(payload, metadata),
        "payer_names": payer_names(
            {"end_user": payload.get("end_user"), "tag": payload.get("request_tags")}, names_in(metadata)
        ),
        **_payer(payload, metadata),
    }
    return {name: value for name, value in usage.items() if value not in (None, "", {}) or name == "usage"}


def usage_in_lago_event(_code: str, transaction_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The `lago` callback's event: its id is new for each try, and its time is that of its arrival."""
    return _event_usage(f"{OWN_ID}{transaction_id}", properties, cost=properties.get("response_cost"))


def usage_in_cloud_event(_code: str, transaction_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The `openmeter` callback's event: its id is the answer's."""
    return _event_usage(transaction_id.removeprefix(_SOURCE), properties, cost=properties.get("cost"))


_SOURCE = "litellm-proxy|"
"""The source that all proxies name, which is before the id in an event's transaction id."""


def _event_usage(name: str, properties: Mapping[str, Any], *, cost: Any) -> dict[str, Any]:
    model = properties.get("model")
    usage = {
        "api": LITELLM_EVENT.name,
        "provider": provider_of_model(model) if isinstance(model, str) else None,
        "model": model,
        "id": name,
        "cost": cost,
        "usage": _totals(properties),
    }
    found = {name: value for name, value in usage.items() if value is not None}
    return {"provider": "unknown", **found}


def other_identities(usage: Usage) -> frozenset[str]:
    """What the same answer may be known by that came by another callback of LiteLLM.

    That for OpenMeter doesn't say which provider it was, so one is taken by the model, which it names without the prefix
    that others write before it.
    """
    name = usage.response_id
    if name is None or usage.api not in (LITELLM.name, LITELLM_EVENT.name):
        return frozenset()
    words = usage.requests[0].model_sent.split("/")
    guesses = (provider_of_model("/".join(words[start:])) for start in range(len(words)))
    behind = _BEHIND if usage.api == LITELLM_EVENT.name else ()
    providers = {"unknown", *filter(None, guesses), *behind} - {usage.provider}
    return frozenset(identity_of(each, name) for each in providers)


_BEHIND = (
    "openai",
    "azure",
    "anthropic",
    "aws",
    "google",
    "mistral",
    "cohere",
    "groq",
    "deepseek",
    "x-ai",
    "openrouter",
)
"""Providers that LiteLLM reaches models of others by, or that it names otherwise than by the model."""


def _totals(payload: Mapping[str, Any]) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: payload[name] for name in names if payload.get(name) is not None}


def names_in(metadata: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The key, user, team and the like of a call, under the names that payer rules have for them."""
    if not metadata:
        return {}
    found = {ours: [metadata[name] for name in theirs if name in metadata] for ours, theirs in _NAMES.items()}
    return {ours: names for ours, names in found.items() if names}


def _payer(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    requested = _mapping(metadata.get("requester_metadata"))
    for name in SUBSCRIPTION_NAMES:
        if subscription := _text(requested.get(name)):
            return {"external_subscription_id": subscription, "payer_requested": True}
    end_user = _text(payload.get("end_user")) or _text(metadata.get("user_api_key_end_user_id"))
    if end_user:
        return {"external_customer_id": end_user, "payer_requested": True}
    customer = next(filter(None, (_text(metadata.get(name)) for name in _CUSTOMERS)), None)
    return {"external_customer_id": customer} if customer else {}


def _properties(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    found = {ours: _text(metadata.get(theirs)) for ours, theirs in _PROPERTIES.items()}
    found["model_group"] = _text(payload.get("model_group"))
    if payload.get("cache_hit") is True:
        found["cache_hit"] = "true"
    return {name: value for name, value in found.items() if value}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _seconds(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else str(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and len(value) <= _LONGEST else None
