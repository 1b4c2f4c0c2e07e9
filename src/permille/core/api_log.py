"""What the log of requests shows of a body: never a secret, and nothing of events."""

from __future__ import annotations

from typing import Any

NOT_SHOWN = "(not shown)"
EVENTS = frozenset({"event", "events", "amendment", "amendments"})
SECRETS = ("secret", "password", "token", "key")
"""How the names of secrets end; an object's `key` is its name."""


def shown(body: Any) -> Any:
    """The body with what is not shown left out."""
    if isinstance(body, dict):
        return {name: NOT_SHOWN if _is_hidden(name) else shown(value) for name, value in body.items()}
    return [shown(value) for value in body] if isinstance(body, list) else body


def _is_hidden(name: str) -> bool:
    lower = name.lower()
    return lower in EVENTS or (lower != "key" and lower.endswith(SECRETS))
