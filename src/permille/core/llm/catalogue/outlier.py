"""Changes of prices that are more likely mistakes of a price file than news: nobody approves them by the way."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from permille.core.llm.catalogue.diff import PriceChange

TIMES = 10
"""A price that becomes so many times what it was, or less than that part of it."""


def is_outlier(change: PriceChange) -> bool:
    """Whether a price is gone, becomes 0, or changes tenfold."""
    if change.before is None:
        return False
    if change.after is None or (change.before.amount and not change.after.amount):
        return True
    share = change.share
    return share is not None and not Decimal(1) / TIMES < share + 1 < TIMES


def models(changes: Iterable[PriceChange]) -> list[str]:
    """PROVIDER/MODEL of the outliers among changes, in order."""
    return sorted({f"{each.of.provider}/{each.of.model}" for each in changes if is_outlier(each)})
