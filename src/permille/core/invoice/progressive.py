"""Progressive billing: what invoices at thresholds have billed of a period comes off the invoices that follow.

Source: semantics-billing.md section 6.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from uuid import UUID

from permille.core.money import ZERO, exact
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.record import Record

_FIVE_DECIMALS = Decimal("0.00001")
FeeKey = tuple[Id | None, Id | None, tuple[tuple[str, str | None], ...]]
"""What fees of different invoices are for the same: charge, filter and group."""


def key_of_fee(fee: Fee) -> FeeKey:
    """What the fee is for."""
    return fee_key(fee.charge_id, fee.charge_filter_id, fee.grouped_by)


def fee_key(charge_id: Id | None, filter_id: Id | None, grouped_by: Mapping[str, str | None]) -> FeeKey:
    """A charge, a filter and a group."""
    return charge_id, filter_id, tuple(sorted(grouped_by.items()))


class BilledBefore(Record, kw_only=True):
    """The last invoice at a threshold of a subscription's running period."""

    invoice_id: UUID
    fees_amount_cents: int
    left_cents: int
    """What it has billed and no other invoice or credit note has given back."""
    fees: Mapping[FeeKey, int]


def left_cents(fees_cents: int, *, coupons_cents: int, taken_off_cents: int, credited_cents: int) -> int:
    """What an invoice at a threshold has billed that neither came off another invoice nor came back."""
    return max(fees_cents - coupons_cents - taken_off_cents - credited_cents, 0)


class ProgressiveCredit(Record, kw_only=True):
    """What an invoice at a threshold has billed before, taken off before coupons and taxes."""

    subscription_id: UUID
    invoice_id: UUID
    amount_cents: int
    excess_cents: int = 0
    """What it has billed beyond what its charges come to."""


def spread_credit(amount_cents: int, fees: Sequence[tuple[int, int]]) -> list[Decimal]:
    """Spread a credit over fees: (amount, what was billed of it before) of each, each at most to its amount.

    Each takes its part of what was billed of it before; what does not fit goes to the others, the first ones first.
    The sum is `amount_cents`, which the fees together come to at least.
    """
    with exact():
        billed = sum(before for _, before in fees)
        shares = [_share(amount_cents, before, billed, amount) for amount, before in fees]
        rest = amount_cents - sum(shares, ZERO)
        for place, (amount, _) in enumerate(fees):
            more = min(rest, amount - shares[place])
            shares[place] += more
            rest -= more
        return shares


def unbilled_cents(usage: Sequence[tuple[FeeKey, int]], billed: BilledBefore | None) -> list[Decimal]:
    """What is left of each amount of a running period when an invoice at a threshold has billed some of it."""
    if billed is None:
        return [Decimal(cents) for _, cents in usage]
    charges = {charge_id for charge_id, _, _ in billed.fees}
    fees = [(cents, billed.fees.get(key, 0)) if key[0] in charges else (0, 0) for key, cents in usage]
    spread = spread_credit(min(billed.left_cents, sum(cents for cents, _ in fees)), fees)
    with exact():
        return [cents - share for (_, cents), share in zip(usage, spread, strict=True)]


def _share(amount_cents: int, before: int, billed: int, at_most: int) -> Decimal:
    if not before:
        return ZERO
    wanted = (Decimal(amount_cents * before) / billed).quantize(_FIVE_DECIMALS, ROUND_DOWN)
    return min(wanted, Decimal(at_most))
