"""CloudEvents in JSON, one or a batch, as OpenMeter's clients and LiteLLM's callback send them.

`type` is the metric's code, `subject` the subscription, and `data` the properties. An event is known by its source and
its id together: `source|id` is its transaction id, as no address of a source has a bar.
Facts: CloudEvents 1.0.2, and its JSON format in structured mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from permille.core.errors import Invalid
from permille.core.instants import microseconds
from permille.events.draft import Draft, Errors, Sent, check
from permille.ingest.decoders.lago import answer_batch, answer_one, json_of
from permille.ingest.wire_format import WireFormat

_BAR = "|"
_THEIRS = {
    "transaction_id": "id",
    "code": "type",
    "external_subscription_id": "subject",
    "timestamp": "time",
    "properties": "data",
}
"""Our fields, and what a CloudEvent calls them."""


def _read_one(body: bytes, now: datetime, _most: int) -> list[Draft]:
    """Raises BadRequest or Invalid."""
    found = _draft(json_of(body), now=microseconds(now))
    if isinstance(found, dict):
        raise Invalid(found)
    return [found]


def _read_batch(body: bytes, now: datetime, most: int) -> list[Draft]:
    """All or none. Raises BadRequest, or Invalid with errors by their index."""
    sent = json_of(body)
    if not isinstance(sent, list) or not sent:
        raise Invalid({"events": ["no_events"]})
    if len(sent) > most:
        raise Invalid({"events": ["too_many_events"]})
    found = [_draft(each, now=microseconds(now)) for each in sent]
    if errors := {str(index): each for index, each in enumerate(found) if isinstance(each, dict)}:
        raise Invalid(errors)
    return [each for each in found if isinstance(each, Draft)]


def _draft(event: Any, *, now: int) -> Draft | Errors:
    if not isinstance(event, dict):
        return {"event": ["invalid_format"]}
    errors = {
        name: [problem] for name in ("specversion", "source", "id") if (problem := _problem(event, name))
    }
    transaction_id = None if errors else f"{event['source']}{_BAR}{event['id']}"
    sent = Sent(
        transaction_id=transaction_id or "unknown",
        code=event.get("type"),
        external_subscription_id=event.get("subject"),
        timestamp=event.get("time"),
        properties=event.get("data"),
    )
    found = check(sent, now=now)
    if isinstance(found, dict):
        errors |= {_their_name(name): problems for name, problems in found.items()}
    return errors or found


def _problem(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    if value is None:
        return "value_is_mandatory"
    if not isinstance(value, str) or (name == "specversion" and value != "1.0"):
        return "value_is_invalid"
    if name == "source" and _BAR in value:
        return "value_is_invalid"
    return None if value.strip() else "value_is_mandatory"


def _their_name(name: str) -> str:
    head, dot, rest = name.partition(".")
    return f"{_THEIRS.get(head, head)}{dot}{rest}"


EVENT = WireFormat(
    path="/api/v1/events",
    media_type="application/cloudevents+json",
    is_batch=False,
    decode=_read_one,
    answer=answer_one,
)
BATCH = WireFormat(
    path="/api/v1/events",
    media_type="application/cloudevents-batch+json",
    is_batch=True,
    decode=_read_batch,
    answer=answer_batch,
)
