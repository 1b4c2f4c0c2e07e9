"""Fixed charges over the API: on plans and subscriptions, billed, changed at once and from the next period on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from permille.api.webhooks import RENDERERS

from .conftest import Api
from .test_add_ons import add_on


def fixed(api: Api, code: str = "seat", units: Any = 4, amount: str = "7.5", **fields: Any) -> dict[str, Any]:
    known = api.get(f"/add_ons/{code}")["add_on"]
    return {
        "add_on_id": known["lago_id"],
        "charge_model": "standard",
        "units": units,
        "properties": {"amount": amount},
        **fields,
    }


def at(api: Api, instant: str) -> None:
    api.put("/test_clock", {"test_clock": {"now": instant}})


def billed(api: Api) -> list[list[tuple[str, float, int]]]:
    """(code, units, cents) of the fixed charge fees of each invoice, oldest first."""
    found = []
    for listed in sorted(api.get("/invoices")["invoices"], key=lambda each: each["created_at"]):
        fees = api.get(f"/invoices/{listed['lago_id']}")["invoice"]["fees"]
        found.append(
            sorted(
                (fee["item"]["code"], float(fee["units"]), fee["amount_cents"])
                for fee in fees
                if fee["item"]["type"] == "fixed_charge"
            )
        )
    return found


@pytest.fixture
def sold(api: Api) -> Api:
    add_on(api, "seat", invoice_display_name="Seats")
    add_on(api, "support")
    api.customer("cus", timezone="UTC")
    return api


def test_they_are_part_of_a_plan_and_shown_with_it(sold: Api) -> None:
    made = sold.plan("pro", fixed_charges=[fixed(sold), fixed(sold), {**fixed(sold), "code": "own"}])
    first, second, third = made["fixed_charges"]
    assert [each["code"] for each in (first, second, third)] == ["seat", "seat_2", "own"]
    assert (first["units"], first["pay_in_advance"], first["prorated"]) == (4, False, False)
    assert sold.get("/plans/pro/fixed_charges")["meta"]["total_count"] == 3
    kept = {"id": first["lago_id"], "units": 6}
    body = {"plan": {"fixed_charges": [kept, {"add_on_code": "support", "charge_model": "standard"}]}}
    changed = sold.put("/plans/pro", body)["plan"]["fixed_charges"]
    assert [(each["code"], each["units"]) for each in changed] == [("seat", 6), ("support", 0)]
    assert changed[0] == {**first, "units": 6}
    assert sold.put("/plans/pro", {"plan": {"name": "P"}})["plan"]["fixed_charges"] == changed


def test_what_does_not_go_together_is_refused(sold: Api) -> None:
    tiers = {"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"}
    volume = fixed(sold, charge_model="volume", pay_in_advance=True, properties={"volume_ranges": [tiers]})
    plan = {"name": "n", "code": "n", "interval": "monthly", "amount_cents": 0, "amount_currency": "EUR"}
    found = sold.details("POST", "/plans", {"plan": {**plan, "fixed_charges": [volume]}})
    assert found == {"pay_in_advance": ["invalid_charge_model"]}
    graduated = {
        **volume,
        "charge_model": "graduated",
        "prorated": True,
        "properties": {"graduated_ranges": [tiers]},
    }
    found = sold.details("POST", "/plans", {"plan": {**plan, "fixed_charges": [graduated]}})
    assert found == {"prorated": ["invalid_charge_model"]}
    wrong = fixed(sold, charge_model="package", units=-1)
    found = sold.details("POST", "/plans", {"plan": {**plan, "fixed_charges": [wrong]}})
    assert found == {"charge_model": ["value_is_invalid"], "units": ["value_is_out_of_range"]}
    unknown = {"charge_model": "standard", "add_on_code": "none"}
    body = {"plan": {**plan, "fixed_charges": [unknown]}}
    assert sold.code(404, "POST", "/plans", body) == "add_ons_not_found"


def test_they_are_billed_at_both_ends_and_taxed_by_their_own_taxes(sold: Api) -> None:
    sold.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    sold.plan(
        "pro",
        fixed_charges=[
            fixed(sold, "seat", 3, "2", pay_in_advance=True, prorated=True, tax_codes=["vat"]),
            fixed(sold, "support", 1, "31", prorated=True),
        ],
    )
    at(sold, "2024-03-11T10:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2024-04-01T01:00:00Z")
    # 21 of 31 days of 6.00 and of 31.00; then April's 6.00
    assert billed(sold) == [[("seat", 3.0, 406)], [("seat", 3.0, 600), ("support", 1.0, 2_100)]]
    newest = sold.get("/invoices")["invoices"][0]
    invoice = sold.get(f"/invoices/{newest['lago_id']}")["invoice"]
    assert (invoice["fees_amount_cents"], invoice["taxes_amount_cents"]) == (2_700, 120)
    fee = next(each for each in invoice["fees"] if each["item"]["code"] == "seat")
    assert (fee["item"]["item_type"], fee["item"]["invoice_display_name"]) == ("AddOn", "Seats")
    assert (fee["from_date"], fee["precise_unit_amount"]) == ("2024-04-01T00:00:00+00:00", "2.0")
    assert fee["lago_fixed_charge_id"]


def test_units_change_from_the_next_period_on_or_at_once(sold: Api) -> None:
    made = sold.plan("pro", fixed_charges=[fixed(sold, units=4, amount="3", pay_in_advance=True)])
    charge = made["fixed_charges"][0]
    at(sold, "2024-04-01T10:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2024-04-05T10:00:00Z")
    later = {"fixed_charge": {"units": 9}}
    assert sold.put("/plans/pro/fixed_charges/seat", later)["fixed_charge"]["units"] == 9
    at(sold, "2024-04-06T10:00:00Z")
    now = {"fixed_charge": {"units": "6.5", "apply_units_immediately": True}}
    sold.put("/plans/pro/fixed_charges/seat", now)
    at(sold, "2024-05-01T01:00:00Z")
    # what was to come is replaced by what came after it
    assert billed(sold) == [[("seat", 4.0, 1_200)], [("seat", 2.5, 750)], [("seat", 6.5, 1_950)]]
    gone = sold.delete("/plans/pro/fixed_charges/seat")["fixed_charge"]
    assert gone["lago_id"] == charge["lago_id"]
    at(sold, "2024-06-01T01:00:00Z")
    assert billed(sold)[3:] == [[]]


@pytest.mark.parametrize("place", ["/plans/pro", "/subscriptions/sub"])
def test_units_that_are_to_come_count_at_once_where_that_is_asked_for(sold: Api, place: str) -> None:
    sold.plan("pro", fixed_charges=[fixed(sold, units=4, amount="3", pay_in_advance=True)])
    at(sold, "2024-04-01T10:00:00Z")
    sold.subscribe("sub", "pro")
    path, body = f"{place}/fixed_charges/seat", {"units": 9}
    at(sold, "2024-04-05T10:00:00Z")
    sold.put(path, {"fixed_charge": body})
    at(sold, "2024-04-06T10:00:00Z")
    for _ in range(2):
        sold.put(path, {"fixed_charge": {**body, "apply_units_immediately": True}})
    assert billed(sold) == [[("seat", 4.0, 1_200)], [("seat", 5.0, 1_500)]]
    sold.put(path, {"fixed_charge": body})
    at(sold, "2024-05-01T01:00:00Z")
    assert billed(sold)[2:] == [[("seat", 9.0, 2_700)]]


def test_units_that_are_changed_at_the_instant_of_the_start_were_billed_before(sold: Api) -> None:
    """The audit after the test finds nothing wrong with that."""
    sold.plan("pro", fixed_charges=[fixed(sold, units=10, amount="1", pay_in_advance=True)])
    sold.subscribe("sub", "pro")
    fewer = {"fixed_charge": {"units": 2, "apply_units_immediately": True}}
    sold.put("/subscriptions/sub/fixed_charges/seat", fewer)
    assert [("seat", 10.0, 1_000)] in billed(sold)


def test_days_are_billed_at_the_units_that_they_had(sold: Api) -> None:
    sold.plan("pro", fixed_charges=[fixed(sold, units=2, amount="30", prorated=True)])
    at(sold, "2024-04-01T00:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2024-04-11T12:00:00Z")
    body = {"fixed_charge": {"units": 5, "apply_units_immediately": True}}
    sold.put("/subscriptions/sub/fixed_charges/seat", body)
    at(sold, "2024-04-21T12:00:00Z")
    sold.delete("/subscriptions/sub")
    # 10 days of 2 and 11 of 5, of 30
    assert billed(sold) == [[("seat", 5.0, 2_000 + 5_500)]]


def test_days_are_billed_also_where_no_units_are_left_at_the_end(sold: Api) -> None:
    tier = {"from_value": 0, "to_value": None, "per_unit_amount": "30", "flat_amount": "1"}
    tiers: dict[str, Any] = {"charge_model": "graduated", "properties": {"graduated_ranges": [tier]}}
    sold.plan(
        "pro",
        fixed_charges=[
            fixed(sold, units=2, amount="30", prorated=True),
            fixed(sold, "support", 0, prorated=True, **tiers),
        ],
    )
    at(sold, "2024-04-01T00:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2024-04-11T12:00:00Z")
    none = {"fixed_charge": {"units": 0, "apply_units_immediately": True}}
    sold.put("/subscriptions/sub/fixed_charges/seat", none)
    at(sold, "2024-06-01T00:00:00Z")
    # 10 of 30 days of 2; then nothing, and of the other never anything: not even its flat amount
    assert billed(sold) == [[("seat", 0.0, 2_000)], []]


def test_own_units_stay_when_the_plan_changes_and_go_into_a_plan_of_its_own(sold: Api) -> None:
    sold.plan("pro", fixed_charges=[fixed(sold, units=2, amount="1", pay_in_advance=True)])
    charge = sold.get("/plans/pro/fixed_charges/seat")["fixed_charge"]
    at(sold, "2024-04-01T10:00:00Z")
    own = {"fixed_charges": [{"id": charge["lago_id"], "units": 8}]}
    sold.subscribe("sub", "pro", plan_overrides=own)
    assert sold.get("/subscriptions/sub")["subscription"]["plan"]["parent_id"] is None
    sold.put("/plans/pro", {"plan": {"fixed_charges": [{"id": charge["lago_id"], "units": 3}]}})
    assert sold.get("/subscriptions/sub/fixed_charges/seat")["fixed_charge"]["units"] == 8
    at(sold, "2024-04-02T10:00:00Z")
    sold.put("/subscriptions/sub", {"subscription": {"plan_overrides": {"name": "Its own"}}})
    (copy,) = sold.get("/subscriptions/sub/fixed_charges")["fixed_charges"]
    assert (copy["units"], copy["lago_parent_id"]) == (8, charge["lago_id"])
    at(sold, "2024-05-01T01:00:00Z")
    assert billed(sold) == [[("seat", 8.0, 800)], [("seat", 8.0, 800)]]


def test_a_yearly_plan_bills_them_each_month_and_its_fee_once(sold: Api) -> None:
    sold.plan(
        "pro",
        interval="yearly",
        amount_cents=1_200,
        bill_fixed_charges_monthly=True,
        fixed_charges=[fixed(sold, units=1, amount="4"), fixed(sold, "support", 1, "9", pay_in_advance=True)],
    )
    at(sold, "2024-11-01T00:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2025-02-01T01:00:00Z")
    both = [("seat", 1.0, 400), ("support", 1.0, 900)]
    assert billed(sold) == [[("support", 1.0, 900)], both, both, both]
    invoices = sorted(sold.get("/invoices")["invoices"], key=lambda each: each["created_at"])
    # 61 of 366 days
    assert [each["fees_amount_cents"] for each in invoices] == [900, 1_300, 1_300 + 200, 1_300]
    periods = [
        sold.get(f"/invoices/{each['lago_id']}")["invoice"]["billing_periods"][0] for each in invoices[1:]
    ]
    assert [period["fixed_charges_from_datetime"][:10] for period in periods] == [
        "2024-11-01",
        "2024-12-01",
        "2025-01-01",
    ]


def test_the_preview_shows_what_will_be_billed(sold: Api) -> None:
    sold.plan("pro", fixed_charges=[fixed(sold, units=3, amount="2", pay_in_advance=True)])
    body = {"customer": {"external_id": "cus"}, "plan_code": "pro"}
    (fee,) = [
        each
        for each in sold.post("/invoices/preview", body)["invoice"]["fees"]
        if each["item"]["type"] == "fixed_charge"
    ]
    assert (fee["amount_cents"], fee["item"]["code"]) == (600, "seat")


def test_the_webhook_of_a_plan_leaves_them_out(sold: Api) -> None:
    made = sold.plan("pro", fixed_charges=[fixed(sold)])
    sold.conn.rollback()
    plan_id = UUID(made["lago_id"])
    shown: Any = RENDERERS["plan"](sold.conn, [plan_id])[plan_id]
    assert shown.fixed_charges is UNSET


def test_twenty_changes_at_once_bill_each_unit_once(sold: Api) -> None:
    sold.plan("pro", fixed_charges=[fixed(sold, units=1, amount="3", pay_in_advance=True)])
    at(sold, "2024-04-01T10:00:00Z")
    sold.subscribe("sub", "pro")
    at(sold, "2024-04-06T10:00:00Z")

    def change(units: int) -> int:
        body = {"fixed_charge": {"units": units, "apply_units_immediately": True}}
        return sold.call("PUT", "/subscriptions/sub/fixed_charges/seat", body).status_code

    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(change, range(2, 22))) == {200}
    at(sold, "2024-04-07T10:00:00Z")
    # whatever their order, the highest of 21 is reached and paid, and nothing comes back for what falls
    fees = [fee for invoice in billed(sold) for fee in invoice]
    assert (sum(units for _, units, _ in fees), sum(cents for _, _, cents in fees)) == (21, 21 * 300)


def test_a_dry_run_says_what_an_edit_does_to_what_is_billed_next(sold: Api) -> None:
    # 10 seats in arrears, prorated from the 16th of 31 days on; 3 of support in advance for the next month.
    ahead = {**fixed(sold, "support", 3, "20"), "pay_in_advance": True}
    sold.plan(
        "pro", amount_cents=0, fixed_charges=[{**fixed(sold, units=10, amount="31"), "prorated": True}, ahead]
    )
    at(sold, "2024-03-16T00:00:00Z")
    sold.subscribe("sub", external_customer_id="cus", plan_code="pro")
    at(sold, "2024-03-20T00:00:00Z")

    def tried(method: str, path: str, **body: Any) -> tuple[dict[str, int], dict[str, int], int]:
        if method == "DELETE":
            found = sold.delete(path, dry_run="true")["dry_run"]
        else:
            found = sold.put(path, {"fixed_charge": body, "dry_run": True})["dry_run"]
        return found["amount_cents_before"]["EUR"], found["amount_cents_after"]["EUR"], found["changed"]

    seats, support, before = (
        "/plans/pro/fixed_charges/seat",
        "/plans/pro/fixed_charges/support",
        16_000 + 6_000,
    )
    assert tried("PUT", seats, properties={"amount": "62"}) == (before, 38_000, 1)
    assert tried("PUT", seats, units=20) == (before, before, 0), "from the next period on"
    assert tried("PUT", seats, units=20, apply_units_immediately=True) == (before, before + 12_000, 1)
    assert tried("PUT", support, units=4) == (before, before + 2_000, 1), "the next period is paid in advance"
    assert tried("DELETE", support) == (before, 16_000, 1)
    own = "/subscriptions/sub/fixed_charges/support"
    assert tried("PUT", own, units=1) == (before, 18_000, 1)
    assert sold.get(own)["fixed_charge"]["units"] == 3, "nothing is saved"
