"""Coupons over the API: made, applied, taken off invoices, given back, and none of it twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from permille.usecases import coupons as usecase

from .conftest import START, Api, charge
from .test_drafts import move
from .test_invoice_preview import bare, newest, preview

TOGETHER = 20


def coupon(api: Api, code: str = "off", **fields: Any) -> Any:
    """A coupon of 10.00 EUR that is used once."""
    body = {
        "name": code.title(),
        "code": code,
        "coupon_type": "fixed_amount",
        "amount_cents": 1_000,
        "amount_currency": "EUR",
        "frequency": "once",
        "expiration": "no_expiration",
        **fields,
    }
    return api.post("/coupons", {"coupon": body})["coupon"]


def apply_body(code: str = "off", **fields: Any) -> Any:
    return {"applied_coupon": {"external_customer_id": "cus", "coupon_code": code, **fields}}


def give(api: Api, code: str = "off", **fields: Any) -> Any:
    return api.post("/applied_coupons", apply_body(code, **fields))["applied_coupon"]


def applied(api: Api, **search: Any) -> list[Any]:
    return api.get("/applied_coupons", **search)["applied_coupons"]


@pytest.fixture
def billed(api: Api) -> Api:
    """A customer that pays 31.00 and usage each month, with a tax of 10 percent."""
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "10", "applied_to_organization": True}})
    api.plan("pro", [charge(api.metric())], amount_cents=3_100)
    api.customer()
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    return api


def test_make_read_change_and_delete(api: Api) -> None:
    api.plan("pro")
    api.metric("tokens")
    made = coupon(
        api,
        applies_to={"plan_codes": ["pro"]},
        description="d",
        expiration="time_limit",
        expiration_at="2024-06-01T00:00:00Z",
    )
    assert (made["limited_plans"], made["plan_codes"], made["limited_billable_metrics"]) == (
        True,
        ["pro"],
        False,
    )
    assert (made["reusable"], made["expiration_at"], made["terminated_at"]) == (
        True,
        "2024-06-01T00:00:00Z",
        None,
    )
    assert api.get("/coupons/off")["coupon"] == made
    assert api.get("/coupons")["coupons"] == [made]
    changes = {
        "coupon_type": "percentage",
        "percentage_rate": "12.50",
        "frequency": "recurring",
        "frequency_duration": 3,
        "code": "less",
        "reusable": False,
        "applies_to": {"billable_metric_codes": ["tokens"]},
    }
    changed = api.put("/coupons/off", {"coupon": changes})["coupon"]
    assert (changed["percentage_rate"], changed["amount_cents"], changed["amount_currency"]) == (
        "12.5",
        None,
        None,
    )
    assert (changed["plan_codes"], changed["billable_metric_codes"]) == ([], ["tokens"])
    assert (changed["frequency_duration"], changed["reusable"], changed["name"]) == (3, False, "Off")
    api.customer()
    assert (
        api.post("/applied_coupons", apply_body("less"))["applied_coupon"]["frequency_duration_remaining"]
        == 3
    )
    fixed = api.put(
        "/coupons/less",
        {"coupon": {"name": "New", "percentage_rate": "50", "code": "x", "expiration": "no_expiration"}},
    )
    assert fixed["coupon"] == {**changed, "name": "New", "expiration": "no_expiration", "expiration_at": None}
    gone = api.delete("/coupons/less")["coupon"]
    assert gone["terminated_at"] == "2024-03-05T10:00:00Z"
    (ended,) = applied(api)
    assert (ended["status"], ended["coupon_status"]) == ("terminated", "terminated")
    assert ended["coupon_deleted_at"] == ended["terminated_at"] == "2024-03-05T10:00:00Z"
    assert api.code(404, "GET", "/coupons/less") == "coupon_not_found"
    assert coupon(api, "less")["lago_id"] != gone["lago_id"], "the code is free again"


def test_bad_coupons_are_refused_by_field(api: Api) -> None:
    api.plan("pro")
    assert api.details("POST", "/coupons", {"coupon": {"code": "c"}}) == {
        "name": ["value_is_mandatory"],
        "coupon_type": ["value_is_invalid"],
        "frequency": ["value_is_invalid"],
        "expiration": ["value_is_invalid"],
        "amount_cents": ["value_is_mandatory"],
        "amount_currency": ["value_is_mandatory"],
    }
    base = {
        "name": "n",
        "code": "c",
        "coupon_type": "fixed_amount",
        "amount_cents": 1,
        "amount_currency": "EUR",
    }
    base |= {"frequency": "once", "expiration": "no_expiration"}
    for fields, field, code in (
        ({"amount_cents": 0}, "amount_cents", "value_is_out_of_range"),
        ({"amount_cents": 2**63}, "amount_cents", "value_is_out_of_range"),
        ({"amount_currency": "XXX"}, "amount_currency", "value_is_invalid"),
        ({"coupon_type": "percentage"}, "percentage_rate", "value_is_mandatory"),
        ({"coupon_type": "percentage", "percentage_rate": "0"}, "percentage_rate", "value_is_out_of_range"),
        (
            {"coupon_type": "percentage", "percentage_rate": "100.1"},
            "percentage_rate",
            "value_is_out_of_range",
        ),
        ({"frequency": "recurring"}, "frequency_duration", "value_is_mandatory"),
        ({"expiration": "time_limit"}, "expiration_at", "invalid_date"),
        (
            {"expiration": "time_limit", "expiration_at": "2024-03-05T09:00:00Z"},
            "expiration_at",
            "invalid_date",
        ),
    ):
        assert api.details("POST", "/coupons", {"coupon": {**base, **fields}}) == {field: [code]}
    both = {"plan_codes": ["pro"], "billable_metric_codes": ["m"]}
    refused = "only_one_limitation_type_per_coupon_allowed"
    assert api.code(405, "POST", "/coupons", {"coupon": {**base, "applies_to": both}}) == refused
    for limits, missing in (
        ({"plan_codes": ["no"]}, "plans"),
        ({"billable_metric_codes": ["no"]}, "billable_metrics"),
    ):
        body = {"coupon": {**base, "applies_to": limits}}
        assert api.code(404, "POST", "/coupons", body) == f"{missing}_not_found"
    coupon(api)
    body = {"coupon": {**base, "code": "off"}}
    assert api.details("POST", "/coupons", body) == {"code": ["value_already_exist"]}
    coupon(api, "other")
    assert api.details("PUT", "/coupons/other", {"coupon": {"code": "off"}}) == {
        "code": ["value_already_exist"]
    }


def test_what_may_not_be_applied(billed: Api) -> None:
    api = billed
    coupon(api, "brief", expiration="time_limit", expiration_at="2024-03-06T00:00:00Z")
    coupon(api, "single", reusable=False)
    coupon(api, "plan", applies_to={"plan_codes": ["pro"]})
    coupon(api, "metric", applies_to={"billable_metric_codes": ["tokens"]})
    assert api.code(404, "POST", "/applied_coupons", apply_body("no")) == "coupon_not_found"
    body = {"applied_coupon": {"external_customer_id": "no", "coupon_code": "plan"}}
    assert api.code(404, "POST", "/applied_coupons", body) == "customer_not_found"
    first = give(api, "single")
    assert api.details("POST", "/applied_coupons", apply_body("single")) == {
        "coupon": ["coupon_is_not_reusable"]
    }
    assert (
        api.code(404, "DELETE", f"/customers/cus/applied_coupons/{UUID(int=1)}") == "applied_coupon_not_found"
    )
    api.customer("other")
    path = f"/customers/other/applied_coupons/{first['lago_id']}"
    assert api.code(404, "DELETE", path) == "applied_coupon_not_found"
    ended = api.delete(f"/customers/cus/applied_coupons/{first['lago_id']}")["applied_coupon"]
    assert (ended["status"], ended["coupon_status"]) == ("terminated", "active")
    assert api.details("POST", "/applied_coupons", apply_body("single")) == {
        "coupon": ["coupon_is_not_reusable"]
    }
    kept = give(api, "plan", amount_cents=50, frequency="recurring", frequency_duration=4)
    assert (kept["amount_cents"], kept["frequency_duration_remaining"], kept["amount_cents_remaining"]) == (
        50,
        4,
        None,
    )
    assert api.code(405, "POST", "/applied_coupons", apply_body("metric")) == "plan_overlapping"
    bad = apply_body("plan", amount_cents=-1)
    assert api.details("POST", "/applied_coupons", bad) == {"amount_cents": ["value_is_out_of_range"]}
    move(api, 2024, 3, 6)
    assert api.code(404, "POST", "/applied_coupons", apply_body("brief")) == "coupon_not_found"
    assert [one["coupon_code"] for one in applied(api, status="active", external_customer_id="cus")] == [
        "plan"
    ]
    listed = api.get("/customers/cus/applied_coupons", **{"coupon_code[]": "single"})["applied_coupons"]
    assert [one["lago_id"] for one in listed] == [first["lago_id"]]


def test_an_invoice_shows_its_coupons_and_what_each_fee_has_of_them(billed: Api) -> None:
    api = billed
    known = coupon(api, "brief", expiration="time_limit", expiration_at="2024-03-20T00:00:00Z")
    given = give(api, "brief")
    coupon(
        api,
        "tenth",
        coupon_type="percentage",
        percentage_rate="10",
        frequency="recurring",
        frequency_duration=2,
    )
    give(api, "tenth")
    expected = bare(preview(api, subscriptions={"external_ids": ["sub"]}))
    move(api, 2024, 4, 1, 1)
    invoice = newest(api)
    assert [bare(expected)[name] for name in ("credits", "coupons_amount_cents", "total_amount_cents")] == [
        bare(invoice)[name] for name in ("credits", "coupons_amount_cents", "total_amount_cents")
    ]
    assert (invoice["coupons_amount_cents"], invoice["taxes_amount_cents"]) == (1_210, 189)
    assert (invoice["sub_total_excluding_taxes_amount_cents"], invoice["total_amount_cents"]) == (
        1_890,
        2_079,
    )
    (fee,) = invoice["fees"]
    assert (fee["precise_coupons_amount_cents"], fee["amount_cents"]) == ("1210.0", 3_100)
    first, second = invoice["credits"]
    assert (first["amount_cents"], first["before_taxes"], second["amount_cents"]) == (1_000, True, 210)
    assert first["item"] == {
        "lago_item_id": known["lago_id"],
        "type": "coupon",
        "code": "brief",
        "name": "Brief",
        "description": None,
    }
    tenth, brief = applied(api)
    assert (brief["lago_id"], brief["status"], brief["amount_cents_remaining"]) == (
        given["lago_id"],
        "terminated",
        0,
    )
    assert (brief["coupon_status"], brief["terminated_at"]) == ("terminated", "2024-04-01T00:00:00Z")
    assert [one["amount_cents"] for one in brief["credits"]] == [1_000], (
        "it had expired and still took it off"
    )
    assert (tenth["status"], tenth["frequency_duration_remaining"]) == ("active", 1)


def test_a_draft_has_no_coupons_until_it_is_final(billed: Api) -> None:
    api = billed
    api.post(
        "/customers",
        {"customer": {"external_id": "cus", "billing_configuration": {"invoice_grace_period": 3}}},
    )
    coupon(api)
    give(api)
    move(api, 2024, 4, 1, 1)
    draft = newest(api)
    api.put(f"/invoices/{draft['lago_id']}/refresh", None)
    assert (draft["status"], draft["coupons_amount_cents"], draft["credits"]) == ("draft", 0, [])
    final = api.put(f"/invoices/{draft['lago_id']}/finalize", None)["invoice"]
    assert (final["coupons_amount_cents"], final["total_amount_cents"]) == (1_000, 2_310)


def test_a_preview_takes_off_coupons_that_the_customer_does_not_have(billed: Api) -> None:
    api = billed
    coupon(api, "mine")
    give(api, "mine")
    coupon(api, "half", coupon_type="percentage", percentage_rate="50", applies_to={"plan_codes": ["pro"]})
    existing = {"subscriptions": {"external_ids": ["sub"]}}
    assert preview(api, **existing)["coupons_amount_cents"] == 1_000
    imagined = {"code": "new", "coupon_type": "fixed_amount", "amount_cents": 100, "amount_currency": "EUR"}
    found = preview(api, **existing, coupons=[imagined, {"code": "half"}])
    assert [(one["item"]["code"], one["amount_cents"]) for one in found["credits"]] == [
        ("half", 1_550),
        ("new", 100),
    ]
    proposal = preview(
        api, plan_code="pro", subscription_at="2024-04-01T00:00:00Z", coupons=[{"code": "half"}]
    )
    assert proposal["coupons_amount_cents"] == 1_550
    body = {"customer": {"external_id": "cus"}, **existing, "coupons": [{"code": "no"}]}
    assert api.code(404, "POST", "/invoices/preview", body) == "coupon_not_found"


def test_what_void_invoices_took_comes_back(billed: Api) -> None:
    api = billed
    coupon(api)
    coupon(api, "twice", frequency="recurring", frequency_duration=2, amount_cents=200)
    coupon(api, "gone")
    coupon(api, "removed", amount_cents=5_000)
    for code in ("off", "gone", "twice"):
        give(api, code)
    move(api, 2024, 4, 1, 1)
    removed = give(api, "removed")
    api.delete("/coupons/gone")
    move(api, 2024, 5, 1, 1)
    api.delete(f"/customers/cus/applied_coupons/{removed['lago_id']}")
    ids = [one["lago_id"] for one in api.get("/invoices")["invoices"]]
    for number, invoice_id in enumerate(ids):
        api.post(f"/invoices/{invoice_id}/void", {"generate_credit_note": bool(number)})
    api.conn.rollback()
    usecase.give_back(api.conn, [UUID(each) for each in ids], START + timedelta(days=60))
    api.conn.commit()
    now = {one["coupon_code"]: one for one in applied(api)}
    assert (now["off"]["status"], now["off"]["amount_cents_remaining"]) == ("active", 1_000)
    assert (now["twice"]["status"], now["twice"]["frequency_duration_remaining"]) == ("active", 2)
    assert (now["gone"]["status"], now["gone"]["amount_cents_remaining"]) == ("terminated", 1_000)
    assert (now["removed"]["status"], now["removed"]["amount_cents_remaining"]) == ("terminated", 5_000)
    assert [one["credits"] for one in now.values()] == [[]] * 4
    assert len(api.get(f"/invoices/{ids[-1]}")["invoice"]["credits"]) == 3, (
        "the invoice still says what it took"
    )


def test_a_coupon_that_may_be_applied_once_is_applied_once_by_many(api: Api) -> None:
    coupon(api, reusable=False)
    for number in range(TOGETHER):
        api.customer(f"cus{number}")

    def one(number: int) -> int:
        body = {"applied_coupon": {"external_customer_id": f"cus{number}", "coupon_code": "off"}}
        return int(api.call("POST", "/applied_coupons", body).status_code)

    with ThreadPoolExecutor(TOGETHER) as threads:
        statuses = list(threads.map(one, range(TOGETHER)))
    assert sorted(statuses) == [200] + [422] * (TOGETHER - 1)
    assert len(applied(api)) == 1


def test_drafts_made_at_one_instant_take_the_coupon_in_their_order(api: Api) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    coupon(api, amount_cents=8_200)
    give(api)
    for number in range(6):
        api.subscribe(f"sub{number}")
    move(api, 2024, 3, 20)
    made = [api.get(f"/invoices/{each['lago_id']}")["invoice"] for each in api.get("/invoices")["invoices"]]
    taken = {one["subscriptions"][0]["external_id"]: one["coupons_amount_cents"] for one in made}
    assert [taken[name] for name in sorted(taken)] == [2_700, 2_700, 2_700, 100, 0, 0]


def test_the_last_of_a_coupon_is_used_once_by_invoices_that_become_final_at_once(api: Api) -> None:
    configuration = {"invoice_grace_period": 30}
    api.customer(billing_configuration=configuration)
    api.plan("pro", amount_cents=3_100)
    for number in range(TOGETHER):
        api.subscribe(
            f"sub{number}",
            subscription_at="2024-03-01T00:00:00Z",
            billing_entity_code=None,
            consolidate_invoice=False,
        )
    coupon(api, amount_cents=5_000)
    give(api)
    move(api, 2024, 4, 1, 1)
    ids = [one["lago_id"] for one in api.get("/invoices")["invoices"]]
    assert len(ids) == TOGETHER
    with ThreadPoolExecutor(TOGETHER) as threads:
        paths = [f"/invoices/{invoice_id}/finalize" for invoice_id in ids]
        made = list(threads.map(lambda path: api.put(path, None)["invoice"], paths))
    assert sorted(one["coupons_amount_cents"] for one in made) == [0] * (TOGETHER - 2) + [1_900, 3_100]
    (left,) = applied(api)
    assert (left["status"], left["amount_cents_remaining"], len(left["credits"])) == ("terminated", 0, 2)
