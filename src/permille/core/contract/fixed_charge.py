"""Fixed charges of a plan: quantities of add-ons that every period costs, without events. semantics-billing.md section 6.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from permille.core.add_on import AddOn
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.rating.fixed_charge import (
    FixedPeriod,
    FixedPrice,
    UnitsChange,
    fee_in_advance,
    fee_in_arrears,
    units_at,
)
from permille.core.rating.models import ChargeModel
from permille.core.record import Record
from permille.core.tax import Tax

MODELS = (ChargeModel.STANDARD, ChargeModel.GRADUATED, ChargeModel.VOLUME)
"""The charge models that price units alone."""


class FixedCharge(Record, kw_only=True):
    """So many units of an add-on in every period of a plan."""

    id: UUID
    plan_id: UUID
    parent_id: UUID | None
    add_on: AddOn
    code: str
    invoice_display_name: str | None
    charge_model: ChargeModel
    pay_in_advance: bool
    prorated: bool
    """Whether only the days are billed on which the units were there."""
    properties: Mapping[str, Any]
    units: Decimal
    created_at: datetime
    taxes: tuple[Tax, ...] = ()
    """Instead of the plan's."""

    @property
    def ids(self) -> tuple[UUID, ...]:
        """Its own id and that of the charge it is a copy of: what was billed of either is billed of it."""
        return (self.id,) if self.parent_id is None else (self.id, self.parent_id)

    @property
    def display_name(self) -> str:
        """What its fees are called."""
        return self.invoice_display_name or self.add_on.invoice_display_name or self.add_on.name

    def changes(self, known: Mapping[UUID, Sequence[UnitsChange]], *, since: datetime) -> list[UnitsChange]:
        """The units of a subscription in the order in which they were set; the plan's where it never ran."""
        found = [change for charge_id in reversed(self.ids) for change in known.get(charge_id, ())]
        return found or [UnitsChange(self.units, since)]

    def next_fee(
        self,
        changes: Sequence[UnitsChange],
        *,
        running: FixedPeriod,
        following: FixedPeriod,
        currency: str,
        subscription_id: Id,
    ) -> Fee:
        """What is billed at the end of the running period: for it or, in advance, for the one that follows."""
        price = self.price(currency)
        if self.pay_in_advance:
            units = units_at(changes, following.part.from_)
            return fee_in_advance(price, units, following, subscription_id=subscription_id)
        return fee_in_arrears(price, changes, running, subscription_id=subscription_id)

    def price(self, currency: str) -> FixedPrice:
        """What its units cost."""
        return FixedPrice(
            id=self.id,
            model=self.charge_model,
            properties=self.properties,
            pay_in_advance=self.pay_in_advance,
            prorated=self.prorated,
            currency=currency,
            invoice_display_name=self.display_name,
        )


def incompatibilities(charge: FixedCharge) -> list[tuple[str, str]]:
    """What does not go together in a fixed charge, as (field, code)."""
    found = []
    if charge.pay_in_advance and charge.charge_model == ChargeModel.VOLUME:
        found.append(("pay_in_advance", "invalid_charge_model"))
    if charge.pay_in_advance and charge.prorated and charge.charge_model == ChargeModel.GRADUATED:
        found.append(("prorated", "invalid_charge_model"))
    return found
