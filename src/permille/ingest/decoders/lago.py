"""Lago's JSON, one event or a batch: from a body to drafts of events, or to every error in it, by Lago's rules.

Source: semantics-metering.md sections 1.2 to 1.6. Nothing here touches the database or the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from permille.core.bounds import EVENT_MAX, LATEST, NAME_MAX
from permille.core.contract.event_warning import EventWarning
from permille.core.errors import BadRequest, Invalid
from permille.core.instants import EPOCH, microseconds
from permille.core.metering.event import timestamp_microseconds
from permille.core.money import decimal_text
from permille.events.draft import INTEGER_END, Draft, Errors, Sent, as_text, check
from permille.events.log import Request
from permille.http.words import problem_in_words
from permille.ingest.wire_format import Faulty, Warnings, WireFormat

_SECONDS_MAX = (LATEST - EPOCH) // timedelta(seconds=1) - 1
_ESCAPED_NUL = b"\\u0000"  # the only way to send one: JSON has no bare NUL

_USUAL_TEXT_MAX = EVENT_MAX // (NAME_MAX + 2)
"""Names of NAME_MAX characters together, with a text of this length for each, are within all bounds of an event."""

_NEEDED_BY_EXPRESSIONS = frozenset(("timestamp", "code", "properties"))


class _One(msgspec.Struct):
    event: Sent


class _Many(msgspec.Struct):
    events: list[Sent]


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]


class _Usual(Draft, rename={"at": "timestamp", "precise": "precise_total_amount_cents"}):
    """A draft read straight from an event as most are sent: all there, the time in whole seconds."""

    transaction_id: _Name
    code: _Name
    external_subscription_id: _Name
    at: Annotated[int, msgspec.Meta(ge=0, le=_SECONDS_MAX)]
    precise: None = None
    properties: dict[str, Any] = msgspec.field(default_factory=dict)


class _OneUsual(msgspec.Struct):
    event: _Usual


class _ManyUsual(msgspec.Struct):
    events: list[_Usual]


_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode_one_usual = msgspec.json.Decoder(_OneUsual, float_hook=Decimal).decode
_decode_many_usual = msgspec.json.Decoder(_ManyUsual, float_hook=Decimal).decode
_decode_one = msgspec.json.Decoder(_One, float_hook=Decimal).decode
_decode_many = msgspec.json.Decoder(_Many, float_hook=Decimal).decode
_decode_any = msgspec.json.Decoder(float_hook=Decimal).decode


def read_one(body: bytes, *, now: datetime) -> list[Draft]:
    """The draft of POST /events. Raises BadRequest or Invalid."""
    try:
        usual = [_decode_one_usual(body).event]
        if _are_fine(usual, body):
            return list(usual)
    except _NOT_USUAL:
        pass
    try:
        sent = _decode_one(body).event
    except msgspec.ValidationError:
        sent = _unusual_one(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise _not_json(error) from error
    draft = check(sent, now=microseconds(now))
    if isinstance(draft, dict):
        _unusual_one(body)  # an event without any field is a bad request
        raise Faulty(_reported(draft), _evaluable([sent], {0: draft}, now=microseconds(now)), is_batch=False)
    return [draft]


_NOT_USUAL = (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError)


def _are_fine(usual: Sequence[_Usual], body: bytes) -> bool:
    """Make drafts of them, unless one has what needs a closer look: then they are of no use any more.

    What is said here is what `check` says, for those that it has nothing to say about.
    """
    if _ESCAPED_NUL in body:
        return False
    for draft in usual:
        if len("".join(draft.properties)) > NAME_MAX:
            return False
        for value in draft.properties.values():
            kind = type(value)
            if kind is str:
                if len(value) > _USUAL_TEXT_MAX:
                    return False
            elif kind is not int or not -INTEGER_END < value < INTEGER_END:
                return False
        if draft.transaction_id.isspace() or draft.code.isspace() or draft.external_subscription_id.isspace():
            return False
        draft.at *= 1_000_000
    return True


def _not_json(error: Exception) -> BadRequest:
    return BadRequest(f"the body is not valid JSON: {error}")


def json_of(body: bytes, decode: Callable[[bytes], Any] = _decode_any) -> Any:
    """What a body says in JSON, its numbers exact. Raises BadRequest where it is none."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise _not_json(error) from error


def _unusual_one(body: bytes) -> Sent:
    decoded = json_of(body)
    found = decoded.get("event") if isinstance(decoded, dict) else None
    if not isinstance(found, dict) or not found:
        raise BadRequest("param is missing or the value is empty or invalid: event")
    return _sent(found)


def _sent(found: Mapping[str, Any]) -> Sent:
    return Sent(**{name: found.get(name) for name in Sent.__struct_fields__})


def _reported(errors: Errors) -> Errors:
    """What Lago reports of a faulty event: a timestamp that cannot be read, or else everything."""
    return {"timestamp": errors["timestamp"]} if "timestamp" in errors else errors


def read_batch(body: bytes, *, now: datetime, limit: int) -> list[Draft]:
    """The drafts of POST /events/batch, all or none. Raises BadRequest or Invalid, errors keyed by index."""
    try:
        usual = _decode_many_usual(body).events
        if 0 < len(usual) <= limit and _are_fine(usual, body):
            return list(usual)
    except _NOT_USUAL:
        pass
    try:
        many: list[Sent | Any] = list(_decode_many(body).events)
    except msgspec.ValidationError:
        many = _unusual_many(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise _not_json(error) from error
    if not many:
        raise Invalid({"events": ["no_events"]})
    if len(many) > limit:
        raise Invalid({"events": ["too_many_events"]})
    at = microseconds(now)
    drafts: list[Draft] = []
    errors: dict[int, Errors] = {}
    for index, sent in enumerate(many):
        draft = check(sent, now=at) if isinstance(sent, Sent) else {"event": ["invalid_format"]}
        if isinstance(draft, dict):
            errors[index] = draft
        else:
            drafts.append(draft)
    if errors:
        by_index = {str(index): _reported(found) for index, found in errors.items()}
        raise Faulty(by_index, _evaluable(many, errors, now=at), is_batch=True)
    return drafts


def _evaluable(many: Sequence[Any], errors: Mapping[int, Errors], *, now: int) -> dict[int, Draft]:
    """The events of a refused request that have all that an expression looks at."""
    found: dict[int, Draft] = {}
    for index, sent in enumerate(many):
        faulty = {name.partition(".")[0] for name in errors.get(index, ())}
        if isinstance(sent, Sent) and not _NEEDED_BY_EXPRESSIONS & faulty:
            at = now if sent.timestamp is None else timestamp_microseconds(sent.timestamp)
            assert at is not None, "a wrong timestamp is an error"
            found[index] = Draft("", as_text(sent.code), None, at, None, sent.properties or {})
    return found


def _unusual_many(body: bytes) -> list[Any]:
    decoded = json_of(body)
    found = decoded.get("events") if isinstance(decoded, dict) else None
    if not isinstance(found, list):
        raise Invalid({"events": ["no_events"]})
    return [_sent(one) if isinstance(one, dict) else one for one in found]


_TIMESTAMPS_REMEMBERED = 50_000
_timestamp_texts: dict[int, str] = {}


def timestamp_text(at: int) -> str:
    """ISO 8601 with milliseconds, cut off, from microseconds since 1970."""
    text = _timestamp_texts.get(at)
    if text is None:
        text = (EPOCH + timedelta(microseconds=at)).isoformat(timespec="milliseconds")[:23] + "Z"
        if len(_timestamp_texts) >= _TIMESTAMPS_REMEMBERED:
            _timestamp_texts.clear()
        _timestamp_texts[at] = text
    return text


class EventObject(msgspec.Struct):
    """Lago's event, as it is answered. The two legacy ids are always null, as on Lago's PostgreSQL store."""

    lago_id: str
    transaction_id: str
    code: str
    timestamp: str
    precise_total_amount_cents: str | None
    properties: dict[str, Any]
    external_subscription_id: str | None
    created_at: str
    lago_customer_id: None = None
    lago_subscription_id: None = None


def answer_one(request: Request, warnings: Warnings | None) -> bytes:
    """The event, as Lago answers it."""
    return _encode({"event": _events(request)[0], **_warned(request, warnings)})


def answer_batch(request: Request, warnings: Warnings | None) -> bytes:
    """The events in the order in which they were sent."""
    return _encode({"events": _events(request), **_warned(request, warnings)})


def _events(request: Request) -> list[EventObject]:
    created_at = timestamp_text(request.created_at - request.created_at % 1_000_000)[:19] + "Z"
    return [
        _event(draft, identity.hex(), created_at)
        for draft, identity in zip(request.drafts, request.identities, strict=True)
    ]


def _warned(request: Request, warnings: Warnings | None) -> dict[str, Any]:
    if warnings is None:
        return {}
    return {"warnings": [_warning(request.drafts[index], index, each) for index, each in warnings]}


def _warning(draft: Draft, index: int, warning: EventWarning) -> dict[str, Any]:
    """`index` is the event's place in the request."""
    said = {
        "index": index,
        "transaction_id": draft.transaction_id,
        "field": warning.field,
        "code": warning.code,
        "message": problem_in_words(warning.field, warning.code, warning.allowed),
    }
    return {**said, "allowed": warning.allowed} if warning.allowed else said


def _event(draft: Draft, identity: str, created_at: str) -> EventObject:
    precise = draft.precise
    return EventObject(
        f"{identity[:8]}-{identity[8:12]}-{identity[12:16]}-{identity[16:20]}-{identity[20:]}",
        draft.transaction_id,
        draft.code,
        timestamp_text(draft.at),
        None if precise is None else decimal_text(Decimal(precise)),
        draft.properties,
        draft.external_subscription_id,
        created_at,
    )


EVENT = WireFormat(
    path="/api/v1/events",
    is_batch=False,
    decode=lambda body, now, _most: read_one(body, now=now),
    answer=answer_one,
    may_be_usual=True,
)
BATCH = WireFormat(
    path="/api/v1/events/batch",
    is_batch=True,
    decode=lambda body, now, most: read_batch(body, now=now, limit=most),
    answer=answer_batch,
    may_be_usual=True,
)
