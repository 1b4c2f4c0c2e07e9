"""Dunning campaigns: when customers are asked to pay what is overdue."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Currency,
    Description,
    Id,
    Input,
    Name,
    UpdatedAt,
    says,
)

OverdueAmount = Annotated[int, says("Overdue amount from which on it is asked for, in the smallest unit.")]
Days = Annotated[int, says("Days between two requests, at least one.")]
Attempts = Annotated[int, says("Requests in each currency, at most.")]


class DunningThreshold(Answer):
    """From which amount on customers are asked."""

    currency: Currency
    amount_cents: OverdueAmount


BccEmails = Annotated[
    list[str],
    says("Who gets a copy of each request that it mails.", example=["finance@example.com"]),
]


class DunningCampaign(Answer):
    """Requests payment of overdue invoices until they are paid or its attempts are used up."""

    lago_id: Id
    code: Code
    name: Name
    description: Description
    thresholds: Annotated[list[DunningThreshold], says("One for each currency that is asked for.")]
    days_between_attempts: Days
    max_attempts: Attempts
    bcc_emails: BccEmails
    created_at: CreatedAt
    updated_at: UpdatedAt


class DunningThresholdInput(Input):
    """From which amount on customers are asked."""

    currency: Currency
    amount_cents: OverdueAmount


class DunningCampaignUpdate(Input):
    """What changes of a campaign."""

    name: Name
    description: Description
    thresholds: Annotated[list[DunningThresholdInput], says("One for each currency that is asked for.")]
    days_between_attempts: Days
    max_attempts: Attempts
    bcc_emails: BccEmails


class DunningCampaignInput(DunningCampaignUpdate):
    """A campaign to make."""

    code: Code
