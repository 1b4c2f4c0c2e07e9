"""Prices of a plan that are different from one instant on: which of them price a period, and what edits do to them.

A period is priced, to its end, by the version that is valid when it begins (docs/price-changes.md). An edit says from
when it is valid. Without that it is valid for every period that is not billed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from permille.core.contract.plan import Charge, FieldOf, Plan, PlanFilter, PriceVersion
from permille.core.period import Interval
from permille.core.record import Record, names_of, replace

Charges = tuple[Charge, ...]
Item = TypeVar("Item", bound=Charge | PlanFilter)

FEE: FieldOf = None, "amount_cents"

FIXED = frozenset(names_of(Charge)) - {
    "properties",
    "filters",
    "min_amount_cents",
    "unlisted_values",
    "rounding",
    "accepts_target_wallet",
    "taxes",
    "applied_pricing_unit",
}
"""The fields of a charge that are the same in every version of its prices."""


def versions_of(plan: Plan) -> tuple[PriceVersion, ...]:
    """All versions of the plan's prices, the last one without an end."""
    if plan.price_versions:
        return plan.price_versions
    return (PriceVersion(id=plan.id, valid_until=None, amount_cents=plan.amount_cents, charges=plan.charges),)


def latest(plan: Plan) -> PriceVersion:
    """The version without an end."""
    return versions_of(plan)[-1]


def has_equal_codes(plan: Plan, now: datetime) -> bool:
    """Whether two charges have one code, now or from some instant on."""
    codes = [
        [charge.code for charge in each.charges]
        for each in versions_of(plan)
        if each.valid_until is None or now < each.valid_until
    ]
    return any(len(set(each)) < len(each) for each in codes)


def carries_over(plan: Plan) -> bool:
    """Whether a period of the plan may begin with usage of earlier ones."""
    return any(charge.metric.recurring for each in versions_of(plan) for charge in each.charges)


def version_at(plan: Plan, at: datetime) -> int:
    """The place among the versions of the one that is valid at an instant."""
    versions = plan.price_versions
    if not versions:
        return 0
    return next(
        number for number, each in enumerate(versions) if each.valid_until is None or at < each.valid_until
    )


def in_force(plan: Plan, at: datetime) -> Plan:
    """The plan with the fee and the charges that price periods which begin at `at`."""
    if not plan.price_versions:
        return plan
    version = plan.price_versions[version_at(plan, at)]
    return replace(plan, amount_cents=version.amount_cents, charges=version.charges)


def pricing_plan(plan: Plan, parent: Plan | None, at: datetime) -> Plan:
    """The plan as it prices a period that begins at `at`, and no other one.

    It has the charges of its parent too: the period may have been used before the plan became a subscription's own.
    """
    found = in_force(plan, at)
    if parent is not None:
        found = replace(found, charges=(*found.charges, *in_force(parent, at).charges))
    return replace(found, price_versions=())


def change_charges(plan: Plan, change: Callable[[Charge], Charge]) -> Plan:
    """The plan with each of its charges changed, in every version."""
    return replace(
        plan,
        charges=tuple(map(change, plan.charges)),
        price_versions=tuple(
            replace(each, charges=tuple(map(change, each.charges))) for each in plan.price_versions
        ),
    )


def edit_prices(
    before: Plan, after: Plan, *, since: datetime | None, now: datetime, version_id: UUID
) -> Plan:
    """The plan after an edit of the prices that are in force at `edit_base`, valid for periods that begin at or after `since`.

    Versions that end before it stay. The one that it falls into is split. A later change stays what it is: it takes
    over what it does not say itself. `version_id` is for the version that a split makes.
    """
    if since is None and not before.price_versions:
        return after
    versions = _split(versions_of(before), since, version_id)
    base, said = edit_base(since, now), _differences(before, after)
    place = _place_at(versions, base)
    if since is None:
        earlier = [
            replace(_rebase_version(before, after, each), said=each.said - said) for each in versions[:place]
        ]
    else:
        earlier = [
            replace(each, said=each.said | said) if each.valid_until == since else each
            for each in versions[:place]
        ]
    edited = _rebase_version(before, after, versions[place])
    return _with_versions(after, [*earlier, *_following(versions[place], edited, versions[place + 1 :])], now)


def edit_base(since: datetime | None, now: datetime) -> datetime:
    """The instant whose prices an edit starts from, if it is valid from `since` on: what it does not say is as then."""
    return since or now


def _following(was: PriceVersion, changed: PriceVersion, later: Sequence[PriceVersion]) -> list[PriceVersion]:
    """A version that has changed, and those after it: each still says what it said before, and takes over the rest."""
    found = [changed]
    for each in later:
        said = was.said | _differences(was, each)
        following = _rebase_version(was, found[-1], each, kept=said)
        found = [*found[:-1], replace(found[-1], said=said), following]
        was = each
    return found


def _differences(before: Plan | PriceVersion, after: Plan | PriceVersion) -> frozenset[FieldOf]:
    """What the prices say differently, of the charges and filters that both have."""
    charges = _pairs(before.charges, after.charges)
    pairs: list[tuple[Charge | PlanFilter, Charge | PlanFilter]] = [*charges]
    pairs += [each for was, then in charges for each in _pairs(was.filters, then.filters)]
    found = {
        (then.id, name)
        for was, then in pairs
        for name in names_of(type(then))
        if name != "filters" and getattr(was, name) != getattr(then, name)
    }
    return frozenset(found | ({FEE} if before.amount_cents != after.amount_cents else set()))


def _pairs(before: Sequence[Item], after: Sequence[Item]) -> list[tuple[Item, Item]]:
    known = _by_id(before)
    return [(known[each.id], each) for each in after if each.id in known]


def _with_versions(plan: Plan, versions: Sequence[PriceVersion], now: datetime) -> Plan:
    last = versions[-1]
    latest_prices = replace(
        plan, amount_cents=last.amount_cents, charges=last.charges, price_versions=_joined(versions)
    )
    return in_force(latest_prices, now)


def _split(
    versions: Sequence[PriceVersion], since: datetime | None, version_id: UUID
) -> Sequence[PriceVersion]:
    if since is None or any(each.valid_until == since for each in versions):
        return versions
    place = _place_at(versions, since)
    earlier = replace(versions[place], id=version_id, valid_until=since, said=frozenset())
    return [*versions[:place], earlier, *versions[place:]]


def _place_at(versions: Sequence[PriceVersion], at: datetime) -> int:
    """Which of the versions is in force at an instant."""
    return next(n for n, each in enumerate(versions) if each.valid_until is None or at < each.valid_until)


def _joined(versions: Sequence[PriceVersion]) -> tuple[PriceVersion, ...]:
    """Without versions after which nothing is said and all is the same; none where there is one alone."""
    kept = [
        each
        for each, following in zip(versions, [*versions[1:], None], strict=True)
        if following is None or _prices(each) != _prices(following) or each.said & _fields_of(following)
    ]
    return tuple(kept) if len(kept) > 1 else ()


def _prices(version: PriceVersion) -> tuple[int, Charges]:
    return version.amount_cents, version.charges


def _fields_of(version: PriceVersion) -> frozenset[FieldOf]:
    """All that a change can say of its prices."""
    charges = version.charges
    items: list[Charge | PlanFilter] = [*charges, *(each for charge in charges for each in charge.filters)]
    return frozenset({FEE, *((each.id, name) for each in items for name in names_of(type(each)))})


class PriceChange(Record, kw_only=True):
    """A change of a plan's prices at an instant; its id is that of the version which ends there."""

    id: UUID
    at: datetime
    amount_cents: int
    """The plan's own fee from then on; so are the charges."""
    charges: Charges
    said: frozenset[FieldOf]
    """What it says although it may be so before."""


def price_changes(plan: Plan) -> list[PriceChange]:
    """All changes of the plan's prices, past ones too, in their order."""
    pairs = zip(plan.price_versions, plan.price_versions[1:], strict=False)
    return [
        PriceChange(
            id=before.id,
            at=before.valid_until,
            amount_cents=after.amount_cents,
            charges=after.charges,
            said=before.said,
        )
        for before, after in pairs
        if before.valid_until is not None
    ]


_INTERVAL_DAYS = {
    Interval.WEEKLY: 7,
    Interval.MONTHLY: 31,
    Interval.QUARTERLY: 92,
    Interval.SEMIANNUAL: 184,
    Interval.YEARLY: 366,
}


def changes_to_show(plan: Plan, now: datetime) -> list[PriceChange]:
    """The changes to come, and those so young that periods which began before may still be running."""
    return [each for each in price_changes(plan) if now < each.at + longest_period(plan.interval)]


def longest_period(interval: Interval) -> timedelta:
    """No period of the interval is longer."""
    return timedelta(days=_INTERVAL_DAYS[interval])


def versions_running(plan: Plan, now: datetime) -> list[PriceVersion]:
    """The versions that price the periods which may be running at `now`: what began before a change keeps its prices."""
    versions = versions_of(plan)
    longest = longest_period(plan.interval)
    return [
        each
        for each in versions[: version_at(plan, now) + 1]
        if each.valid_until is None or now < each.valid_until + longest
    ]


def next_look(ends: Iterable[tuple[datetime, Interval]], now: datetime) -> datetime | None:
    """When the versions in force of running periods change next, at the latest: at a change of prices (its instant, the
    plan's interval), and daily while periods that began before it may still run. None: not at all.
    """
    looks = [
        at if now < at else min(now + timedelta(days=1), at + longest_period(interval))
        for at, interval in ends
        if now < at + longest_period(interval)
    ]
    return min(looks, default=None)


def cancel_change(plan: Plan, change_id: UUID, *, now: datetime) -> Plan:
    """The plan without one of its changes. Later changes stay what they are."""
    versions = list(plan.price_versions)
    place = next(number for number, each in enumerate(versions) if each.id == change_id)
    undone, was, *later = versions[place:]
    undone = replace(undone, id=was.id, valid_until=was.valid_until, said=was.said)
    return _with_versions(plan, [*versions[:place], *_following(was, undone, later)], now)


def _rebase_version(
    before: Plan | PriceVersion,
    after: Plan | PriceVersion,
    own: PriceVersion,
    *,
    kept: frozenset[FieldOf] = frozenset(),
) -> PriceVersion:
    """The version with what changes of the prices from `before` to `after`, but for what is kept."""
    is_changed = before.amount_cents != after.amount_cents and FEE not in kept
    charges = (
        after.charges
        if own.charges == before.charges and not kept
        else _rebased(
            before.charges,
            after.charges,
            own.charges,
            lambda was, then, charge: _rebase_charge(was, then, charge, kept),
        )
    )
    return replace(own, amount_cents=after.amount_cents if is_changed else own.amount_cents, charges=charges)


def _rebased(
    before: Sequence[Item],
    after: Sequence[Item],
    own: Sequence[Item],
    change: Callable[[Item, Item, Item], Item],
) -> tuple[Item, ...]:
    """The items of `own`: those of both sides changed, without what was taken away, then what was added."""
    was, changed, known = _by_id(before), _by_id(after), _by_id(own)
    staying = [
        change(was[key], changed[key], item) if key in was and key in changed else item
        for key, item in known.items()
        if key in changed or key not in was
    ]
    fresh = [item for key, item in changed.items() if key not in was and key not in known]
    return (*staying, *fresh)


def _by_id(items: Sequence[Item]) -> dict[UUID, Item]:
    return {item.id: item for item in items}


def _rebase_charge(before: Charge, after: Charge, own: Charge, kept: frozenset[FieldOf]) -> Charge:
    changed = _changed_fields(before, after, own, kept)
    if own.filters != before.filters or kept:
        changed["filters"] = _rebased(
            before.filters,
            after.filters,
            own.filters,
            lambda was, then, entry: replace(entry, **_changed_fields(was, then, entry, kept)),
        )
    return replace(own, **changed)


def _changed_fields(before: Any, after: Any, own: Any, kept: frozenset[FieldOf]) -> dict[str, Any]:
    """The fields that change from `before` to `after`, but those of `own` that are kept."""
    return {
        name: getattr(after, name)
        for name in names_of(type(own))
        if getattr(before, name) != getattr(after, name) and (own.id, name) not in kept
    }


def unschedulable(before: Plan, after: Plan) -> list[str]:
    """The fields that an edit changes and that cannot change from an instant on."""
    of_plan = [
        name
        for name in names_of(Plan)
        if name not in ("amount_cents", "charges", "price_versions")
        and getattr(before, name) != getattr(after, name)
    ]
    pairs = _pairs(before.charges, after.charges)
    of_charges = [
        name
        for was, charge in pairs
        for name in names_of(Charge)
        if name in FIXED and getattr(was, name) != getattr(charge, name)
    ]
    renamed = any(_renames_filters(was.filters, charge.filters) for was, charge in pairs)
    names = [*of_plan, *of_charges, *(["invoice_display_name"] if renamed else [])]
    return [_WIRE_NAMES.get(name, name) for name in dict.fromkeys(names)]


_WIRE_NAMES: Mapping[str, str] = {"taxes": "tax_codes"}


def _renames_filters(before: Sequence[PlanFilter], after: Sequence[PlanFilter]) -> bool:
    names = {each.id: each.invoice_display_name for each in before}
    return any(names.get(each.id, each.invoice_display_name) != each.invoice_display_name for each in after)
