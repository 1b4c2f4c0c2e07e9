import json
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.instants import EPOCH
from permille.core.metering.event import (
    numeric_value,
    property_text,
    timestamp_microseconds,
)
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
        *["", " ", "2025-01-01", "now", "1e9", "1.", ".5", "+1", "NaN", "1\n", "٣"],
        *[True, False, None, [], {}, Decimal("NaN"), Decimal("Infinity"), Decimal("1e400")],
        *[7_258_118_400, -2_208_988_801, 253_402_300_799, 10**30, "1" * 30, 1_700_000_000_000],
    ],
)
def test_anything_else_is_no_timestamp(value: Any) -> None:
    assert timestamp_microseconds(value) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-03-05T00:00:00Z", "1709596800"),
        ("2024-03-05t00:00:00z", "1709596800"),
        ("2024-03-05 00:00:00", "1709596800"),
        ("2024-03-05T00:00", "1709596800"),
        ("2024-03-05T00:00:00.1Z", "1709596800.1"),
        ("2024-03-05T00:00:00,123456Z", "1709596800.123456"),
        ("2024-03-05T00:00:00.1234569Z", "1709596800.123456"),
        ("2024-03-05T00:00:00." + "9" * 60 + "Z", "1709596800.999999"),
        ("2024-03-05T05:30:00+05:30", "1709596800"),
        ("2024-03-05T05:45:00+0545", "1709596800"),
        ("2024-03-04T16:00:00-08", "1709596800"),
        ("2024-03-05T23:59:00+23:59", "1709596800"),
        ("2024-03-04T00:01:00-23:59", "1709596800"),
        ("2024-03-05T00:00:00-00:00", "1709596800"),
        ("2024-02-29T12:00:00+14:00", "1709157600"),
        ("1969-12-31T23:59:59.25Z", "-0.75"),
        ("1900-01-01T00:00:00Z", "-2208988800"),
        ("2199-12-31T23:59:59.999999Z", "7258118399.999999"),
    ],
)
def test_timestamps_are_dates_and_times_too(text: str, seconds: str) -> None:
    assert timestamp_microseconds(text) == timestamp_microseconds(seconds) == int(Decimal(seconds) * 10**6)


@pytest.mark.parametrize(
    "text",
    [
        *["2025-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-03-05T24:00:00Z", "2024-03-05T23:60:00Z"],
        *[
            "2024-03-05T23:59:60Z",
            "2024-03-05T00:00:00+24:00",
            "2024-03-05T00:00:00+01:60",
            "20240305T000000Z",
        ],
        *[
            "2024-03-05T00Z",
            "2024-03-05T00:00:00 Z",
            "2024-03-05T00:00:00.Z",
            "2024-03-05T00:00:00ZZ",
            "2024-03-05T00:00.5Z",
        ],
        *["2024-W10-2T00:00:00Z", "2024-065T00:00:00Z", "+002024-03-05T00:00:00Z", "2024-03-05T00:00:00Z\n"],
        *["0000-01-01T00:00:00Z", "1899-12-31T23:59:59.999999Z", "2200-01-01T00:00:00Z"],
        *["2199-12-31T23:59:59-00:01", "1900-01-01T00:00:00+00:01", "9999-12-31T23:59:59-14:00"],
        *["٢٠٢٤-٠٣-٠٥T00:00:00Z", "2024-03-05T00:00:00\u2212" + "08:00", "2024-03-05T00:00:00." + "9" * 61],
    ],
)
def test_what_is_no_date_and_time(text: str) -> None:
    assert timestamp_microseconds(text) is None


@given(
    st.datetimes(datetime(1900, 1, 3), datetime(2199, 12, 29)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from(["T", " "]),
)
def test_a_date_and_time_is_the_instant_that_the_library_reads(
    at: datetime, minutes: int, between: str
) -> None:
    aware = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert timestamp_microseconds(aware.isoformat(between)) == (aware - EPOCH) // timedelta(microseconds=1)
    assert timestamp_microseconds(at.isoformat(between)) == (at.replace(tzinfo=UTC) - EPOCH) // timedelta(
        microseconds=1
    )


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
