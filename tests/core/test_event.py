import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.event import (
    numeric_value,
    property_text,
    timestamp_microseconds,
)
from permille.core.instants import EPOCH
from tests.core.given import decimals, ts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12", "12"),
        (12, "12"),
        ("-3.5", "-3.5"),
        (Decimal("-3.5"), "-3.5"),
        (Decimal("1e3"), "1000"),
        ("0012", "12"),
        (0, "0"),
        ("9" * 38, "9" * 38),
        (10**38 - 1, "9" * 38),
        (1 - 10**38, "-" + "9" * 38),
        (Decimal("9" * 38), "9" * 38),
        ("0." + "1" * 38, "0." + "1" * 38),
        (Decimal("1e-38"), "1e-38"),
    ],
)
def test_numbers_and_their_texts_count(value: Any, expected: str) -> None:
    assert numeric_value(value) == Decimal(expected)


@pytest.mark.parametrize(
    "value",
    [
        *[
            "+5",
            ".5",
            "5.",
            "1e3",
            " 5",
            "5 ",
            "5\n",
            "",
            "-",
            "abc",
            "NaN",
            "Infinity",
            "1_000",
            "٣",
            "foo_bar",
        ],
        *[None, True, False, {}, [], [1], {"a": 1}, Decimal("NaN"), Decimal("Infinity")],
        *["1" * 39, "0." + "1" * 39, 10**38, -(10**38), Decimal("1e38"), Decimal("1e-39")],
        *[Decimal("1e400"), Decimal("1e-400"), Decimal("0e999999999")],
    ],
)
def test_everything_else_is_no_number(value: Any) -> None:
    assert numeric_value(value) is None


@given(decimals(-(10**20), 10**20, 8))
def test_a_number_and_its_text_are_the_same(value: Decimal) -> None:
    assert numeric_value(value) == value
    assert numeric_value(format(value, "f")) == value
    assert numeric_value(property_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("aws", "aws"),
        ("", ""),
        (12, "12"),
        (-3, "-3"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1e3"), "1000"),
        (Decimal("1.5e-7"), "0.00000015"),
        (Decimal("-0.0"), "0.0"),
        (True, "true"),
        (False, "false"),
        (None, None),
        ({"b": 1, "a": [True, None, "é\n"]}, '{"a": [true, null, "é\\n"], "b": 1}'),
        ({"bb": 1, "c": {}}, '{"c": {}, "bb": 1}'),
        ([1, Decimal("2.0")], "[1, 2.0]"),
        (Decimal("1e999999999"), "1E+999999999"),
    ],
)
def test_the_text_of_a_property(value: Any, text: str | None) -> None:
    assert property_text(value) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values.filter(lambda value: isinstance(value, dict | list)))
def test_the_text_of_an_object_is_json_of_it(value: Any) -> None:
    text = property_text(value)
    assert text is not None
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (0, ts(1970, 1, 1)),
        (1_709_596_800, ts(2024, 3, 5)),
        ("1709596800", ts(2024, 3, 5)),
        ("1780586634.1", datetime(2026, 6, 4, 15, 23, 54, 100_000, tzinfo=UTC)),
        (Decimal("1780586634.1"), datetime(2026, 6, 4, 15, 23, 54, 100_000, tzinfo=UTC)),
        (Decimal("1780586634.1234569"), datetime(2026, 6, 4, 15, 23, 54, 123_456, tzinfo=UTC)),
        ("-1.5", datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=UTC)),
        (Decimal("1e9"), ts(2001, 9, 9, 1, 46, 40)),
        (Decimal("1e-999999999"), ts(1970, 1, 1)),
        (Decimal("0e999999999"), ts(1970, 1, 1)),
        (-2_208_988_800, ts(1900, 1, 1)),
        (7_258_118_399, ts(2199, 12, 31, 23, 59, 59)),
        ("7258118399.9999999", datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_timestamps_are_seconds(value: Any, at: datetime) -> None:
    assert timestamp_microseconds(value) == (at - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "value",
    [
        *["", " ", "2025-01-01", "2025-01-01T00:00:00Z", "now", "1e9", "1.", ".5", "+1", "NaN", "1\n", "٣"],
        *[True, False, None, [], {}, Decimal("NaN"), Decimal("Infinity"), Decimal("1e400")],
        *[7_258_118_400, -2_208_988_801, 253_402_300_799, 10**30, "1" * 30, 1_700_000_000_000],
    ],
)
def test_anything_else_is_no_timestamp(value: Any) -> None:
    assert timestamp_microseconds(value) is None


@given(decimals(-(2 * 10**9), 7 * 10**9, 9))
def test_timestamps_are_exact_to_the_microsecond(value: Decimal) -> None:
    exactly = int(Fraction(value) * 10**6)
    assert timestamp_microseconds(format(value, "f")) == timestamp_microseconds(value) == exactly


@pytest.mark.parametrize(
    "text", ["1e-999999999", "-1e-999999999", "0e-999999999", "0e999999999", "1e999999999"]
)
def test_a_short_timestamp_is_never_written_out_long(text: str) -> None:
    tracemalloc.start()
    try:
        timestamp_microseconds(Decimal(text))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
