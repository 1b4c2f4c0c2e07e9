"""Custom sections: texts of the seller's own on invoices."""

from __future__ import annotations

from typing import Any

from .conftest import Api

ENTITY = "/billing_entities/default"


def section(api: Api, code: str, **fields: Any) -> Any:
    body = {
        "code": code,
        "name": code.title(),
        "display_name": f"About {code}",
        "details": "a\tb\n\\c",
        **fields,
    }
    return api.post("/invoice_custom_sections", {"invoice_custom_section": body})["invoice_custom_section"]


def choose(api: Api, *codes: str) -> Any:
    chosen = {"billing_entity": {"invoice_custom_section_codes": list(codes)}}
    return api.put(ENTITY, chosen)["billing_entity"]


def invoice(api: Api, customer: str = "cus") -> Any:
    body = {"external_customer_id": customer, "currency": "EUR", "fees": [{"add_on_code": "item"}]}
    return api.post("/invoices", {"invoice": body})["invoice"]


def printed(found: Any) -> list[tuple[str, str, str]]:
    return [
        (each["code"], each["display_name"], each["details"])
        for each in found["applied_invoice_custom_sections"]
    ]


def test_a_section_is_made_changed_and_deleted(api: Api) -> None:
    made = section(api, "bank", description="For us")
    assert api.get("/invoice_custom_sections/bank")["invoice_custom_section"] == made
    again = {"invoice_custom_section": {"code": "bank", "name": "n"}}
    assert api.details("POST", "/invoice_custom_sections", again) == {"code": ["value_already_exist"]}
    section(api, "legal")
    taken = {"invoice_custom_section": {"code": "legal"}}
    assert api.details("PUT", "/invoice_custom_sections/bank", taken) == {"code": ["value_already_exist"]}
    changed = api.put("/invoice_custom_sections/bank", {"invoice_custom_section": {"details": "new"}})
    assert changed["invoice_custom_section"] == {**made, "details": "new"}
    api.delete("/invoice_custom_sections/bank")
    listed = api.get("/invoice_custom_sections")["invoice_custom_sections"]
    assert [each["code"] for each in listed] == ["legal"]


def test_an_invoice_keeps_the_sections_of_its_customer_or_else_of_its_billing_entity(api: Api) -> None:
    api.post(
        "/add_ons", {"add_on": {"code": "item", "name": "I", "amount_cents": 5, "amount_currency": "EUR"}}
    )
    for code in ("bank", "legal", "own"):
        section(api, code)
    assert (
        api.call("PUT", ENTITY, {"billing_entity": {"invoice_custom_section_codes": ["x"]}}).status_code
        == 404
    )
    shown = choose(api, "legal", "bank")["selected_invoice_custom_sections"]
    assert [each["code"] for each in shown] == ["bank", "legal"]
    api.customer()
    first = invoice(api)
    assert printed(first) == [(code, f"About {code}", "a\tb\n\\c") for code in ("bank", "legal")]
    api.put("/invoice_custom_sections/legal", {"invoice_custom_section": {"details": "new"}})
    api.delete("/invoice_custom_sections/bank")
    assert printed(api.get(f"/invoices/{first['lago_id']}")["invoice"]) == printed(first)
    assert printed(invoice(api)) == [("legal", "About legal", "new")]

    def customer(**fields: Any) -> list[str]:
        found = api.post("/customers", {"customer": {"external_id": "cus", **fields}})["customer"]
        return [each["code"] for each in found["applicable_invoice_custom_sections"]]

    assert customer(invoice_custom_section_codes=["own"]) == ["own"]
    assert [code for code, *_ in printed(invoice(api))] == ["own"]
    assert customer(skip_invoice_custom_sections=True) == []
    assert printed(invoice(api)) == []
    assert customer(skip_invoice_custom_sections=False, invoice_custom_section_codes=[]) == ["legal"]


def test_a_draft_follows_its_customer_until_it_is_final(api: Api) -> None:
    section(api, "bank")
    api.plan(amount_cents=100, pay_in_advance=True)
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.subscribe("sub")
    (draft,) = api.get("/invoices")["invoices"]
    assert printed(api.get(f"/invoices/{draft['lago_id']}")["invoice"]) == []
    choose(api, "bank")
    final = api.put(f"/invoices/{draft['lago_id']}/finalize", {})["invoice"]
    assert [code for code, *_ in printed(final)] == ["bank"]


def own(*codes: str, skip: bool = False) -> Any:
    return {"skip_invoice_custom_sections": skip, "invoice_custom_section_codes": list(codes)}


def chosen(found: Any) -> list[str]:
    return [each["invoice_custom_section"]["code"] for each in found["applied_invoice_custom_sections"]]


def newest(api: Api) -> list[str]:
    """The sections on the invoice that was made last."""
    (invoice_id,) = api.row(
        "select id from invoice where organization_id = %(organization)s order by created_at desc, id desc limit 1"
    )
    if api.call("GET", f"/invoices/{invoice_id}").status_code == 404:
        raise AssertionError("it is not shown")
    return [code for code, *_ in printed(api.get(f"/invoices/{invoice_id}")["invoice"])]


def renew(api: Api, month: int) -> list[str]:
    api.put("/test_clock", {"test_clock": {"now": f"2024-{month:02}-01T01:00:00Z"}})
    return newest(api)


def test_what_a_subscription_has_chosen_goes_before_its_customer_and_billing_entity(api: Api) -> None:
    for code in ("bank", "legal", "own", "more"):
        section(api, code)
    choose(api, "bank")
    api.plan(amount_cents=100, pay_in_advance=True)
    api.plan("max", amount_cents=900, pay_in_advance=True)
    api.customer(invoice_custom_section_codes=["legal"])
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    made = api.subscribe(invoice_custom_section=own("own", "more"))
    assert chosen(made) == ["more", "own"]
    assert made["applied_invoice_custom_sections"][0]["created_at"] == "2024-03-05T10:00:00Z"
    assert newest(api) == ["more", "own"]
    assert chosen(api.get("/subscriptions")["subscriptions"][0]) == ["more", "own"]

    def change(given: Any) -> list[str]:
        body = {"subscription": {"invoice_custom_section": given, "ending_at": None}}
        return chosen(api.put("/subscriptions/sub", body)["subscription"])

    assert change(None) == ["more", "own"]
    assert change(own("bank")) == ["bank"]
    assert renew(api, 4) == ["bank"]
    assert change(own("own", skip=True)) == []
    assert renew(api, 5) == []
    assert change(own()) == []
    assert renew(api, 6) == ["legal"]
    unknown = {"subscription": {"invoice_custom_section": own("nothing")}}
    assert api.code(404, "PUT", "/subscriptions/sub", unknown) == "invoice_custom_section_not_found"
    again = api.subscribe(invoice_custom_section=own("own"))
    assert (again["lago_id"], chosen(again)) == (made["lago_id"], ["own"])
    change_of_plan = {"subscriptions": {"external_ids": ["sub"], "plan_code": "max"}}
    preview = api.post("/invoices/preview", {"customer": {"external_id": "cus"}, **change_of_plan})["invoice"]
    assert [code for code, *_ in printed(preview)] == ["own"]
    after = api.subscribe(plan="max")
    assert (after["lago_id"] != made["lago_id"], chosen(after), newest(api)) == (True, ["own"], ["own"])
    api.delete("/invoice_custom_sections/own")
    assert renew(api, 7) == ["legal"]


def test_an_invoice_of_several_subscriptions_prints_what_each_brings(api: Api) -> None:
    for code in ("bank", "legal", "own"):
        section(api, code)
    api.plan(amount_cents=100)
    api.customer(invoice_custom_section_codes=["legal"])
    api.subscribe("first", invoice_custom_section=own("own", "bank"))
    api.subscribe("second", invoice_custom_section=own("bank"))
    api.subscribe("third", invoice_custom_section=own(skip=True))
    assert renew(api, 4) == ["bank", "own"]
    api.subscribe("fourth")
    assert renew(api, 5) == ["bank", "legal", "own"]


def test_a_voided_invoice_that_is_made_again_prints_what_its_subscription_has_chosen_now(api: Api) -> None:
    for code in ("bank", "own"):
        section(api, code)
    api.plan(amount_cents=100, pay_in_advance=True)
    api.customer(invoice_custom_section_codes=["bank"])
    api.subscribe(invoice_custom_section=own("own"))
    (first,) = api.get("/invoices")["invoices"]
    api.post(f"/invoices/{first['lago_id']}/void", {})
    again = api.post(f"/invoices/{first['lago_id']}/regenerate", {})["invoice"]
    assert [code for code, *_ in printed(again)] == ["own"]


def test_a_one_off_invoice_prints_what_its_request_chooses(api: Api) -> None:
    api.post(
        "/add_ons", {"add_on": {"code": "item", "name": "I", "amount_cents": 5, "amount_currency": "EUR"}}
    )
    for code in ("bank", "own"):
        section(api, code)
    api.customer(invoice_custom_section_codes=["bank"])
    body = {"external_customer_id": "cus", "currency": "EUR", "fees": [{"add_on_code": "item"}]}
    for given, expected in ((own("own"), ["own"]), (own(skip=True), []), (own(), ["bank"])):
        made = api.post("/invoices", {"invoice": {**body, "invoice_custom_section": given}})["invoice"]
        assert [code for code, *_ in printed(made)] == expected


def test_bought_credits_print_what_they_their_rule_or_their_wallet_have_chosen(api: Api) -> None:
    for code in ("bank", "wallet", "rule", "own"):
        section(api, code)
    api.customer(invoice_custom_section_codes=["bank"])
    rule = {"trigger": "interval", "interval": "monthly", "paid_credits": "3"}
    wallet = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", "paid_credits": "5"}
    made = api.post("/wallets", {"wallet": {**wallet, "invoice_custom_section": own("wallet")}})["wallet"]
    assert (chosen(made), newest(api)) == (["wallet"], ["wallet"])

    def buy(**given: Any) -> Any:
        body = {"wallet_id": made["lago_id"], "paid_credits": "2", **given}
        return api.post("/wallet_transactions", {"wallet_transaction": body})["wallet_transactions"][0]

    bought = buy(invoice_custom_section=own("own"))
    assert (chosen(bought), newest(api)) == (["own"], ["own"])
    shown = api.get(f"/wallet_transactions/{bought['lago_id']}")["wallet_transaction"]
    assert chosen(shown) == ["own"]
    buy()
    assert newest(api) == ["wallet"]

    def change(**given: Any) -> Any:
        return api.put(f"/wallets/{made['lago_id']}", {"wallet": given})["wallet"]

    after = change(recurring_transaction_rules=[{**rule, "invoice_custom_section": own("rule")}])
    assert (chosen(after), chosen(after["recurring_transaction_rules"][0])) == (["wallet"], ["rule"])
    after = change(recurring_transaction_rules=[{**rule, "paid_credits": "4"}])
    assert chosen(after["recurring_transaction_rules"][0]) == ["rule"]
    api.put("/test_clock", {"test_clock": {"now": "2024-04-05T12:00:00Z"}})
    assert newest(api) == ["rule"]
    assert chosen(change(invoice_custom_section=own(skip=True), recurring_transaction_rules=[])) == []
    buy()
    assert newest(api) == []
    change(invoice_custom_section=own())
    buy()
    assert newest(api) == ["bank"]
