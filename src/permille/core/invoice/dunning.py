"""Dunning: when a customer with overdue invoices is asked to pay them, and how often.

Source: semantics-billing.md section 8.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from permille.core.record import Record

_MOMENT = timedelta(microseconds=1)


class DunningCampaign(Record, kw_only=True):
    """From which overdue amount on a customer is asked, how often at most, and how many days apart."""

    id: UUID
    organization_id: UUID
    code: str
    name: str
    description: str | None
    thresholds: Mapping[str, int]
    """Currency -> overdue amount in its smallest unit; other currencies are not asked for."""
    days_between_attempts: int
    max_attempts: int
    created_at: datetime
    updated_at: datetime
    bcc_emails: Sequence[str] = ()
    """Who gets a copy of each request that it mails."""

    @property
    def terms(self) -> tuple[Any, ...]:
        """What says when customers are asked."""
        return self.thresholds, self.days_between_attempts, self.max_attempts


class DunningState(Record, kw_only=True):
    """How far the dunning of a customer has come."""

    last_attempt_at: datetime | None = None
    """The last attempt in any currency: all wait for it together."""
    attempts: Mapping[str, int]
    """By currency."""
    is_finished: bool = False
    """Whether it was reported that there are no attempts left; another attempt is another end to report."""


def next_attempt_at(campaign: DunningCampaign, state: DunningState) -> datetime | None:
    """The first instant of another attempt: more than so many days after the last one; None: at any time."""
    if state.last_attempt_at is None:
        return None
    return state.last_attempt_at + timedelta(days=campaign.days_between_attempts) + _MOMENT


def dunned(campaign: DunningCampaign, overdue: Mapping[str, int]) -> list[str]:
    """The currencies of which enough is overdue, in order."""
    return sorted(
        currency
        for currency, threshold in campaign.thresholds.items()
        if overdue.get(currency, 0) and overdue[currency] >= threshold
    )


def to_request(campaign: DunningCampaign, state: DunningState, overdue: Mapping[str, int]) -> list[str]:
    """The currencies of which what is overdue is to be requested now."""
    return [
        currency
        for currency in dunned(campaign, overdue)
        if state.attempts.get(currency, 0) < campaign.max_attempts
    ]


def is_exhausted(campaign: DunningCampaign, state: DunningState, overdue: Mapping[str, int]) -> bool:
    """Whether enough is overdue and there is no attempt left in any currency."""
    found = dunned(campaign, overdue)
    return bool(found) and not to_request(campaign, state, overdue)
