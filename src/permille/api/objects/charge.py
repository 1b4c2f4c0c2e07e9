"""Charges: prices of metrics, and their filters."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    DimensionValues,
    DisplayName,
    Id,
    Input,
    Properties,
    one_of,
    says,
)
from permille.api.objects.pricing_unit import AppliedPricingUnit
from permille.api.objects.tax import Tax
from permille.core.rating.models import ChargeModel
from permille.core.rating.rounding import Rounding
from permille.core.rating.unlisted import UnlistedValues

Model = Annotated[str, one_of(*ChargeModel, says="How units become an amount.")]


class ChargeFilter(Answer):
    """The price of some dimension values of a charge's metric."""

    lago_id: Id
    charge_code: Annotated[str, says("Code of the charge.")]
    invoice_display_name: DisplayName
    properties: Properties
    values: DimensionValues


AcceptsTargetWallet = Annotated[
    bool,
    says("Whether usage may name the wallet that pays for it, in the event's property `target_wallet_code`."),
]


class Charge(Answer):
    """The price of a metric in a plan."""

    lago_id: Id
    lago_billable_metric_id: Annotated[UUID, says("The metric that is priced.")]
    code: Code
    invoice_display_name: DisplayName
    billable_metric_code: Annotated[str, says("Code of the metric that is priced.", example="tokens")]
    created_at: CreatedAt
    charge_model: Model
    invoiceable: Annotated[bool, says("Whether fees in advance get an invoice.")]
    regroup_paid_fees: Annotated[
        str | None, one_of("invoice", None, says="Whether paid fees in advance are put on an invoice later.")
    ]
    pay_in_advance: Annotated[bool, says("Whether each event is billed at once.")]
    prorated: Annotated[
        bool, says("Whether units are weighted by the part of the period that they were used.")
    ]
    min_amount_cents: Annotated[int, says("Minimum charge for a period, in the smallest unit.")]
    accepts_target_wallet: AcceptsTargetWallet
    unlisted_values: Annotated[
        str, one_of(*UnlistedValues, says="What is done with usage that no filter lists.")
    ]
    rounding: Annotated[
        str, one_of(*Rounding, says="What is rounded to cents: each fee, or all fees together.")
    ]
    properties: Properties
    applied_pricing_unit: Annotated[
        AppliedPricingUnit | None, says("The unit that it is priced in instead of money.")
    ]
    lago_parent_id: Annotated[
        UUID | None, says("The charge that this one, of a single subscription, is a copy of.")
    ]
    filters: Annotated[
        list[ChargeFilter], says("Prices of single dimension values; the most specific match wins.")
    ]
    taxes: Annotated[list[Tax], says("Taxes of its fees; without any, the plan's apply.")]


class AppliedPricingUnitInput(Input):
    """The unit that a charge is priced in."""

    code: Annotated[str, says("Code of the pricing unit.")]
    conversion_rate: Annotated[str | float, says("What one unit is in the plan's currency.", example="0.01")]


class ChargeFilterInput(Input):
    """The price of some dimension values."""

    invoice_display_name: DisplayName
    properties: Properties
    values: DimensionValues


class ChargeInput(Input):
    """Fields of a charge. Once somebody is subscribed only names, prices and taxes change."""

    id: Annotated[UUID, says("In a plan's list: lago_id of a charge that is changed.")]
    billable_metric_id: Annotated[UUID, says("The metric that is priced.")]
    code: Code
    invoice_display_name: DisplayName
    charge_model: Model
    pay_in_advance: Annotated[bool, says("Whether each event is billed at once.")]
    prorated: Annotated[bool, says("Whether units are weighted by the time that they were used.")]
    invoiceable: Annotated[bool, says("Whether fees in advance get an invoice.")]
    regroup_paid_fees: Annotated[
        str | None, one_of("invoice", None, says="Whether paid fees in advance are put on an invoice later.")
    ]
    min_amount_cents: Annotated[int, says("Minimum charge for a period, in the smallest unit.")]
    accepts_target_wallet: AcceptsTargetWallet
    unlisted_values: Annotated[
        str, one_of(*UnlistedValues, says="What is done with usage that no filter lists.")
    ]
    rounding: Annotated[str, one_of(*Rounding, says="What is rounded to cents: each fee, or all together.")]
    properties: Properties
    filters: Annotated[list[ChargeFilterInput], says("All prices of single dimension values.")]
    applied_pricing_unit: Annotated[AppliedPricingUnitInput | None, says("The unit that it is priced in.")]
    tax_codes: Annotated[list[str], says("Codes of the taxes of its fees.")]
    cascade_updates: Annotated[bool, says("Whether plans of single subscriptions follow.")]
