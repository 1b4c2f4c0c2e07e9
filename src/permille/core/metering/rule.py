"""Rules of custom aggregations: Lago's expressions, which here also see the state so far and can choose.

A rule is ours alone; the expressions of metrics stay Lago's. What is added to their grammar (core.expression):

    primary   := ... | "if" "(" condition "," sum "," sum ")"
    variable  := ... | "state.total_units" | "state.amount" | "custom_properties." ident
    condition := every ("or" every)*
    every     := test ("and" test)*
    test      := sum ("=" | "!=" | "<" | "<=" | ">" | ">=") sum | "(" condition ")"

Lines may be broken. There is nothing that repeats or calls itself, texts, depth and digits are bounded: however a
rule is written, an event costs a bounded time. docs/custom-aggregation.md
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from functools import lru_cache

from permille.core.metering.event import property_text
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    ExpressionError,
    Node,
    Reader,
    Token,
    Value,
    alphabet,
    as_decimal,
    as_value,
    bounded,
    is_spelt,
    missing,
    remembering,
    tokens_of,
)
from permille.core.record import Record

DEPTH_MAX = 30
TEXT_MAX = 1_000
"""Characters of a property; a longer one has no value."""

DIGITS = Context(prec=200, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999)
"""Every single step is rounded to so many digits, where two values of the most digits still multiply exactly."""

_ALPHABET = alphabet(r"[<>!]=|[-+*/(),=<>]", " \t\r\n")
_CUSTOM_PROPERTY = re.compile(r"custom_properties\.([A-Za-z][A-Za-z0-9_]*)", re.ASCII)

Condition = Callable[[Event], bool]


class Rule(Record):
    """A text that was read, and the properties of events and of charges that it looks at."""

    text: str
    root: Node
    properties: frozenset[str]
    custom_properties: frozenset[str]

    def number(self, event: Event) -> Decimal:
        """Its value for an event, of at most DIGITS_MAX digits on each side. Call it under DIGITS.

        Raises EvaluationError: a property that is missing, null, longer than TEXT_MAX or, where a number is
        wanted, none; a division by zero; a number that is too large.
        """
        try:
            return bounded(as_decimal(self.root(event)))
        except DecimalException as error:
            raise EvaluationError("The result is too large") from error


@remembering
def read_rule(text: str) -> Rule:
    """Raises ExpressionError."""
    reader = _RuleReader(tokens_of(text, _ALPHABET), len(text) + 1)
    root = reader.whole()
    return Rule(text, root, frozenset(reader.properties), frozenset(reader.custom_properties))


def _equal(a: Value, b: Value) -> bool:
    """Numbers as numbers, whatever they are written like; the rest as texts."""
    return _plain(a) == _plain(b)


def _plain(value: Value) -> Value:
    """A text that reads as a number as one; what concat has made longer than any property is none."""
    return _read_text(value) if isinstance(value, str) and len(value) <= TEXT_MAX else value


def _ordered(holds: Callable[[Decimal, Decimal], bool]) -> Callable[[Value, Value], bool]:
    return lambda a, b: holds(as_decimal(a), as_decimal(b))


_TESTS: Mapping[str, Callable[[Value, Value], bool]] = {
    "=": _equal,
    "!=": lambda a, b: not _equal(a, b),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
}


class _RuleReader(Reader):
    depth_max = DEPTH_MAX

    def __init__(self, tokens: list[Token], end: int) -> None:
        super().__init__(tokens, end)
        self.properties: set[str] = set()
        self.custom_properties: set[str] = set()

    def variable(self, name: str) -> Node | None:
        if name == "state.total_units":
            return lambda event: event.total_units
        if name == "state.amount":
            return lambda event: event.amount
        if match := _CUSTOM_PROPERTY.fullmatch(name):
            self.custom_properties.add(match.group(1))
            return _custom_property(match.group(1))
        return super().variable(name)

    def property(self, name: str) -> Node:
        self.properties.add(name)
        return _property(name)

    def named(self, token: Token, depth: int) -> Node:
        if not is_spelt(token.text, "if"):
            return super().named(token, depth)
        self.expect("(")
        condition = self.condition(depth + 1)
        self.expect(",")
        then = self.sum(depth + 1)
        self.expect(",")
        otherwise = self.sum(depth + 1)
        self.expect(")")
        return lambda event: then(event) if condition(event) else otherwise(event)

    def condition(self, depth: int) -> Condition:
        """Condition := every ("or" every)*"""
        parts = [self.every(depth)]
        while self._takes_word("or"):
            parts.append(self.every(depth))
        return parts[0] if len(parts) == 1 else lambda event: any(part(event) for part in parts)

    def every(self, depth: int) -> Condition:
        """Every := test ("and" test)*"""
        parts = [self.test(depth)]
        while self._takes_word("and"):
            parts.append(self.test(depth))
        return parts[0] if len(parts) == 1 else lambda event: all(part(event) for part in parts)

    def test(self, depth: int) -> Condition:
        """Test := "(" condition ")" | sum sign sum"""
        self.check(depth)
        if self._opens_condition():
            self.take()
            inner = self.condition(depth + 1)
            self.expect(")")
            return inner
        left = self.sum(depth)
        sign = self.take()
        if sign.kind != "sign" or sign.text not in _TESTS:
            raise ExpressionError(f"Expected a comparison, found {sign.text!r}", sign.position)
        holds, right = _TESTS[sign.text], self.sum(depth)
        return lambda event: holds(left(event), right(event))

    def _takes_word(self, word: str) -> bool:
        if self.next is None or not is_spelt(self.next.text, word):
            return False
        self.take()
        return True

    def _opens_condition(self) -> bool:
        """Whether a parenthesis comes next that has a comparison in it, but for those of an `if` in it."""
        open_calls: list[bool] = []
        for at in range(self.at, len(self.tokens)):
            token = self.tokens[at]
            if token.kind == "sign" and token.text == "(":
                # After "and" or "or" it is no call either, but before these there has been a comparison.
                open_calls.append(bool(open_calls) and self.tokens[at - 1].kind == "name")
            elif not open_calls:
                return False
            elif token.kind == "sign" and token.text == ")":
                open_calls.pop()
            elif token.kind == "sign" and token.text in _TESTS and not any(open_calls):
                return True
        return False


def _property(name: str) -> Node:
    def look_up(event: Event) -> Value:
        text = property_text(event.properties.get(name))
        if text is None:
            raise missing(name)
        if len(text) > TEXT_MAX:
            raise EvaluationError(f"The text of {name} is too long")
        return _read_text(text)

    return look_up


# A rule may look at a text many times, and many events have the same.
_read_text = lru_cache(maxsize=4096)(as_value)


def _custom_property(name: str) -> Node:
    def look_up(event: Event) -> Value:
        found = (event.custom_properties or {}).get(name)
        if found is None:
            raise missing(name)
        return found

    return look_up
