"""Fixed charges: quantities of add-ons in every period of a plan."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import (
    Answer,
    Code,
    CreatedAt,
    DisplayName,
    Id,
    Input,
    Number,
    Properties,
    one_of,
    says,
)
from permille.api.objects.tax import Tax
from permille.core.contract.fixed_charge import MODELS

Model = Annotated[str, one_of(*MODELS, says="How units become an amount.")]
PayInAdvance = Annotated[bool, says("Whether it is billed at the start of the period instead of the end.")]
Prorated = Annotated[bool, says("Whether only the days are billed on which the units were there.")]


class FixedCharge(Answer):
    """So many units of an add-on in every period."""

    lago_id: Id
    lago_add_on_id: Annotated[UUID, says("The add-on that is sold.")]
    code: Code
    invoice_display_name: Annotated[
        str, says("Name shown on invoices; an empty text where it is the add-on's.")
    ]
    add_on_code: Annotated[str, says("Code of the add-on that is sold.", example="seat")]
    created_at: CreatedAt
    charge_model: Model
    pay_in_advance: PayInAdvance
    prorated: Prorated
    properties: Properties
    units: Annotated[Number, says("Units in every period; of a subscription, its own where it has some.")]
    lago_parent_id: Annotated[
        UUID | None, says("The fixed charge that this one, of a single subscription, is a copy of.")
    ]
    taxes: Annotated[list[Tax], says("Taxes of its fees; without any, the plan's apply.")]


class OwnFixedCharge(Input):
    """What one subscription can have of its own. Units alone are kept beside the plan; anything else makes a plan of its own."""

    invoice_display_name: DisplayName
    units: Annotated[float | str, says("Units in every period.", example=10)]
    apply_units_immediately: Annotated[
        bool,
        says(
            "Whether other units count from now on, not from the next period; what is more is billed at once."
        ),
    ]
    properties: Properties
    tax_codes: Annotated[list[str], says("Codes of the taxes of its fees.")]


class FixedChargeInput(OwnFixedCharge):
    """Fields of a fixed charge. Once somebody is subscribed its model and when it is billed stay as they are."""

    id: Annotated[UUID, says("In a plan's list: lago_id of a fixed charge that is changed.")]
    add_on_id: Annotated[UUID, says("lago_id of the add-on that is sold; or say its code.")]
    add_on_code: Annotated[str, says("Code of the add-on that is sold.", example="seat")]
    code: Code
    charge_model: Model
    pay_in_advance: PayInAdvance
    prorated: Prorated
    cascade_updates: Annotated[bool, says("Whether plans of single subscriptions follow.")]
