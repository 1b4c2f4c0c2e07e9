"""Fixed charges paid in advance whose units change at once: what is more than was billed of the running period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.money import ZERO
from permille.core.period import Period
from permille.core.rating.fee import Fee
from permille.core.rating.fixed_charge import FixedPeriod, fee_in_advance
from permille.core.record import Record, replace
from permille.store import customers, fixed_charges
from permille.usecases import holds
from permille.usecases.invoices.run import bill_in_advance, units_draft


class ChangedUnits(Record, kw_only=True):
    """Fixed charges paid in advance, with the units that a subscription has of them now."""

    row: Subscription
    plan: Plan
    customer: Customer
    whole: Period
    """The period that runs."""
    charges: Sequence[FixedCharge]


def bill_units(conn: Connection[Any], changed: Sequence[ChangedUnits], *, now: datetime) -> None:
    """Bill each subscription on one invoice. Fewer units than were billed cost nothing and give nothing back.

    Raises Unbillable.
    """
    if not changed:
        return
    customers.lock_all(conn, {each.customer.id for each in changed})
    billed = fixed_charges.units_billed(conn, {each.row.id for each in changed}, at=now)
    with holds.refusing_unbillable():
        bill_in_advance(
            conn,
            [
                units_draft(
                    each.row,
                    each.plan,
                    each.customer,
                    [
                        (_difference(each, charge, _billed(billed, each.row.id, charge), now), charge.taxes)
                        for charge in each.charges
                    ],
                    at=now,
                )
                for each in changed
            ],
        )


def _billed(billed: dict[tuple[UUID, UUID], Decimal], row_id: UUID, charge: FixedCharge) -> Decimal:
    return sum((billed.get((row_id, charge_id), ZERO) for charge_id in charge.ids), ZERO)


def _difference(each: ChangedUnits, charge: FixedCharge, billed: Decimal, now: datetime) -> Fee:
    """The fee for the units that are not billed yet, by the days that are left where they are prorated."""
    begins = max(each.whole.from_, each.row.started_at or each.whole.from_)
    fee = fee_in_advance(
        charge.price(each.plan.amount_currency),
        max(charge.units - billed, ZERO),
        FixedPeriod(
            whole=each.whole,
            part=Period(max(begins, now), each.whole.to),
            timezone=each.customer.applicable_timezone,
        ),
        subscription_id=each.row.id,
    )
    return replace(fee, from_=begins)
