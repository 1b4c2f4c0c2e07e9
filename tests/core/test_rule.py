"""Rules: conditions beside Lago's expressions, against Python's own, what is refused and where, and hostile texts."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.bounds import EXPRESSION_LENGTH_MAX
from permille.core.metering.expression import (
    EvaluationError,
    Event,
    ExpressionError,
    Value,
    read_expression,
)
from permille.core.metering.rule import DEPTH_MAX, DIGITS, TEXT_MAX, read_rule

CUSTOM: dict[str, Value] = {"price": Decimal("0.5"), "tier": "gold"}


def number(text: str, units: str = "0", amount: str = "0", **properties: Any) -> Decimal:
    event = Event("calls", 1_700_000_000, properties, Decimal(units), Decimal(amount), CUSTOM)
    with localcontext(DIGITS):
        return read_rule(text).number(event)


@pytest.mark.parametrize(
    ("text", "properties", "expected"),
    [
        ("1 + 2 * 3", {}, "7"),
        ("state.total_units + event.properties.n", {"n": "2"}, "12"),
        ("state.amount * custom_properties.price", {}, "3.5"),
        ("if(event.code = 'calls', 1, 2)", {}, "1"),
        ("If(event.timestamp > 1600000000, 1, 2)", {}, "1"),
        ("if(custom_properties.tier = 'gold', 1, 2)", {}, "1"),
        ("if(custom_properties.tier != 'gold', 1, 2)", {}, "2"),
        # numbers are equal however they are written, and to no other text
        ("if(event.properties.n = '5', 1, 2)", {"n": "5.00"}, "1"),
        ("if(event.properties.n = 5, 1, 2)", {"n": "five"}, "2"),
        ("if(event.properties.n != 5, 1, 2)", {"n": "five"}, "1"),
        ("if(event.properties.n = 'true', 1, 2)", {"n": True}, "1"),
        ("if(2 < 2, 1, 0) + if(2 <= 2, 10, 0) + if(2 > 2, 100, 0) + if(2 >= 2, 1000, 0)", {}, "1010"),
        # "and" before "or", parentheses around conditions and around numbers
        ("if(1 = 2 and 1 = 1 or 1 = 1, 1, 2)", {}, "1"),
        ("if(1 = 2 and (1 = 1 or 1 = 1), 1, 2)", {}, "2"),
        ("if(1 = 1 or 1 = 1 and 1 = 2, 1, 2)", {}, "1"),
        ("if((1 = 1 OR 1 = 1) AND 1 = 2, 1, 2)", {}, "2"),
        ("if(((1 + 1)) * 2 = 4, 1, 2)", {}, "1"),
        ("if(((1 = 1)), 1, 2)", {}, "1"),
        ("if((if(1 = 1, 2, 3)) = 2 and (1 + if(1 = 2, 1, 0)) = 1, 1, 2)", {}, "1"),
        ("if(1 = 1 and (2 = 2 and (3 = 3)), 1, 2)", {}, "1"),
        ("if(1 = 1,\r\n\t10,\n  20)", {}, "10"),
        # what is not chosen is not looked at
        ("if(1 = 1, 1, 1 / 0)", {}, "1"),
        ("if(1 = 1 or 1 / 0 = 1, 1, 2)", {}, "1"),
        ("if(1 = 2 and 1 / 0 = 1, 1, 2)", {}, "2"),
        ("if(event.properties.kind = 'x', event.properties.n, 0)", {"kind": "y"}, "0"),
        ("1 / 3", {}, "0." + "3" * 38),
        ("if(event.properties.n = 'a', 1, 2)", {"n": "a" * 1_000}, "2"),
        # Every step has 200 digits.
        (f"(1 + 0.{'0' * 198}1 - 1) * 1{'0' * 199}", {}, "1"),
        (f"(1 + 0.{'0' * 199}1 - 1) * 1{'0' * 200}", {}, "0"),
    ],
)
def test_values(text: str, properties: dict[str, Any], expected: str) -> None:
    assert number(text, "10", "7", **properties) == Decimal(expected)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("if(1, 2, 3)", 5),
        ("if(1 = 1, 2)", 12),
        ("if(1 = 1, 2, 3", 15),
        ("if(1 = 1, 2, 3, 4)", 15),
        ("if 1 = 1", 4),
        ("iF(1 = 1, 2, 3)", 1),
        ("1 = 1", 3),
        ("(1 = 1)", 4),
        ("if((11)(", 8),
        ("if((1)(or (1 = 1), 1, 2)", 7),
        ("if((1 + 1) = (1 = 1), 1, 2)", 17),
        ("if(1 = 1 = 1, 1, 2)", 10),
        ("if(1 = 1 and, 1, 2)", 13),
        ("if(1 == 1, 1, 2)", 7),
        ("if(1 ! 1, 1, 2)", 6),
        ("if(not 1 = 1, 1, 2)", 4),
        ("state.units", 1),
        ("custom_properties", 1),
        ("custom_properties.a.b", 1),
        ("charge.properties.a", 1),
        ("event.properties.__class__", 17),
        ("sum(1)", 1),
        ("1 and 2", 3),
        ("1;2", 2),
        ("x := 1", 3),
    ],
)
def test_what_is_no_rule_is_reported_where(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        read_rule(text)
    assert caught.value.position == position, str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["if(1 = 1, 2, 3)", "1 < 2", "state.total_units", "state.amount", "custom_properties.price", "1 +\n2"],
)
def test_expressions_of_events_stay_lagos(text: str) -> None:
    with pytest.raises(ExpressionError):
        read_expression(text)


@pytest.mark.parametrize(
    ("text", "properties", "message"),
    [
        ("event.properties.n", {}, "Variable: n not found"),
        ("event.properties.n", {"n": None}, "Variable: n not found"),
        ("event.properties.n", {"n": "five"}, "Expected a decimal"),
        ("'five'", {}, "Expected a decimal"),
        ("if(event.properties.n < 5, 1, 2)", {"n": "five"}, "Expected a decimal"),
        ("if(event.properties.n = 5, 1, 2)", {}, "Variable: n not found"),
        ("custom_properties.other", {}, "Variable: other not found"),
        ("1 / (2 - 2)", {}, "Division by zero"),
        ("event.properties.n * event.properties.n", {"n": "9" * 38}, "too large"),
        ("1 / event.properties.n", {"n": "0." + "0" * 37 + "1"}, "too large"),
        ("if(event.properties.n = 'a', 1, 2)", {"n": "a" * 1_001}, "too long"),
    ],
)
def test_what_has_no_value(text: str, properties: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        number(text, **properties)


def test_a_rule_says_what_it_looks_at() -> None:
    rule = read_rule("if(event.properties.a = custom_properties.b, concat(event.properties.c), state.amount)")
    assert (rule.properties, rule.custom_properties) == ({"a", "c"}, {"b"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(", ")"),
        ("least(1, ", ")"),
        ("if(1 = 1, ", ", 2)"),
        ("if(1 = 2, 1, ", ")"),
        ("if(1 = ", ", 2, 3)"),
    ],
)
def test_a_rule_nests_30_levels_deep(before: str, after: str) -> None:
    read_rule(before * 30 + "1" + after * 30)
    with pytest.raises(ExpressionError, match="Nested deeper than 30"):
        read_rule(before * 31 + "1" + after * 31)


def test_hostile_texts_end() -> None:
    ifs = "1"
    for _ in range(DEPTH_MAX - 1):
        ifs = f"if((1 = 1 and 2 = 2 or 1 = 2), {ifs}, 2)"
    assert number(ifs) == 1
    conditions = "(" * (DEPTH_MAX - 1) + "1 = 1" + ")" * (DEPTH_MAX - 1)
    assert number(f"if({conditions}, 1, 2)") == 1
    for text in (
        f"if(({conditions}), 1, 2)",
        f"if(1 = 1, {ifs}, 2)",
        "if(" * 1_600,
        "if((" * 1_200,
        "if(" + "(" * 4_000 + "1 = 1",
        "if(1 = 1 and (" * 300,
        "-" * 4_000,
        "1" * (EXPRESSION_LENGTH_MAX + 1),
    ):
        with pytest.raises(ExpressionError):
            read_rule(text)
    for text in (
        "*".join(["event.properties.a"] * 250),
        "9" * 2_400 + "*" + "9" * 2_400,
        "*".join(["(1 / event.properties.b)"] * 150),
    ):
        with pytest.raises(EvaluationError, match="too large"):
            number(text, a="9" * 38 + "." + "9" * 38, b="0." + "0" * 37 + "7")
    assert number("*".join(["event.properties.b"] * 250), b="0." + "0" * 37 + "7") == 0


tests = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
whole = st.integers(-3, 3)
PYTHON = {"=": "=="}


@st.composite
def conditions(draw: st.DrawFn, depth: int = 0) -> tuple[str, str]:
    """A condition and the same in Python."""
    if depth > 2 or draw(st.booleans()):
        a, sign, b = draw(whole), draw(tests), draw(whole)
        bracketed = draw(st.booleans())
        left = f"({a})" if bracketed else f"{a}"
        return f"{left} {sign} {b}", f"{a} {PYTHON.get(sign, sign)} {b}"
    word = draw(st.sampled_from(["and", "or"]))
    parts = [draw(conditions(depth=depth + 1)) for _ in range(draw(st.integers(2, 3)))]
    texts = [f" {word} ".join(part[i] for part in parts) for i in range(2)]
    return (f"({texts[0]})", f"({texts[1]})") if draw(st.booleans()) else (texts[0], texts[1])


@given(conditions())
def test_conditions_are_those_of_python(case: tuple[str, str]) -> None:
    text, python = case
    # An "and" within an "or" needs no parentheses in either language; the texts are otherwise the same.
    assert number(f"if({text}, 1, 2)") == (1 if eval(python) else 2)


@given(st.text(alphabet="if(event.propis)=<>!+-*/'1 2,and or\n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ExpressionError, EvaluationError):
        number(text, a="1")


def test_a_long_text_that_was_compared_is_not_kept() -> None:
    rule = read_rule("if(concat(" + ", ".join(["event.properties.a"] * 9) + ") = 'x', 1, 2)")
    tracemalloc.start()
    try:
        with localcontext(DIGITS):
            for n in range(300):
                assert rule.number(Event("c", 0, {"a": f"{n}\N{SNOWMAN}".ljust(TEXT_MAX, "y")})) == 2
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()


def test_few_long_rules_are_kept_in_memory() -> None:
    long = "1" + " + 1 * 2" * 500
    first, short = read_rule(f"0 + {long}"), read_rule("1 + 1")
    assert read_rule(f"0 + {long}") is first
    for n in range(1, 40):
        read_rule(f"{n} + {long}")
    assert read_rule(f"0 + {long}") is not first
    assert read_rule("1 + 1") is short
