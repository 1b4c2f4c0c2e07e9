"""What another price file changes, in the core and on the command line."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from permille.cli.prices import diff, show
from permille.core.llm.catalogue.diff import changes
from permille.core.llm.catalogue.genai_prices import read_catalogue
from permille.core.llm.catalogue.prices import Catalogue
from permille.store import shipped_prices


def given(**models: object) -> Catalogue:
    listed = [{"id": name, "match": {"equals": name}, "prices": prices} for name, prices in models.items()]
    return read_catalogue([{"id": "acme", "models": listed}], label="test")


def test_prices_that_are_new_gone_or_others() -> None:
    before = given(a={"input_mtok": "2", "output_mtok": "8"}, b={"input_mtok": "1"})
    after = given(a={"input_mtok": "2.50", "output_mtok": "8.0"}, c={"requests_kcount": "5"})
    found = changes(before, after, on=date(2026, 6, 1))
    assert [(each.of.model, each.of.measure.type, each.share) for each in found] == [
        ("a", "input", Decimal("0.25")),
        ("b", "input", None),
        ("c", "request", None),
    ]
    assert (found[1].after, found[2].before) == (None, None)
    assert changes(before, before, on=date(2026, 6, 1)) == []


def test_a_price_of_another_date_is_no_change() -> None:
    later = {"constraint": {"start_date": "2026-07-01"}, "prices": {"input_mtok": "3"}}
    first = {"prices": {"input_mtok": "2"}}
    before, after = given(a={"input_mtok": "2"}), given(a=[first, later])
    assert changes(before, after, on=date(2026, 6, 30)) == []
    assert [each.share for each in changes(before, after, on=date(2026, 7, 1))] == [Decimal("0.5")]


def test_the_command_shows_a_models_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("openai/gpt-4.1", on=date(2026, 11, 28)) == 0
    printed = capsys.readouterr().out
    assert "llm_tokens input text standard: 2 / 1,000,000\n" in printed
    assert "llm_tokens input text batch: 1 / 1,000,000, since 2026-10-14\n" in printed
    assert show("openai/nothing-like-it", on=date(2026, 11, 28)) == 1
    assert "write PROVIDER/MODEL" in capsys.readouterr().err


def test_the_command_shows_what_a_file_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = shipped_prices.document()
    [openai] = [each for each in document if each["id"] == "openai"]
    [model] = [each for each in openai["models"] if each["id"] == "gpt-4.1"]
    model["prices"]["input_mtok"] = "3"
    file = tmp_path / "data.json"
    file.write_text(json.dumps(document, default=str))
    assert diff(file, on=date(2026, 11, 28)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "openai/gpt-4.1 llm_tokens input text standard: 2 / 1,000,000 -> 3 / 1,000,000 (+50.0 %)",
        f"1 prices of 2026-11-28 differ from {shipped_prices.name()}",
    ]
    file.write_text("{}")
    assert diff(file, on=date(2026, 11, 28)) == 1
    assert "no price file" in capsys.readouterr().err
