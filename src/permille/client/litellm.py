"""LiteLLM's calls, its proxy's too: written to the spool file as they end, and sent from there.

    litellm_settings:
      callbacks: ["permille.client.litellm.callback"]

`PERMILLE_URL`, `PERMILLE_API_KEY` and `PERMILLE_SPOOL` are read when LiteLLM starts. Of a call its counts, its cost and who it
was are kept, and nothing of prompts or answers.
"""

from math import isfinite
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from permille.client.meter import Meter

_SAID = (
    *("id", "litellm_call_id", "status", "cache_hit", "response_cost", "custom_llm_provider", "model"),
    *(
        "model_group",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "endTime",
        "end_user",
        "request_tags",
    ),
)
_PAYERS = ("subscription", "subscription_id", "external_subscription_id")
_LONGEST = 255


class PermilleCallback(CustomLogger):  # type: ignore[misc]  # LiteLLM is not where this is checked
    """Bills what LiteLLM calls, in a process or as its proxy."""

    def __init__(self, meter: Meter | None = None) -> None:
        super().__init__()
        self._meter = meter or Meter()

    async def async_log_success_event(self, kwargs: dict[str, Any], *_: Any, **__: Any) -> None:
        """A call through the proxy, or of a coroutine."""
        self._keep(kwargs)

    def log_success_event(self, kwargs: dict[str, Any], *_: Any, **__: Any) -> None:
        """A call that its program waits for."""
        self._keep(kwargs)

    async def async_log_failure_event(self, kwargs: dict[str, Any], *_: Any, **__: Any) -> None:
        """A call that failed: it may have used tokens before."""
        self._keep(kwargs)

    def log_failure_event(self, kwargs: dict[str, Any], *_: Any, **__: Any) -> None:
        """The same of a call that its program waits for."""
        self._keep(kwargs)

    def _keep(self, kwargs: dict[str, Any]) -> None:
        payload = kwargs.get("standard_logging_object")
        if isinstance(payload, dict) and (payload.get("status") != "failure" or payload.get("total_tokens")):
            self._meter.record_payload(without_content(payload), provider="litellm")


def without_content(payload: dict[str, Any]) -> dict[str, Any]:
    """What is billed by of a call: names and numbers."""
    metadata = _mapping(payload.get("metadata"))
    requested = _mapping(metadata.get("requester_metadata"))
    said = {name: payload.get(name) for name in _SAID}
    said["response"] = {"service_tier": _mapping(payload.get("response")).get("service_tier")}
    said["cost_breakdown"] = {"service_tier": _mapping(payload.get("cost_breakdown")).get("service_tier")}
    said["metadata"] = {
        **{name: value for name, value in metadata.items() if name.startswith("user_api_key_")},
        "usage_object": metadata.get("usage_object"),
        "requester_metadata": {name: requested.get(name) for name in _PAYERS},
    }
    return {name: found for name, value in said.items() if (found := _plain(value)) not in (None, {}, [])}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """Names and numbers, in objects and lists; None for what is neither."""
    if isinstance(value, dict):
        found = {str(name): _plain(each) for name, each in value.items()}
        return {name: each for name, each in found.items() if each is not None}
    if isinstance(value, list):
        return [each for each in map(_plain, value) if each is not None]
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    return value if isinstance(value, int) or (isinstance(value, float) and isfinite(value)) else None


callback = PermilleCallback()
"""What `litellm_settings.callbacks` names."""
