"""Usage thresholds: amounts of lifetime usage at which an invoice is made before the period ends."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, CreatedAt, Id, Input, UpdatedAt, instant_of, says

ThresholdName = Annotated[str | None, says("Name of the threshold.")]
ThresholdCents = Annotated[int, says("Amount of lifetime usage, in the currency's smallest unit.")]
Recurring = Annotated[
    bool, says("Whether it is reached again each time as much more is used; at most one is.")
]


class UsageThreshold(Answer):
    """An amount of lifetime usage at which an invoice is made."""

    lago_id: Id
    threshold_display_name: ThresholdName
    amount_cents: ThresholdCents
    recurring: Recurring
    created_at: CreatedAt
    updated_at: UpdatedAt


class ApplicableUsageThreshold(Answer):
    """A threshold that applies: a subscription's own, else its plan's."""

    threshold_display_name: ThresholdName
    amount_cents: ThresholdCents
    recurring: Recurring


class AppliedUsageThreshold(Answer):
    """A threshold that was reached, as it was then."""

    lifetime_usage_amount_cents: Annotated[int, says("Lifetime usage when it was reached.")]
    created_at: Annotated[str, instant_of("When it was reached.")]
    usage_threshold: Annotated[UsageThreshold, says("The threshold.")]


class LifetimeUsageThreshold(Answer):
    """How far a subscription has come towards a threshold."""

    amount_cents: ThresholdCents
    completion_ratio: Annotated[float, says("From 0 to 1, between the threshold before it and this one.")]
    reached_at: Annotated[str | None, instant_of("When an invoice was made of it.")]


class UsageThresholdInput(Input):
    """A threshold. All of them are sent at once, those that are not sent go."""

    threshold_display_name: ThresholdName
    amount_cents: ThresholdCents
    recurring: Recurring
