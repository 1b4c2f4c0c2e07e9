"""Usage that no filter lists: when it has no price."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.metering import aggregations
from permille.core.metering.usage import EMPTY
from permille.core.rating.charge import compile_charge
from permille.core.rating.filters import ChargeFilter
from permille.core.rating.models import ChargeModel, is_free, price, validate
from permille.core.rating.models.percentage import running_totals
from permille.core.rating.rate import rate
from permille.core.rating.unlisted import UnlistedValues, is_unpriced
from tests.core.given import in_period

from .test_fee import SEPTEMBER, summed

amounts = st.sampled_from(["0", "0.00", "0e5", "0.01", "3"])


def tiers(rate: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    first = st.fixed_dictionaries(
        {"from_value": st.just(0), "to_value": st.just(10), rate: amounts, "flat_amount": amounts}
    )
    last = st.fixed_dictionaries(
        {"from_value": st.just(11), "to_value": st.none(), rate: amounts, "flat_amount": amounts}
    )
    return st.tuples(first, last).map(lambda both: [*both])


PROPERTIES: dict[ChargeModel, st.SearchStrategy[dict[str, Any]]] = {
    ChargeModel.STANDARD: st.fixed_dictionaries({"amount": amounts}),
    ChargeModel.PACKAGE: st.fixed_dictionaries(
        {"amount": amounts, "package_size": st.just(5), "free_units": st.sampled_from([0, 3])}
    ),
    ChargeModel.GRADUATED: st.fixed_dictionaries({"graduated_ranges": tiers("per_unit_amount")}),
    ChargeModel.VOLUME: st.fixed_dictionaries({"volume_ranges": tiers("per_unit_amount")}),
    ChargeModel.GRADUATED_PERCENTAGE: st.fixed_dictionaries({"graduated_percentage_ranges": tiers("rate")}),
    ChargeModel.PERCENTAGE: st.fixed_dictionaries(
        {"rate": amounts},
        optional={
            "fixed_amount": amounts,
            "free_units_per_events": st.just(1),
            "per_transaction_min_amount": amounts,
            "per_transaction_max_amount": amounts,
        },
    ).filter(lambda properties: not validate(ChargeModel.PERCENTAGE, properties)),
}


@pytest.mark.parametrize("model", PROPERTIES)
@given(data=st.data())
def test_a_price_is_free_when_no_usage_costs_anything(model: ChargeModel, data: st.DataObject) -> None:
    properties = data.draw(PROPERTIES[model])

    def costs(units: int) -> bool:
        values = [Decimal(units)] * 4
        found = price(
            model,
            units=Decimal(units * 4),
            properties=properties,
            currency="EUR",
            events_count=4,
            running_totals=running_totals(values, properties) if model is ChargeModel.PERCENTAGE else (),
            event_values=values,
        )
        return found.amount > 0

    assert is_free(model, properties) is not any(costs(units) for units in (1, 2, 50, 1000))


@pytest.mark.parametrize("model", [ChargeModel.DYNAMIC, ChargeModel.CUSTOM])
def test_prices_that_are_not_in_the_properties_are_not_free(model: ChargeModel) -> None:
    assert not is_free(model, {})


@pytest.mark.parametrize(
    ("choice", "amount", "expected"),
    [
        ("free", "0", True),
        ("free", "1", False),
        ("default", "0", False),
        ("held", "0", True),
        ("held", "1", True),
    ],
)
def test_what_has_no_price(choice: str, amount: str, expected: bool) -> None:
    assert is_unpriced(UnlistedValues(choice), ChargeModel.STANDARD, {"amount": amount}) is expected


@pytest.mark.parametrize("choice", UnlistedValues)
def test_only_used_buckets_of_unlisted_values_are_unpriced(choice: UnlistedValues) -> None:
    listed = ChargeFilter(UUID(int=1), {"model": ("8K",)}, None, {"amount": "0"})
    charge = compile_charge(
        charge_id=UUID(int=2),
        model=ChargeModel.STANDARD,
        properties={"amount": "0"},
        filters=[listed],
        aggregation=aggregations.SUM,
        currency="EUR",
        unlisted_values=choice,
    )

    def states(**used: int) -> list[tuple[bool, bool]]:
        series = [({"model": model}, summed(str(units))) for model, units in used.items()]
        fees = rate(charge, series, subscription_id=UUID(int=3), rated=in_period(SEPTEMBER))
        return [(fee.is_unpriced, fee.is_held) for fee in fees]

    nothing = (False, False)
    assert states(**{"8K": 5}) == [nothing, nothing]
    unlisted = (choice is not UnlistedValues.DEFAULT, choice is UnlistedValues.HELD)
    assert states(**{"8K": 5, "64K": 1}) == [nothing, unlisted]
    unlisted_without_units = [({"model": "64K"}, EMPTY._replace(events_count=1, values_count=1))]
    (_, fee) = rate(charge, unlisted_without_units, subscription_id=UUID(int=3), rated=in_period(SEPTEMBER))
    assert (fee.is_unpriced, fee.is_held) == unlisted, "events of 0 units count too"


def test_without_filters_nothing_is_unlisted() -> None:
    charge = compile_charge(
        charge_id=UUID(int=2),
        model=ChargeModel.STANDARD,
        properties={"amount": "0"},
        filters=[],
        aggregation=aggregations.SUM,
        currency="EUR",
        unlisted_values=UnlistedValues.HELD,
    )
    (fee,) = rate(charge, [({}, summed("5"))], subscription_id=UUID(int=3), rated=in_period(SEPTEMBER))
    assert (fee.is_unpriced, fee.is_held) == (False, False)
