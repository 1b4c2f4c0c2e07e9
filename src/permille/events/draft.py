"""What an event may be, whatever wire format it comes in: checked against Lago's rules before it is stored.

Source: semantics-metering.md sections 1.2 to 1.6. Nothing here touches the database or the clock.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from permille.core.bounds import (
    DIGITS_MAX,
    EVENT_MAX,
    NAME_MAX,
    PROPERTIES_DEPTH_MAX,
    PROPERTIES_MAX,
    PROPERTY_MAX,
)
from permille.core.metering.event import timestamp_microseconds

INTEGER_END = 10**DIGITS_MAX

Errors = dict[str, list[str]]


class Sent(msgspec.Struct):
    """An event as it was sent, unchecked; other fields are dropped, as Lago does."""

    transaction_id: Any = None
    code: Any = None
    external_subscription_id: Any = None
    timestamp: Any = None
    precise_total_amount_cents: Any = None
    properties: Any = None


class Draft(msgspec.Struct):
    """A checked event. `at` is in microseconds since 1970; `precise` is a decimal text."""

    transaction_id: str
    code: str
    external_subscription_id: str | None
    at: int
    precise: str | None
    properties: dict[str, Any]


def check(sent: Sent, *, now: int) -> Draft | Errors:
    """The event, or all that is wrong with it, by field. `now` and Draft.at are microseconds since 1970."""
    at = now if sent.timestamp is None else timestamp_microseconds(sent.timestamp)
    sent.transaction_id, sent.code = as_text(sent.transaction_id), as_text(sent.code)
    sent.external_subscription_id = as_text(sent.external_subscription_id)
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
        and not properties_errors(sent.properties)
        and precise is not _TOO_LARGE
    ):
        subscription = sent.external_subscription_id or None
        return Draft(sent.transaction_id, sent.code, subscription, at, precise, sent.properties or {})
    return _errors(sent, at, precise)


def as_text(value: Any) -> Any:
    """A whole number counts as its digits, as in Lago."""
    return str(value) if type(value) is int and -INTEGER_END < value < INTEGER_END else value


def _is_text(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= NAME_MAX and "\0" not in value and not value.isspace()


def _errors(sent: Sent, at: int | None, precise: str | None) -> Errors:
    found = {
        "timestamp": "invalid_format" if at is None else None,
        "transaction_id": _any_text_problem(sent.transaction_id),
        "code": _any_text_problem(sent.code),
        "external_subscription_id": _any_text_problem(sent.external_subscription_id, optional=True),
        "precise_total_amount_cents": "value_is_out_of_range" if precise is _TOO_LARGE else None,
    }
    errors = {name: [problem] for name, problem in found.items() if problem}
    return errors | properties_errors(sent.properties)


def _any_text_problem(value: Any, *, optional: bool = False) -> str | None:
    if value is None:
        return None if optional else "value_is_mandatory"
    return _text_problem(value, blank=optional) if type(value) is str else "value_is_invalid"


def _text_problem(text: str, *, blank: bool = False) -> str | None:
    if len(text) > NAME_MAX:
        return "value_is_too_long"
    if "\0" in text:
        return "value_is_invalid"
    return None if blank or text.strip() else "value_is_mandatory"


def properties_errors(properties: Any) -> Errors:
    """What is wrong with the properties of an event; one that is too long is named."""
    if properties is None:
        return {}
    if type(properties) is not dict:
        return {"properties": ["invalid_format"]}
    size = _Size()
    for name, value in properties.items():
        before = size.characters
        problem = size.name_problem(name) or size.value_problem(value, 0)
        if problem is None and size.characters - before > PROPERTY_MAX:
            problem = TOO_LONG
        if problem is not None:
            is_long = problem == TOO_LONG and len(name) <= NAME_MAX
            return {f"properties.{name}" if is_long else "properties": [problem]}
    if size.properties > PROPERTIES_MAX:
        return {"properties": ["too_many_properties"]}
    return {"properties": [TOO_LONG]} if size.characters > EVENT_MAX else {}


TOO_LONG = "value_is_too_long"


class _Size:
    """How large the properties of an event are, counted while they are looked at."""

    def __init__(self) -> None:
        self.properties = 0
        self.characters = 0

    def name_problem(self, name: str) -> str | None:
        self.properties += 1
        self.characters += len(name)
        if "\0" in name:
            return "value_is_invalid"
        return TOO_LONG if len(name) > NAME_MAX else None

    def value_problem(self, value: Any, depth: int) -> str | None:
        """The problem of a value that is `depth` objects and lists deep."""
        if isinstance(value, str):
            self.characters += len(value)
            return "value_is_invalid" if "\0" in value else None
        if isinstance(value, Decimal):
            return "value_is_out_of_range" if _is_too_large(value) else None
        if type(value) is int:
            return None if -INTEGER_END < value < INTEGER_END else "value_is_out_of_range"
        if not isinstance(value, dict | list):
            return None
        if depth >= PROPERTIES_DEPTH_MAX:
            return "value_is_invalid"
        if isinstance(value, dict):
            found = (self.name_problem(k) or self.value_problem(v, depth + 1) for k, v in value.items())
        else:
            self.characters += len(value)
            found = (self.value_problem(each, depth + 1) for each in value)
        return next((problem for problem in found if problem is not None), None)


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
