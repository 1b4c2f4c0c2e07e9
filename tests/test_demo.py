"""`permille demo`: the whole of it on a small month, and that it would see a wrong figure."""

from __future__ import annotations

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from permille.cli import demo, demo_month
from permille.cli.demo_month import CUSTOMERS, MODEL_TOKENS, MODELS, ONE_IN, PLANS, Month
from tests.live import free_port

PRICES = {(model, kind): Decimal(3) for model in MODELS for kind in ("input", "cached_input", "cache_write")}
PRICES |= {(model, "output"): Decimal(15) for model in MODELS}


def test_a_small_month_is_exact_to_the_cent(reachable_path: Path) -> None:
    folder, port = reachable_path / "demo", str(free_port())
    command = [sys.executable, "-m", "permille", "demo", "--events", "6000", "--no-keep", "--port", port]
    done = subprocess.run(
        [*command, "--folder", folder],
        cwd=reachable_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = re.sub(r"\s+", " ", done.stdout)
    assert done.returncode == 0, said + done.stderr
    assert "All totals: exact to the cent." in said
    shown = said.partition("Usage of acme")[2].partition("Invoices of October")[0]
    for words in (
        "GPT-4 8K context",
        "GPT-3.5 Turbo 16K",
        "gpt-5.4-mini",
        "claude-sonnet-5-5",
        "cache_write",
    ):
        assert words in shown, words
    margin = said.partition("Margin of October")[2]
    assert [model for model in MODELS if model in margin] == list(MODELS)
    assert margin.count("equal") == len(MODELS)
    assert list(folder.glob("invoice-*.pdf"))


def test_the_same_seed_draws_the_same_month() -> None:
    month, again = (demo_month.draw_month(2_000, seed=7) for _ in range(2))
    assert month == again != demo_month.draw_month(2_000, seed=8)
    items = [each for batch in month.batches for each in batch.items]
    assert len(items) == month.drawn + month.repeats
    assert month.drawn == 2_000 * ONE_IN // 15
    assert {metric for _, metric, *_ in month.tokens} == set(PLANS.values())


def test_totals_are_computed_by_hand() -> None:
    month = Month()
    month.tokens["acme", "gpt_4_tokens", "8K", "input"] = 1_001
    month.tokens["acme", MODEL_TOKENS, "gpt-5.4-mini", "output"] = 1_000_000
    month.tokens["acme", MODEL_TOKENS, "gpt-5.4-mini", "input"] = 1_250  # 0.45 cents
    month.tokens["hooli", MODEL_TOKENS, "gpt-5.4-mini", "input"] = 1_500  # 0.54 cents
    assert demo_month.expected_cents(month, "acme", PRICES) == 6 + 1_800
    assert demo_month.expected_cents(month, "hooli", PRICES) == 1
    assert demo_month.expected_costs(month, PRICES) == {
        "gpt-5.4-mini": Decimal("15.00825"),
        "claude-sonnet-5-5": 0,
        "gemini-3.5-flash": 0,
    }


@pytest.mark.parametrize("change", [{}, {"cost_usd": "15.00825001"}, {"revenue_amount_cents": 1_802}])
def test_a_wrong_margin_is_seen(change: dict[str, Any]) -> None:
    month = Month()
    month.tokens["acme", MODEL_TOKENS, "gpt-5.4-mini", "output"] = 1_000_000
    month.tokens["acme", MODEL_TOKENS, "gpt-5.4-mini", "input"] = 2_750
    row = {
        "cost_usd": "15.00825",
        "revenue_amount_cents": 1_801,
        "margin_amount_cents": "300.175",
        "margin_share": "0.1667",
        "uncosted": [],
    }
    rows = {"gpt-5.4-mini": {**row, **change}}
    assert demo.show_margin(Console(quiet=True), rows, month, PRICES) == (1 if change else 0)


def test_a_wrong_invoice_is_seen() -> None:
    one_cent = {"invoices": [{"number": "1", "total_amount_cents": 1}]}
    api: Any = SimpleNamespace(call=lambda *_, **__: one_cent)
    month = Month()
    month.tokens["acme", "gpt_3_5_turbo_tokens", "4K", "input"] = 60_000
    console = Console(quiet=True)
    assert demo.show_invoices(console, api, month, PRICES) == len(CUSTOMERS)
    for customer, *_ in CUSTOMERS:
        month.tokens[customer, "gpt_3_5_turbo_tokens", "4K", "input"] = 6_000
    assert demo.show_invoices(console, api, month, PRICES) == 0
