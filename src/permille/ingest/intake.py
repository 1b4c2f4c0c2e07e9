"""From a request's body to drafts of events, or to every error in it, by Lago's rules.

Source: semantics-metering.md sections 1.2 to 1.6. Nothing here touches the database or the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec

from permille.core.errors import BadRequest, Invalid
from permille.core.instants import EPOCH, LATEST
from permille.core.metering.event import DIGITS_MAX, timestamp_microseconds

TEXT_MAX = 255
PROPERTIES_DEPTH_MAX = 20

_MICROSECOND = timedelta(microseconds=1)
_INTEGER_END = 10**DIGITS_MAX
_SECONDS_MAX = (LATEST - EPOCH) // timedelta(seconds=1) - 1
_ESCAPED_NUL = b"\\u0000"  # the only way to send one: JSON has no bare NUL

Errors = dict[str, list[str]]
_NEEDED_BY_EXPRESSIONS = frozenset(("timestamp", "code", "properties"))


class Faulty(Invalid):
    """Events with errors, of one or of a batch. Lago still evaluates expressions before it answers.

    `evaluable` are those of the request that an expression can look at, by index; some of them have an error.
    """

    def __init__(self, errors: Mapping[str, Any], evaluable: Mapping[int, Draft], *, is_batch: bool) -> None:
        super().__init__(errors)
        self.evaluable = evaluable
        self.is_batch = is_batch


class Sent(msgspec.Struct):
    """An event as it came, unchecked; other fields are dropped, as Lago does."""

    transaction_id: Any = None
    code: Any = None
    external_subscription_id: Any = None
    timestamp: Any = None
    precise_total_amount_cents: Any = None
    properties: Any = None


class _One(msgspec.Struct):
    event: Sent


class _Many(msgspec.Struct):
    events: list[Sent]


class Draft(msgspec.Struct):
    """A checked event. `at` is in microseconds since 1970; `precise` is a decimal text."""

    transaction_id: str
    code: str
    external_subscription_id: str | None
    at: int
    precise: str | None
    properties: dict[str, Any]


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX)]


class _Usual(Draft, rename={"at": "timestamp", "precise": "precise_total_amount_cents"}):
    """A draft read straight from an event as most are sent: all there, the time in whole seconds."""

    transaction_id: _Name
    code: _Name
    external_subscription_id: _Name
    at: Annotated[int, msgspec.Meta(ge=0, le=_SECONDS_MAX)]
    precise: None = None
    properties: dict[str, Any] = {}


class _OneUsual(msgspec.Struct):
    event: _Usual


class _ManyUsual(msgspec.Struct):
    events: list[_Usual]


_decode_one_usual = msgspec.json.Decoder(_OneUsual, float_hook=Decimal).decode
_decode_many_usual = msgspec.json.Decoder(_ManyUsual, float_hook=Decimal).decode
_decode_one = msgspec.json.Decoder(_One, float_hook=Decimal).decode
_decode_many = msgspec.json.Decoder(_Many, float_hook=Decimal).decode
_decode_any = msgspec.json.Decoder(float_hook=Decimal).decode


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // _MICROSECOND


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
        raise Faulty(_told(draft), _evaluable([sent], {0: draft}, now=microseconds(now)), is_batch=False)
    return [draft]


_NOT_USUAL = (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError)


def _are_fine(usual: Sequence[_Usual], body: bytes) -> bool:
    """Make drafts of them, unless one has what needs a closer look: then they are of no use any more.

    What is said here is what `check` says, for those that it has nothing to say about.
    """
    if _ESCAPED_NUL in body:
        return False
    for draft in usual:
        for value in draft.properties.values():
            kind = type(value)
            if kind is not str and (kind is not int or not -_INTEGER_END < value < _INTEGER_END):
                return False
        if draft.transaction_id.isspace() or draft.code.isspace() or draft.external_subscription_id.isspace():
            return False
        draft.at *= 1_000_000
    return True


def _not_json(error: Exception) -> BadRequest:
    return BadRequest(f"the body is not valid JSON: {error}")


def _generic(body: bytes) -> Any:
    try:
        return _decode_any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError, RecursionError) as error:
        raise _not_json(error) from error


def _unusual_one(body: bytes) -> Sent:
    decoded = _generic(body)
    found = decoded.get("event") if isinstance(decoded, dict) else None
    if not isinstance(found, dict) or not found:
        raise BadRequest("param is missing or the value is empty or invalid: event")
    return _sent(found)


def _sent(found: Mapping[str, Any]) -> Sent:
    return Sent(**{name: found.get(name) for name in Sent.__struct_fields__})


def _told(errors: Errors) -> Errors:
    """Of what is wrong with an event what Lago tells: a timestamp that cannot be read, or else everything."""
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
        by_index = {str(index): _told(found) for index, found in errors.items()}
        raise Faulty(by_index, _evaluable(many, errors, now=at), is_batch=True)
    return drafts


def _evaluable(many: Sequence[Any], errors: Mapping[int, Errors], *, now: int) -> dict[int, Draft]:
    """The events of a refused request that have all that an expression looks at."""
    found: dict[int, Draft] = {}
    for index, sent in enumerate(many):
        if isinstance(sent, Sent) and not _NEEDED_BY_EXPRESSIONS & errors.get(index, {}).keys():
            at = now if sent.timestamp is None else timestamp_microseconds(sent.timestamp)
            assert at is not None, "a wrong timestamp is an error"
            found[index] = Draft("", _as_text(sent.code), None, at, None, sent.properties or {})
    return found


def _unusual_many(body: bytes) -> list[Any]:
    decoded = _generic(body)
    found = decoded.get("events") if isinstance(decoded, dict) else None
    if not isinstance(found, list):
        raise Invalid({"events": ["no_events"]})
    return [_sent(one) if isinstance(one, dict) else one for one in found]


def check(sent: Sent, *, now: int) -> Draft | Errors:
    """The event, or all that is wrong with it, by field. `now` and Draft.at are microseconds since 1970."""
    at = now if sent.timestamp is None else timestamp_microseconds(sent.timestamp)
    sent.transaction_id, sent.code = _as_text(sent.transaction_id), _as_text(sent.code)
    sent.external_subscription_id = _as_text(sent.external_subscription_id)
    amount = sent.precise_total_amount_cents
    precise = None if amount is None else _precise_text(amount)
    if (
        at is not None
        and _is_text(sent.transaction_id)
        and _is_text(sent.code)
        and (
            sent.external_subscription_id is None
            or _any_text_problem(sent.external_subscription_id, optional=True) is None
        )
        and (sent.properties is None or _any_properties_problem(sent.properties) is None)
        and precise is not _TOO_LARGE
    ):
        subscription = sent.external_subscription_id or None
        return Draft(sent.transaction_id, sent.code, subscription, at, precise, sent.properties or {})
    return _errors(sent, at, precise)


def _as_text(value: Any) -> Any:
    """A whole number counts as its digits, as in Lago."""
    return str(value) if type(value) is int and -_INTEGER_END < value < _INTEGER_END else value


def _is_text(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= TEXT_MAX and "\0" not in value and not value.isspace()


def _errors(sent: Sent, at: int | None, precise: str | None) -> Errors:
    found = {
        "timestamp": "invalid_format" if at is None else None,
        "transaction_id": _any_text_problem(sent.transaction_id),
        "code": _any_text_problem(sent.code),
        "external_subscription_id": _any_text_problem(sent.external_subscription_id, optional=True),
        "precise_total_amount_cents": "value_is_out_of_range" if precise is _TOO_LARGE else None,
        "properties": _any_properties_problem(sent.properties),
    }
    return {name: [problem] for name, problem in found.items() if problem}


def _any_text_problem(value: Any, *, optional: bool = False) -> str | None:
    if value is None:
        return None if optional else "value_is_mandatory"
    return _text_problem(value, blank=optional) if type(value) is str else "value_is_invalid"


def _text_problem(text: str, *, blank: bool = False) -> str | None:
    if len(text) > TEXT_MAX:
        return "value_is_too_long"
    if "\0" in text:
        return "value_is_invalid"
    return None if blank or text.strip() else "value_is_mandatory"


def _any_properties_problem(properties: Any) -> str | None:
    if properties is None:
        return None
    return _properties_problem(properties) if type(properties) is dict else "invalid_format"


def _properties_problem(properties: dict[str, Any], depth: int = 0) -> str | None:
    if depth > PROPERTIES_DEPTH_MAX:
        return "value_is_invalid"
    for key, value in properties.items():
        if "\0" in key:
            return "value_is_invalid"
        kind = type(value)
        if kind is str:
            if "\0" in value:
                return "value_is_invalid"
        elif kind is int:
            if not -_INTEGER_END < value < _INTEGER_END:
                return "value_is_out_of_range"
        elif problem := _value_problem(value, depth):
            return problem
    return None


def _value_problem(value: Any, depth: int) -> str | None:
    if isinstance(value, Decimal):
        return "value_is_out_of_range" if _is_too_large(value) else None
    if isinstance(value, dict):
        return _properties_problem(value, depth + 1)
    if isinstance(value, list):
        return _properties_problem({str(index): item for index, item in enumerate(value)}, depth + 1)
    return None


def _is_too_large(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return not isinstance(exponent, int) or exponent < -DIGITS_MAX or value.adjusted() >= DIGITS_MAX


_TOO_LARGE = "too large"


def _precise_text(value: Any) -> str:
    """A decimal text; what is no number is 0, as in Lago."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return "0"
    try:
        amount = value if isinstance(value, Decimal) else Decimal(value)
    except (InvalidOperation, ValueError):
        return "0"
    if not amount.is_finite():
        return "0"
    return _TOO_LARGE if _is_too_large(amount) else format(amount, "f")


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
