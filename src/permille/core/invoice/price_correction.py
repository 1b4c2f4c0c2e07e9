"""What a final invoice would come to by corrected prices of the catalogue, and what of its fees comes back for it.

The usage is that of the invoice, or nothing comes back by itself: what came in later is late usage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from permille.core.invoice.late_usage import Line, UsagePlace, usage_by_place, usage_place
from permille.core.record import Record


class CorrectionProblem(StrEnum):
    """Why an invoice can't be corrected without a look at it."""

    CHARGE_GONE = "charge_is_gone"
    CHARGE_CHANGED = "charge_is_changed"
    REGENERATED = "invoice_is_regenerated"
    """It replaces a voided one, with fees that may have been changed by hand."""
    LATE_USAGE = "late_usage"
    USAGE_CHANGED = "usage_is_changed"
    """Events came in, or were amended, since it was billed."""
    UNPRICED = "price_is_gone"
    """The corrected prices have none for some of its usage."""
    COMMITMENT = "minimum_commitment"
    """What comes back of usage may be missing to the plan's minimum then."""
    NOTHING_LEFT = "nothing_left_to_credit"
    """What has become cheaper came back already, by other notes."""


class CorrectionStatus(StrEnum):
    """Who owes whom."""

    EVEN = "even"
    TO_CREDIT = "to_credit"
    CUSTOMER_OWES = "customer_owes"
    """It is shown, and never billed by itself."""
    BY_HAND = "by_hand"
    """There is a problem."""


class BilledLine(Record, kw_only=True):
    """A fee, and what of it has not come back, in cents before taxes and coupons."""

    fee_id: UUID
    line: Line
    left_cents: int


class RepricedCharge(Record, kw_only=True):
    """The fees of a charge in a period, and what they would be."""

    billed: Sequence[BilledLine]
    now: Sequence[Line]

    @property
    def has_same_usage(self) -> bool:
        """Whether it is the usage that was billed."""
        return usage_by_place(each.line for each in self.billed) == usage_by_place(self.now)

    @property
    def lacks_price(self) -> bool:
        """Whether usage that was billed at a price has none now."""
        unpriced = {usage_place(line) for line in self.now if line.is_unpriced}
        return any(each.line.amount_cents and usage_place(each.line) in unpriced for each in self.billed)


class Correction(Record, kw_only=True):
    """What was billed of an invoice, what it would be, and what came back for corrections before; in cents before taxes."""

    billed_cents: int
    corrected_cents: int
    credited_cents: int
    items: Mapping[UUID, int]
    """Fee -> what comes back of it."""
    problem: CorrectionProblem | None = None

    @property
    def difference_cents(self) -> int:
        """What is still to be billed, or below 0: to come back."""
        return self.corrected_cents - self.billed_cents + self.credited_cents

    @property
    def is_priced(self) -> bool:
        """Whether what it would be can be said: with a problem only where no price or usage is in doubt."""
        return self.problem in (None, CorrectionProblem.COMMITMENT, CorrectionProblem.NOTHING_LEFT)

    @property
    def status(self) -> CorrectionStatus:
        """Who owes whom."""
        if self.problem is not None:
            return CorrectionStatus.BY_HAND
        if self.difference_cents > 0:
            return CorrectionStatus.CUSTOMER_OWES
        return CorrectionStatus.TO_CREDIT if self.items else CorrectionStatus.EVEN


def correction(
    charges: Sequence[RepricedCharge],
    *,
    credited_cents: int,
    problem: CorrectionProblem | None = None,
) -> Correction:
    """The correction of an invoice by its charges of the catalogue; one with a problem gives nothing back."""
    billed = sum(each.line.amount_cents for charge in charges for each in charge.billed)
    now = sum(line.amount_cents for charge in charges for line in charge.now)
    to_give = billed - credited_cents - now
    found = problem or next(filter(None, map(_problem, charges)), None)
    items = _items(charges, to_give) if found is None and to_give > 0 else {}
    if found is None and to_give > 0 and not items:
        found = CorrectionProblem.NOTHING_LEFT
    return Correction(
        billed_cents=billed,
        corrected_cents=now,
        credited_cents=credited_cents,
        items=items,
        problem=found,
    )


def _problem(charge: RepricedCharge) -> CorrectionProblem | None:
    if not charge.has_same_usage:
        return CorrectionProblem.USAGE_CHANGED
    return CorrectionProblem.UNPRICED if charge.lacks_price else None


def _items(charges: Sequence[RepricedCharge], cents: int) -> dict[UUID, int]:
    """Fee -> its part of what comes back: of what has become cheaper, as far as it has."""
    found: dict[UUID, int] = {}
    for charge in charges:
        cheaper: dict[UsagePlace, int] = defaultdict(int)
        for each in charge.billed:
            cheaper[usage_place(each.line)] += each.line.amount_cents
        for line in charge.now:
            cheaper[usage_place(line)] -= line.amount_cents
        for each in charge.billed:
            taken = max(min(cents, cheaper[usage_place(each.line)], each.left_cents), 0)
            cheaper[usage_place(each.line)] -= taken
            found[each.fee_id] = taken
            cents -= taken
    return {fee_id: taken for fee_id, taken in found.items() if taken}
