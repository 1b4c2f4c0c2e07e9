"""Coupons: what they take off invoices, how often, and of which fees. Source: semantics-billing.md section 5.2.

A coupon is in the catalogue; applied to a customer it is a copy with its own amount and its own rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from math import floor
from uuid import UUID

from permille.core.money import PERCENT, exact, whole_cents
from permille.core.record import Record, replace

_PARTS = 100_000
"""How many parts a cent has in which discounts are whole."""
_PART = Decimal("0.00001")


class CouponType(StrEnum):
    """How the discount is stated."""

    FIXED_AMOUNT = "fixed_amount"
    PERCENTAGE = "percentage"


class Frequency(StrEnum):
    """How often an applied coupon takes something off."""

    ONCE = "once"
    """A percentage on one invoice; a fixed amount until all of it is used."""
    RECURRING = "recurring"
    """On so many invoices."""
    FOREVER = "forever"


class CouponStatus(StrEnum):
    """Whether a coupon can be applied, and whether an applied one still takes something off."""

    ACTIVE = "active"
    TERMINATED = "terminated"


class Expiration(StrEnum):
    """Whether a coupon expires."""

    NO_EXPIRATION = "no_expiration"
    TIME_LIMIT = "time_limit"


class Discount(Record, kw_only=True):
    """What a coupon takes off: an amount in a currency, or a percentage in any."""

    coupon_type: CouponType
    amount_cents: int | None
    amount_currency: str | None
    percentage_rate: Decimal | None
    frequency: Frequency
    frequency_duration: int | None
    """On how many invoices a recurring coupon takes something off."""


class Coupon(Record, kw_only=True):
    """A coupon of the catalogue. It is for all fees, or for those of some plans, or for those of some metrics."""

    id: UUID
    organization_id: UUID
    name: str
    code: str
    description: str | None
    discount: Discount
    reusable: bool
    """Whether it may be applied more than once."""
    expiration_at: datetime | None
    plan_ids: tuple[UUID, ...]
    billable_metric_ids: tuple[UUID, ...]
    created_at: datetime
    deleted_at: datetime | None = None

    @property
    def is_limited(self) -> bool:
        """Whether it is for some fees only."""
        return bool(self.plan_ids or self.billable_metric_ids)

    def status(self, now: datetime) -> CouponStatus:
        """Terminated once it has expired or is deleted: it can't be applied any more."""
        return status_at(self.expiration_at, self.deleted_at, now)

    def terminated_at(self, now: datetime) -> datetime | None:
        """When it expired or was deleted, None while it can be applied."""
        return ended_at(self.expiration_at, self.deleted_at, now)


class AppliedCoupon(Record, kw_only=True):
    """A customer's coupon, with what is left of it."""

    id: UUID
    customer_id: UUID
    coupon_id: UUID
    code: str
    name: str
    description: str | None
    discount: Discount
    amount_left_cents: int | None
    """What is left of a fixed amount that is used once; None for all other coupons."""
    uses_left: int | None
    """On how many further invoices it takes something off; None where that is not counted."""
    plan_ids: tuple[UUID, ...] = ()
    billable_metric_ids: tuple[UUID, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether its use changes what is left of it."""
        return self.amount_left_cents is not None or self.uses_left is not None

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it."""
        return self.amount_left_cents == 0 or self.uses_left == 0

    @property
    def status_by_use(self) -> CouponStatus:
        """Its status as far as its use decides that."""
        return CouponStatus.TERMINATED if self.is_used_up else CouponStatus.ACTIVE


class CouponCredit(Record, kw_only=True):
    """What a coupon takes off one invoice, in whole cents, and what is left of the coupon then."""

    amount_cents: int
    left: AppliedCoupon


def ended_at(expiration_at: datetime | None, deleted_at: datetime | None, now: datetime) -> datetime | None:
    """When a coupon expired or was deleted, None while it can be applied."""
    return min((at for at in (expiration_at, deleted_at) if at is not None and at <= now), default=None)


def status_at(expiration_at: datetime | None, deleted_at: datetime | None, now: datetime) -> CouponStatus:
    """Terminated once a coupon has expired or is deleted."""
    return CouponStatus.TERMINATED if ended_at(expiration_at, deleted_at, now) else CouponStatus.ACTIVE


def applied_to(
    coupon: Coupon, customer_id: UUID, *, discount: Discount | None = None, applied_id: UUID
) -> AppliedCoupon:
    """The coupon as a customer has it at first, perhaps with a discount of its own."""
    own = discount or coupon.discount
    amount_left_cents, uses_left = _rest_of(own)
    return AppliedCoupon(
        id=applied_id,
        customer_id=customer_id,
        coupon_id=coupon.id,
        code=coupon.code,
        name=coupon.name,
        description=coupon.description,
        discount=own,
        amount_left_cents=amount_left_cents,
        uses_left=uses_left,
        plan_ids=coupon.plan_ids,
        billable_metric_ids=coupon.billable_metric_ids,
    )


def _rest_of(discount: Discount) -> tuple[int | None, int | None]:
    """What an unused coupon has: (cents of a fixed amount that is used once, uses where they are counted)."""
    is_percentage = discount.coupon_type is CouponType.PERCENTAGE
    if discount.frequency is Frequency.ONCE:
        return (None, 1) if is_percentage else (discount.amount_cents, None)
    return None, discount.frequency_duration if discount.frequency is Frequency.RECURRING else None


def in_order(coupons: Sequence[AppliedCoupon]) -> Sequence[AppliedCoupon]:
    """Those for some metrics first, then those for some plans, then those for all fees; otherwise as they are given."""
    if len(coupons) < 2:
        return coupons
    return sorted(coupons, key=lambda one: 0 if one.billable_metric_ids else 1 if one.plan_ids else 2)


def taken_off(coupon: AppliedCoupon, base_cents: Decimal | int, currency: str) -> int:
    """What the coupon takes off an amount in this currency, in whole cents."""
    discount = coupon.discount
    with exact():
        at_most = floor(base_cents)
        if discount.percentage_rate is not None:
            return max(min(whole_cents(base_cents * discount.percentage_rate * PERCENT), at_most), 0)
    if discount.amount_currency != currency or discount.amount_cents is None:
        return 0
    left = coupon.amount_left_cents
    return max(min(discount.amount_cents if left is None else left, at_most), 0)


def used(coupon: AppliedCoupon, amount_cents: int) -> AppliedCoupon:
    """The coupon once it has taken this amount off an invoice."""
    if not coupon.is_counted:
        return coupon
    left, uses = coupon.amount_left_cents, coupon.uses_left
    return replace(
        coupon,
        amount_left_cents=None if left is None else left - amount_cents,
        uses_left=None if uses is None else uses - 1,
    )


def given_back(coupon: AppliedCoupon, amount_cents: int) -> AppliedCoupon:
    """The coupon as if it had not taken this amount off an invoice."""
    left, uses = coupon.amount_left_cents, coupon.uses_left
    return replace(
        coupon,
        amount_left_cents=None if left is None else left + amount_cents,
        uses_left=None if uses is None else uses + 1,
    )


def spread(
    amount_cents: int, base_cents: Decimal | int, fees: Sequence[tuple[int, Decimal]]
) -> list[Decimal]:
    """The discounts of fees once an amount is spread over them: (amount of the fee, its discount so far) of each.

    Each takes its share of what is left of it, rounded to five decimals, and never more than it comes to; of one below zero
    it is below zero too. The amount is at most the base, what is left of all of them, and all have five decimals at most:
    whole numbers divide faster than decimals do.
    """
    with exact():
        amount, base = amount_cents * _PARTS, int(base_cents * _PARTS)
        return [
            _PART * _discount(fee_cents * _PARTS, int(discount * _PARTS) if discount else 0, amount, base)
            for fee_cents, discount in fees
        ]


def _discount(whole: int, before: int, amount: int, base: int) -> int:
    """The discount of a fee with its share of the amount, in parts of a cent, half of one rounded up."""
    left = whole - before
    return before + (2 * amount * left + base) // (2 * base) if left else whole


def overlap(
    one: Coupon | AppliedCoupon, other: Coupon | AppliedCoupon, metrics_of: Mapping[UUID, set[UUID]]
) -> bool:
    """Whether two limited coupons are for some of the same fees. `metrics_of`: plan -> the metrics that it prices."""
    if set(one.plan_ids) & set(other.plan_ids) or set(one.billable_metric_ids) & set(
        other.billable_metric_ids
    ):
        return True
    return bool(
        _priced_by(one, metrics_of) & set(other.billable_metric_ids)
        or _priced_by(other, metrics_of) & set(one.billable_metric_ids)
    )


def _priced_by(coupon: Coupon | AppliedCoupon, metrics_of: Mapping[UUID, set[UUID]]) -> set[UUID]:
    return {metric_id for plan_id in coupon.plan_ids for metric_id in metrics_of.get(plan_id, ())}
