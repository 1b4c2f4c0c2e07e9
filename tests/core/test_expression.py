"""The expression language: its grammar and functions, against Python's own arithmetic, and hostile input."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.bounds import EXPRESSION_DEPTH_MAX, EXPRESSION_LENGTH_MAX, EXPRESSION_TEXT_MAX
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    ExpressionError,
    read_expression,
    value_text,
)


def result(text: str, code: str = "c", timestamp: int = 1_700_000_000, **properties: Any) -> str:
    return value_text(read_expression(text).evaluate(Event(code, timestamp, properties)))


@pytest.mark.parametrize(
    ("text", "properties", "expected"),
    [
        ("1 + 2 * 3", {}, "7.0"),
        ("(1 + 2) * 3", {}, "9.0"),
        ("10 - 2 - 3", {}, "5.0"),
        ("8 / 4 / 2", {}, "1.0"),
        ("-2 * 3", {}, "-6.0"),
        ("2 * -3", {}, "-6.0"),
        ("-(1 + 2)", {}, "-3.0"),
        ("event.properties.a", {"a": "12.50"}, "12.5"),
        ("event.properties.a", {"a": 3}, "3.0"),
        ("event.properties.a", {"a": "1e3"}, "1000.0"),
        ("event.properties.a", {"a": "words"}, "words"),
        ("event.properties.a", {"a": True}, "true"),
        ("event.timestamp - 1700000000", {}, "0.0"),
        ("event.code", {}, "c"),
        ("'a''b'", {}, None),
        ("concat('a', ' ', 'b')", {}, "a b"),
        ("concat(event.properties.p, 'test')", {"p": "1.23"}, "1.23test"),
        ("concat(event.properties.p, '-x')", {"p": "3.10"}, "3.10-x"),
        ("concat(event.properties.p, '|', 1.0, '|', event.timestamp)", {"p": 7}, "7|1.0|1700000000"),
        ("concat(event.properties.p, '')", {"p": "-0.0"}, "0.0"),
        ("concat(event.properties.p, '')", {"p": "1e3"}, "1000"),
        ("round(event.properties.value * event.properties.units)", {"value": "10.4", "units": 2}, "21.0"),
        ("(123 - event.properties.p) / 10", {"p": "1.23"}, "12.177"),
        ("round(event.properties.x, -1)", {"x": "12.34"}, "10.0"),
        ("round(2.5)", {}, "3.0"),
        ("round(-2.5)", {}, "-3.0"),
        ("ceil(2.1)", {}, "3.0"),
        ("ceil(-2.1)", {}, "-2.0"),
        ("floor(2.19, 1)", {}, "2.1"),
        ("FLOOR(-2.1)", {}, "-3.0"),
        ("Greatest(event.properties.x, 15.0)", {"x": "12.34"}, "15.0"),
        ("least(3, 1, 2)", {}, "1.0"),
        ("1/3", {}, "0." + "3" * 38),
        ("ceil(12.34, 1)", {}, "12.4"),
        ("least(3)", {}, "3.0"),
        ("greatest(event.properties.x)", {"x": "2"}, "2.0"),
        ("concat('a')", {}, "a"),
        ("round(1, 100) + round(1, -100)", {}, "1.0"),
        # A quotient has 100 digits: a third of one, three times, lacks the last of them.
        ("(1 / 3 * 3 - 1) * 1" + "0" * 99, {}, "-0.1"),
        # 38 digits on each side, and what is beyond them is a text
        ("event.properties.a * 1", {"a": "9" * 38}, "9" * 38 + ".0"),
        ("event.properties.a", {"a": "1e37"}, "1" + "0" * 37 + ".0"),
        ("event.properties.a", {"a": "1e38"}, "1e38"),
        ("event.properties.a * 1", {"a": "1e-38"}, "0." + "0" * 37 + "1"),
        ("event.properties.a", {"a": "1e-39"}, "1e-39"),
        ("0.000 / (0.001 / event.properties.x)", {"x": "12.345"}, "0.0"),
        ("round(5, -100)", {}, "0.0"),
        ("round(-0.4)", {}, "0.0"),
        ("ceil(event.properties.x, -3)", {"x": "-0.5"}, "0.0"),
        ("floor(event.properties.x, -3)", {"x": "-0.5"}, "-1000.0"),
    ],
)
def test_values(text: str, properties: dict[str, Any], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ExpressionError):
            result(text, **properties)
    else:
        assert result(text, **properties) == expected


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("1 +", 4),
        ("--1", 2),
        ("+1", 1),
        ("1 2", 3),
        ("(1", 3),
        ("1)", 2),
        ("1 % 2", 3),
        ("1 +\t2", 4),
        ("event.properties.a.b", 1),
        ("event.other", 1),
        ("properties.a", 1),
        ("rOund(1)", 1),
        ("round()", 7),
        ("round(1, 2, 3)", 1),
        ("ceil(1, 2, 3)", 1),
        ("1 + floor(1, 2, 3)", 5),
        ("sqrt(2)", 1),
        ("1.", 2),
        (".5", 1),
        ("'open", 1),
        ("é", 1),
        ("event.properties.a-b)", 20),
    ],
)
def test_what_is_no_expression_is_reported_where(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        read_expression(text)
    assert caught.value.position == position, str(caught.value)


@pytest.mark.parametrize(
    ("text", "properties", "message"),
    [
        ("event.properties.b", {}, "Variable: b not found"),
        ("event.properties.b", {"b": None}, "Variable: b not found"),
        ("event.properties.b + 1", {"b": "x"}, "Expected a decimal"),
        ("event.code + 1", {}, "Expected a decimal"),
        ("1 / (1 - 1)", {}, "Division by zero"),
        ("round('a')", {}, "Expected a decimal"),
        ("round(1, 101)", {}, "Cannot round"),
        ("round(1, -101)", {}, "Cannot round"),
        ("event.properties.a * 10", {"a": "1e37"}, "too large"),
        ("event.properties.a * event.properties.a", {"a": "9" * 38}, "too large"),
        ("event.properties.a + 1", {"a": "1e999999"}, "Expected a decimal"),
    ],
)
def test_what_has_no_value(text: str, properties: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        result(text, **properties)


@pytest.mark.parametrize(
    ("before", "after", "position"),
    [("(", ")", 62), ("round(", ")", 367), ("least(1, ", ")", 547), ("(2 * -", ")", 362)],
)
def test_a_text_nests_60_levels_deep(before: str, after: str, position: int) -> None:
    read_expression(before * 60 + "1" + after * 60)
    with pytest.raises(ExpressionError, match="Nested deeper than 60") as caught:
        read_expression(before * 61 + "1" + after * 61)
    assert caught.value.position == position
    with pytest.raises(ExpressionError, match="Nested deeper than 60") as caught:
        read_expression(before * 61)
    assert caught.value.position == position


def test_a_text_has_5000_characters() -> None:
    text = "1" + " + 1" * 1249 + "   "
    assert (len(text), result(text)) == (5_000, "1250.0")
    with pytest.raises(ExpressionError) as caught:
        read_expression(text + " ")
    assert caught.value.position == 5_001


def test_hostile_texts_end() -> None:
    deep = "(" * EXPRESSION_DEPTH_MAX + "1" + ")" * EXPRESSION_DEPTH_MAX
    assert result(deep) == "1.0"
    for text in (
        "(" * 2_000,
        "(" + deep + ")",
        "-" * 4_000,
        "1" * (EXPRESSION_LENGTH_MAX + 1),
        "round(" * 800,
    ):
        with pytest.raises(ExpressionError):
            read_expression(text)
    long = "*".join(["event.properties.a"] * 250)
    with pytest.raises(EvaluationError):
        result(long, a="9" * 38)


numbers = st.decimals("-1000", "1000", places=3, allow_nan=False)


@st.composite
def sums(draw: st.DrawFn, depth: int = 0) -> tuple[str, Fraction | None]:
    """A random expression and its value by Python's fractions, None where it divides by zero."""
    if depth > 3 or draw(st.booleans()):
        number = draw(numbers)
        text = format(abs(number), "f")
        return (f"-{text}" if number < 0 else text), Fraction(number)
    (left, a), (right, b) = draw(sums(depth=depth + 1)), draw(sums(depth=depth + 1))
    sign = draw(st.sampled_from("+-*/"))
    text = f"({left}) {sign} ({right})"
    if a is None or b is None or (sign == "/" and not b):
        return text, None
    return text, {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]


@given(sums())
def test_arithmetic_is_that_of_fractions(case: tuple[str, Fraction | None]) -> None:
    text, expected = case
    if expected is None:
        with pytest.raises(EvaluationError):
            result(text)
        return
    if abs(expected) < 10**38:
        found = Fraction(Decimal(result(text)))
        assert abs(found - expected) <= Fraction(1, 10**38) + abs(expected) / 10**60


def half_away(value: Fraction) -> int:
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(-value + Fraction(1, 2))


@given(numbers, st.integers(-4, 4), st.sampled_from(["round", "ceil", "floor"]))
def test_rounding_is_that_of_fractions(value: Decimal, digits: int, name: str) -> None:
    unit = Fraction(10) ** -digits
    rules: dict[str, Any] = {"round": half_away, "ceil": ceil, "floor": floor}
    count = rules[name](Fraction(value) / unit)
    found = result(f"{name}(event.properties.x, {digits})", x=str(value))
    assert Fraction(Decimal(found)) == count * unit


@given(st.lists(numbers, min_size=1, max_size=5))
def test_the_least_and_the_greatest(values: list[Decimal]) -> None:
    listed = ", ".join(format(value, "f") for value in values)
    assert Decimal(result(f"least({listed})")) == min(values)
    assert Decimal(result(f"greatest({listed})")) == max(values)


@given(st.text(alphabet="event.propis()+-*/'1 2,rounda", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ExpressionError, EvaluationError):
        read_expression(text).evaluate(Event("c", 0, {"a": "1"}))


_FUNCTIONS = {
    "ceil": (1, 2),
    "round": (1, 2),
    "floor": (1, 2),
    "concat": (1, 99),
    "least": (1, 99),
    "greatest": (1, 99),
}
_DIGITS, _LETTERS = set("0123456789"), set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Recognizer:
    """The grammar of semantics-metering.md 3.1 once more, letter by letter: whether a text is an expression."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def whole(self) -> bool:
        return self.expression() and self.peek() == ""

    def peek(self) -> str:
        self.skip({" "})
        return self.text[self.at : self.at + 1]

    def skip(self, letters: set[str]) -> int:
        start = self.at
        while self.text[self.at : self.at + 1] in letters:
            self.at += 1
        return self.at - start

    def takes(self, letter: str) -> bool:
        is_next = self.peek() == letter
        self.at += is_next
        return is_next

    def expression(self) -> bool:
        if not self.atom():
            return False
        while self.peek() in set("+-*/"):
            self.at += 1
            if not self.atom():
                return False
        return True

    def atom(self) -> bool:
        self.takes("-")
        first = self.peek()
        if first == "(":
            return self.takes("(") and self.expression() and self.takes(")")
        if first == "'":
            end = self.text.find("'", self.at + 1)
            self.at = end + 1
            return end > 0
        if first in _DIGITS:
            self.skip(_DIGITS)
            if self.text[self.at : self.at + 1] == "." and self.text[self.at + 1 : self.at + 2] in _DIGITS:
                self.at += 1
                self.skip(_DIGITS)
            return True
        return self.name()

    def name(self) -> bool:
        start = self.at
        self.skip(_LETTERS | _DIGITS | {"_", "."})
        word = self.text[start : self.at]
        if word in ("event.code", "event.timestamp"):
            return True
        own = word.removeprefix("event.properties.")
        if own != word:
            return own[:1] in _LETTERS and "." not in own
        least, most = _FUNCTIONS.get(word.lower(), (1, 0))
        return word in (word.lower(), word.upper(), word.capitalize()) and least <= self.arguments() <= most

    def arguments(self) -> int:
        """How many; 0 when there is no list of them."""
        if not (self.takes("(") and self.expression()):
            return 0
        count = 1
        while self.takes(","):
            if not self.expression():
                return 0
            count += 1
        return count if self.takes(")") else 0


_PIECES = st.sampled_from(
    [
        "1",
        "2.5",
        "10",
        ".5",
        "5.",
        " ",
        "+",
        "-",
        "*",
        "/",
        "(",
        ")",
        ",",
        "'a'",
        "'",
        "''",
        "event.code",
        "event.timestamp",
        "event.properties.a",
        "event.properties.b_1",
        "event.properties.",
        "event",
        "round(",
        "ROUND(",
        "Round(",
        "rOUND(",
        "ceil (",
        "floor(",
        "least(",
        "greatest(",
        "concat(",
        "concat",
        "1e3",
        "%",
        "_",
        "a",
        "é",
        "\t",
        "\n",
        '"',
        "a.b",
        ".a",
        "2 3",
        "round(1,2)",
        "round(1,2,3)",
        "least()",
        "sqrt(1)",
    ]
)


@given(st.lists(_PIECES, max_size=9))
def test_exactly_the_texts_of_the_grammar_are_expressions(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        read_expression(text)
    except ExpressionError as error:
        assert 1 <= error.position <= len(text) + 1
        assert not Recognizer(text).whole()
    else:
        assert Recognizer(text).whole()


def test_concat_makes_a_bounded_text() -> None:
    fifty = "concat(" + ", ".join(["event.properties.a"] * 50) + ")"
    assert len(result(fifty, a="x" * (EXPRESSION_TEXT_MAX // 50))) == EXPRESSION_TEXT_MAX
    for text, value in ((fifty, "x" * 201), ("concat(event.properties.a)", "x" * 1_000_000)):
        with pytest.raises(EvaluationError, match="more than 10000 characters"):
            result(text, a=value)
    nested = "concat(" * 50 + "event.properties.a, 'b'" + ", event.properties.a)" * 49 + ")"
    with pytest.raises(EvaluationError, match="more than 10000 characters"):
        result(nested, a="x" * 500)


def test_a_property_is_read_once_for_an_event() -> None:
    class Counted(dict[str, Any]):
        reads = 0

        def get(self, key: str, default: Any = None) -> Any:
            Counted.reads += 1
            return super().get(key, default)

    expression = read_expression(" + ".join(["event.properties.a"] * 100))
    assert expression.evaluate(Event("c", 0, Counted(a="2"))) == 200
    assert Counted.reads == 1


def test_the_digits_between_are_bounded() -> None:
    """What is multiplied 110 times has 4,180 digits; a millionth of the least digit of a result never shows."""
    text = " * ".join(["event.properties.a"] * 110) + " / " + " / ".join(["event.properties.a"] * 109)
    assert Decimal(result(text, a="1." + "3" * 37)) == Decimal("1." + "3" * 37)
    assert read_expression(text).words == 437


def test_a_very_long_text_is_no_number() -> None:
    assert result("event.properties.a", a="0" * 999 + "7") == "7.0"
    assert result("event.properties.a", a="0" * 1_000 + "7") == "0" * 1_000 + "7"
