"""The fee: a priced line of an invoice. Source: semantics-metering.md section 5.15."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from permille.core.fee_kind import FeeKind
from permille.core.money import ZERO, LineAmounts
from permille.core.period import Period
from permille.core.rating.filters import Id
from permille.core.rating.pricing_unit import InUnit, Owed
from permille.core.rating.rounding import Earlier, Rounding, carry_on
from permille.core.record import Record, replace

_REMEMBERED = 4096


class Breakdown(Record, kw_only=True):
    """Units of a fee by properties that only show. A missing one is an empty text: Lago's clients take no null."""

    presentation_by: Mapping[str, str]
    units: Decimal


class Presentation(Record, kw_only=True):
    """How a fee is shown (semantics-metering.md section 4.5); its invoice shows some of the properties alone."""

    breakdowns: tuple[Breakdown, ...]
    on_invoice: tuple[str, ...]


class Fee(Record, kw_only=True):
    """A line of an invoice before it has an identity, taxes and credits. Instants are half-open."""

    kind: FeeKind
    subscription_id: Id | None
    charge_id: Id | None
    charge_filter_id: Id | None
    invoice_display_name: str | None
    """The filter's own name, for the default bucket the charge's."""
    units: Decimal
    events_count: int | None
    total_aggregated_units: Decimal | None
    amount_cents: int
    precise_amount_cents: Decimal
    unit_amount_cents: int
    """Cut off, not rounded, as in Lago."""
    precise_unit_amount: Decimal
    """In major units."""
    amount_details: Mapping[str, Any]
    grouped_by: Mapping[str, str | None]
    from_: datetime
    to: datetime
    pay_in_advance: bool = False
    """Whether an event made it, or a renewal, ahead of the period's end."""
    event_transaction_id: str | None = None
    """The transaction id of the event that made it."""
    is_true_up: bool = False
    """Whether it is what the charge's other fees lack of its minimum charge."""
    in_unit: InUnit | None = None
    """What the money was converted from, where the charge is priced in a unit."""
    presentation: Presentation | None = None
    """None where the charge has no such properties."""
    is_unpriced: bool = False
    """Whether it is usage that no filter lists and that has no price."""
    is_held: bool = False
    """Whether its invoice waits until that usage has one."""
    late_usage_id: Id | None = None
    """The late usage that it bills (core.late_usage)."""
    item_id: Id | None = None
    """What it is for where that is neither a charge nor a plan: an add-on, a wallet's transaction, ..."""
    description: str | None = None
    original_id: Id | None = None
    """The fee of a voided invoice that it bills again."""
    own_name: str | None = None
    """Instead of the name of what it is for."""
    rounding: Rounding = Rounding.PER_FEE
    earlier: Earlier | None = None
    """What it carries on from, where the fees of its charge are rounded together one after the other."""

    def of(self, subscription_id: Id) -> Fee:
        """The same fee of another subscription."""
        return replace(self, subscription_id=subscription_id)

    @property
    def owed(self) -> Owed:
        """Its money, and what that was converted from."""
        money = LineAmounts(
            self.amount_cents, self.precise_amount_cents, self.unit_amount_cents, self.precise_unit_amount
        )
        return Owed(money, self.in_unit)

    def owing(self, owed: Owed, *, rounding: Rounding | None = None) -> Fee:
        """The fee with other amounts, rounded as before unless it is said otherwise."""
        amount_cents, precise_cents, _, _ = owed.money
        return replace(
            self,
            amount_cents=amount_cents,
            precise_amount_cents=precise_cents,
            in_unit=owed.in_unit,
            rounding=rounding or self.rounding,
        )

    @property
    def priced_cents(self) -> tuple[int, Decimal]:
        """Whole and precise, in hundredths of the charge's unit where it has one."""
        if self.in_unit is None:
            return self.amount_cents, self.precise_amount_cents
        return self.in_unit.amounts.amount_cents, self.in_unit.amounts.precise_amount_cents

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing in it: invoices leave such a fee out, usage shows it."""
        return not (self.units or self.amount_cents or self.events_count)


@lru_cache(maxsize=_REMEMBERED)
def fee_like(
    kind: FeeKind,
    *,
    charge_id: Id | None = None,
    charge_filter_id: Id | None = None,
    name: str | None,
    units: Decimal = ZERO,
    period: Period,
) -> Fee:
    """What fees of the same kind, source, name and period are alike in: nobody owes it, and it comes to nothing."""
    return Fee(
        kind=kind,
        subscription_id=None,
        charge_id=charge_id,
        charge_filter_id=charge_filter_id,
        invoice_display_name=name,
        units=units,
        events_count=None,
        total_aggregated_units=None,
        amount_cents=0,
        precise_amount_cents=ZERO,
        unit_amount_cents=0,
        precise_unit_amount=ZERO,
        amount_details={},
        grouped_by={},
        from_=period.from_,
        to=period.to,
    )


def carry_fee_on(fee: Fee, earlier: Earlier, *, per_unit: int) -> Fee:
    """A fee of a charge that is rounded with those before it."""
    line = carry_on(fee.owed, earlier, per_unit=per_unit)
    return replace(fee.owing(line, rounding=Rounding.PER_CHARGE), earlier=earlier)
