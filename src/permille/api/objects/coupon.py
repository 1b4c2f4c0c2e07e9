"""Coupons, and coupons that customers have."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    Description,
    ExternalCustomerId,
    Id,
    Input,
    Name,
    instant_of,
    one_of,
    says,
    text_of_number,
)
from permille.api.objects.invoice import InvoiceCredit
from permille.core.coupon import CouponStatus, CouponType, Expiration, Frequency

Kind = Annotated[str, one_of(*CouponType, says="How the discount is stated.")]
AmountCents = Annotated[int | None, says("Discount in the currency's smallest unit, of a fixed_amount.")]
AmountCurrency = Annotated[str | None, says("Currency of a fixed_amount (ISO 4217).", example="EUR")]
PercentageRate = Annotated[
    str | None, text_of_number("Discount of a percentage, above 0 and up to 100.", example="12.5")
]
HowOften = Annotated[str, one_of(*Frequency, says="How often it takes something off a customer's invoices.")]
FrequencyDuration = Annotated[int | None, says("On how many invoices, of a recurring coupon.")]
ExpirationAt = Annotated[str | None, instant_of("From when on it can't be applied any more.")]


class Coupon(Answer, kw_only=True):
    """A coupon that can be applied to customers."""

    lago_id: Id
    name: Name
    code: Code
    description: Description
    coupon_type: Kind
    amount_cents: AmountCents
    amount_currency: AmountCurrency
    percentage_rate: PercentageRate
    frequency: HowOften
    frequency_duration: FrequencyDuration
    reusable: Annotated[bool, says("Whether it can be applied more than once.")]
    limited_plans: Annotated[bool, says("Whether it is for the fees of some plans only.")]
    plan_codes: Annotated[list[str], says("Codes of these plans.")]
    limited_billable_metrics: Annotated[bool, says("Whether it is for the fees of some metrics only.")]
    billable_metric_codes: Annotated[list[str], says("Codes of these metrics.")]
    expiration: Annotated[str, one_of(*Expiration, says="Whether it expires.")]
    expiration_at: ExpirationAt
    created_at: CreatedAt
    terminated_at: Annotated[str | None, instant_of("When it expired or was deleted.")]


class AppliedCoupon(Answer, kw_only=True):
    """A coupon that a customer has."""

    lago_id: Id
    lago_coupon_id: Annotated[UUID, says("The coupon.")]
    coupon_code: Annotated[str, says("Code of the coupon.")]
    coupon_name: Annotated[str, says("Name of the coupon.")]
    coupon_description: Annotated[str | None, says("Internal note on the coupon.")]
    coupon_status: Annotated[str, one_of(*CouponStatus, says="Whether the coupon can be applied.")]
    coupon_deleted_at: Annotated[str | None, instant_of("When the coupon was deleted.")]
    lago_customer_id: Annotated[UUID, says("The customer.")]
    external_customer_id: ExternalCustomerId
    status: Annotated[str, one_of(*CouponStatus, says="Whether it takes something off further invoices.")]
    amount_cents: AmountCents
    amount_cents_remaining: Annotated[
        int | None, says("What is left of a fixed_amount that is used once; null for all others.")
    ]
    amount_currency: AmountCurrency
    percentage_rate: PercentageRate
    frequency: HowOften
    frequency_duration: FrequencyDuration
    frequency_duration_remaining: Annotated[
        int | None, says("On how many further invoices, of a recurring coupon.")
    ]
    expiration_at: ExpirationAt
    created_at: CreatedAt
    terminated_at: Annotated[str | None, instant_of("When it was used up or taken from the customer.")]


class AppliedCouponWithCredits(AppliedCoupon, kw_only=True):
    """A coupon that a customer has, with what it took off invoices."""

    credits: Annotated[list[InvoiceCredit], says("What it took off invoices, the earliest first.")]


class CouponLimits(Input):
    """The fees that a coupon is for: those of plans, or those of metrics."""

    plan_codes: Annotated[list[str], says("Codes of plans.")]
    billable_metric_codes: Annotated[list[str], says("Codes of metrics.")]


class CouponInput(Input):
    """Fields of a coupon. One that was applied keeps all but its name, its description and its expiry."""

    name: Name
    code: Code
    description: Description
    coupon_type: Kind
    amount_cents: AmountCents
    amount_currency: AmountCurrency
    percentage_rate: Annotated[float | str | None, says("Percentage, above 0 and up to 100.", example=12.5)]
    frequency: HowOften
    frequency_duration: FrequencyDuration
    reusable: Annotated[bool, says("Whether it can be applied more than once; true by default.")]
    expiration: Annotated[str, one_of(*Expiration, says="Whether it expires.")]
    expiration_at: Annotated[str | None, instant_of("When, if it does; in the future.")]
    applies_to: Annotated[CouponLimits, says("Which fees it is for; all of them by default.")]


class AppliedCouponInput(Input):
    """A coupon for a customer. What isn't given is as the coupon says."""

    external_customer_id: ExternalCustomerId
    coupon_code: Annotated[str, says("Code of the coupon.")]
    amount_cents: AmountCents
    amount_currency: AmountCurrency
    percentage_rate: Annotated[float | str | None, says("Percentage, above 0 and up to 100.", example=12.5)]
    frequency: HowOften
    frequency_duration: FrequencyDuration


class PreviewedCoupon(Input):
    """A coupon that a preview takes off: one of yours by its code, or one that doesn't exist."""

    code: Code
    name: Name
    coupon_type: Kind
    amount_cents: AmountCents
    amount_currency: AmountCurrency
    percentage_rate: Annotated[float | str | None, says("Percentage, above 0 and up to 100.", example=12.5)]
    frequency_duration: FrequencyDuration
