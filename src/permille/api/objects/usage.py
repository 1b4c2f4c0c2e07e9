"""Usage: of the running period, of billed ones, by day, and of a whole life."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, UnsetType

from permille.api.objects.base import (
    Answer,
    Code,
    Currency,
    DisplayName,
    ExternalSubscriptionId,
    GroupedBy,
    Id,
    Input,
    Name,
    instant_of,
    says,
    text_of_number,
)
from permille.api.objects.billable_metric import AggregationType
from permille.api.objects.charge import Model
from permille.api.objects.fee import PresentationBreakdown
from permille.api.objects.pricing_unit import UsageInPricingUnit
from permille.api.objects.threshold import LifetimeUsageThreshold

Units = Annotated[str, text_of_number("Units that are billed.")]
EventsCount = Annotated[int, says("Number of events.")]
From = Annotated[str, instant_of("Start of the period.")]
To = Annotated[str, instant_of("Last second of the period.")]
Projected = " Only in projected usage."


class UsageSums(Answer, kw_only=True):
    """Units and amounts that add up in every part of an answer about usage."""

    units: Units
    total_aggregated_units: Annotated[
        str | UnsetType,
        text_of_number("Units with those that carry over from earlier periods. Not in projected usage."),
    ] = UNSET
    projected_units: Annotated[
        str | UnsetType, text_of_number(f"Units at the period's end at this pace.{Projected}")
    ] = UNSET
    projected_amount_cents: Annotated[
        int | UnsetType, says(f"Amount at the period's end at this pace.{Projected}")
    ] = UNSET
    events_count: EventsCount
    amount_cents: Annotated[int, says("Amount before taxes, in the currency's smallest unit.")]
    pricing_unit_details: Annotated[
        UsageInPricingUnit | None, says("What it comes to in the charge's pricing unit, if it has one.")
    ]
    unpriced_units: Annotated[str, text_of_number("Units that have no price.")]
    presentation_breakdowns: Annotated[
        list[PresentationBreakdown], says("Units by properties that are only shown.")
    ]
    projected_presentation_breakdowns: Annotated[
        list[PresentationBreakdown] | UnsetType, says(f"The same at the period's end.{Projected}")
    ] = UNSET


class FilterUsage(UsageSums, kw_only=True):
    """Usage of one filter of a charge, or at the charge's own price."""

    invoice_display_name: DisplayName
    values: Annotated[
        Mapping[str, list[str]] | None,
        says("Dimension values of the filter; null, or in projected usage empty, at the charge's own price."),
    ]


class GroupUsage(UsageSums, kw_only=True):
    """Usage of one pricing group."""

    grouped_by: GroupedBy
    filters: Annotated[list[FilterUsage], says("The group's usage by filter; empty without filters.")]


class UsedCharge(Answer, kw_only=True):
    """The charge that usage is priced by."""

    lago_id: Id
    code: Annotated[str | UnsetType, says("Code of the charge. Not in projected usage.")] = UNSET
    charge_model: Model
    invoice_display_name: DisplayName


class UsedMetric(Answer):
    """The metric that is used."""

    lago_id: Id
    name: Name
    code: Code
    aggregation_type: AggregationType


class ChargeUsage(UsageSums, kw_only=True):
    """Usage of one charge."""

    amount_currency: Currency
    charge: Annotated[UsedCharge, says("The charge.")]
    billable_metric: Annotated[UsedMetric, says("The metric.")]
    filters: Annotated[list[FilterUsage], says("Usage by filter; empty without filters.")]
    grouped_usage: Annotated[list[GroupUsage], says("Usage by pricing group; empty without grouping.")]


class Usage(Answer, kw_only=True):
    """Usage of a subscription in a period, priced."""

    from_datetime: From
    to_datetime: To
    issuing_date: Annotated[dt.date, says("Date of the invoice that will bill it.")]
    currency: Currency
    amount_cents: Annotated[int, says("Amount before taxes, in the currency's smallest unit.")]
    projected_amount_cents: Annotated[
        int | UnsetType, says(f"Amount at the period's end at this pace.{Projected}")
    ] = UNSET
    taxes_amount_cents: Annotated[int, says("Taxes, in the currency's smallest unit.")]
    total_amount_cents: Annotated[int, says("Amount with taxes, in the currency's smallest unit.")]
    lago_invoice_id: Annotated[UUID | None, says("The invoice, if the period is billed.")]
    charges_usage: Annotated[list[ChargeUsage], says("Usage by charge.")]


class Counted(Answer):
    """Units and the events in them."""

    units: Units
    events_count: EventsCount


class DailyLine(Counted):
    """Usage of a day by filter and pricing group."""

    lago_charge_filter_id: Annotated[UUID | None, says("The filter; null at the charge's own price.")]
    invoice_display_name: DisplayName
    values: Annotated[Mapping[str, list[str]] | None, says("Dimension values of the filter.")]
    grouped_by: GroupedBy


class DailyChargeUsage(Counted):
    """Usage of one charge on a day."""

    charge: Annotated[UsedCharge, says("The charge.")]
    billable_metric: Annotated[UsedMetric, says("The metric.")]
    breakdown: Annotated[list[DailyLine], says("The day's usage by filter and pricing group.")]


class DailyUsage(Answer):
    """Usage of a subscription on a day of its customer's timezone."""

    date: Annotated[dt.date, says("The day.")]
    from_datetime: From
    to_datetime: To
    charges_usage: Annotated[list[DailyChargeUsage], says("Usage by charge.")]


class LifetimeUsage(Answer):
    """What a subscription has used since its start, before taxes."""

    lago_id: Id
    lago_subscription_id: Annotated[UUID, says("The subscription.")]
    external_subscription_id: ExternalSubscriptionId
    external_historical_usage_amount_cents: Annotated[int, says("What it used before it came here.")]
    invoiced_usage_amount_cents: Annotated[int, says("Usage on invoices.")]
    current_usage_amount_cents: Annotated[int, says("Usage of the running period.")]
    from_datetime: Annotated[str | None, instant_of("When it started.")]
    to_datetime: Annotated[str, instant_of("Up to when usage is counted.")]
    usage_thresholds: Annotated[
        list[LifetimeUsageThreshold], says("How far it has come towards its usage thresholds.")
    ]


class LifetimeUsageInput(Input):
    """What can change of lifetime usage."""

    external_historical_usage_amount_cents: Annotated[int, says("What it used before it came here.")]
