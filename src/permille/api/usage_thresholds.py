"""Usage thresholds of plans and subscriptions. semantics-billing.md sections 2.3 and 6.6."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from permille.api.objects import threshold as objects
from permille.api.render import instant
from permille.api.validation import Fields
from permille.core.contract.threshold import UsageThreshold
from permille.core.record import replace
from permille.ids import new_id
from permille.store.progressive import AppliedThreshold

NAME = "usage_thresholds"
THRESHOLDS_MAX = 100


def read_thresholds(
    fields: Fields, known: Sequence[UsageThreshold], *, now: datetime
) -> tuple[UsageThreshold, ...]:
    """All thresholds that the object wants: those of the same amount stay what they are; without the field all do."""
    entries = fields.objects(NAME, limit=THRESHOLDS_MAX)
    if entries is None:
        return tuple(known)
    if any(entry.given.get("amount_cents") is None for entry in entries):
        fields.refuse(NAME, "missing_amount_cents")
        return tuple(known)
    before = {(each.recurring, each.amount_cents): each for each in known}
    wanted = [threshold for entry in entries if (threshold := _read(entry, now)) is not None]
    keys = Counter((each.recurring, each.amount_cents) for each in wanted)
    if any(count > 1 for (recurring, _), count in keys.items() if not recurring):
        fields.refuse(NAME, "duplicated_values")
    if sum(each.recurring for each in wanted) > 1:
        fields.refuse(NAME, "multiple_recurring_thresholds")
    return tuple(_kept(each, before.get((each.recurring, each.amount_cents))) for each in wanted)


def _read(entry: Fields, now: datetime) -> UsageThreshold | None:
    amount = entry.whole("amount_cents", minimum=1)
    recurring = entry.flag("recurring") or False
    name = entry.text("threshold_display_name") or None
    if amount is None:
        return None
    return UsageThreshold(
        id=new_id(now),
        amount_cents=amount,
        recurring=recurring,
        threshold_display_name=name,
        created_at=now,
        updated_at=now,
    )


def _kept(wanted: UsageThreshold, before: UsageThreshold | None) -> UsageThreshold:
    if before is None:
        return wanted
    if before.threshold_display_name == wanted.threshold_display_name:
        return before
    return replace(wanted, id=before.id, created_at=before.created_at)


def refuse_twice(fields: Fields) -> None:
    """Thresholds of a subscription's own and of its own plan exclude each other."""
    overrides = fields.given.get("plan_overrides")
    if fields.given.get(NAME) and isinstance(overrides, dict) and overrides.get(NAME):
        fields.refuse(NAME, "incompatible_params")
        fields.refuse("plan_overrides", "incompatible_params")


def render_threshold(threshold: UsageThreshold) -> objects.UsageThreshold:
    return objects.UsageThreshold(
        lago_id=threshold.id,
        threshold_display_name=threshold.threshold_display_name,
        amount_cents=threshold.amount_cents,
        recurring=threshold.recurring,
        created_at=instant(threshold.created_at),
        updated_at=instant(threshold.updated_at),
    )


def render_applicable(thresholds: Iterable[UsageThreshold]) -> list[objects.ApplicableUsageThreshold]:
    return [
        objects.ApplicableUsageThreshold(
            threshold_display_name=each.threshold_display_name,
            amount_cents=each.amount_cents,
            recurring=each.recurring,
        )
        for each in thresholds
    ]


def render_applied(applied: AppliedThreshold) -> objects.AppliedUsageThreshold:
    return objects.AppliedUsageThreshold(
        lifetime_usage_amount_cents=applied.lifetime_usage_amount_cents,
        created_at=instant(applied.created_at),
        usage_threshold=render_threshold(applied.threshold),
    )
