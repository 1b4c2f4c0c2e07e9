"""Coupons take something off the fees of an invoice, before taxes. Source: semantics-billing.md section 5.2."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from permille.core.contract.plan import sold_plan_id
from permille.core.contract.price_versions import versions_of
from permille.core.coupon import AppliedCoupon, CouponCredit, spread, taken_off, used
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, Line, with_same_fees
from permille.core.invoice.facts import Facts
from permille.core.money import ZERO, exact
from permille.core.record import replace


def coupons(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Take off what the customer's coupons are worth, each of what those before it have left; a draft waits until it is final."""
    known = facts.coupons.get(draft.customer.id) if facts.coupons else None
    if not known or draft.status is InvoiceStatus.DRAFT:
        return draft
    for coupon in known:
        if draft.sub_total_excluding_taxes_amount_cents <= 0:
            break
        draft = _less(draft, coupon)
    return draft


def _less(draft: InvoiceDraft, coupon: AppliedCoupon) -> InvoiceDraft:
    """The invoice with what the coupon takes off; as it is where the coupon is for none of its fees."""
    whole: Decimal | int = draft.sub_total_excluding_taxes_amount_cents
    base = whole
    places: Sequence[int] = range(len(draft.lines))
    if coupon.plan_ids or coupon.billable_metric_ids:
        places = [place for place, line in enumerate(draft.lines) if _is_for(coupon, line)]
        with exact():
            whole = sum((draft.lines[place].taxable_cents for place in places), ZERO)
            base = min(whole, Decimal(base))  # the others may come to less than nothing
    amount = taken_off(coupon, base, draft.currency)
    if not amount:
        return draft
    lines = list(draft.lines)
    chosen = [(lines[place].fee.amount_cents, lines[place].discount_cents) for place in places]
    for place, discount in zip(places, spread(amount, whole, chosen), strict=True):
        lines[place] = replace(lines[place], discount_cents=discount)
    credit = CouponCredit(amount_cents=amount, left=used(coupon, amount))
    return with_same_fees(draft, lines, coupons=(*draft.coupons, credit))


def _is_for(coupon: AppliedCoupon, line: Line) -> bool:
    if coupon.billable_metric_ids:
        return line.fee.kind is FeeKind.CHARGE and _metric_id(line) in coupon.billable_metric_ids
    if coupon.plan_ids:
        return line.plan is not None and sold_plan_id(line.plan) in coupon.plan_ids
    return True


def _metric_id(line: Line) -> UUID | None:
    """The metric of the charge that the line is a fee of."""
    if line.plan is None:
        return None
    charges = (charge for version in versions_of(line.plan) for charge in version.charges)
    return next((charge.metric.id for charge in charges if charge.id == line.fee.charge_id), None)


def after_coupons(draft: InvoiceDraft, facts: Facts) -> Facts:
    """What the coupons have left for the invoices that follow in the batch."""
    if not draft.coupons:
        return facts
    left = {credit.left.id: credit.left for credit in draft.coupons}
    known = [left.get(coupon.id, coupon) for coupon in facts.coupons.get(draft.customer.id, ())]
    still = [coupon for coupon in known if not coupon.is_used_up]
    return replace(facts, coupons={**facts.coupons, draft.customer.id: still})
