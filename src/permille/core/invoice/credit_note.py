"""Credit notes: what comes back of a fee, with its taxes, and how their balances pay later invoices.

Source: semantics-billing.md sections 5.5, 7.2 and 7.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_DOWN, Decimal
from uuid import UUID

from permille.core.money import ZERO, exact, round_cents
from permille.core.period import local_date
from permille.core.record import Record
from permille.core.tax import AppliedTax, Tax, apply_taxes, sum_of

_FIVE_DECIMALS = Decimal("0.00001")


class CreditedFee(Record, kw_only=True):
    """A fee of which something comes back. Amounts in cents, before taxes."""

    fee_id: UUID
    amount_cents: int
    precise_coupons_amount_cents: Decimal
    taxes: Sequence[Tax]


class Item(Record, kw_only=True):
    """So much of a fee, before taxes and coupons, in cents."""

    fee: CreditedFee
    precise_amount_cents: Decimal
    rounded_cents: int | None = None
    """The amount in whole cents where it is rounded together with others."""

    @property
    def amount_cents(self) -> int:
        if self.rounded_cents is not None:
            return self.rounded_cents
        return round_cents(self.precise_amount_cents)


class CreditLeft(Record, kw_only=True):
    """What the notes of an invoice have left of it."""

    sub_total_cents: int
    """Before taxes, after coupons."""
    taxes_cents: int
    rounded_up: Decimal = ZERO
    """What the taxes of its notes were rounded up by, in all."""


class CreditAmounts(Record, kw_only=True):
    """What a credit note comes to, in cents."""

    items: tuple[Item, ...]
    coupons_adjustment_amount_cents: Decimal
    sub_total_excluding_taxes_amount_cents: int
    precise_taxes_amount_cents: Decimal
    taxes_amount_cents: int
    taxes_rate: Decimal
    applied_taxes: tuple[AppliedTax, ...]

    @property
    def coupons_cents(self) -> int:
        """The coupons in whole cents: the items less these are the sub-total."""
        return coupons_in_cents(self.coupons_adjustment_amount_cents)

    @property
    def total_amount_cents(self) -> int:
        """The sum of its rounded parts, so that what is shown adds up."""
        return self.sub_total_excluding_taxes_amount_cents + self.taxes_amount_cents

    @property
    def precise_total_amount_cents(self) -> Decimal:
        amounts = sum((item.precise_amount_cents for item in self.items), ZERO)
        return amounts - self.coupons_adjustment_amount_cents + self.precise_taxes_amount_cents


def credit_amounts(
    items: Sequence[Item],
    *,
    left: CreditLeft | None = None,
    is_last: bool = False,
    total_cents: int | None = None,
) -> CreditAmounts:
    """The amounts of a note on these items: their coupons go with them, and their taxes come back.

    However each note of an invoice was rounded, all of them come to no more than is `left` of it for this one; the last
    one comes to just that. With `total_cents` the taxes are whatever the items lack of it.
    """
    with exact():
        bases = [item.precise_amount_cents - _coupons(item) for item in items]
        whole = sum(bases, ZERO)
        coupons = _cut(sum((_coupons(item) for item in items), ZERO))
        known = {tax.id: tax for item in items for tax in item.fee.taxes}
        base_of = {
            key: sum(
                (
                    base
                    for item, base in zip(items, bases, strict=True)
                    if any(tax.id == key for tax in item.fee.taxes)
                ),
                ZERO,
            )
            for key in known
        }
        taxes = sum((base_of[key] * tax.rate / 100 for key, tax in known.items()), ZERO)
        sub_total = round_cents(sum((item.precise_amount_cents for item in items), ZERO) - coupons)
        if left is not None:
            alone, sub_total = sub_total, int(_within(Decimal(sub_total), left.sub_total_cents, is_last))
            taken_off = sum(item.amount_cents for item in items) - sub_total
            if sub_total != alone or (coupons and taken_off != coupons_in_cents(coupons)):
                coupons = Decimal(taken_off)
            taxes = _within(taxes - (left.rounded_up if is_last else ZERO), left.taxes_cents, is_last)
        rate = sum((base_of[key] / whole * tax.rate for key, tax in known.items()), ZERO) if whole else ZERO
        applied = apply_taxes(
            [(tax, base_of[key]) for key, tax in known.items()],
            total=taxes if total_cents is None else Decimal(total_cents - sub_total),
        )
        return CreditAmounts(
            items=tuple(items),
            coupons_adjustment_amount_cents=coupons,
            sub_total_excluding_taxes_amount_cents=sub_total,
            precise_taxes_amount_cents=_cut(taxes),
            taxes_amount_cents=sum_of(applied),
            taxes_rate=_cut(rate),
            applied_taxes=applied,
        )


def _within(precise_cents: Decimal, left_cents: int, is_last: bool) -> Decimal:
    """The amount where it comes to the cents that are left, or to less of them on a note that is not the last."""
    cents = round_cents(precise_cents)
    fits = cents == left_cents or (cents < left_cents and not is_last)
    return precise_cents if fits else Decimal(max(left_cents, 0))


def _cut(value: Decimal) -> Decimal:
    """The value with the decimals that a note keeps."""
    return value.quantize(_FIVE_DECIMALS)


def coupons_in_cents(precise_cents: Decimal) -> int:
    """What items lost by coupons, so that it adds up with their sub-total: that has half a cent rounded up."""
    with exact():
        return int(precise_cents.quantize(Decimal(1), ROUND_HALF_DOWN))


def _coupons(item: Item) -> Decimal:
    """The part of the fee's coupons that goes with the item."""
    if not item.fee.amount_cents:
        return ZERO
    return item.fee.precise_coupons_amount_cents * item.precise_amount_cents / item.fee.amount_cents


class PaidPeriod(Record, kw_only=True):
    """A period of a plan that was paid in advance."""

    plan_amount_cents: int
    """The price of all `days`, of which the fee may have billed a part."""
    days: int
    last_day: date
    """As it was billed, which may have been in another timezone."""
    timezone: str
    """The customer's now, in which the end and the trial have their days."""
    trial_ends_at: datetime | None


def unused_amount(
    paid: PaidPeriod, *, ended_at: datetime, upgraded: bool, at_most: Decimal, credited: Decimal = ZERO
) -> Decimal:
    """The part of a period's price for the days that are left after its end, cut to five decimals.

    It is at most the fee, less what notes have given back of it before.

    The day of the end is used, unless a dearer plan pays for it or the trial ended on it.
    """
    with exact():
        amount = Decimal(paid.plan_amount_cents * _unused_days(paid, ended_at, upgraded)) / paid.days
        return max(min(amount, at_most) - credited, ZERO).quantize(_FIVE_DECIMALS, ROUND_DOWN)


def _unused_days(paid: PaidPeriod, ended_at: datetime, upgraded: bool) -> int:
    used_until = local_date(ended_at, paid.timezone) - timedelta(days=int(upgraded))
    if paid.trial_ends_at is not None:
        free_until = local_date(paid.trial_ends_at, paid.timezone)
        if free_until >= local_date(ended_at, paid.timezone):
            used_until = free_until - timedelta(days=1)
    return max((paid.last_day - used_until).days, 0)


class Spent(Record):
    """So much of a note's balance pays an invoice."""

    credit_note_id: UUID
    amount_cents: int


def spend(balances: Iterable[tuple[UUID, int]], owed_cents: int) -> list[Spent]:
    """Pay what is owed from these balances, the first ones first."""
    spent: list[Spent] = []
    for note_id, balance in balances:
        amount = min(balance, owed_cents)
        if amount > 0:
            spent.append(Spent(note_id, amount))
            owed_cents -= amount
    return spent
