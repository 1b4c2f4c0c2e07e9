"""The benchmarks that write tables themselves still fit the schema: a small run of each, checked, not timed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from benchmarks.invoices import __main__ as invoices


@pytest.mark.parametrize("run", [invoices.one_at_a_time, invoices.naive])
def test_the_invoice_benchmark_bills_what_it_checks(
    run: Any, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoices, "SAMPLE", 3)
    assert run(db) > 0
