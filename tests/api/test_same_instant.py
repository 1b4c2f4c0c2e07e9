"""What happens at the very instant of a bill, as on a test clock, comes after it: whether the bill is a draft or final."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Api, charge
from .test_fixed_charges import at, fixed, sold

__all__ = ["sold"]


def end(api: Api, name: str) -> None:
    api.delete(f"/subscriptions/{name}")


def upgrade(api: Api, name: str) -> None:
    api.subscribe(name, "two", external_customer_id=name)


def more_units(api: Api, name: str) -> None:
    body = {"fixed_charge": {"units": 10, "apply_units_immediately": True}}
    api.put(f"/subscriptions/{name}/fixed_charges/seat", body)


def fewer_units(api: Api, name: str) -> None:
    body = {"fixed_charge": {"units": 1, "apply_units_immediately": True}}
    api.put(f"/subscriptions/{name}/fixed_charges/seat", body)


def owed(api: Api, name: str) -> list[Any]:
    """The fees of a customer's final invoices, in the order in which the invoices were made, and its notes."""
    listed = sorted(
        api.get("/invoices", external_customer_id=name)["invoices"], key=lambda each: each["lago_id"]
    )
    for each in listed:
        if each["status"] == "draft":
            api.put(f"/invoices/{each['lago_id']}/refresh", {})
            api.put(f"/invoices/{each['lago_id']}/finalize", {})
    notes = api.get("/credit_notes", external_customer_id=name)["credit_notes"]
    return [
        [
            (fee["item"]["type"], fee["item"]["code"], fee["units"], fee["amount_cents"])
            for fee in api.get(f"/invoices/{each['lago_id']}")["invoice"]["fees"]
        ]
        for each in listed
    ] + [note["total_amount_cents"] for note in notes]


@pytest.mark.parametrize("change", [end, upgrade, more_units, fewer_units])
@pytest.mark.parametrize("instant", ["start", "boundary"])
def test_a_draft_says_what_a_final_invoice_says(
    sold: Api, change: Callable[[Api, str], None], instant: str
) -> None:
    metric = sold.metric()
    for code, cents in (("one", 3_000), ("two", 6_000)):
        sold.plan(
            code,
            [charge(metric, min_amount_cents=700)],
            amount_cents=cents,
            pay_in_advance=True,
            minimum_commitment={"amount_cents": 9_000},
            fixed_charges=[
                fixed(sold, "seat", 4, "1", pay_in_advance=True),
                fixed(sold, "support", 1, "31", prorated=True),
            ],
        )
    for name, days in (("final", 0), ("draft", 3)):
        sold.customer(name, billing_configuration={"invoice_grace_period": days}, timezone="UTC")
        sold.subscribe(name, "one", external_customer_id=name)
    if instant == "boundary":
        at(sold, "2024-04-01T00:00:00Z")
    for name in ("final", "draft"):
        change(sold, name)
    assert owed(sold, "draft") == owed(sold, "final")
