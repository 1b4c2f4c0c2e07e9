"""The summary on the first page of a long invoice: what each model, or other first dimension, costs."""

from __future__ import annotations

from permille.core.record import Record
from permille.out.pdf.document import InvoiceDocument

LINES_MIN = 41
ROWS_MAX = 15


class SummaryRow(Record, kw_only=True):
    name: str
    amount_cents: int


class Summary(Record, kw_only=True):
    """The dearest values, the rest in one sum: all rows together are the invoice's fees."""

    key: str | None
    """The dimension, where all that have one have the same."""
    rows: tuple[SummaryRow, ...]
    more: int
    """How many values there are besides."""
    more_cents: int


def summary_of(document: InvoiceDocument) -> Summary | None:
    """None for an invoice that is short, or has nothing to sum up by."""
    lines = list(document.lines)
    if len(lines) < LINES_MIN:
        return None
    keys = {line.dimension.key for line in lines if line.dimension}
    sums: dict[str, int] = {}
    for section in document.sections:
        for group in section.groups:
            for line in group.lines:
                name = line.dimension.value if line.dimension else group.title or line.description
                sums[name] = sums.get(name, 0) + line.amount_cents
    if len(sums) < 2:
        return None
    dearest = sorted(sums.items(), key=lambda each: -each[1])
    shown, rest = dearest[:ROWS_MAX], dearest[ROWS_MAX:]
    return Summary(
        key=next(iter(keys)) if len(keys) == 1 else None,
        rows=tuple(SummaryRow(name=name, amount_cents=cents) for name, cents in shown),
        more=len(rest),
        more_cents=sum(cents for _, cents in rest),
    )
