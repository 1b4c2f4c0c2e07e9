"""Where a fee comes from: its formula, its price and its events."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Currency,
    DimensionValues,
    DisplayName,
    GroupedBy,
    Id,
    instant_of,
    says,
    text_of_number,
)
from permille.api.objects.event import Amendment, EventDetails


class MatchedFilter(Answer):
    """The charge filter that set the price."""

    lago_id: Id
    invoice_display_name: DisplayName
    values: DimensionValues


class FormulaStep(Answer):
    """A term of the amount."""

    text: Annotated[str, says("The term in words.")]
    amount: Annotated[str, text_of_number("What it adds.")]


class FeeEvents(Answer):
    """The events in a fee."""

    count: Annotated[int, says("Events that count now.")]
    count_on_fee: Annotated[int | None, says("Events that counted when it was billed.")]
    digest: Annotated[str, says("Checksum of the events: the same for the same events.")]
    page: Annotated[list[EventDetails], says("A page of them, oldest first.")]
    next_cursor: Annotated[str | None, says("Send it as cursor for the next page; null on the last one.")]


class RecomputedFee(Answer):
    """What the fee comes to now."""

    amount_cents: Annotated[int, says("Amount before taxes.")]
    units: Annotated[str, text_of_number("Units.")]
    events_count: Annotated[int | None, says("Number of events.")]
    is_same: Annotated[bool | None, says("Whether it is what was billed.")]


class FeeExplanation(Answer):
    """Where a fee comes from."""

    lago_fee_id: Annotated[UUID, says("The fee.")]
    amount_cents: Annotated[int, says("Its amount before taxes.")]
    amount_currency: Currency
    units: Annotated[str, text_of_number("Its units.")]
    from_datetime: Annotated[str | None, instant_of("Start of its period.")]
    to_datetime: Annotated[str | None, instant_of("Last second of its period.")]
    billable_metric_code: Annotated[str | None, says("Code of the metric; null for a subscription fee.")]
    aggregation_type: Annotated[str | None, says("How events became units.")]
    recurring: Annotated[bool | None, says("Whether units carry over into the next period.")]
    charge_model: Annotated[str | None, says("How units became an amount.")]
    filter: Annotated[MatchedFilter | None, says("The filter that set the price.")]
    grouped_by: GroupedBy
    formula: Annotated[list[FormulaStep], says("Terms that add up to the amount.")]
    events: Annotated[FeeEvents | None, says("Its events; null where it has none of its own.")]
    recomputed: Annotated[RecomputedFee | None, says("What it comes to now; null for a subscription fee.")]
    amendments: Annotated[list[Amendment], says("Corrections of its events.")]
