"""Late usage: what came in after its period was billed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    ExternalCustomerId,
    ExternalSubscriptionId,
    GroupedBy,
    Id,
    Input,
    UpdatedAt,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.core.invoice.late_usage import LateUsageStatus


class LateUsageLine(Answer):
    """Late usage of one price and group."""

    lago_charge_filter_id: Annotated[str | None, says("The charge filter; null at the charge's own price.")]
    filter: Annotated[
        str | Mapping[str, Any] | None, says("The filter's name, or its values where it has none.")
    ]
    grouped_by: GroupedBy
    is_true_up: Annotated[bool, says("Whether it is the minimum charge that changes.")]
    is_commitment: Annotated[
        bool, says("Whether it is what the others take of a minimum commitment that was billed.")
    ]
    units: Annotated[str, text_of_number("Units more than were billed.")]
    events_count: Annotated[int, says("Events more than were billed.")]
    amount_cents: Annotated[int, says("Amount more than was billed, before taxes.")]


class LateUsage(Answer):
    """What a billed period of a charge comes to more than was billed, and what is done with it."""

    lago_id: Id
    status: Annotated[str, one_of(*LateUsageStatus, says="What was decided.")]
    external_customer_id: ExternalCustomerId
    external_subscription_id: ExternalSubscriptionId
    lago_subscription_id: Annotated[UUID, says("The subscription.")]
    lago_charge_id: Annotated[UUID, says("The charge.")]
    billable_metric_code: Annotated[str, says("Code of the metric.")]
    lago_invoice_id: Annotated[UUID, says("The invoice that had billed the period.")]
    invoice_number: Annotated[str | None, says("Number of that invoice.")]
    from_date: Annotated[str, instant_of("Start of the period.")]
    to_date: Annotated[str, instant_of("Last second of the period.")]
    currency: Currency
    events_count: Annotated[int, says("Events that came in too late.")]
    units: Annotated[str, text_of_number("Units more than were billed.")]
    amount_cents: Annotated[int, says("Amount more than was billed, before taxes.")]
    is_charge_changed: Annotated[bool, says("Whether the charge's prices have changed since the invoice.")]
    lines: Annotated[list[LateUsageLine], says("The difference by price and group.")]
    lago_adjusting_invoice_id: Annotated[UUID | None, says("The invoice that bills it.")]
    adjusting_invoice_number: Annotated[str | None, says("Number of the invoice that bills it.")]
    reason: Annotated[str | None, says("Why it isn't billed.")]
    lago_api_key_id: Annotated[UUID | None, says("The API key that decided; null from the web admin.")]
    decided_at: Annotated[str | None, instant_of("When it was decided.")]
    created_at: CreatedAt
    updated_at: UpdatedAt


class LateUsageAcceptance(Input):
    """Why late usage isn't billed."""

    reason: Annotated[str, says("The reason.")]
