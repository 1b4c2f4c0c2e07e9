"""Plans of one subscription's own, and how they follow the plan they are copies of."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.contract.override import cascade, copy_plan, filter_key, same_terms
from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.metering import aggregations
from permille.core.metering.billable_metric import BillableMetric
from permille.core.period import Interval
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.core.record import replace

NOW = datetime(2024, 3, 1, tzinfo=UTC)
_ids = count(1)


def new_id() -> UUID:
    return UUID(int=next(_ids))


METRIC = BillableMetric(
    id=new_id(),
    organization_id=new_id(),
    name="tokens",
    code="tokens",
    description=None,
    aggregation=aggregations.SUM,
    field_name="tokens",
    recurring=False,
    rounding_function=None,
    rounding_precision=None,
    weighted_interval=None,
    expression=None,
    filters={"model": ("a", "b", "c")},
    created_at=NOW,
    updated_at=NOW,
)


def entry(model: str, amount: str) -> PlanFilter:
    return PlanFilter(
        id=new_id(), invoice_display_name=None, values={"model": (model,)}, properties={"amount": amount}
    )


def charge(code: str, amount: str, *filters: PlanFilter) -> Charge:
    return Charge(
        id=new_id(),
        plan_id=UUID(int=0),
        parent_id=None,
        metric=METRIC,
        code=code,
        invoice_display_name=None,
        charge_model=ChargeModel.STANDARD,
        pay_in_advance=False,
        prorated=False,
        invoiceable=True,
        regroup_paid_fees=None,
        min_amount_cents=0,
        accepts_target_wallet=False,
        properties={"amount": amount},
        filters=filters,
        created_at=NOW,
    )


def plan(*charges: Charge, amount_cents: int = 1_000) -> Plan:
    return Plan(
        id=new_id(),
        organization_id=METRIC.organization_id,
        parent_id=None,
        code="pro",
        name="Pro",
        invoice_display_name=None,
        description=None,
        interval=Interval.MONTHLY,
        amount_cents=amount_cents,
        amount_currency="EUR",
        pay_in_advance=False,
        trial_period=None,
        bill_charges_monthly=None,
        bill_fixed_charges_monthly=None,
        metadata=None,
        charges=charges,
        created_at=NOW,
    )


def copied(sold: Plan) -> Plan:
    return copy_plan(sold, new_id=new_id, now=NOW)


def follow(before: Plan, after: Plan, child: Plan) -> Plan:
    return cascade(before, after, child, new_id=new_id, now=NOW)


def shape(one: Plan) -> Any:
    """What a plan costs, without identities."""
    return one.amount_cents, {
        each.code: (
            each.properties,
            each.min_amount_cents,
            {own.values["model"]: own.properties for own in each.filters},
        )
        for each in one.charges
    }


def test_a_copy_costs_the_same_and_shares_no_identity() -> None:
    sold = plan(charge("x", "1", entry("a", "2")))
    child = copied(sold)
    assert shape(child) == shape(sold)
    assert child.parent_id == sold.id
    (own,), (parent,) = child.charges, sold.charges
    assert (own.parent_id, own.plan_id) == (parent.id, child.id)
    assert {own.id, own.filters[0].id}.isdisjoint({parent.id, parent.filters[0].id})


amounts = st.sampled_from(["1", "2", "3"])
models = st.lists(st.tuples(st.sampled_from("abc"), amounts), unique_by=lambda each: each[0], max_size=3)
edits = st.lists(
    st.tuples(st.sampled_from("xyz"), st.none() | st.tuples(amounts, models), st.integers(0, 3)), max_size=6
)


def edited(sold: Plan, code: str, wanted: tuple[str, list[tuple[str, str]]] | None, amount: int) -> Plan:
    """One edit of a plan: a charge goes, comes or gets other prices, and the plan another fee."""
    known = {each.code: each for each in sold.charges}
    if wanted is None:
        known.pop(code, None)
    else:
        price, filters = wanted
        own = {each.values["model"][0]: each for each in known[code].filters} if code in known else {}
        entries = tuple(
            replace(own[model], properties={"amount": cost}) if model in own else entry(model, cost)
            for model, cost in filters
        )
        before = known.get(code) or charge(code, price)
        known[code] = replace(before, properties={"amount": price}, filters=entries)
    return replace(sold, amount_cents=amount * 100, charges=tuple(known.values()))


@given(script=edits)
def test_a_copy_that_agrees_follows_every_edit(script: list[tuple[str, Any, int]]) -> None:
    sold = plan(charge("x", "1", entry("a", "2")))
    child = copied(sold)
    for code, wanted, amount in script:
        after = edited(sold, code, wanted, amount)
        child = follow(sold, after, child)
        sold = after
        assert shape(child) == shape(sold)
        assert all(each.plan_id == child.id for each in child.charges)


@given(script=edits, own=models)
def test_an_edit_that_is_followed_twice_is_followed_once(
    script: list[tuple[str, Any, int]], own: list[tuple[str, str]]
) -> None:
    """Whatever filters the copy has of its own."""
    sold = plan(charge("x", "1", entry("a", "2")))
    child = copied(sold)
    filters = tuple(entry(model, cost) for model, cost in own)
    child = replace(child, charges=(replace(child.charges[0], filters=filters),))
    for code, wanted, amount in script:
        after = edited(sold, code, wanted, amount)
        once = follow(sold, after, child)
        assert follow(sold, after, once) == once
        child, sold = once, after


def test_what_a_copy_has_given_up_does_not_come_back() -> None:
    sold = plan(charge("x", "1", entry("a", "2"), entry("b", "3")), charge("y", "4"))
    child = copied(sold)
    kept = replace(child.charges[0], filters=child.charges[0].filters[:1])
    child = replace(child, charges=(kept,))
    after = edited(edited(sold, "y", ("5", []), 10), "x", ("1", [("a", "2"), ("b", "9"), ("c", "7")]), 10)
    (found,) = follow(sold, after, child).charges
    assert (found.code, found.id) == ("x", kept.id)
    assert {each.values["model"]: each.properties["amount"] for each in found.filters} == {
        ("a",): "2",
        ("c",): "7",
    }


def test_filters_are_the_same_whatever_the_order_of_their_keys_and_values() -> None:
    one = filter_key({"model": ["a", "b"], "type": ["in"]})
    assert one == filter_key({"type": ("in",), "model": ("b", "a")})
    others: list[dict[str, list[str]]] = [
        {"model": ["a"], "type": ["in"]},
        {"model": ["a", "b"]},
        {"model": ["in"], "type": ["a", "b"]},
    ]
    assert len({one, *map(filter_key, others)}) == 4


@given(script=edits)
def test_what_was_agreed_stays_whatever_happens_to_the_plan(script: list[tuple[str, Any, int]]) -> None:
    sold = plan(charge("x", "1", entry("a", "2")))
    child = copied(sold)
    (own,) = child.charges
    agreed = replace(
        own,
        properties={"amount": "99"},
        min_amount_cents=7,
        filters=(replace(own.filters[0], properties={"amount": "98"}), entry("c", "97")),
    )
    child = replace(child, amount_cents=77, charges=(agreed,))
    for code, wanted, amount in script:
        after = edited(sold, code, wanted, amount)
        child = follow(sold, after, child)
        sold = after
        if not any(each.id == own.parent_id for each in sold.charges):
            return
        (kept,) = [each for each in child.charges if each.id == own.id]
        assert (child.amount_cents, kept.properties, kept.min_amount_cents) == (77, {"amount": "99"}, 7)
        prices = {each.values["model"][0]: each.properties["amount"] for each in kept.filters}
        if "a" in prices and kept.filters[0].id == agreed.filters[0].id:
            assert prices["a"] == "98"


@pytest.mark.parametrize("kept", [[0], [1], [0, 1]])
def test_filters_of_the_same_values_are_distinguished_by_their_order(kept: list[int]) -> None:
    sold = plan(charge("x", "1", entry("a", "2"), entry("a", "3")))
    child = copied(sold)
    (only,) = sold.charges
    left = tuple(replace(only.filters[i], properties={"amount": f"{i}9"}) for i in kept)
    after = replace(sold, charges=(replace(only, filters=left),))
    followed = follow(sold, after, child)
    assert [each.properties for each in followed.charges[0].filters] == [each.properties for each in left]


def test_grouping_always_follows() -> None:
    sold = plan(charge("x", "1"))
    child = copied(sold)
    child = replace(child, charges=(replace(child.charges[0], properties={"amount": "9"}),))
    grouped = replace(sold.charges[0], properties={"amount": "1", "pricing_group_keys": ["user"]})
    after = replace(sold, charges=(grouped,))
    changed = follow(sold, after, child)
    assert changed.charges[0].properties == {"amount": "9", "pricing_group_keys": ["user"]}
    again = follow(after, sold, changed)
    assert again.charges[0].properties == {"amount": "9"}


CREDITS = PricingUnit(
    id=new_id(), code="credits", name="Credits", short_name="CR", description=None, created_at=NOW
)


def test_a_rate_follows_where_it_was_the_same() -> None:
    def at(rate: str, one: Plan) -> Plan:
        applied = AppliedPricingUnit(unit=CREDITS, conversion_rate=Decimal(rate))
        return replace(one, charges=(replace(one.charges[0], applied_pricing_unit=applied),))

    def rate_of(one: Plan) -> Decimal | None:
        applied = one.charges[0].applied_pricing_unit
        return applied.conversion_rate if applied else None

    sold = at("0.5", plan(charge("x", "1")))
    child = copied(sold)
    assert rate_of(child) == Decimal("0.5")
    after = at("0.25", sold)
    assert rate_of(follow(sold, after, child)) == Decimal("0.25")
    assert rate_of(follow(sold, after, at("0.75", child))) == Decimal("0.75")


def test_copies_have_the_same_terms_until_one_is_changed() -> None:
    sold = plan(charge("a", "1", entry("x", "2")), charge("b", "3"))
    one, other = copied(sold), copied(sold)
    assert same_terms(one, other)
    assert same_terms(sold, one)
    assert not same_terms(one, replace(other, amount_cents=1))
    dearer = replace(other.charges[0], properties={"amount": "9"})
    assert not same_terms(one, replace(other, charges=(dearer, other.charges[1])))
    filters = (replace(other.charges[0].filters[0], properties={"amount": "9"}),)
    assert not same_terms(
        one, replace(other, charges=(replace(other.charges[0], filters=filters), other.charges[1]))
    )
    assert not same_terms(one, replace(other, charges=other.charges[:1]))
    assert not same_terms(one, copied(plan(charge("a", "1", entry("x", "2")), charge("b", "3"))))
