"""Usage thresholds: amounts of lifetime usage at which an invoice is made before the period ends.

Source: semantics-billing.md sections 6.6 and 6.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from permille.core.money import exact
from permille.core.record import Record, asdict


class UsageThreshold(Record, kw_only=True):
    """An amount in the plan's currency. A recurring one is reached again each time as much more is used."""

    id: UUID
    amount_cents: int
    recurring: bool
    threshold_display_name: str | None
    created_at: datetime
    updated_at: datetime


def threshold_json(threshold: UsageThreshold) -> dict[str, Any]:
    """How a plan, a subscription or an invoice keeps it."""
    return {
        **asdict(threshold),
        "id": str(threshold.id),
        "created_at": threshold.created_at.isoformat(),
        "updated_at": threshold.updated_at.isoformat(),
    }


def thresholds_of_json(kept: Iterable[Mapping[str, Any]]) -> tuple[UsageThreshold, ...]:
    """What `threshold_json` has made."""
    return tuple(
        UsageThreshold(
            **{
                **each,
                "id": UUID(each["id"]),
                "created_at": datetime.fromisoformat(each["created_at"]),
                "updated_at": datetime.fromisoformat(each["updated_at"]),
            }
        )
        for each in kept
    )


def same_thresholds(one: Iterable[UsageThreshold], other: Iterable[UsageThreshold]) -> bool:
    """Whether two lists say the same."""
    return _said(one) == _said(other)


def _said(thresholds: Iterable[UsageThreshold]) -> list[tuple[bool, int, str | None]]:
    return sorted(
        ((each.recurring, each.amount_cents, each.threshold_display_name) for each in thresholds),
        key=lambda said: said[:2],
    )


def reached(
    thresholds: Sequence[UsageThreshold], *, before_cents: int, total_cents: int
) -> list[UsageThreshold]:
    """The thresholds that lifetime usage passes on its way from `before_cents` to `total_cents`.

    The recurring one counts from the highest of the others at first, and then at each multiple of its amount.
    """
    fixed, recurring = _split(thresholds)
    passed = [each for each in fixed if before_cents < each.amount_cents <= total_cents]
    highest = fixed[-1].amount_cents if fixed else 0
    if recurring is None or total_cents <= before_cents:
        return passed
    if before_cents < highest:
        is_passed = total_cents - highest >= recurring.amount_cents
    else:
        is_passed = total_cents // recurring.amount_cents > before_cents // recurring.amount_cents
    return [*passed, recurring] if is_passed else passed


class Completion(Record, kw_only=True):
    """How far lifetime usage has come towards a threshold: 1 once it is passed."""

    amount_cents: int
    ratio: Decimal


def completions(thresholds: Sequence[UsageThreshold], total_cents: int) -> list[Completion]:
    """The fixed thresholds, then each occurrence of the recurring one up to the first that is not passed."""
    found, last = [], 0
    for amount in _amounts(thresholds, total_cents):
        with exact():
            ratio = min(Decimal(max(total_cents - last, 0)) / (amount - last), Decimal(1))
        found.append(Completion(amount_cents=amount, ratio=ratio))
        last = amount
    return found


_OCCURRENCES_MAX = 1_000


def _amounts(thresholds: Sequence[UsageThreshold], total_cents: int) -> Iterator[int]:
    fixed, recurring = _split(thresholds)
    yield from (each.amount_cents for each in fixed)
    if recurring is None:
        return
    step, highest = recurring.amount_cents, fixed[-1].amount_cents if fixed else 0
    passed = max(total_cents - highest, 0) // step
    for number in range(max(passed - _OCCURRENCES_MAX, 0), passed + 1):
        yield highest + (number + 1) * step


def _split(thresholds: Iterable[UsageThreshold]) -> tuple[list[UsageThreshold], UsageThreshold | None]:
    """The fixed ones by amount, and the recurring one."""
    known = sorted(thresholds, key=lambda each: each.amount_cents)
    recurring = next((each for each in known if each.recurring), None)
    return [each for each in known if not each.recurring], recurring
