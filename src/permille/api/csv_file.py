"""CSV files for spreadsheets, in which no cell is a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal

from permille.api.http import Raw

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
"""The last four are those of East Asian keyboards, which spreadsheets read likewise."""

Cell = str | int | Decimal
ROWS_MAX = 100_000
"""The most objects of a file, which is made in memory."""


def left_out(most: int, what: str) -> str:
    """The last row of a file that has not all that was asked for."""
    return f"Not all: these are the newest {most:,} {what}. Ask for fewer days at a time to get the others."


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Raw:
    """A file to download. Numbers are written as they are."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return Raw(
        content=out.getvalue().encode(),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _harmless(cell: Cell) -> str:
    """A text that no spreadsheet takes for a formula, or a number."""
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)
