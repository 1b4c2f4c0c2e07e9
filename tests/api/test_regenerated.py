"""Voided invoices that are made again, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .conftest import Api, charge
from .test_add_ons import add_on
from .test_amendments import Sender, send
from .test_drafts import invoices, move
from .test_progressive_billing import at, use, world

__all__ = ["send"]


def whole(api: Api, shown: Any) -> Any:
    return api.get(f"/invoices/{shown['lago_id']}")["invoice"]


def again(api: Api, invoice: Any, *fees: Any) -> Any:
    body = {"fees": list(fees)} if fees else {}
    return api.post(f"/invoices/{invoice['lago_id']}/regenerate", body)["invoice"]


def voided(api: Api, invoice: Any) -> Any:
    return api.post(f"/invoices/{invoice['lago_id']}/void", {})["invoice"]


def test_the_days_of_a_customer_that_has_moved_are_those_of_the_voided_invoice(api: Api) -> None:
    """62.00 for the 31 days of March, of which the last 10 come back: the end is on the 21st everywhere."""
    api.plan("pro", amount_cents=6_200, pay_in_advance=True)
    api.customer(timezone="America/New_York")
    api.subscribe()
    (first,) = invoices(api)
    voided(api, first)
    api.customer(timezone="Europe/Berlin")
    move(api, 2024, 3, 21, 12)
    made = again(api, first)
    assert made["issuing_date"] == "2024-03-21"
    api.delete("/subscriptions/sub")
    (note,) = api.get("/credit_notes")["credit_notes"]
    assert note["total_amount_cents"] == 10 * 200


def test_a_voided_invoice_is_made_again_with_changes_credits_and_the_taxes_of_today(
    api: Api, send: Sender
) -> None:
    """31.00 a month, graduated tokens with a minimum charge in arrears, and a coupon of 5.00 for one invoice."""
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    for rate in ("10", "20"):
        api.post("/taxes", {"tax": {"name": rate, "code": rate, "rate": rate}})
    tiers = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "0"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
    ]
    tokens = charge(api.metric(), charge_model="graduated", properties={"graduated_ranges": tiers})
    tokens["min_amount_cents"] = 5_000
    plan = api.plan(
        charges=[tokens, charge(api.metric("words"), invoice_display_name="Words")], amount_cents=3_100
    )
    api.customer(tax_codes=["10"])
    api.subscribe(purchase_order_number="PO 7")
    coupon = {"name": "Off", "code": "off", "coupon_type": "fixed_amount", "amount_cents": 500}
    more = {"amount_currency": "EUR", "frequency": "once", "expiration": "no_expiration"}
    api.post("/coupons", {"coupon": {**coupon, **more}})
    api.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "off"}})
    send(at(6), tokens=12)
    move(api, 2024, 4, 1, 1)
    (first,) = (whole(api, each) for each in invoices(api))
    path = f"/invoices/{first['lago_id']}/regenerate"
    assert api.code(405, "POST", path, {}) == "not_regenerable"
    assert [fee["amount_cents"] for fee in first["fees"]] == [
        2_700,
        2_200,
        2_155,
    ]  # 27 days; up to the minimum
    voided(api, first)
    api.customer(tax_codes=["20"])
    send(at(7), tokens=100)  # late: it belongs to what the voided invoice had billed
    move(api, 2024, 4, 20, 1)
    used, minimum = first["fees"][1:]
    graduated = {"id": used["lago_id"], "units": "11", "invoice_display_name": "Agreed"}
    words = {
        "subscription_id": used["lago_subscription_id"],
        "charge_id": plan["charges"][1]["lago_id"],
        "units": 3,
        "unit_amount_cents": "0.5",
    }
    assert api.code(404, "POST", path, {"fees": [{"id": first["lago_id"]}]}) == "fee_not_found"
    assert api.code(404, "POST", path, {"fees": [{**words, "charge_id": "?"}]}) == "charge_not_found"
    assert api.details("POST", path, {"fees": [{"id": minimum["lago_id"], "units": 2}]}) == {
        "charge": ["invalid_charge_model"]
    }
    assert api.details("POST", path, {"fees": [{**words, "units": None}]}) == {
        "units": ["value_is_mandatory"]
    }
    made = again(api, first, graduated, {"id": minimum["lago_id"], "remove": True}, words)
    assert [(fee["invoice_display_name"], fee["amount_cents"]) for fee in made["fees"]] == [
        (first["fees"][0]["invoice_display_name"], 2_700),
        ("Agreed", 2_100),
        ("Words", 2),
    ]
    assert [fee["lago_original_fee_id"] for fee in made["fees"]] == [
        first["fees"][0]["lago_id"], used["lago_id"], None,
    ]  # fmt: skip
    assert (made["coupons_amount_cents"], made["taxes_amount_cents"], made["total_amount_cents"]) == (
        500, 860, 5_162,
    )  # fmt: skip
    assert (made["status"], made["issuing_date"], made["purchase_order_number"]) == (
        "finalized", "2024-04-20", "PO 7",
    )  # fmt: skip
    assert (made["lago_voided_invoice_id"], made["billing_periods"]) == (
        first["lago_id"], first["billing_periods"],
    )  # fmt: skip
    assert api.code(405, "POST", path, {}) == "already_regenerated"
    chained = again(api, voided(api, made))
    assert [fee["amount_cents"] for fee in chained["fees"]] == [2_700, 2_100, 2]
    assert chained["billing_periods"] == first["billing_periods"]
    assert api.get("/late_usage")["late_usage"] == []
    assert api.get(f"/fees/{chained['fees'][1]['lago_id']}/explanation")
    (kinds,) = api.row(
        "select array_agg(webhook_type order by webhook_type) from webhook where object_id = %(made)s",
        made=made["lago_id"],
    )
    assert kinds == ["invoice.created", "invoice.voided"]


def test_what_was_billed_at_thresholds_comes_off_again_and_too_much_of_it_is_given_back(
    api: Api, send: Sender
) -> None:
    world(api, 5_000)
    use(api, send, 60, at(6))
    move(api, 2024, 4, 1, 12)
    closing = whole(api, invoices(api)[0])
    assert closing["progressive_billing_credit_amount_cents"] == 6_000
    voided(api, closing)
    used = next(fee for fee in closing["fees"] if fee["item"]["type"] == "charge")
    made = again(api, closing, {"id": used["lago_id"], "units": 40})
    assert (made["fees_amount_cents"], made["progressive_billing_credit_amount_cents"]) == (
        871 + 4_000,
        4_000,
    )
    (note,) = api.get("/credit_notes")["credit_notes"]
    assert (note["credit_amount_cents"], made["total_amount_cents"]) == (2_000, 871)


def test_the_fees_of_events_and_the_ends_of_subscriptions_go_by_the_newest_invoice(
    api: Api, send: Sender
) -> None:
    api.plan(charges=[charge(api.metric(), pay_in_advance=True)], amount_cents=3_100, pay_in_advance=True)
    api.customer()
    api.subscribe()
    start = whole(api, invoices(api)[0])
    send(at(6), tokens=5)
    move(api, 2024, 3, 7)
    (event,) = (whole(api, each) for each in invoices(api) if each["fees_amount_cents"] == 500)
    made = again(api, voided(api, event))
    assert [fee["event_transaction_id"] for fee in made["fees"]] == [
        fee["event_transaction_id"] for fee in event["fees"]
    ]
    move(api, 2024, 4, 2)
    (april,) = (each for each in invoices(api) if each["fees_amount_cents"] == 3_100)
    replaced = again(api, voided(api, start), {"id": start["fees"][0]["lago_id"], "unit_amount_cents": 700})
    assert (start["fees_amount_cents"], replaced["fees_amount_cents"]) == (2_700, 700)
    move(api, 2024, 4, 16)
    api.delete("/subscriptions/sub")
    (note,) = api.get("/credit_notes")["credit_notes"]
    assert (note["lago_invoice_id"], note["total_amount_cents"]) == (april["lago_id"], 1_447)


def test_other_invoices_are_refused_by_their_type(api: Api, send: Sender) -> None:
    add_on(api, "setup")
    world(api, 5_000)
    sold = {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "setup"}]}
    api.post("/invoices", {"invoice": sold})
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "paid_credits": "10"}
    api.post("/wallets", {"wallet": wallet})
    use(api, send, 60, at(6))
    found = {each["invoice_type"]: each for each in invoices(api)}
    assert set(found) == {"one_off", "credit", "progressive_billing"}
    for each in found.values():
        path = f"/invoices/{each['lago_id']}/regenerate"
        assert api.code(405, "POST", path, {}) == "type_not_regenerable"
        voided(api, each)
        assert api.code(405, "POST", path, {}) == "type_not_regenerable"


def test_twenty_at_once_make_one_invoice_again(api: Api) -> None:
    api.plan("pro", amount_cents=3_100, pay_in_advance=True)
    api.customer()
    api.subscribe()
    (first,) = (whole(api, each) for each in invoices(api))
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "granted_credits": "10"}
    api.post("/wallets", {"wallet": wallet})
    voided(api, first)

    def one(_: int) -> Any:
        return api.call("POST", f"/invoices/{first['lago_id']}/regenerate", {})

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(one, range(20)))
    assert sorted(each.status_code for each in answers) == [200, *[405] * 19]
    assert {each.json()["code"] for each in answers if each.status_code == 405} == {"already_regenerated"}
    (made,) = (each.json()["invoice"] for each in answers if each.status_code == 200)
    assert (made["fees_amount_cents"], made["prepaid_credit_amount_cents"]) == (2_700, 1_000)
    assert len(invoices(api)) == 2
    (left,) = api.get("/wallets", external_customer_id="cus")["wallets"]
    assert left["balance_cents"] == 0
