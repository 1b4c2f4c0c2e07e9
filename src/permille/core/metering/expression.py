"""Expressions of billable metrics: arithmetic on an event that yields the property which is counted.

A text is read once into a tree, which is then evaluated on any number of events, with decimals only. Source of
the grammar and of the functions: semantics-metering.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    localcontext,
)
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

from permille.core.bounds import (
    DIGITS_MAX,
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_DIGITS_MAX,
    EXPRESSION_LENGTH_MAX,
    EXPRESSION_ROUNDING_MAX,
    EXPRESSION_TEXT_MAX,
    EXPRESSION_WORK_MAX,
    EXPRESSION_WORK_PER_EVENT,
    NUMBER_TEXT_MAX,
)
from permille.core.metering.event import property_text
from permille.core.money import ZERO, decimal_text
from permille.core.record import Record

# Quotients are cut at 100 digits, as in Lago. A product of all that an event can hold has more digits than the result
# may have; what is beyond EXPRESSION_DIGITS_MAX of them is rounded.
_DIVISION = Context(prec=100, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999)
_EXACT = Context(prec=EXPRESSION_DIGITS_MAX, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999)
_SMALLEST = Decimal(1).scaleb(-DIGITS_MAX)
_DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_WORDS = r"(?P<decimal>\d+(?:\.\d+)?)|(?P<string>'[^']*')|(?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*)"
_PROPERTY = re.compile(r"event\.properties\.([A-Za-z][A-Za-z0-9_]*)", re.ASCII)

_SHORT = 500

Value = Decimal | str
Read = TypeVar("Read")


class Alphabet(Record):
    """What a text may be made of: names, numbers, quoted texts, these signs, and blanks between them."""

    token: re.Pattern[str]
    blanks: str


def alphabet(signs: str, blanks: str) -> Alphabet:
    """The alphabet with these signs, a regular expression."""
    return Alphabet(re.compile(rf"{_WORDS}|(?P<sign>{signs})", re.ASCII), blanks)


_LAGO = alphabet(r"[-+*/(),]", " ")


class ExpressionError(Exception):
    """The text is no expression; `position` counts characters from 1."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(f"{reason} at character {position}")
        self.position = position


class EvaluationError(Exception):
    """The expression has no value for this event; the message is Lago's where Lago has one."""


@dataclass(frozen=True, slots=True)
class Event:
    """What an expression can see. `timestamp` is in whole seconds since 1970.

    The three after these are seen by the rules of custom aggregations alone (core.rule).
    """

    code: str
    timestamp: int
    properties: Mapping[str, Any]
    total_units: Decimal = ZERO
    amount: Decimal = ZERO
    custom_properties: Mapping[str, Value] | None = None
    known: dict[str, Value] = field(default_factory=dict, compare=False)
    """Properties that an expression has read of it."""


Node = Callable[[Event], Value]
"""A part of the tree, ready to be evaluated."""


class Expression(Record):
    """A text that was read, and of how many words it is."""

    text: str
    root: Node
    words: int

    def evaluate(self, event: Event) -> Value:
        """Its value for an event: a decimal of at most DIGITS_MAX digits on each side, or a text.

        Raises EvaluationError.
        """
        try:
            with localcontext(_EXACT):
                found = self.root(event)
                return bounded(found) if isinstance(found, Decimal) else found
        except DecimalException as error:
            raise EvaluationError("The result is too large") from error


class Evaluation(NamedTuple):
    """An expression that is to be evaluated for an event."""

    expression: str
    code: str
    timestamp: int
    """Whole seconds since 1970."""
    properties: Mapping[str, Any]


def evaluate_all(evaluations: Sequence[Evaluation]) -> list[str | EvaluationError]:
    """The value of each as a text, or why it has none."""
    found: list[str | EvaluationError] = []
    for expression, code, timestamp, properties in evaluations:
        try:
            value = read_expression(expression).evaluate(Event(code, timestamp, properties))
            found.append(value_text(value))
        except EvaluationError as error:
            found.append(error)
    return found


def is_too_much(words: int, events: int) -> bool:
    """Whether expressions of so many words together are too long for one request with so many events."""
    return words > max(EXPRESSION_WORK_MAX, EXPRESSION_WORK_PER_EVENT * events)


def bounded(found: Decimal) -> Decimal:
    """At most DIGITS_MAX digits on each side of the point, rounded there. Raises EvaluationError when larger."""
    if not found:
        return ZERO  # whatever its exponent
    if not found.is_finite() or found.adjusted() >= DIGITS_MAX:
        raise EvaluationError("The result is too large")
    exponent = found.as_tuple().exponent
    return found.quantize(_SMALLEST) if isinstance(exponent, int) and exponent < -DIGITS_MAX else found


def value_text(value: Value) -> str:
    """The value as it is stored and answered: "3.0", or the text."""
    return decimal_text(value) if isinstance(value, Decimal) else value


class Token(Record):
    """A word of the text; `position` counts from 1."""

    kind: str
    text: str
    position: int


def remembering(read: Callable[[str], Read]) -> Callable[[str], Read]:
    """The same, which keeps what it has read: of short texts many, of long ones, whose trees take megabytes, few."""
    short, long = lru_cache(maxsize=1024)(read), lru_cache(maxsize=32)(read)

    @wraps(read)
    def remembered(text: str) -> Read:
        return short(text) if len(text) <= _SHORT else long(text)

    return remembered


@remembering
def read_expression(text: str) -> Expression:
    """Raises ExpressionError."""
    tokens = tokens_of(text)
    return Expression(text, Reader(tokens, len(text) + 1).whole(), len(tokens))


def tokens_of(text: str, letters: Alphabet = _LAGO) -> list[Token]:
    """Raises ExpressionError where there is no token, and for a text beyond EXPRESSION_LENGTH_MAX."""
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise ExpressionError(f"Longer than {EXPRESSION_LENGTH_MAX} characters", EXPRESSION_LENGTH_MAX + 1)
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at] in letters.blanks:
            at += 1
            continue
        match = letters.token.match(text, at)
        if match is None:
            raise ExpressionError(f"Unexpected {text[at]!r}", at + 1)
        assert match.lastgroup is not None, "every part of the pattern has a name"
        found.append(Token(match.lastgroup, match.group(), at + 1))
        at = match.end()
    return found


class Reader:
    """A recursive descent through the tokens of Lago's expressions."""

    depth_max = EXPRESSION_DEPTH_MAX

    def __init__(self, tokens: Sequence[Token], end: int) -> None:
        self.tokens, self.end, self.at = tokens, end, 0

    def whole(self) -> Node:
        """All of the text."""
        root = self.sum(0)
        if self.next is not None:
            raise ExpressionError(f"Unexpected {self.next.text!r}", self.next.position)
        return root

    @property
    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def is_sign(self, *signs: str) -> bool:
        return self.next is not None and self.next.kind == "sign" and self.next.text in signs

    def take(self) -> Token:
        token = self.next
        if token is None:
            raise ExpressionError("Unexpected end", self.end)
        self.at += 1
        return token

    def expect(self, sign: str) -> None:
        token = self.take()
        if (token.kind, token.text) != ("sign", sign):
            raise ExpressionError(f"Expected {sign!r}, found {token.text!r}", token.position)

    def sum(self, depth: int) -> Node:
        """Sum := product (("+" | "-") product)*"""
        return self._chain(self.product, {"+": _add, "-": _subtract}, depth)

    def product(self, depth: int) -> Node:
        """Product := atom (("*" | "/") atom)*"""
        return self._chain(self.atom, {"*": _multiply, "/": _divide}, depth)

    def _chain(
        self,
        part: Callable[[int], Node],
        operators: Mapping[str, Callable[[Decimal, Decimal], Decimal]],
        depth: int,
    ) -> Node:
        first = part(depth)
        rest: list[tuple[Callable[[Decimal, Decimal], Decimal], Node]] = []
        while self.is_sign(*operators):
            operator = operators[self.take().text]
            rest.append((operator, part(depth)))
        return _folded(first, rest) if rest else first

    def atom(self, depth: int) -> Node:
        """Atom := ["-"] primary"""
        if self.is_sign("-"):
            self.take()
            return _negated(self.primary(depth))
        return self.primary(depth)

    def primary(self, depth: int) -> Node:
        """Primary := decimal | string | variable | function "(" sum ("," sum)* ")" | "(" sum ")"."""
        self.check(depth)
        token = self.take()
        if token.kind == "decimal":
            return _constant(Decimal(token.text))
        if token.kind == "string":
            return _constant(token.text[1:-1])
        if token.kind == "name":
            return self.named(token, depth)
        if token.text == "(":
            inner = self.sum(depth + 1)
            self.expect(")")
            return inner
        raise ExpressionError(f"Unexpected {token.text!r}", token.position)

    def check(self, depth: int) -> None:
        """Raises ExpressionError when it is nested too deep."""
        if depth > self.depth_max:
            raise ExpressionError(
                f"Nested deeper than {self.depth_max}", self.next.position if self.next else self.end
            )

    def named(self, token: Token, depth: int) -> Node:
        """What begins with a name: a variable, or a function with its arguments."""
        variable = self.variable(token.text)
        if variable is not None:
            return variable
        name = token.text.lower()
        if name not in _FUNCTIONS or not is_spelt(token.text, name):
            raise ExpressionError(f"Unknown name {token.text!r}", token.position)
        arguments = self._arguments(depth)
        least, most, make = _FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            raise ExpressionError(f"Wrong number of arguments of {token.text}", token.position)
        return make(arguments)

    def variable(self, name: str) -> Node | None:
        """The variable of that name."""
        if name == "event.code":
            return lambda event: event.code
        if name == "event.timestamp":
            return lambda event: Decimal(event.timestamp)
        match = _PROPERTY.fullmatch(name)
        return self.property(match.group(1)) if match else None

    def property(self, name: str) -> Node:
        """A property of the event."""
        return _property(name)

    def _arguments(self, depth: int) -> list[Node]:
        self.expect("(")
        found = [self.sum(depth + 1)]
        while self.is_sign(","):
            self.take()
            found.append(self.sum(depth + 1))
        self.expect(")")
        return found


def is_spelt(text: str, name: str) -> bool:
    """Names of functions are written lower, UPPER or Capitalised."""
    return text in (name, name.upper(), name.capitalize())


def _constant(value: Value) -> Node:
    return lambda _event: value


def _property(name: str) -> Node:
    def look_up(event: Event) -> Value:
        found = event.known.get(name)
        if found is None:
            text = property_text(event.properties.get(name))
            if text is None:
                raise missing(name)
            found = event.known[name] = as_value(text)
        return found

    return look_up


def missing(name: str) -> EvaluationError:
    """What is said of a variable that is not there."""
    return EvaluationError(f"Variable: {name} not found")


def as_value(text: str) -> Value:
    """A text that reads as a decimal is one, if it is not beyond all measure."""
    if len(text) <= NUMBER_TEXT_MAX and _DECIMAL.fullmatch(text):
        found = Decimal(text)
        exponent = found.as_tuple().exponent
        if isinstance(exponent, int) and exponent >= -DIGITS_MAX and found.adjusted() < DIGITS_MAX:
            return found
    return text


def as_decimal(value: Value) -> Decimal:
    """Raises EvaluationError for a text."""
    if isinstance(value, str):
        raise EvaluationError("Expected a decimal")
    return value


def _folded(first: Node, rest: Sequence[tuple[Callable[[Decimal, Decimal], Decimal], Node]]) -> Node:
    def fold(event: Event) -> Value:
        total = as_decimal(first(event))
        for operator, node in rest:
            total = operator(total, as_decimal(node(event)))
        return total

    return fold


def _negated(node: Node) -> Node:
    return lambda event: -as_decimal(node(event))


def _add(a: Decimal, b: Decimal) -> Decimal:
    return a + b


def _subtract(a: Decimal, b: Decimal) -> Decimal:
    return a - b


def _multiply(a: Decimal, b: Decimal) -> Decimal:
    return a * b


def _divide(a: Decimal, b: Decimal) -> Decimal:
    if not b:
        raise EvaluationError("Division by zero")
    return _DIVISION.divide(a, b)


def _rounding(mode: str) -> Callable[[Sequence[Node]], Node]:
    def make(arguments: Sequence[Node]) -> Node:
        def evaluate(event: Event) -> Value:
            value = as_decimal(arguments[0](event))
            digits = as_decimal(arguments[1](event)) if len(arguments) > 1 else Decimal(0)
            if abs(digits) > EXPRESSION_ROUNDING_MAX:
                raise EvaluationError(f"Cannot round to {digits} digits")
            return value.quantize(Decimal(1).scaleb(-int(digits)), rounding=mode)

        return evaluate

    return make


def _concat(arguments: Sequence[Node]) -> Node:
    def evaluate(event: Event) -> Value:
        parts: list[str] = []
        length = 0
        for argument in arguments:
            value = argument(event)
            part = value if isinstance(value, str) else _as_it_is(value)
            length += len(part)
            if length > EXPRESSION_TEXT_MAX:
                raise EvaluationError(f"concat makes more than {EXPRESSION_TEXT_MAX} characters")
            parts.append(part)
        return "".join(parts)

    return evaluate


def _as_it_is(value: Decimal) -> str:
    """In plain notation with its own decimals: a version "3.10" does not become "3.1"."""
    return format(value or abs(value), "f")


def _extreme(choose: Callable[[Sequence[Decimal]], Decimal]) -> Callable[[Sequence[Node]], Node]:
    def make(arguments: Sequence[Node]) -> Node:
        return lambda event: choose([as_decimal(argument(event)) for argument in arguments])

    return make


_FUNCTIONS: Mapping[str, tuple[int, int, Callable[[Sequence[Node]], Node]]] = {
    "round": (1, 2, _rounding(ROUND_HALF_UP)),
    "ceil": (1, 2, _rounding(ROUND_CEILING)),
    "floor": (1, 2, _rounding(ROUND_FLOOR)),
    "concat": (1, EXPRESSION_LENGTH_MAX, _concat),
    "least": (1, EXPRESSION_LENGTH_MAX, _extreme(min)),
    "greatest": (1, EXPRESSION_LENGTH_MAX, _extreme(max)),
}
