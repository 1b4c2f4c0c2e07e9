"""Usage of many pricing groups as JSON, without an object for each: byte by byte what the objects are written as."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from permille.api.objects.usage import GroupUsage
from permille.core.money import ZERO, decimal_text
from permille.database.connections import encode_answer
from permille.usecases.usage.usage import ChargeUsage, UsageLine

_NO_UNITS = decimal_text(ZERO)

_WRITTEN = (
    encode_answer(
        GroupUsage(
            units="%s",
            total_aggregated_units="%s",
            events_count=111,
            amount_cents=222,
            pricing_unit_details=None,
            unpriced_units="%s",
            presentation_breakdowns=[],
            grouped_by={"group": None},
            filters=[],
        )
    )
    .decode()
    .replace("111", "%d")
    .replace("222", "%d")
    .replace('{"group":null}', "%s")
)
"""A group, with places for what differs: units, total, events, amount, units without a price, values."""


def written_groups(found: ChargeUsage) -> msgspec.Raw | None:
    """The usage of the charge's groups; None where a group is more than sums of one line."""
    lines = found.lines
    if found.has_filters or not any(line.grouped_by for line in lines) or not all(map(_is_plain, lines)):
        return None
    return msgspec.Raw(f"[{','.join(_written(lines))}]".encode())


def _is_plain(line: UsageLine) -> bool:
    return line.in_unit is None and line.projection is None and not line.breakdowns


def _written(lines: tuple[UsageLine, ...]) -> Iterator[str]:
    for _, group, units, total, events, cents, _, _, _, is_unpriced in lines:
        text = decimal_text(units)
        yield _WRITTEN % (
            text,
            text if total is units else decimal_text(total),
            events,
            cents,
            text if is_unpriced else _NO_UNITS,
            encode_answer(group).decode(),
        )
