"""A plan of one subscription's own: a copy of the plan it was sold, in which some prices are others.

Changes of the sold plan reach its copies only where they still say what it said before: what was agreed with a
customer stays. Source: semantics-billing.md sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Charge, Plan, PlanFilter, sold_plan_id
from permille.core.instants import EPOCH
from permille.core.rating.models.group_keys import PRICING
from permille.core.record import replace

NewId = Callable[[], UUID]
"""Draws an identity: core has no chance of its own."""

Value = TypeVar("Value")
FilterKey = tuple[tuple[str, tuple[str, ...]], ...]


def filter_key(values: Mapping[str, Sequence[str]]) -> FilterKey:
    """What makes two filters the same, whatever the order of their keys and values."""
    return tuple(sorted((key, tuple(sorted(listed))) for key, listed in values.items()))


def copy_plan(plan: Plan, *, new_id: NewId, now: datetime, is_committed: bool = False) -> Plan:
    """A plan that is this one for a single subscription; its minimum commitment is left out unless `is_committed`."""
    plan_id = new_id()
    ids: dict[UUID, UUID] = defaultdict(new_id)

    def copied(charges: Sequence[Charge]) -> tuple[Charge, ...]:
        return tuple(_copy_charge(charge, plan_id, ids, now=now) for charge in charges)

    return replace(
        plan,
        id=plan_id,
        parent_id=plan.id,
        created_at=now,
        usage_thresholds=(),
        inherited_thresholds=plan.usage_thresholds,
        minimum_commitment=_copy_commitment(plan, new_id(), now) if is_committed else None,
        charges=copied(plan.charges),
        fixed_charges=tuple(_copy_fixed(charge, plan_id, new_id(), now=now) for charge in plan.fixed_charges),
        price_versions=tuple(
            replace(
                each,
                id=plan_id if each.valid_until is None else ids[each.id],
                charges=copied(each.charges),
                said=frozenset((item and ids[item], name) for item, name in each.said),
            )
            for each in plan.price_versions
        ),
    )


def _copy_commitment(plan: Plan, copy_id: UUID, now: datetime) -> MinimumCommitment | None:
    found = plan.minimum_commitment
    return found and replace(found, id=copy_id, created_at=now, updated_at=now)


def _copy_charge(charge: Charge, plan_id: UUID, ids: Mapping[UUID, UUID], *, now: datetime) -> Charge:
    """The copy; `ids` has for each id that of its copy."""
    return replace(
        charge,
        id=ids[charge.id],
        plan_id=plan_id,
        parent_id=charge.id,
        created_at=now,
        filters=tuple(replace(entry, id=ids[entry.id]) for entry in charge.filters),
    )


def _copy_fixed(charge: FixedCharge, plan_id: UUID, copy_id: UUID, *, now: datetime) -> FixedCharge:
    return replace(charge, id=copy_id, plan_id=plan_id, parent_id=charge.id, created_at=now)


def same_terms(one: Plan, other: Plan) -> bool:
    """Whether two plans that were sold as the same say the same, whosever they are."""
    return _terms(one) == _terms(other)


def _terms(plan: Plan) -> tuple[Plan, list[Charge], list[FixedCharge]]:
    """The plan without what distinguishes copies of it."""
    sold = sold_plan_id(plan)
    charges = [
        replace(
            charge,
            id=charge.parent_id or charge.id,
            plan_id=sold,
            parent_id=None,
            created_at=EPOCH,
            filters=tuple(replace(entry, id=sold) for entry in charge.filters),
        )
        for charge in plan.charges
    ]
    fixed = [
        replace(charge, id=charge.parent_id or charge.id, plan_id=sold, parent_id=None, created_at=EPOCH)
        for charge in plan.fixed_charges
    ]
    committed = plan.minimum_commitment
    thresholds = [
        replace(each, id=sold, created_at=EPOCH, updated_at=EPOCH) for each in plan.usage_thresholds
    ]
    bare = replace(
        plan,
        id=sold,
        parent_id=None,
        created_at=EPOCH,
        charges=(),
        price_versions=(),
        fixed_charges=(),
        usage_thresholds=tuple(sorted(thresholds, key=lambda each: (each.recurring, each.amount_cents))),
        inherited_thresholds=(),
        minimum_commitment=committed and replace(committed, id=sold, created_at=EPOCH, updated_at=EPOCH),
    )
    return bare, charges, fixed


def cascade(before: Plan, after: Plan, child: Plan, *, new_id: NewId, now: datetime) -> Plan:
    """The copy after its plan has changed from `before` to `after`."""
    charges_before = {charge.id: charge for charge in before.charges}
    known = {charge.parent_id: charge for charge in child.charges}
    kept = {charge.id for charge in after.charges}
    changed: dict[UUID | None, Charge] = {
        charge.id: _cascade_charge(charges_before[charge.id], charge, known[charge.id], new_id=new_id)
        for charge in after.charges
        if charge.id in known and charge.id in charges_before
    }
    ids: dict[UUID, UUID] = defaultdict(new_id)
    fresh = [
        _copy_charge(charge, child.id, ids, now=now)
        for charge in after.charges
        if charge.id not in charges_before and charge.id not in known
    ]
    staying = [
        changed.get(charge.parent_id, charge)
        for charge in child.charges
        if charge.parent_id in kept or charge.parent_id not in charges_before
    ]
    return replace(
        child,
        amount_cents=_follow(before.amount_cents, after.amount_cents, child.amount_cents),
        charges=(*staying, *fresh),
        fixed_charges=_cascade_fixed(before, after, child, new_id=new_id, now=now),
    )


def _cascade_fixed(
    before: Plan, after: Plan, child: Plan, *, new_id: NewId, now: datetime
) -> tuple[FixedCharge, ...]:
    """The fixed charges of the copy: units, prices, names and taxes follow where they were the same."""
    was = {charge.id: charge for charge in before.fixed_charges}
    then = {charge.id: charge for charge in after.fixed_charges}
    known = {charge.parent_id for charge in child.fixed_charges}
    staying = [
        _follow_fixed(was[own.parent_id], then[own.parent_id], own)
        if own.parent_id in was and own.parent_id in then
        else own
        for own in child.fixed_charges
        if own.parent_id in then or own.parent_id not in was
    ]
    fresh = [
        _copy_fixed(charge, child.id, new_id(), now=now)
        for charge in after.fixed_charges
        if charge.id not in was and charge.id not in known
    ]
    return (*staying, *fresh)


def _follow_fixed(before: FixedCharge, after: FixedCharge, own: FixedCharge) -> FixedCharge:
    names = ("charge_model", "invoice_display_name", "units", "taxes", "properties")
    return replace(
        own,
        **{name: _follow(getattr(before, name), getattr(after, name), getattr(own, name)) for name in names},
    )


def _follow(before: Value, after: Value, own: Value) -> Value:
    return after if own == before else own


def _cascade_charge(before: Charge, after: Charge, own: Charge, *, new_id: NewId) -> Charge:
    return replace(
        own,
        charge_model=_follow(before.charge_model, after.charge_model, own.charge_model),
        invoice_display_name=_follow(
            before.invoice_display_name, after.invoice_display_name, own.invoice_display_name
        ),
        min_amount_cents=_follow(before.min_amount_cents, after.min_amount_cents, own.min_amount_cents),
        taxes=_follow(before.taxes, after.taxes, own.taxes),
        applied_pricing_unit=_follow(
            before.applied_pricing_unit, after.applied_pricing_unit, own.applied_pricing_unit
        ),
        unlisted_values=_follow(before.unlisted_values, after.unlisted_values, own.unlisted_values),
        rounding=_follow(before.rounding, after.rounding, own.rounding),
        accepts_target_wallet=_follow(
            before.accepts_target_wallet, after.accepts_target_wallet, own.accepts_target_wallet
        ),
        properties=_cascade_properties(before.properties, after.properties, own.properties),
        filters=_cascade_filters(before.filters, after.filters, own.filters, new_id=new_id),
    )


def _cascade_properties(
    before: Mapping[str, Any], after: Mapping[str, Any], own: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The prices where they were the same; by which properties usage is grouped always."""
    if own == before:
        return after
    rest = {key: value for key, value in own.items() if key != PRICING}
    return {**rest, PRICING: after[PRICING]} if PRICING in after else rest


def _cascade_filters(
    before: Sequence[PlanFilter], after: Sequence[PlanFilter], own: Sequence[PlanFilter], *, new_id: NewId
) -> tuple[PlanFilter, ...]:
    """Filters are the same when their values are; of several with the same values the first is the first."""
    was, is_now, known = _numbered(before), _numbered(after), _numbered(own)
    staying = [
        _cascade_filter(was[key], is_now[key], entry) if key in was and key in is_now else entry
        for key, entry in known.items()
        if key in is_now or key not in was
    ]
    fresh = [
        replace(entry, id=new_id()) for key, entry in is_now.items() if key not in was and key not in known
    ]
    return (*staying, *fresh)


def _numbered(filters: Sequence[PlanFilter]) -> dict[tuple[FilterKey, int], PlanFilter]:
    """Each filter by its values, and by how many before it have the same ones."""
    seen: Counter[FilterKey] = Counter()
    found: dict[tuple[FilterKey, int], PlanFilter] = {}
    for entry in filters:
        key = filter_key(entry.values)
        found[key, seen[key]] = entry
        seen[key] += 1
    return found


def _cascade_filter(before: PlanFilter, after: PlanFilter, own: PlanFilter) -> PlanFilter:
    return replace(
        own,
        invoice_display_name=_follow(
            before.invoice_display_name, after.invoice_display_name, own.invoice_display_name
        ),
        properties=_cascade_properties(before.properties, after.properties, own.properties),
    )
