"""The benchmarks that write tables themselves still fit the schema: a small run of each, checked, not timed."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psycopg
import pytest
from benchmarks import load
from benchmarks.ingest import events as traffics
from benchmarks.invoices import __main__ as invoices, credits as invoice_credits


@pytest.mark.parametrize("run", [invoices.one_at_a_time, invoices.naive])
def test_the_invoice_benchmark_bills_what_it_checks(
    run: Any, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoices, "SAMPLE", 3)
    assert run(db) > 0


def test_the_benchmark_of_credits_has_each_part_on_each_invoice(db: psycopg.Connection[Any]) -> None:
    runs: dict[str, Collection[str]] = {"without": (), "with all": tuple(invoice_credits.PARTS)}
    assert invoice_credits.in_turns(db, 3, runs, rounds=1).keys() == runs.keys()


@pytest.mark.skipif(shutil.which("cc") is None, reason="the load generator needs a C compiler")
@pytest.mark.parametrize("rate", [0, 2_000])
def test_the_load_generator_sends_each_request_once(rate: float, tmp_path: Path) -> None:
    traffic = traffics.Traffic(name="few", batch=1_000, connections=4)
    path = tmp_path / "requests"
    assert load.write(traffics.requests(traffic, ["key"], 40_000), path) == 40
    with load.answering_at_once() as port:
        answers = load.send(port, path, connections=traffic.connections, rate=rate)
    assert (answers.requests, answers.refused) == (40, 0)
    assert 0 < answers.p50 <= answers.p99
