"""Which taxes apply to a fee: those of its charge, else of its plan, the customer or the billing entity.

Source: semantics-billing.md section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable

from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import version_at, versions_of
from permille.core.customer import Customer
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.tax import Tax, applicable

TaxChoice = Callable[[Fee], tuple[Tax, ...]]


def taxes_of_charge(charge: Charge, plan: Plan, customer: Customer) -> tuple[Tax, ...]:
    """The taxes that apply to the fees of a charge of the plan."""
    return applicable(charge.taxes, _general_taxes(plan, customer))


def _general_taxes(plan: Plan | None, customer: Customer) -> tuple[Tax, ...]:
    return applicable(plan.taxes if plan else (), customer.taxes, customer.billing_entity.taxes)


def tax_choice(plan: Plan | None, customer: Customer) -> TaxChoice:
    """Which taxes apply to a fee of the plan, or of none: its charge's in the version of its period, else the general ones."""
    general = _general_taxes(plan, customer)
    if plan is None or not any(charge.taxes for each in versions_of(plan) for charge in each.charges):
        return lambda _: general
    of_version: list[dict[Id, tuple[Tax, ...]]] = [
        {charge.id: charge.taxes for charge in each.charges if charge.taxes} for each in versions_of(plan)
    ]
    return lambda fee: of_version[version_at(plan, fee.from_)].get(fee.charge_id, general)
