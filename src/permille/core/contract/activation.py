"""Activation rules: what has to happen before a subscription runs. Source: semantics-billing.md section 3.7."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from permille.core.record import Record, replace

PAYMENT = "payment"
"""The only type: the first invoice has to be paid."""
TIMEOUT_HOURS_MAX = 24 * 366


class RuleStatus(StrEnum):
    """What became of a rule."""

    INACTIVE = "inactive"
    """The subscription's day has not come yet."""
    PENDING = "pending"
    SATISFIED = "satisfied"
    DECLINED = "declined"
    """Somebody gave the subscription up."""
    FAILED = "failed"
    EXPIRED = "expired"
    NOT_APPLICABLE = "not_applicable"
    """Nothing was to be paid at the start."""


CANCELLATION_REASONS = {RuleStatus.FAILED: "payment_failed", RuleStatus.EXPIRED: "timeout"}
"""How a rule ended -> why its subscription is canceled, where that has a name."""


class ActivationRule(Record, kw_only=True):
    """A rule of a subscription, which has one at most."""

    id: UUID
    organization_id: UUID
    subscription_id: UUID
    type: str
    timeout_hours: int
    """0: the subscription waits for as long as it takes."""
    status: RuleStatus
    expires_at: datetime | None
    invoice_id: UUID | None
    """The invoice that has to be paid."""
    created_at: datetime
    updated_at: datetime

    def waiting(self, invoice_id: UUID, *, now: datetime, until: datetime | None) -> ActivationRule:
        """The rule as the subscription waits from now on: up to its timeout, and no longer than `until`."""
        ends = [now + timedelta(hours=self.timeout_hours)] if self.timeout_hours else []
        ends += [until] if until else []
        return replace(
            self,
            status=RuleStatus.PENDING,
            expires_at=min(ends, default=None),
            invoice_id=invoice_id,
            updated_at=now,
        )
