"""Rows and events are joined in Python: an events engine need not be in the database of the rows."""

from __future__ import annotations

import re
from pathlib import Path

import permille

EVENT_TABLES = (
    "event counted_event sent_event struck_event event_amendment event_hour event_seq_seq counted_once series series_month"
    " usage_cell unique_cell unchecked_series metering metering_version metering_state"
)
ROW_TABLES = "billable_metric billable_metric_filter billing_hold charge charge_filter credit_note customer fee invoice invoice_subscription plan subscription"
ROOT = Path(permille.__file__).parent


def named(folder: Path, tables: str) -> list[str]:
    """Where statements in a folder read or write one of these tables."""
    pattern = re.compile(
        rf"\b(?:from|join|into|update|using)\s+(?:only\s+)?({'|'.join(tables.split())})\b(?!\s+import)"
    )
    return [
        f"{path.name}: {found[1]}"
        for path in sorted(folder.rglob("*.py"))
        for found in pattern.finditer(path.read_text())
    ]


def test_no_statement_of_the_store_reads_event_tables() -> None:
    assert named(ROOT / "store", EVENT_TABLES) == []


def test_no_statement_of_the_engine_reads_rows() -> None:
    assert named(ROOT / "events" / "postgres", ROW_TABLES) == []
