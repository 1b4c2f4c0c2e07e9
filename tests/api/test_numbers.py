"""Prices sent as JSON numbers are the decimals that were written, never floats."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from permille.api.validation import Fields
from tests.api.conftest import Api, charge, plan_body

# What a float would not give back.
EXACT = ["0.03", "0.10", "0.1000000000000000055511151231257827", "0.0000001", "1234567890123456789.5", "7"]


def send(api: Api, method: str, path: str, body: Any, number: str) -> Any:
    """A request in which every "@" is this JSON number."""
    answer = api.client.request(
        method,
        f"/api/v1{path}",
        content=json.dumps(body).replace('"@"', number),
        headers={"Authorization": f"Bearer {api.key}"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("0.5", "1"), ("1.5", "2"), ("2.5", "3"), ("2.49", "2"), ("-0.5", "-1"), ("-2.5", "-3")],
)
def test_a_number_with_too_many_decimals_is_rounded_half_away_from_zero(sent: str, kept: str) -> None:
    for value in (sent, Decimal(sent)):
        found = Fields({"rate": value}).decimal("rate", minimum=-9, maximum=9, places=0)
        assert found == Decimal(kept)


@pytest.mark.parametrize("sent", ["545689776721817.0", "1000000000000000", "0.1234567890123454999", "1e-400"])
def test_a_number_within_its_bounds_has_all_of_its_digits(sent: str) -> None:
    found = Fields({"units": Decimal(sent)}).decimal("units", minimum=0, maximum=10**15, places=15)
    assert found is not None
    assert abs(found - Decimal(sent)) <= Decimal("0.0000000000000005")


def tier(**amounts: str) -> list[dict[str, Any]]:
    return [{"from_value": 0, "to_value": None, **amounts}]


MODELS: dict[str, dict[str, Any]] = {
    "standard": {"amount": "@"},
    "package": {"amount": "@", "package_size": 1000, "free_units": 0},
    "graduated": {"graduated_ranges": tier(per_unit_amount="@", flat_amount="@")},
    "volume": {"volume_ranges": tier(per_unit_amount="@", flat_amount="@")},
    "graduated_percentage": {"graduated_percentage_ranges": tier(rate="@", flat_amount="@")},
    "percentage": {
        "rate": "@",
        "fixed_amount": "@",
        "free_units_per_total_aggregation": "@",
        "per_transaction_min_amount": "@",
        "per_transaction_max_amount": "@",
    },
}


def filled(properties: Any, number: str) -> Any:
    return json.loads(json.dumps(properties).replace('"@"', json.dumps(number)))


@pytest.mark.parametrize("number", EXACT)
def test_a_number_is_a_price_in_every_model(api: Api, number: str) -> None:
    metric = api.metric(filters=[{"key": "k", "values": ["v"]}])
    charges = [
        charge(
            metric,
            charge_model=model,
            properties=properties,
            filters=[{"values": {"k": ["v"]}, "properties": properties}],
        )
        for model, properties in MODELS.items()
    ]
    plan = send(api, "POST", "/plans", {"plan": plan_body("p", charges)}, number)["plan"]
    api.customer()
    api.subscribe(plan="p")
    code = plan["charges"][0]["code"]
    own = send(
        api,
        "PUT",
        f"/subscriptions/sub/charges/{code}",
        {"charge": {"properties": MODELS["standard"]}},
        number,
    )
    for shown in [*plan["charges"], own["charge"]]:
        expected = filled(MODELS[shown["charge_model"]], number)
        assert expected.items() <= shown["properties"].items()
        for each in shown["filters"]:
            assert expected.items() <= each["properties"].items()


@pytest.mark.parametrize("number", ["0.03", "0.10", "7", "7.0", "0.0000001"])
def test_other_numbers_are_numbers_too(api: Api, number: str) -> None:
    api.post("/pricing_units", {"pricing_unit": {"name": "n", "code": "credits", "short_name": "CR"}})
    unit = {"code": "credits", "conversion_rate": "@"}
    plan = {"plan": plan_body("p", [charge(api.metric(), applied_pricing_unit=unit)])}
    written = send(api, "POST", "/plans", plan, number)["plan"]
    api_text = send(api, "POST", "/plans", plan | {"plan": plan["plan"] | {"code": "q"}}, f'"{number}"')[
        "plan"
    ]
    rates = [one["charges"][0]["applied_pricing_unit"]["conversion_rate"] for one in (written, api_text)]
    assert rates[0] == rates[1]
    tax = send(api, "POST", "/taxes", {"tax": {"name": "n", "code": "a", "rate": "@"}}, number)["tax"]
    text = send(api, "POST", "/taxes", {"tax": {"name": "n", "code": "b", "rate": "@"}}, f'"{number}"')["tax"]
    assert tax["rate"] == text["rate"]


def test_whole_amounts_may_be_written_with_a_fraction_of_zeros(api: Api) -> None:
    body = {"plan": plan_body("p", [charge(api.metric(), min_amount_cents="@")], amount_cents="@")}
    plan = send(api, "POST", "/plans", body, "700.0")["plan"]
    assert (plan["amount_cents"], plan["charges"][0]["min_amount_cents"]) == (700, 700)
