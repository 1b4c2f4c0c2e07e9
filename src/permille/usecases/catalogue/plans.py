"""Plans are added, changed and removed, with all that follows from it; the catalogue is locked meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.override import cascade
from permille.core.contract.plan import Charge, Plan, is_too_large
from permille.core.contract.price_versions import (
    PriceChange,
    cancel_change,
    edit_base,
    edit_prices,
    has_equal_codes,
    in_force,
    price_changes,
    unschedulable,
)
from permille.core.contract.threshold import same_thresholds
from permille.core.errors import Invalid, NotFound
from permille.core.period import Interval
from permille.core.record import replace
from permille.database import locks
from permille.ids import new_id
from permille.store import billing_holds, plans, progressive, subscriptions, webhooks
from permille.usecases import metering, subscriptions as lifecycle
from permille.usecases.catalogue import fixed_units
from permille.usecases.invoices import drafts
from permille.usecases.price_change import prices_changed


def by_code(conn: Connection[Any], organization_id: UUID, code: str, *, now: datetime) -> Plan:
    """The plan with the prices in force. Raises NotFound."""
    found = plans.plan_by_code(conn, organization_id, code)
    if found is None:
        raise NotFound("plan")
    return in_force(found, now)


def to_change(
    conn: Connection[Any], organization_id: UUID, code: str, *, since: datetime | None = None, now: datetime
) -> Plan:
    """The plan with the prices that an edit valid from `since` on changes; the catalogue is locked until the transaction ends.

    Raises NotFound.
    """
    locks.change_catalogue(conn, organization_id)
    return by_code(conn, organization_id, code, now=edit_base(since, now))


def blank(conn: Connection[Any], organization_id: UUID, *, now: datetime) -> Plan:
    """A plan to fill and to add, with the catalogue locked until the transaction ends."""
    locks.change_catalogue(conn, organization_id)
    return Plan(
        id=new_id(now),
        organization_id=organization_id,
        parent_id=None,
        code="",
        name="",
        invoice_display_name=None,
        description=None,
        interval=Interval.MONTHLY,
        amount_cents=-1,
        amount_currency="",
        pay_in_advance=False,
        trial_period=None,
        bill_charges_monthly=None,
        bill_fixed_charges_monthly=None,
        metadata=None,
        charges=(),
        created_at=now,
    )


def add(conn: Connection[Any], plan: Plan) -> None:
    """Raises Invalid when the code is taken, and for a plan that is too large."""
    if is_too_large(plan):
        raise Invalid({"charges": ["too_many_prices"]})
    if not plans.add(conn, plan):
        raise Invalid({"code": ["value_already_exist"]})
    meter(conn, plan.organization_id, plan.charges)
    webhooks.enqueue_of(conn, "plan.created", plan.organization_id, [plan.id], now=plan.created_at)


def change(
    conn: Connection[Any],
    before: Plan,
    after: Plan,
    *,
    since: datetime | None,
    cascades: bool,
    units_at_once: Collection[UUID] = (),
    now: datetime,
) -> Plan:
    """Store a changed plan, its prices for periods that begin from `since` on.

    `units_at_once` are the fixed charges whose units count from now on, not from the next period. Raises Invalid when another plan has the code, and for what cannot change from an instant on.
    """
    if plans.code_is_taken(conn, after):
        raise Invalid({"code": ["value_already_exist"]})
    saved = _save_with_copies(
        conn, before, after, since=since, cascades=cascades, units_at_once=units_at_once, now=now
    )
    if after.amount_cents != before.amount_cents:
        lifecycle.follow_amounts(conn, after.id, now=now)
    if not same_thresholds(after.usage_thresholds, before.usage_thresholds):
        progressive.mark_of_plan(conn, after.id)
    webhooks.enqueue_of(conn, "plan.updated", after.organization_id, [after.id], now=now)
    return saved


def change_charges(
    conn: Connection[Any],
    plan: Plan,
    charges: Sequence[Charge],
    *,
    since: datetime | None,
    cascades: bool,
    now: datetime,
) -> None:
    """Store other charges of a plan, or of a subscription's own plan. Raises Invalid as `change` does."""
    after = replace(plan, charges=tuple(charges))
    _save_with_copies(conn, plan, after, since=since, cascades=cascades and plan.parent_id is None, now=now)


def change_fixed_charges(
    conn: Connection[Any],
    plan: Plan,
    charges: Sequence[FixedCharge],
    *,
    since: datetime | None = None,
    cascades: bool,
    units_at_once: Collection[UUID] = (),
    now: datetime,
) -> None:
    """Store other fixed charges of a plan, or of a subscription's own plan. Raises Invalid: they can't be scheduled."""
    after = replace(plan, fixed_charges=tuple(charges))
    _save_with_copies(
        conn,
        plan,
        after,
        since=since,
        cascades=cascades and plan.parent_id is None,
        units_at_once=units_at_once,
        now=now,
    )


def charge_by_code(plan: Plan, code: str | None) -> Charge:
    """Raises NotFound."""
    found = next((charge for charge in plan.charges if charge.code == code), None)
    if found is None:
        raise NotFound("charge")
    return found


def with_charge(plan: Plan, changed: Charge) -> list[Charge]:
    """The plan's charges with this one in the place of the one with its id."""
    return [changed if charge.id == changed.id else charge for charge in plan.charges]


def without_charge(plan: Plan, gone: Charge) -> list[Charge]:
    """The plan's charges but this one."""
    return [charge for charge in plan.charges if charge.id != gone.id]


def _save_with_copies(
    conn: Connection[Any],
    before: Plan,
    after: Plan,
    *,
    since: datetime | None,
    cascades: bool,
    units_at_once: Collection[UUID] = (),
    now: datetime,
) -> Plan:
    """Store the edit; with `cascades` the plans of single subscriptions follow it, from the same instant on."""
    saved = save_edit(conn, before, after, since=since, units_at_once=units_at_once, now=now)
    for child in plans.children(conn, before.id) if cascades else ():
        own = in_force(child, edit_base(since, now))
        changed = cascade(before, after, own, new_id=partial(new_id, now), now=now)
        save_edit(conn, own, changed, since=since, units_at_once=units_at_once, now=now)
    return saved


def remove(conn: Connection[Any], plan: Plan, *, now: datetime) -> None:
    """Its subscriptions end now, and are billed."""
    lifecycle.end_all(conn, subscriptions.living_of_plan(conn, plan.id), now=now)
    drafts.finalize_of_subscriptions(conn, subscriptions.ids_of_plan(conn, plan.id), at=now)
    plans.delete(conn, plan_id=plan.id, now=now)
    billing_holds.retry_soon(conn, plan.organization_id, now=now)
    meter(conn, plan.organization_id, plan.charges)
    webhooks.enqueue_of(conn, "plan.deleted", plan.organization_id, [plan.id], now=now)


def set_metadata(
    conn: Connection[Any], plan: Plan, metadata: Mapping[str, Any] | None, *, now: datetime
) -> None:
    """The notes of a plan, all of them; None where there is none."""
    plans.set_metadata(conn, plan_id=plan.id, metadata=metadata, now=now)


def scheduled_change(plan: Plan, change_id: UUID | None) -> PriceChange:
    """A change of prices that is still to reach somebody. Raises NotFound."""
    found = next((each for each in price_changes(plan) if each.id == change_id), None)
    if found is None:
        raise NotFound("scheduled_change")
    return found


def cancel_scheduled(
    conn: Connection[Any], plan: Plan, wanted: PriceChange, *, cascades: bool, now: datetime
) -> None:
    """The prices go on as before the change; with `cascades` also those of plans of single subscriptions."""
    follow = cascades and plan.parent_id is None
    for each in [plan, *(plans.children(conn, plan.id) if follow else [])]:
        for found in price_changes(each):
            if found.at == wanted.at:
                _store_edit(conn, each, cancel_change(each, found.id, now=now), now=now)


def edited(before: Plan, after: Plan, *, since: datetime | None, now: datetime) -> Plan:
    """The plan as the edit leaves it, not stored.

    Raises Invalid for what cannot change from an instant on, for codes that two charges would have at some time, and for a
    plan that grows too large.
    """
    if since is not None and (names := unschedulable(before, after)):
        raise Invalid({name: ["cannot_be_scheduled"] for name in names})
    found = edit_prices(before, after, since=since, now=now, version_id=new_id(now))
    if has_equal_codes(found, now):
        raise Invalid({"code": ["value_already_exist"]})
    if is_too_large(found, before):
        raise Invalid({"charges": ["too_many_prices"]})
    return found


def save_edit(
    conn: Connection[Any],
    before: Plan,
    after: Plan,
    *,
    since: datetime | None,
    units_at_once: Collection[UUID] = (),
    now: datetime,
) -> Plan:
    """Store an edit of the plan that `to_change` gave: at once, or for periods that begin from `since` on. Raises Invalid."""
    found = edited(before, after, since=since, now=now)
    _store_edit(conn, before, found, now=now)
    fixed_units.follow_plan(conn, before, found, at_once=units_at_once, now=now)
    return found


def _store_edit(conn: Connection[Any], before: Plan, after: Plan, *, now: datetime) -> None:
    plans.replace(conn, before=before, after=after, now=now)
    prices_changed(conn, after.organization_id, plan_ids=[after.id], now=now)
    later = [charge for version in after.price_versions for charge in version.charges]
    meter(conn, after.organization_id, [*before.charges, *after.charges, *later])


def meter(conn: Connection[Any], organization_id: UUID, charges: Sequence[Charge]) -> None:
    """Events are kept as the charges' grouping keys now need them."""
    for code in sorted({charge.metric.code for charge in charges}):
        metering.refresh(conn, organization_id=organization_id, code=code)
