"""`permille prices`: the price catalogue, and what another price file would change. Nothing is stored."""

from __future__ import annotations

import json
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from permille.core.llm.catalogue import genai_prices
from permille.core.llm.catalogue.diff import PriceChange, changes, what_is_priced
from permille.core.llm.catalogue.prices import ModelPrices
from permille.core.llm.catalogue.rows import Rate
from permille.core.rating.explanation import plain
from permille.store import shipped_prices


def show(name: str, *, on: date) -> int:
    """Print the prices of a model, PROVIDER/MODEL, on a date; 1 for an unknown one."""
    provider, _, model = name.rpartition("/")
    catalogue = shipped_prices.catalogue()
    found = catalogue.model(provider, model) or catalogue.model("", name)
    if found is None:
        print(f"permille: the catalogue has no model {name!r}: write PROVIDER/MODEL", file=sys.stderr)
        return 1
    print(f"{found.id} in {catalogue.label}, in USD on {on.isoformat()}")
    print("\n".join(_lines(found, on)))
    return 0


def diff(path: Path, *, on: date) -> int:
    """Print what a price file would change on a date; 1 if it can't be read."""
    try:
        document = json.loads(path.read_text(), parse_float=Decimal)
        after = genai_prices.read_catalogue(document, label=path.name)
    except (OSError, ValueError) as error:
        print(f"permille: {path} is no price file of genai-prices: {error}", file=sys.stderr)
        return 1
    found = changes(shipped_prices.catalogue(), after, on=on)
    for each in found:
        print(_change(each))
    print(f"{len(found)} prices of {on.isoformat()} differ from {shipped_prices.name()}")
    return 0


def _lines(model: ModelPrices, on: date) -> list[str]:
    lines = []
    for row in model.rows:
        if row.is_valid(on):
            since = f", since {row.valid_from}" if row.valid_from else ""
            until = f", until {row.valid_to}" if row.valid_to else ""
            lines.append(f"{what_is_priced(row.measure, row.conditions)}: {_rate(row.rate)}{since}{until}")
    return lines


def _rate(rate: Rate | None) -> str:
    return "none" if rate is None else f"{plain(rate.amount)} / {plain(Decimal(rate.per))}"


def _change(change: PriceChange) -> str:
    of, share = change.of, change.share
    by = "" if share is None else f" ({share * 100:+.1f} %)"
    return f"{of.provider}/{of.model} {of.text}: {_rate(change.before)} -> {_rate(change.after)}{by}"
