"""Coupons are added, changed, removed, and applied to customers; what they took off void invoices comes back.

Source: semantics-billing.md sections 5.2 and 4.8.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.coupon import (
    AppliedCoupon,
    Coupon,
    CouponStatus,
    Discount,
    applied_to,
    given_back,
    overlap,
)
from permille.core.customer import Customer
from permille.core.errors import Invalid, NotAllowed, NotFound
from permille.ids import new_id
from permille.store import coupons, customers, plans
from permille.store.coupons import StoredAppliedCoupon
from permille.usecases.by_code import ByCode

by_code = ByCode("coupon", coupons.by_code).one


def to_change(conn: Connection[Any], organization_id: UUID, code: str) -> Coupon:
    """The coupon, which nobody else changes or applies until the transaction ends. Raises NotFound."""
    found = coupons.by_code(conn, organization_id, code, lock=True)
    if found is None:
        raise NotFound("coupon")
    return found


def add(conn: Connection[Any], coupon: Coupon) -> None:
    """Raises Invalid when the code is taken."""
    if not coupons.add(conn, coupon):
        raise Invalid({"code": ["value_already_exist"]})


def change(conn: Connection[Any], after: Coupon, *, now: datetime) -> None:
    """Save a changed coupon; those of customers keep their amounts. Raises Invalid when the code is another's."""
    if not coupons.replace(conn, after, now=now):
        raise Invalid({"code": ["value_already_exist"]})


def remove(conn: Connection[Any], coupon: Coupon, *, now: datetime) -> None:
    """It can't be applied any more, and those of customers end."""
    coupons.delete(conn, coupon.id, now=now)


def apply(
    conn: Connection[Any], customer: Customer, code: str, discount: Discount | None = None, *, now: datetime
) -> StoredAppliedCoupon:
    """Give the customer a coupon, perhaps with a discount of its own.

    Raises NotFound for one that has expired, Invalid for one that may be applied only once and was, and NotAllowed where
    the customer has another for some of the same fees.
    """
    customers.lock(conn, customer.id)
    coupon = to_apply(conn, customer.organization_id, code, now=now)
    if not coupon.reusable and coupons.is_applied(conn, coupon.id):
        raise Invalid({"coupon": ["coupon_is_not_reusable"]})
    if coupon.is_limited and _overlaps(conn, customer, coupon):
        raise NotAllowed("plan_overlapping")
    applied = applied_to(coupon, customer.id, discount=discount, applied_id=new_id(now))
    coupons.apply(conn, customer.organization_id, applied, now=now)
    if customer.currency is None and applied.discount.amount_currency is not None:
        columns = {"currency": applied.discount.amount_currency}
        customers.update(conn, customer_id=customer.id, columns=columns, now=now)
    return applied_by_id(conn, customer.organization_id, applied.id)


def to_apply(conn: Connection[Any], organization_id: UUID, code: str, *, now: datetime) -> Coupon:
    """As `to_change`, of a coupon that can still be applied."""
    coupon = to_change(conn, organization_id, code)
    if coupon.status(now) is not CouponStatus.ACTIVE:
        raise NotFound("coupon")
    return coupon


def _overlaps(conn: Connection[Any], customer: Customer, coupon: Coupon) -> bool:
    """Whether the customer has another limited coupon for some of the same fees."""
    others = coupons.active(conn, [customer.id]).get(customer.id, [])
    plan_ids = {*coupon.plan_ids, *(plan_id for other in others for plan_id in other.plan_ids)}
    sold = plans.plans_by_ids(conn, plan_ids)
    metrics_of = {plan.id: {charge.metric.id for charge in plan.charges} for plan in sold.values()}
    return any(overlap(coupon, other, metrics_of) for other in others)


def applied_by_id(
    conn: Connection[Any], organization_id: UUID, applied_id: UUID | None
) -> StoredAppliedCoupon:
    """Raises NotFound."""
    found = coupons.applied_by_id(conn, organization_id, applied_id) if applied_id else None
    if found is None:
        raise NotFound("applied_coupon")
    return found


def end(
    conn: Connection[Any], customer: Customer, applied_id: UUID | None, *, now: datetime
) -> StoredAppliedCoupon:
    """Take a coupon from the customer; one that has ended stays as it is. Raises NotFound."""
    customers.lock(conn, customer.id)
    found = applied_by_id(conn, customer.organization_id, applied_id)
    if found.applied.customer_id != customer.id:
        raise NotFound("applied_coupon")
    coupons.terminate(conn, found.applied.id, now=now)
    return applied_by_id(conn, customer.organization_id, found.applied.id)


def end_all_of(conn: Connection[Any], customer_id: UUID, *, now: datetime) -> None:
    """All coupons of a customer that goes end."""
    coupons.terminate_of_customer(conn, customer_id, now=now)


def give_back(conn: Connection[Any], invoice_ids: Collection[UUID], now: datetime) -> None:
    """Give back what coupons took off invoices that are void now; the customers are locked. Set-based.

    A coupon that was used up can be used again, unless the coupon it is a copy of has expired or is deleted.
    """
    entries: list[tuple[UUID, UUID, int, datetime]] = []
    rests: dict[UUID, tuple[AppliedCoupon, CouponStatus]] = {}
    for each in coupons.to_give_back(conn, invoice_ids, now=now):
        before, status = rests.get(each.coupon.id, (each.coupon, each.status))
        after = given_back(before, each.amount_cents)
        revives = before.is_used_up and each.can_be_active
        rests[before.id] = after, after.status_by_use if revives else status
        entries.append((each.invoice_id, before.id, -each.amount_cents, now))
    if entries:
        coupons.add_entries(conn, entries)
        coupons.save_rests(conn, [(left, status, now) for left, status in rests.values()])
