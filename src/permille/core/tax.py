"""Taxes: which apply to a fee, and what they come to on fees and on their invoice.

Source: semantics-billing.md section 5.4. On a fee the sum of its taxes is rounded once; on the invoice the sum over
all fees is, so that the invoice's taxes need not be the sum of those of its fees. What is shown of each tax adds up to
that sum: where their own roundings would not, the taxes are apportioned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from permille.core.money import PERCENT, ZERO, apportion, exact, precise_cents, whole_cents
from permille.core.record import Record, replace

_RATE_DIGITS = Decimal("0.00001")


class Tax(Record, kw_only=True):
    """`rate` is in percent."""

    id: UUID
    code: str
    name: str
    description: str | None
    rate: Decimal
    applied_to_organization: bool
    created_at: datetime


class AppliedTax(Record):
    """A tax on a fee or an invoice; `fees_amount_cents` is what it was taken of, rounded."""

    tax: Tax
    amount_cents: int
    fees_amount_cents: int


class Taxed(Record):
    """What the taxes of a fee, or of an invoice, come to."""

    amount_cents: int
    precise_amount_cents: Decimal
    rate: Decimal
    applied: tuple[AppliedTax, ...]


UNTAXED = Taxed(amount_cents=0, precise_amount_cents=ZERO, rate=ZERO, applied=())


def applicable(*levels: Sequence[Tax]) -> tuple[Tax, ...]:
    """Those of the narrowest level that has any: the charge's, the plan's, the customer's, the billing entity's."""
    return next((tuple(taxes) for taxes in levels if taxes), ())


def tax_fee(base_cents: Decimal | int, precise_base_cents: Decimal, taxes: Sequence[Tax]) -> Taxed:
    """The taxes of a fee, taken of its amount less its coupons."""
    with exact():
        return taxed_exactly(base_cents, precise_base_cents, taxes)


def taxed_exactly(
    base_cents: Decimal | int, precise_base_cents: Decimal | int, taxes: Sequence[Tax]
) -> Taxed:
    """As tax_fee; call it under exact()."""
    if len(taxes) == 1:
        alone, rate = _apply_alone(taxes[0], base_cents), taxes[0].rate
        return Taxed(alone.amount_cents, precise_cents(precise_base_cents * rate * PERCENT), rate, (alone,))
    if not taxes:
        return UNTAXED
    base = Decimal(base_cents)
    applied = apply_taxes([(tax, base) for tax in taxes])
    rate = sum([tax.rate for tax in taxes], ZERO)
    return Taxed(sum_of(applied), precise_cents(precise_base_cents * rate * PERCENT), rate, applied)


def tax_invoice(fees: Sequence[tuple[Decimal | int, Sequence[Tax]]]) -> Taxed:
    """The taxes of an invoice with these fees: (amount less coupons in cents, its taxes).

    The rate is the average of the fees' rates by what they come to, or by their number when that is nothing.
    """
    with exact():
        shared = _shared(fees)
        if shared is not None:
            whole = sum([base for base, _ in fees])
            taxed = taxed_exactly(whole, whole, shared)
            return replace(taxed, rate=taxed.rate.quantize(_RATE_DIGITS)) if shared else taxed
        known = {tax.id: tax for _, taxes in fees for tax in taxes}
        bases = [(tax, _base(fees, tax)) for tax in known.values()]
        applied = apply_taxes(bases)
        return Taxed(
            amount_cents=sum_of(applied),
            precise_amount_cents=precise_cents(sum([base * tax.rate * PERCENT for tax, base in bases], ZERO)),
            rate=_average_rate(fees),
            applied=applied,
        )


def _shared(fees: Sequence[tuple[Decimal | int, Sequence[Tax]]]) -> Sequence[Tax] | None:
    """The taxes of all these fees, as mostly; None where some have others than others."""
    if not fees:
        return ()
    first = fees[0][1]
    if any(taxes is not first and taxes != first for _, taxes in fees):
        return None
    return first if len(first) < 2 or len({tax.id for tax in first}) == len(first) else None


def apply_taxes(
    bases: Sequence[tuple[Tax, Decimal]], *, total: Decimal | None = None
) -> tuple[AppliedTax, ...]:
    """Each tax of what it is taken of, in cents; their amounts add up to the rounded sum of the exact ones.

    With `total` they add up to that, and each has its share of it.
    """
    with exact():
        if len(bases) == 1 and total is None:
            return (_apply_alone(*bases[0]),)
        exactly = [base * tax.rate * PERCENT for tax, base in bases]
        if exactly and total is not None:
            exactly = _shares_of(total, exactly)
        amounts = apportion(exactly)
        return tuple(
            [
                AppliedTax(tax=tax, amount_cents=amount, fees_amount_cents=whole_cents(base))
                for (tax, base), amount in zip(bases, amounts, strict=True)
            ]
        )


def _shares_of(total: Decimal, exactly: Sequence[Decimal]) -> list[Decimal]:
    """Amounts in the proportion of these that add up to the total; where these are nothing it is in the first."""
    whole = sum(exactly, ZERO)
    if whole == total:
        return [*exactly]
    shares = [total * each / whole for each in exactly[1:]] if whole else [ZERO] * (len(exactly) - 1)
    return [total - sum(shares, ZERO), *shares]


def _apply_alone(tax: Tax, base: Decimal | int) -> AppliedTax:
    cents = base if isinstance(base, int) else whole_cents(base)
    return AppliedTax(tax, whole_cents(base * tax.rate * PERCENT), cents)


def sum_of(applied: Sequence[AppliedTax]) -> int:
    """What taxes come to together, in cents."""
    return sum([each.amount_cents for each in applied])


def add_up_taxes(
    *,
    amount_cents: int,
    precise_amount_cents: Decimal,
    fees_amount_cents: int,
    applied: Sequence[tuple[Tax, int, int]],
) -> Taxed:
    """Taxes that were taken of fees before, added up: (tax, its amount, what it was taken of), both in cents.

    The rate is what they are of the fees, in percent with two decimals.
    """
    found: dict[UUID, AppliedTax] = {}
    for tax, amount, base in applied:
        known = found.get(tax.id, AppliedTax(tax=tax, amount_cents=0, fees_amount_cents=0))
        found[tax.id] = AppliedTax(
            tax=known.tax,
            amount_cents=known.amount_cents + amount,
            fees_amount_cents=known.fees_amount_cents + base,
        )
    rate = Decimal(amount_cents * 100) / fees_amount_cents if fees_amount_cents else ZERO
    return Taxed(
        amount_cents=amount_cents,
        precise_amount_cents=precise_amount_cents,
        rate=rate.quantize(Decimal("0.01"), ROUND_HALF_UP),
        applied=tuple(found.values()),
    )


def tax_of_json(applied: Mapping[str, Any], at: datetime) -> Tax:
    """The tax as it was when it was put on a fee or an invoice, at that instant."""
    return Tax(
        id=UUID(applied["lago_tax_id"]),
        code=applied["tax_code"],
        name=applied["tax_name"],
        description=applied["tax_description"],
        rate=Decimal(str(applied["tax_rate"])),
        applied_to_organization=False,
        created_at=at,
    )


def _base(fees: Sequence[tuple[Decimal | int, Sequence[Tax]]], tax: Tax) -> Decimal:
    return Decimal(sum(base for base, taxes in fees if any(each.id == tax.id for each in taxes)))


def _average_rate(fees: Sequence[tuple[Decimal | int, Sequence[Tax]]]) -> Decimal:
    whole = sum((base for base, _ in fees), ZERO)
    weighed = [(base if whole else Decimal(1), taxes) for base, taxes in fees]
    rates = sum((weight * tax.rate for weight, taxes in weighed for tax in taxes), ZERO)
    return (rates / (whole or len(fees))).quantize(_RATE_DIGITS)
