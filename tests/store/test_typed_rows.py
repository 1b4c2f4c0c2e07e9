"""Rows become objects with the core's enums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from permille.core.period import BillingTime, Interval
from permille.database.typed_rows import typed_row, with_enums


@dataclass(frozen=True)
class Choice:
    code: str
    interval: Interval
    billing_time: BillingTime | None = None


def chosen(db: psycopg.Connection[Any], interval: str, billing_time: str | None) -> Choice | None:
    with db.cursor(row_factory=typed_row(Choice)) as cursor:
        return cursor.execute(
            "select 'weekly' as code, %s as interval, %s::text as billing_time", [interval, billing_time]
        ).fetchone()


def test_texts_become_enums_where_the_class_has_them(db: psycopg.Connection[Any]) -> None:
    found = chosen(db, "yearly", "calendar")
    assert found is not None
    assert found.interval is Interval.YEARLY
    assert found.billing_time is BillingTime.CALENDAR
    assert type(found.code) is str
    without = chosen(db, "weekly", None)
    assert without is not None
    assert without.billing_time is None
    assert with_enums(Choice, {"code": "a", "interval": "weekly"})["interval"] is Interval.WEEKLY


def test_a_text_that_is_no_choice_is_a_fault(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(ValueError, match="daily"):
        chosen(db, "daily", None)
