"""Fees: the lines of invoices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Currency,
    ExternalCustomerId,
    GroupedBy,
    Input,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.api.objects.tax import FeeAppliedTax

PAYMENT_STATUSES = ("pending", "succeeded", "failed", "refunded")
FilterValues = Annotated[
    Mapping[str, list[str]] | None, says("Dimension values of the filter that set the price.")
]
TrueUp = Annotated[UUID | None, says("The fee that tops this one up to its charge's minimum.")]
TrueUpParent = Annotated[UUID | None, says("The fee that this one tops up to the charge's minimum.")]
ChargeId = Annotated[UUID | None, says("The charge; null for a subscription fee.")]
ChargeFilterId = Annotated[UUID | None, says("The charge filter that set the price.")]
SubscriptionId = Annotated[UUID | None, says("The subscription.")]
SubscriptionName = Annotated[str | None, says("Your identifier of the subscription.")]
SucceededAt = Annotated[str | None, instant_of("When it was paid.")]
FailedAt = Annotated[str | None, instant_of("When its payment failed.")]
RefundedAt = Annotated[str | None, instant_of("When it was refunded.")]
PaymentStatus = Annotated[str, one_of(*PAYMENT_STATUSES, says="Whether it is paid.")]
Details = Annotated[
    Mapping[str, Any],
    says(
        "How the amount came about, in the form of the charge model; empty where there is nothing to explain."
    ),
]


class FeeItem(Answer):
    """What a fee is for."""

    type: Annotated[str, says("charge, subscription, ...", example="charge")]
    code: Annotated[str | None, says("Code of the metric, the add-on or the plan.")]
    name: Annotated[str | None, says("Name of the metric or the plan.")]
    description: Annotated[str | None, says("Description of the metric or the plan.")]
    invoice_display_name: Annotated[str | None, says("Its name on invoices.")]
    filters: FilterValues
    filter_invoice_display_name: Annotated[
        str | None, says("The filter's name on invoices, else its values.")
    ]
    lago_item_id: Annotated[
        UUID | None, says("The metric, the add-on, the subscription or the wallet's transaction.")
    ]
    item_type: Annotated[
        str,
        one_of(
            "BillableMetric", "AddOn", "Subscription", "WalletTransaction", says="What lago_item_id names."
        ),
    ]
    grouped_by: GroupedBy


class PresentationBreakdown(Answer):
    """Units by event properties that are shown and don't change the price."""

    presentation_by: Annotated[dict[str, str | None], says("Property -> value.")]
    units: Annotated[str, text_of_number("Units with these values.")]


class Fee(Answer):
    """A line of an invoice, or a fee in advance that has none."""

    lago_id: Annotated[UUID | None, says("The server's own identifier; null for an estimate.")]
    lago_charge_id: ChargeId
    lago_charge_filter_id: ChargeFilterId
    lago_fixed_charge_id: Annotated[UUID | None, says("The fixed charge, if it is of one.")]
    lago_invoice_id: Annotated[UUID | None, says("The invoice, if it is on one.")]
    lago_true_up_fee_id: TrueUp
    lago_true_up_parent_fee_id: TrueUpParent
    lago_original_fee_id: Annotated[UUID | None, says("The fee of a voided invoice that it bills again.")]
    lago_late_usage_id: Annotated[UUID | None, says("The late usage that it bills.")]
    lago_subscription_id: SubscriptionId
    external_subscription_id: SubscriptionName
    lago_customer_id: Annotated[UUID, says("The customer.")]
    external_customer_id: ExternalCustomerId
    invoice_display_name: Annotated[str | None, says("Name of its line on the invoice.")]
    item: Annotated[FeeItem, says("What it is for.")]
    pay_in_advance: Annotated[bool, says("Whether it was billed in advance.")]
    invoiceable: Annotated[bool, says("Whether it belongs on an invoice.")]
    amount_cents: Annotated[int, says("Amount before taxes, in the currency's smallest unit.")]
    amount_currency: Currency
    precise_amount: Annotated[str, text_of_number("Amount before taxes in major units, not rounded.")]
    precise_total_amount: Annotated[str, text_of_number("Amount with taxes in major units, not rounded.")]
    taxes_amount_cents: Annotated[int, says("Taxes in the currency's smallest unit.")]
    taxes_precise_amount: Annotated[str, text_of_number("Taxes in major units, not rounded.")]
    taxes_rate: Annotated[float, says("Sum of the tax percentages.")]
    total_aggregated_units: Annotated[
        str | None, text_of_number("Units with those that carry over from earlier periods.")
    ]
    total_amount_cents: Annotated[int, says("Amount with taxes, in the currency's smallest unit.")]
    total_amount_currency: Currency
    units: Annotated[str, text_of_number("Units that are billed.")]
    precise_unit_amount: Annotated[str, text_of_number("Price of one unit in major units.")]
    precise_coupons_amount_cents: Annotated[
        str, text_of_number("Discounts, in the smallest unit.", example="0.0")
    ]
    sub_total_excluding_taxes_amount_cents: Annotated[int, says("Amount less discounts, before taxes.")]
    sub_total_excluding_taxes_precise_amount_cents: Annotated[
        str, text_of_number("Amount less discounts, before taxes, not rounded.")
    ]
    description: Annotated[str | None, says("Description.")]
    events_count: Annotated[int | None, says("Number of events in the units.")]
    is_unpriced: Annotated[bool, says("Whether its usage had no price when it was billed.")]
    payment_status: PaymentStatus
    created_at: Annotated[str | None, instant_of("When it was created; null for an estimate.")]
    succeeded_at: SucceededAt
    failed_at: FailedAt
    refunded_at: RefundedAt
    amount_details: Details
    self_billed: Annotated[bool, says("Whether it is issued in a partner's name.")]
    pricing_unit_details: Annotated[
        Mapping[str, Any] | None, says("What it comes to in the charge's pricing unit, if it has one.")
    ]
    presentation_breakdowns: Annotated[
        list[PresentationBreakdown], says("Its units by properties that are only shown.")
    ]
    from_date: Annotated[str | None, instant_of("Start of the period that it is for, with +00:00.")]
    to_date: Annotated[str | None, instant_of("Last second of that period, with +00:00.")]
    event_transaction_id: Annotated[str | None, says("The event that a fee in advance is for.")]
    applied_taxes: Annotated[list[FeeAppliedTax], says("Taxes on it.")]


class InstantFee(Answer):
    """What an event would cost, each event by itself and before taxes."""

    lago_id: Annotated[None, says("Always null: nothing is stored.")]
    lago_charge_id: ChargeId
    lago_charge_filter_id: ChargeFilterId
    lago_invoice_id: Annotated[None, says("Always null: nothing is stored.")]
    lago_true_up_fee_id: Annotated[None, says("Always null.")]
    lago_true_up_parent_fee_id: Annotated[None, says("Always null.")]
    lago_subscription_id: SubscriptionId
    external_subscription_id: SubscriptionName
    lago_customer_id: Annotated[UUID, says("The customer.")]
    external_customer_id: ExternalCustomerId
    item: Annotated[FeeItem, says("What it is for.")]
    pay_in_advance: Annotated[bool, says("Always true.")]
    invoiceable: Annotated[bool, says("Whether the fee would belong on an invoice.")]
    amount_cents: Annotated[str, text_of_number("Rounded amount in the currency's smallest unit, as text.")]
    amount_currency: Currency
    precise_amount: Annotated[str, text_of_number("Amount in major units, not rounded.")]
    precise_total_amount: Annotated[str, text_of_number("The same.")]
    taxes_amount_cents: Annotated[int, says("Always 0.")]
    taxes_precise_amount: Annotated[str, text_of_number("Always 0.0.", example="0.0")]
    taxes_rate: Annotated[int, says("Always 0.")]
    total_amount_cents: Annotated[str, text_of_number("The same as amount_cents.")]
    total_amount_currency: Currency
    units: Annotated[str, text_of_number("Units of the event.")]
    description: Annotated[None, says("Always null.")]
    precise_unit_amount: Annotated[str, text_of_number("Price of one unit in the currency's smallest unit.")]
    precise_coupons_amount_cents: Annotated[str, text_of_number("Always 0.0.", example="0.0")]
    events_count: Annotated[int, says("Always 1.")]
    payment_status: PaymentStatus
    created_at: Annotated[None, says("Always null.")]
    succeeded_at: Annotated[None, says("Always null.")]
    failed_at: Annotated[None, says("Always null.")]
    refunded_at: Annotated[None, says("Always null.")]
    amount_details: Details
    event_transaction_id: Annotated[str | None, says("transaction_id of the event.")]


class FeeUpdate(Input):
    """What can change of a fee without an invoice."""

    payment_status: PaymentStatus
