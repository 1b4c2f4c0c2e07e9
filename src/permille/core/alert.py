"""Alerts: thresholds that a value is compared with whenever it may have changed, and which of them it has crossed.

Source: semantics-billing.md section 9.3, vectors V-154 to V-159.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from permille.core.money import ZERO, exact
from permille.core.record import Record

THRESHOLDS_MAX = 20
"""The most thresholds of an alert."""
STEPS_MAX = 1_000
"""The most steps of a recurring threshold that one look reports: the last ones, if the value jumps over more."""


class Direction(StrEnum):
    """Which way a value goes when it crosses a threshold."""

    INCREASING = "increasing"
    DECREASING = "decreasing"


class AlertType(StrEnum):
    """What an alert looks at. Amounts are in the currency's smallest unit, without taxes."""

    USAGE_AMOUNT = "current_usage_amount"
    METRIC_AMOUNT = "billable_metric_current_usage_amount"
    METRIC_UNITS = "billable_metric_current_usage_units"
    LIFETIME_AMOUNT = "lifetime_usage_amount"
    WALLET_AMOUNT = "wallet_balance_amount"
    WALLET_CREDITS = "wallet_credits_balance"
    WALLET_ONGOING_AMOUNT = "wallet_ongoing_balance_amount"
    WALLET_ONGOING_CREDITS = "wallet_credits_ongoing_balance"

    @property
    def needs_metric(self) -> bool:
        """Whether it is about one billable metric."""
        return self in (AlertType.METRIC_AMOUNT, AlertType.METRIC_UNITS)

    @property
    def is_of_wallet(self) -> bool:
        return self.value.startswith("wallet_")

    @property
    def is_amount(self) -> bool:
        """Whether its value is an amount, not units or credits."""
        return self.value.endswith("_amount")

    @property
    def direction(self) -> Direction:
        return Direction.DECREASING if self.is_of_wallet else Direction.INCREASING


SUBSCRIPTION_TYPES = tuple(each for each in AlertType if not each.is_of_wallet)
WALLET_TYPES = tuple(each for each in AlertType if each.is_of_wallet)


class Threshold(Record, kw_only=True):
    """A value to be reached. A recurring one is a step, counted from the last of those that are not."""

    code: str | None
    value: Decimal
    recurring: bool = False


class AlertOwner(Record, kw_only=True):
    """What an alert is of: a subscription, whatever its plan, or a wallet."""

    external_subscription_id: str | None = None
    wallet_id: UUID | None = None


class Alert(Record, kw_only=True):
    """Thresholds on a value of a subscription or of a wallet."""

    id: UUID
    organization_id: UUID
    external_subscription_id: str | None
    wallet_id: UUID | None
    alert_type: AlertType
    code: str
    name: str | None
    billable_metric_id: UUID | None
    thresholds: tuple[Threshold, ...]
    previous_value: Decimal
    """What the value was at the last look."""
    period_from: datetime | None
    """The start of the period that `previous_value` is of, where it is usage of a period."""
    last_processed_at: datetime | None
    created_at: datetime

    @property
    def owner(self) -> AlertOwner:
        return AlertOwner(external_subscription_id=self.external_subscription_id, wallet_id=self.wallet_id)


class Look(Record, kw_only=True):
    """The value of an alert at an instant, and what it was compared with."""

    alert: Alert
    value: Decimal
    period_from: datetime | None = None

    @property
    def before(self) -> Decimal:
        """The value at the last look. A new period begins at zero, so that its thresholds count again."""
        is_new_period = self.alert.period_from is not None and self.period_from != self.alert.period_from
        return ZERO if is_new_period else self.alert.previous_value

    @property
    def crossed(self) -> list[Threshold]:
        """The thresholds between the two values."""
        return crossed_thresholds(
            self.alert.thresholds, self.before, self.value, self.alert.alert_type.direction
        )


def crossed_thresholds(
    thresholds: Iterable[Threshold], before: Decimal, now: Decimal, direction: Direction
) -> list[Threshold]:
    """The thresholds that a value has crossed on its way, by their values.

    One that is just reached is crossed, and not again at the next move.
    """
    if direction is Direction.DECREASING:
        mirrored = crossed_thresholds(
            [_mirrored(each) for each in thresholds], -before, -now, Direction.INCREASING
        )
        return [
            Threshold(code=each.code, value=-each.value, recurring=each.recurring)
            for each in reversed(mirrored)
        ]
    with exact():
        every = list(thresholds)
        once = [each for each in every if not each.recurring]
        found = [each for each in once if before < each.value <= now]
        base = max((each.value for each in once), default=ZERO)
        for each in every:
            if each.recurring:
                found += _steps(each, base, before, now)
    return sorted(found, key=lambda each: (each.value, each.recurring))


def _mirrored(threshold: Threshold) -> Threshold:
    """A threshold of a falling value as one of a rising value; a step stays as long as it is."""
    value = threshold.value if threshold.recurring else -threshold.value
    return Threshold(code=threshold.code, value=value, recurring=threshold.recurring)


def _steps(step: Threshold, base: Decimal, before: Decimal, now: Decimal) -> Iterator[Threshold]:
    """The multiples of a step beyond the base that lie after `before`, up to `now`. Call under exact()."""
    last = _whole_steps(now - base, step.value)
    first = max(_whole_steps(before - base, step.value) + 1, 1, last - STEPS_MAX + 1)
    for number in range(first, last + 1):
        yield Threshold(code=step.code, value=base + number * step.value, recurring=True)


def _whole_steps(way: Decimal, step: Decimal) -> int:
    """How many whole steps a way has, below zero the number of those that it has begun."""
    whole = way // step
    return int(whole) - 1 if whole * step > way else int(whole)


def threshold_errors(thresholds: Sequence[Threshold]) -> list[str]:
    """What is wrong with the thresholds of an alert together, by codes."""
    found = []
    if len(thresholds) > THRESHOLDS_MAX:
        found.append("too_many_thresholds")
    if len({(each.value, each.recurring) for each in thresholds}) < len(thresholds):
        found.append("duplicate_threshold_values")
    elif sum(each.recurring for each in thresholds) > 1:
        found.append("too_many_recurring_thresholds")
    return found
