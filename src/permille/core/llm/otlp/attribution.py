"""Who pays for a call, and the free properties of it, from the attributes of its span."""

from collections.abc import Mapping
from typing import Any

from permille.core.llm.call import SUBSCRIPTION_NAMES
from permille.core.llm.litellm import names_in
from permille.core.llm.otlp.spans import Span
from permille.core.llm.payer import payer_names

METADATA = (
    "permille.",
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
    "langfuse.trace.metadata.",
    "trace.metadata.",
    "metadata.",
)
_USERS = ("permille.customer", "gen_ai.user", "user.id", "enduser.id", "litellm.end_user.id")
_SUBSCRIPTIONS = frozenset(SUBSCRIPTION_NAMES)
_NOT_FREE = _SUBSCRIPTIONS | {"customer"}
_NAMED = {"session.id": "session", "gen_ai.conversation.id": "session"}
TEXTS = frozenset([*_USERS, *_NAMED])
"""Attributes that are read as texts, beside metadata."""
_MOST_PROPERTIES = 20
_LONGEST = 255


def payer(span: Span, metadata: Mapping[str, str]) -> dict[str, str]:
    """The subscription if a span names one, else the customer; empty where it says neither."""
    for name in SUBSCRIPTION_NAMES:
        if value := metadata.get(name):
            return {"external_subscription_id": value}
    for name in _USERS:
        if name in span.attributes and (value := _text(span.attributes[name])):
            return {"external_customer_id": value}
    return {}


def names(span: Span, metadata: Mapping[str, str]) -> dict[str, list[str]]:
    """The key, team, user and the like, for rules that say who pays."""
    users = [_text(span.attributes[name]) for name in _USERS if name in span.attributes]
    if not users and metadata.keys() <= _SUBSCRIPTIONS:
        return {}
    named = {"user": users, "end_user": users} if users else {}
    return payer_names(metadata, names_in(metadata), named)


def properties(span: Span, metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that the application set on its calls, but for what says who pays; at most 20 short texts."""
    named = {
        ours: _text(span.attributes[theirs]) for theirs, ours in _NAMED.items() if theirs in span.attributes
    }
    free = {name: value for name, value in metadata.items() if name not in _NOT_FREE}
    if not named and not free:
        return {}
    found = {name: value for name, value in (named | free).items() if value}
    return dict(list(found.items())[:_MOST_PROPERTIES])


def metadata_of(span: Span) -> dict[str, str]:
    """What the application says about its call, by names without their prefixes."""
    found: dict[str, str] = {}
    for name, value in span.attributes.items():
        if name.startswith(METADATA) and (text := _text(value)):
            prefix = next(prefix for prefix in METADATA if name.startswith(prefix))
            found.setdefault(name.removeprefix(prefix), text)
    return found


def _text(value: Any) -> str:
    """A short text; Langfuse quotes its texts."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value)
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text if len(text) <= _LONGEST else ""
