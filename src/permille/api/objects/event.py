"""Events, amendments of events, and what is said of events that came in too late."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from permille.api.objects.base import (
    Answer,
    CreatedAt,
    Currency,
    ExternalSubscriptionId,
    Id,
    Input,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.core.invoice.late_usage import LateUsageStatus
from permille.core.metering.amendment import AmendmentKind

EventCode = Annotated[str, says("Code of the metric that the event counts for.", example="tokens")]
Timestamp = Annotated[str, instant_of("When the usage happened, to the millisecond.")]
PreciseAmount = Annotated[str | None, text_of_number("Amount in cents, for charges of the model dynamic.")]
EventProperties = Annotated[dict[str, Any], says("What happened: values that metrics and prices look at.")]
OptionalSubscriptionId = Annotated[str | None, says("Your identifier of the subscription, if it names one.")]
TransactionId = Annotated[
    str,
    says(
        "Your identifier: sent again, the event counts once. A UUIDv7 or a ULID is stored with the least work.",
        example="0199fedc-ba98-7abc-9def-0123456789ab",
    ),
]


class EventContent(Answer):
    """What an event says."""

    code: EventCode
    timestamp: Timestamp
    precise_total_amount_cents: PreciseAmount
    properties: EventProperties


class Amendment(Answer):
    """A correction of an event: the event is voided or replaced, and both stay on record."""

    lago_id: Id
    transaction_id: TransactionId
    kind: Annotated[str, one_of(*AmendmentKind, says="Whether the event counts no more, or differently.")]
    reason: Annotated[str, says("Why it was corrected.")]
    lago_event_id: Annotated[UUID, says("The event.")]
    event_transaction_id: Annotated[str, says("transaction_id of the event.")]
    external_subscription_id: OptionalSubscriptionId
    replacement: Annotated[EventContent | None, says("What counts instead; null when the event is voided.")]
    lago_api_key_id: Annotated[UUID | None, says("The API key that it came with; null from the web admin.")]
    lago_superseded_by_id: Annotated[
        UUID | None, says("The later amendment that counts instead of this one.")
    ]
    created_at: CreatedAt


class ProposedCreditNote(Answer):
    """What an invoice billed too much, as an amendment makes it come to less."""

    lago_invoice_id: Annotated[UUID | None, says("The invoice; null for a fee without one.")]
    invoice_number: Annotated[str | None, says("Number of the invoice.")]
    lago_fee_id: Annotated[UUID, says("The fee.")]
    currency: Currency
    billed_amount_cents: Annotated[int, says("What was billed before taxes.")]
    recomputed_amount_cents: Annotated[int, says("What it comes to now.")]
    difference_amount_cents: Annotated[int, says("The difference.")]


class AmendmentDetails(Amendment):
    """An amendment with the credit notes that it proposes."""

    proposed_credit_notes: Annotated[
        list[ProposedCreditNote], says("What was billed too much because of it.")
    ]


class TooLate(Answer):
    """Why an event is on no invoice, or on another than its period's."""

    lago_invoice_id: Annotated[UUID | None, says("The invoice that had billed the period.")]
    invoice_number: Annotated[str | None, says("Number of that invoice.")]
    from_date: Annotated[str | None, instant_of("Start of the period.")]
    to_date: Annotated[str | None, instant_of("Last second of the period.")]
    lago_late_usage_id: Annotated[UUID | None, says("The late usage that it is part of.")]
    late_usage_status: Annotated[
        str | None, one_of(*LateUsageStatus, None, says="What was decided on that late usage.")
    ]
    adjusting_invoice_number: Annotated[str | None, says("Number of the invoice that bills it.")]
    reason: Annotated[str | None, says("Why it isn't billed.")]


class AcceptedEvent(Answer):
    """An event as it was taken in."""

    lago_id: Id
    transaction_id: TransactionId
    lago_customer_id: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    code: EventCode
    timestamp: Timestamp
    precise_total_amount_cents: PreciseAmount
    properties: EventProperties
    lago_subscription_id: Annotated[None, says("Always null: kept for clients of Lago's API.")]
    external_subscription_id: OptionalSubscriptionId
    created_at: CreatedAt


class Event(AcceptedEvent):
    """A stored event."""

    amendments: Annotated[list[Amendment], says("Its corrections, oldest first: the last one counts.")]


class EventDetails(Event):
    """A stored event, and whether it is billed."""

    too_late: Annotated[
        TooLate | None, says("Why it isn't on its period's invoice; null if it came in time.")
    ]
    unpriced_by: Annotated[list[str], says("Codes of the charges that have no price for its values.")]


Time = Annotated[int | float | str, says("Seconds since 1970, or a date and time; by default now.")]
SentAmount = Annotated[str | int | float | None, says("Amount in cents, for charges of the model dynamic.")]


class EventInput(Input):
    """An event: what a subscription has used."""

    transaction_id: TransactionId
    code: EventCode
    external_subscription_id: ExternalSubscriptionId
    timestamp: Time
    properties: EventProperties
    precise_total_amount_cents: SentAmount


class AmendmentInput(Input):
    """A correction of an event. A replacement repeats only the fields that change."""

    transaction_id: TransactionId
    event_transaction_id: Annotated[str, says("transaction_id of the event.")]
    external_subscription_id: Annotated[str, says("The event's subscription, if several events have the id.")]
    kind: Annotated[str, one_of(*AmendmentKind, says="Whether the event counts no more, or differently.")]
    reason: Annotated[str, says("Why it is corrected.")]
    code: EventCode
    timestamp: Time
    properties: EventProperties
    precise_total_amount_cents: SentAmount


class EventWarning(Answer, kw_only=True):
    """Why an event that was taken in will not count."""

    index: Annotated[int, says("Place of the event in the request, from 0.")]
    transaction_id: TransactionId
    field: Annotated[str, says("What is wrong with it.")]
    code: Annotated[str, says("Stable code for programs.")]
    message: Annotated[str, says("The same in a sentence.")]
    allowed: Annotated[list[str] | UnsetType, says("Values that would count, where they are listed.")] = UNSET
