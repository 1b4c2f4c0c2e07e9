"""A fee as the API shows it (semantics-metering.md 5.16, semantics-billing.md 11.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge

MEETING = [
    {"from_value": 0, "to_value": 0.5, "per_unit_amount": "1.255", "flat_amount": "2"},
    {"from_value": 0.5, "to_value": None, "per_unit_amount": ".1111", "flat_amount": "0"},
]


@pytest.fixture
def fee(dsn: str, api: Api) -> Any:
    """Of 3.25 units in tiers that meet at half a unit, taxed by 20 %."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    metric = api.metric(description="Tokens used")
    tiers = {"graduated_ranges": MEETING}
    api.plan("pro", [charge(metric, charge_model="graduated", properties=tiers)])
    api.customer()
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    conn = open_connection(dsn)
    draft = Draft("tx", "tokens", "sub", microseconds(START), None, {"tokens": "3.25"})
    store(conn, Memory(), [Request(api.organization.id, [draft], microseconds(START))])
    conn.close()
    api.put("/test_clock", {"test_clock": {"now": datetime(2024, 4, 1, 1, tzinfo=UTC).isoformat()}})
    (found,) = api.get("/fees", fee_type="charge")["fees"]
    return found


def test_bounds_of_tiers_are_numbers_and_amounts_texts(fee: Any) -> None:
    assert fee["amount_details"] == {
        "graduated_ranges": [
            {
                "from_value": 0,
                "to_value": 0.5,
                "flat_unit_amount": "2.0",
                "per_unit_amount": "1.255",
                "units": "0.5",
                "per_unit_total_amount": "0.6275",
                "total_with_flat_amount": "2.6275",
            },
            {
                "from_value": 0.5,
                "to_value": None,
                "flat_unit_amount": "0.0",
                "per_unit_amount": "0.1111",
                "units": "2.75",
                "per_unit_total_amount": "0.305525",
                "total_with_flat_amount": "0.305525",
            },
        ]
    }


def test_amounts_are_whole_and_precise(fee: Any) -> None:
    assert (fee["amount_cents"], fee["precise_amount"]) == (293, "2.933025")
    assert (fee["taxes_amount_cents"], fee["taxes_precise_amount"], fee["taxes_rate"]) == (
        59,
        "0.586605",
        20.0,
    )
    assert (fee["total_amount_cents"], fee["precise_total_amount"]) == (352, "3.51963")
    assert fee["precise_coupons_amount_cents"] == "0.0"
    assert fee["sub_total_excluding_taxes_amount_cents"] == 293
    assert fee["sub_total_excluding_taxes_precise_amount_cents"] == "293.3025"


def test_its_item_is_the_metric(fee: Any) -> None:
    item = fee["item"]
    assert (item["type"], item["code"], item["description"]) == ("charge", "tokens", "Tokens used")
    assert (item["item_type"], item["filters"], item["grouped_by"]) == ("BillableMetric", None, {})
