"""Reading days and instants."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from permille.core.instants import parse_day, parse_instant


@pytest.mark.parametrize(
    "sent", ["2024-04-01", "20240401", " 20240401 ", "2024-W14-1", "2024W14", "2024-W14  "]
)
def test_a_day_alone(sent: str) -> None:
    assert parse_day(sent) == date(2024, 4, 1)
    assert parse_instant(sent) == datetime(2024, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "sent",
    [
        "2024-04-01T00:00:00Z",
        "20240401T00",
        "2024-02-30",
        "x" * 10,
        "9999-12-31",
        "0001-01-01",
        "",
        None,
        20240401,
        [],
    ],
)
def test_no_day(sent: Any) -> None:
    assert parse_day(sent) is None


@given(st.text("0123456789-W :TZ+", max_size=12))
def test_each_day_is_an_instant_too(text: str) -> None:
    day = parse_day(text)
    assert day is None or parse_instant(text) == datetime(day.year, day.month, day.day, tzinfo=UTC)
