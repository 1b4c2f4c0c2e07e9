"""The benchmarks that write tables themselves still fit the schema: a small run of each, checked, not timed."""

from __future__ import annotations

import argparse
import shutil
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psycopg
import pytest
from benchmarks import __main__ as bench, load, ratios
from benchmarks.chunks import __main__ as chunks
from benchmarks.ingest import events as traffics
from benchmarks.invoices import __main__ as invoices, credits as invoice_credits

from permille.embedded.postgres import EmbeddedPostgres


@pytest.mark.parametrize("run", [invoices.one_at_a_time, invoices.naive])
def test_the_invoice_benchmark_bills_what_it_checks(
    run: Any, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoices, "SAMPLE", 3)
    assert run(db) > 0


def test_the_benchmark_of_credits_has_each_part_on_each_invoice(db: psycopg.Connection[Any]) -> None:
    runs: dict[str, Collection[str]] = {"without": (), "with all": tuple(invoice_credits.PARTS)}
    assert invoice_credits.in_turns(db, 3, runs, rounds=1).keys() == runs.keys()
    found = invoice_credits.ratios(db, 2, batch=3)
    assert len(found) == 2
    assert min(found) > 0


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


def test_each_floor_is_of_a_benchmark_and_a_ratio_that_is_missing_is_below_it() -> None:
    floors = tomllib.loads(bench.FLOORS.read_text())
    assert floors.keys() <= bench.SHORT.keys()
    found = [ratios.Ratio("start", "fast", 0.5), ratios.Ratio("start", "new", 0.1)]
    verdicts = list(ratios.judged(found, {"fast": 0.4, "gone": 0.1}, "start"))
    assert [(each.ratio, each.is_fine) for each in verdicts] == [
        ("fast", True),
        ("new", True),
        ("gone", False),
    ]
    (slow,) = ratios.judged(found[:1], {"fast": 0.6}, "start")
    assert not slow.is_fine


def test_a_ratio_is_a_line_among_others(capsys: pytest.CaptureFixture[str]) -> None:
    ratios.say("start", "fast", 0.12345)
    assert ratios.read(capsys.readouterr().out) == ratios.Ratio("start", "fast", 0.1235)
    for line in ("start 1.2 s", "{}", '{"benchmark": "start"}'):
        assert ratios.read(line) is None


def test_ways_to_keep_events_answer_alike(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("SIZE", 50), ("FOLD", 100), ("READS", 3)):
        monkeypatch.setattr(chunks, name, value)
    ways = (
        "rows",
        "places by series",
        "hash, external, blocks of a series",
        "copy, external, blocks of 500",
        "(not counted)",
    )
    monkeypatch.setattr(chunks, "LAYOUTS", [way for way in chunks.LAYOUTS if way.name.endswith(ways)])
    chunks.run(postgres, argparse.Namespace(events=200, series=12, stored=10, writers=2, only=""))
    assert capsys.readouterr().out.count("\n") == 2 * len(ways) + 2  # of the last one nothing is read
