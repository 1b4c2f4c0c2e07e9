"""What usage of open periods comes to, of all subscriptions of an organization together.

The amounts are those of the lines of current usage, of which each is rounded by itself. Where all prices of a plan are
linear no line is made: usage is read by kind, and each kind has its price once for all subscriptions of the plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from permille.core.contract.compiled import compile_plan_charge
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.price_versions import in_force, version_at
from permille.core.contract.subscription import Subscription
from permille.core.customer import Customer
from permille.core.money import exact
from permille.core.rating.charge import CompiledCharge, Place, series_place, shown_group
from permille.core.rating.linear import Used, is_linear, line_cents, units_of
from permille.core.record import Record
from permille.events.engine import usage
from permille.events.usage import KindUsage, UsageQuery
from permille.store import plans
from permille.usecases.usage.usage import UsageSearch, running_usages
from permille.usecases.usage.windows import usage_period, usage_windows

AT_ONCE = 500
"""How many subscriptions have their lines made at once."""

Running = tuple[Subscription, Customer]


class OpenAmount(NamedTuple):
    """What lines of a place of a charge come to, of subscriptions with the same owner."""

    owner: int
    currency: str
    metric_code: str
    grouped_by: Mapping[str, str | None]
    filter_values: Mapping[str, Sequence[str]]
    amount_cents: int


class _Prices(Record, kw_only=True):
    """The charges of a version of a plan, but for those in advance, ready to price."""

    currency: str
    charges: Sequence[tuple[Charge, CompiledCharge]]

    @property
    def are_linear(self) -> bool:
        return all(is_linear(prices) and not charge.metric.recurring for charge, prices in self.charges)

    @property
    def names(self) -> set[str]:
        """The properties that they look at."""
        keys = [(prices.filter_keys, *(b.group_keys for b in prices.buckets)) for _, prices in self.charges]
        return {name for some in keys for each in some for name in each}


def open_amounts(
    conn: Connection[Any], of: Sequence[Running], owners: Sequence[int], *, now: datetime
) -> Iterator[OpenAmount]:
    """The amounts of active subscriptions, each with its owner, but for charges whose fees are made by events."""
    organization_ids = {subscription.organization_id for subscription, _ in of}
    linear, others = usage.under_one_metering(
        conn, organization_ids, lambda: _linear(conn, of, owners, now=now)
    )
    yield from linear
    for first in range(0, len(others), AT_ONCE):
        some = others[first : first + AT_ONCE]
        yield from _by_line(conn, [of[place] for place in some], [owners[place] for place in some], now=now)


def _by_line(
    conn: Connection[Any], of: Sequence[Running], owners: Sequence[int], *, now: datetime
) -> Iterator[OpenAmount]:
    """The amounts of each line by itself."""
    used = running_usages(conn, of, search=UsageSearch(with_taxes=False), now=now)
    in_advance = plans.paid_in_advance(conn, {charge.charge_id for each in used for charge in each.charges})
    for owner, each in zip(owners, used, strict=True):
        for charge in each.charges:
            for line in charge.lines if charge.charge_id not in in_advance else ():
                values = line.filter.values if line.filter else {}
                yield OpenAmount(
                    owner, each.currency, charge.metric_code, line.grouped_by, values, line.amount_cents
                )


def _linear(
    conn: Connection[Any], of: Sequence[Running], owners: Sequence[int], *, now: datetime
) -> tuple[list[OpenAmount], list[int]]:
    """The amounts of subscriptions whose prices are linear, and the places of the others."""
    known = plans.plans_by_ids(conn, {subscription.plan_id for subscription, _ in of})
    priced: dict[tuple[UUID, int], _Prices] = {}
    asked: dict[Any, list[UsageQuery]] = {}
    windows: list[UsageQuery] = []
    groups: list[int] = []
    prices_of: dict[int, _Prices] = {}
    others: list[int] = []
    for place, (subscription, customer) in enumerate(of):
        plan, timezone = known[subscription.plan_id], customer.applicable_timezone
        period = usage_period(subscription, plan, timezone=timezone, now=now)
        key = plan.id, version_at(plan, period.from_)
        if key not in priced:
            priced[key] = _prices(in_force(plan, period.from_))
        prices = priced[key]
        if not prices.are_linear:
            others.append(place)
            continue
        prices_of[place] = prices
        alike = key, period, timezone, subscription.upgraded, subscription.terminated_at
        if alike not in asked:
            charges = [charge for charge, _ in prices.charges]
            asked[alike] = usage_windows(subscription, charges, period, timezone=timezone)
        windows += [each.of(subscription.external_id) for each in asked[alike]]
        groups += [place] * len(asked[alike])
    names = sorted(set().union(*(each.names for each in priced.values())))
    kinds = usage.usage_of_kinds(conn, windows, groups, names)
    return list(_amounts(kinds, prices_of, owners)), others


def _prices(plan: Plan) -> _Prices:
    charges = [charge for charge in plan.charges if not charge.pay_in_advance]
    return _Prices(
        currency=plan.amount_currency,
        charges=[(charge, compile_plan_charge(charge, currency=plan.amount_currency)) for charge in charges],
    )


def _amounts(
    kinds: Iterable[KindUsage], prices_of: Mapping[int, _Prices], owners: Sequence[int]
) -> Iterator[OpenAmount]:
    by_id = {id(prices): prices for prices in prices_of.values()}
    by_charge: dict[tuple[int, int], dict[Place, list[Used]]] = defaultdict(lambda: defaultdict(list))
    for kind in kinds:
        for number, places in _by_prices(kind, prices_of).items():
            for charge_number, (charge, prices) in enumerate(by_id[number].charges):
                if charge.metric.code == kind.code:
                    events, sums = [kind.events_counts[at] for at in places], [kind.sums[at] for at in places]
                    used = [kind.groups[at] for at in places], units_of(prices, events, sums)
                    by_charge[number, charge_number][series_place(prices, kind.dimensions)].append(used)
    for (number, charge_number), used_in in by_charge.items():
        charge, prices = by_id[number].charges[charge_number]
        filters: dict[Any, PlanFilter] = {each.id: each for each in charge.filters}
        together = {place: _together(used_by) for place, used_by in used_in.items()}
        for (bucket, group), subscriptions, cents in line_cents(prices, together):
            one = filters.get(prices.buckets[bucket].charge_filter_id)
            grouped_by, values = shown_group(prices, group), one.values if one else {}
            for owner, amount in _by_owner(subscriptions, cents, owners).items():
                yield OpenAmount(
                    owner, by_id[number].currency, charge.metric.code, grouped_by, values, amount
                )


def _by_owner(subscriptions: Sequence[int], cents: Sequence[int], owners: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for each, amount in zip(subscriptions, cents, strict=True):
        found[owners[each]] += amount
    return found


def _by_prices(kind: KindUsage, prices_of: Mapping[int, _Prices]) -> dict[int, list[int]]:
    """The places in a kind by the prices of its groups, which are the places of subscriptions."""
    found: dict[int, list[int]] = defaultdict(list)
    for at, group in enumerate(kind.groups):
        found[id(prices_of[group])].append(at)
    return found


def _together(used_by: Sequence[Used]) -> Used:
    """The units of a place, added up where a subscription has several kinds of usage there."""
    if len(used_by) == 1 and len(set(used_by[0][0])) == len(used_by[0][0]):
        return used_by[0]
    found: dict[int, Decimal] = {}
    with exact():
        for subscriptions, units in used_by:
            for each, more in zip(subscriptions, units, strict=True):
                found[each] = found[each] + more if each in found else more
    return list(found), list(found.values())
