"""Subscriptions on the invoices of another billing entity than their customer's."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from .conftest import Api, charge
from .test_billing_entities import second
from .test_in_advance import send  # noqa: F401
from .test_payments import move, webhooks

ANNIVERSARY: dict[str, Any] = {"billing_time": "anniversary"}
OF_SECOND: dict[str, Any] = {"billing_entity_codes[]": "second"}


def change(api: Api, external_id: str = "sub", **fields: Any) -> Any:
    return api.put(f"/subscriptions/{external_id}", {"subscription": fields})["subscription"]


def listed(api: Api, **params: Any) -> list[Any]:
    return sorted(api.get("/invoices", **params)["invoices"], key=lambda each: each["number"])


def issued(api: Api, **params: Any) -> list[tuple[str, str, int]]:
    names = ("billing_entity_code", "number", "fees_amount_cents")
    return [tuple(each[name] for name in names) for each in listed(api, **params)]


def finalized_on(api: Api) -> str:
    """When the draft becomes final."""
    (day,) = api.row(
        "select expected_finalization_date from invoice where organization_id = %(organization)s and status = 'draft'"
    )
    return str(day)


def named(api: Api) -> None:
    api.put("/billing_entities/default", {"billing_entity": {"document_number_prefix": "ONE"}})


def tax(api: Api, code: str, rate: float) -> None:
    api.post("/taxes", {"tax": {"name": code, "code": code, "rate": rate}})


def test_two_subscriptions_of_a_customer_are_billed_on_one_day_by_two_entities(api: Api) -> None:
    named(api)
    second(api)
    api.plan(amount_cents=3_100)
    api.customer()
    api.subscribe("a", **ANNIVERSARY)
    api.subscribe("b", **ANNIVERSARY)
    own = api.subscribe("c", billing_entity_code="second", **ANNIVERSARY)
    assert own["billing_entity_code"] == "second"
    move(api, 2024, 4, 5, 12)
    assert issued(api) == [("default", "ONE-001-001", 6_200), ("second", "SEC-2-001-001", 3_100)]
    (invoice,) = listed(api, **OF_SECOND)
    whole = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]
    assert whole["customer"]["billing_entity_code"] == "default"
    assert [each["billing_entity_code"] for each in whole["subscriptions"]] == ["second"]


def test_the_settings_of_the_entity_count_and_the_days_are_the_customers(api: Api) -> None:
    tax(api, "second-tax", 10)
    tax(api, "other-tax", 50)
    api.put("/billing_entities/default", {"billing_entity": {"tax_codes": ["other-tax"]}})
    second(api, timezone="Asia/Tokyo", net_payment_term=7, tax_codes=["second-tax"])
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe(billing_entity_code="second", **ANNIVERSARY)
    move(api, 2024, 4, 5, 12)
    (invoice,) = listed(api)
    assert (invoice["issuing_date"], invoice["payment_due_date"]) == ("2024-04-05", "2024-04-12")
    assert (invoice["taxes_amount_cents"], invoice["total_amount_cents"]) == (100, 1_100)


def test_an_update_counts_for_invoices_to_come_and_drafts_stay(api: Api) -> None:
    named(api)
    second(api, invoice_grace_period=2)
    api.put("/billing_entities/default", {"billing_entity": {"invoice_grace_period": 3}})
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe(**ANNIVERSARY)
    move(api, 2024, 4, 5, 12)
    (draft,) = listed(api)
    assert change(api, billing_entity_code="second")["billing_entity_code"] == "second"
    assert webhooks(api)[-1] == "subscription.updated"
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", {})["invoice"]
    assert (refreshed["billing_entity_code"], refreshed["number"]) == ("default", "ONE-DRAFT")
    move(api, 2024, 5, 5, 12)
    (later,) = listed(api, status="draft")
    assert (later["billing_entity_code"], finalized_on(api)) == ("second", "2024-05-07")
    assert change(api, billing_entity_code=None)["billing_entity_code"] == "default"
    move(api, 2024, 6, 20, 12)
    assert issued(api) == [
        ("default", "ONE-001-001", 1_000),
        ("default", "ONE-001-002", 1_000),
        ("second", "SEC-2-001-001", 1_000),
    ]


def test_a_draft_of_a_subscription_that_names_an_entity_stays_when_its_customer_moves(api: Api) -> None:
    named(api)
    second(api, invoice_grace_period=4)
    third = {"code": "third", "name": "Third", "document_number_prefix": "T", "invoice_grace_period": 9}
    api.post("/billing_entities", {"billing_entity": third})
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe(billing_entity_code="second", **ANNIVERSARY)
    move(api, 2024, 4, 5, 12)
    api.post("/customers", {"customer": {"external_id": "cus", "billing_entity_code": "third"}})
    api.put("/billing_entities/third", {"billing_entity": {"invoice_grace_period": 20}})
    (draft,) = listed(api)
    assert (draft["billing_entity_code"], finalized_on(api)) == ("second", "2024-04-09")
    api.put("/billing_entities/second", {"billing_entity": {"invoice_grace_period": 6}})
    assert finalized_on(api) == "2024-04-11"
    move(api, 2024, 4, 11, 12)
    assert issued(api) == [("second", "SEC-2-001-001", 1_000)]


def test_a_term_of_the_customers_own_counts_for_drafts_of_any_entity(api: Api) -> None:
    """Also where it is what its own entity has: the draft of another one had that one's."""
    named(api)
    second(api, invoice_grace_period=4, net_payment_term=30)
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe(billing_entity_code="second", **ANNIVERSARY)
    move(api, 2024, 4, 5, 12)

    def due() -> tuple[str, str]:
        (draft,) = listed(api)
        return draft["issuing_date"], draft["payment_due_date"]

    assert due() == ("2024-04-09", "2024-05-09")
    api.customer(net_payment_term=0)
    assert due() == ("2024-04-09", "2024-04-09")
    api.customer(net_payment_term=None)
    assert due() == ("2024-04-09", "2024-05-09")


def test_a_change_of_plan_keeps_the_entity_unless_another_is_named(api: Api) -> None:
    named(api)
    second(api)
    for code, cents in (("small", 1_000), ("large", 3_000), ("huge", 9_000)):
        api.plan(code, amount_cents=cents)
    api.customer()
    api.subscribe(plan="small", billing_entity_code="second", **ANNIVERSARY)
    move(api, 2024, 3, 15, 12)
    assert api.subscribe(plan="large")["billing_entity_code"] == "second"
    move(api, 2024, 3, 25, 12)
    api.plan("ahead", amount_cents=9_500, pay_in_advance=True)
    body: dict[str, Any] = {"customer": {"external_id": "cus"}, "billing_entity_code": "second"}
    body["subscriptions"] = {"external_ids": ["sub"], "plan_code": "ahead"}
    assert api.post("/invoices/preview", body)["invoice"]["billing_entity_code"] == "second"
    assert api.details("POST", "/invoices/preview", {**body, "billing_entity_code": "default"}) == {
        "base": ["subscription_billing_entities_do_not_match"]
    }
    assert api.code(404, "POST", "/invoices/preview", {**body, "billing_entity_code": "none"}) == (
        "billing_entity_not_found"
    )
    upgraded = api.subscribe(plan="huge", billing_entity_code="default")
    assert upgraded["billing_entity_code"] == "default"
    assert api.subscribe(plan="small")["plan_code"] == "huge"
    change(api, billing_entity_code="second")
    move(api, 2024, 5, 6, 12)
    running = api.get("/subscriptions/sub")["subscription"]
    assert (running["plan_code"], running["billing_entity_code"]) == ("small", "second")
    assert [code for code, *_ in issued(api)] == ["second"] * 4
    assert [number for _, number, _ in issued(api)] == [f"SEC-2-001-00{each}" for each in (1, 2, 3, 4)]


def test_the_new_plan_of_another_entity_is_on_an_invoice_of_its_own(api: Api) -> None:
    named(api)
    second(api)
    api.plan("small", amount_cents=3_100)
    api.plan("large", amount_cents=9_300, pay_in_advance=True)
    api.customer()
    api.subscribe(plan="small", **ANNIVERSARY)
    move(api, 2024, 3, 15, 12)
    api.subscribe(plan="large", billing_entity_code="second")
    assert [(code, number) for code, number, _ in issued(api)] == [
        ("default", "ONE-001-001"),
        ("second", "SEC-2-001-001"),
    ]


def test_subscriptions_are_found_by_who_bills_them(api: Api) -> None:
    second(api)
    api.plan()
    api.customer()
    api.customer("moved", billing_entity_code="second")
    api.subscribe("theirs")
    api.subscribe("own", billing_entity_code="second")
    api.subscribe("inherited", external_customer_id="moved")
    api.subscribe("back", external_customer_id="moved", billing_entity_code="default")
    for code, names in (("second", {"own", "inherited"}), ("default", {"theirs", "back"})):
        found = api.get("/subscriptions", **{"billing_entity_codes[]": code})["subscriptions"]
        assert {(each["external_id"], each["billing_entity_code"]) for each in found} == {
            (name, code) for name in names
        }


def test_an_unknown_entity_is_not_found(api: Api) -> None:
    api.plan()
    api.customer()
    api.subscribe()
    for method, path in (("POST", "/subscriptions"), ("PUT", "/subscriptions/sub")):
        wanted = {"external_id": "x", "external_customer_id": "cus", "plan_code": "pro"}
        body = {"subscription": {**wanted, "billing_entity_code": "nowhere"}}
        assert api.code(404, method, path, body) == "billing_entity_not_found"


def test_a_preview_is_what_the_entity_will_bill(api: Api) -> None:
    named(api)
    tax(api, "second-tax", 10)
    second(api, tax_codes=["second-tax"], net_payment_term=7)
    api.plan(amount_cents=1_000)
    api.customer()
    api.subscribe("theirs", **ANNIVERSARY)
    api.subscribe("own", billing_entity_code="second", **ANNIVERSARY)

    def body(*names: str) -> Any:
        return {"customer": {"external_id": "cus"}, "subscriptions": {"external_ids": list(names)}}

    shown = api.post("/invoices/preview", body("own"))["invoice"]
    assert (shown["billing_entity_code"], shown["customer"]["billing_entity_code"]) == ("second", "default")
    details = api.details("POST", "/invoices/preview", body("own", "theirs"))
    assert details == {"base": ["subscription_billing_entities_do_not_match"]}
    move(api, 2024, 4, 5, 12)
    (made,) = listed(api, **OF_SECOND)
    for name in ("total_amount_cents", "taxes_amount_cents", "issuing_date", "payment_due_date"):
        assert shown[name] == made[name]


def test_a_plan_that_a_customer_might_take_is_previewed_by_the_entity_that_would_bill_it(api: Api) -> None:
    tax(api, "second-tax", 10)
    second(api, tax_codes=["second-tax"], net_payment_term=7)
    api.plan(amount_cents=1_000, pay_in_advance=True)
    api.customer()
    wanted = {"plan_code": "pro", "billing_entity_code": "second", "billing_time": "anniversary"}
    shown = api.post("/invoices/preview", {"customer": {"external_id": "cus"}, **wanted})["invoice"]
    assert (shown["billing_entity_code"], shown["customer"]["billing_entity_code"]) == ("second", "default")
    api.subscribe(billing_entity_code="second", **ANNIVERSARY)
    (made,) = listed(api)
    for name in ("billing_entity_code", "total_amount_cents", "taxes_amount_cents", "payment_due_date"):
        assert shown[name] == made[name]
    unknown = {"customer": {"external_id": "cus"}, "plan_code": "pro", "billing_entity_code": "nowhere"}
    assert api.code(404, "POST", "/invoices/preview", unknown) == "billing_entity_not_found"


def test_usage_and_fees_of_events_have_the_taxes_of_the_entity(api: Api, send: Any) -> None:  # noqa: F811
    tax(api, "second-tax", 10)
    second(api, tax_codes=["second-tax"])
    metric = api.metric()
    in_advance = charge(metric, pay_in_advance=True, invoiceable=True, properties={"amount": "1"})
    api.plan(charges=[in_advance], amount_cents=0)
    api.customer()
    api.subscribe(billing_entity_code="second", **ANNIVERSARY)
    send(5)
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert (usage["amount_cents"], usage["taxes_amount_cents"]) == (500, 50)
    move(api, 2024, 3, 6, 12)
    (invoice,) = listed(api)
    assert (invoice["billing_entity_code"], invoice["total_amount_cents"]) == ("second", 550)


def test_paid_fees_of_a_customer_are_gathered_by_entity(api: Api, send: Any) -> None:  # noqa: F811
    named(api)
    second(api)
    metric = api.metric()
    alone = charge(metric, pay_in_advance=True, invoiceable=False, regroup_paid_fees="invoice")
    api.plan(charges=[alone], amount_cents=0)
    api.customer()
    api.subscribe("theirs", **ANNIVERSARY)
    api.subscribe("own", billing_entity_code="second", **ANNIVERSARY)
    send(5, sub="theirs")
    send(7, sub="own")
    move(api, 2024, 3, 6, 12)
    fees = {each["external_subscription_id"]: each for each in api.get("/fees")["fees"]}
    for fee in fees.values():
        api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}})

    def revenue(code: str) -> list[int]:
        found = api.get("/analytics/gross_revenue", months=3, billing_entity_code=code)["gross_revenues"]
        return [each["amount_cents"] for each in found]

    cents = {name: fee["amount_cents"] for name, fee in fees.items()}
    assert (revenue("default"), revenue("second")) == ([cents["theirs"]], [cents["own"]])
    move(api, 2024, 4, 5, 12)
    # 001 are those of the period, of nothing
    assert issued(api, **{"invoice_types[]": "advance_charges"}) == [
        ("default", "ONE-001-002", cents["theirs"]),
        ("second", "SEC-2-001-002", cents["own"]),
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_entities_bill_together_what_one_would_and_their_numbers_have_no_gaps(
    api: Api, seed: int
) -> None:
    """Twins: customers with the same subscriptions, once of one entity alone and once spread over three."""
    chance = random.Random(seed)
    named(api)
    second(api)
    api.post(
        "/billing_entities",
        {"billing_entity": {"code": "third", "name": "Third", "document_number_prefix": "T"}},
    )
    codes = ("default", "second", "third")
    for code, cents in (("small", 1_000), ("large", 3_333)):
        api.plan(code, amount_cents=cents, pay_in_advance=code == "large")
    for name in ("one", "spread"):
        api.customer(name)
    twins = [f"{nth}" for nth in range(4)]

    def each_twin(do: Any) -> None:
        """Do the same to both twins, of which one names an entity."""
        do("one", {})
        do("spread", {"billing_entity_code": chance.choice(codes)})

    for twin in twins:
        plan = chance.choice(("small", "large"))
        each_twin(
            lambda who, more, twin=twin, plan=plan: api.subscribe(
                f"{who}-{twin}", plan, external_customer_id=who, **ANNIVERSARY, **more
            )
        )
    for month, day in ((3, 20), (4, 17), (5, 6)):
        move(api, 2024, month, day, 12)
        twin = chance.choice(twins)
        if month == 4:
            each_twin(
                lambda who, more, twin=twin: api.subscribe(
                    f"{who}-{twin}", "large", external_customer_id=who, **more
                )
            )
        else:
            each_twin(lambda who, more, twin=twin: change(api, f"{who}-{twin}", name="changed", **more))
    totals: dict[str, int] = defaultdict(int)
    numbers: dict[str, list[str]] = defaultdict(list)
    for invoice in listed(api, per_page=100):
        totals[invoice["customer"]["external_id"]] += invoice["total_amount_cents"]
        if invoice["customer"]["external_id"] == "spread":
            numbers[invoice["billing_entity_code"]].append(invoice["number"])
    assert totals["one"] == totals["spread"] > 0
    prefixes = {"default": "ONE", "second": "SEC-2", "third": "T"}
    assert len(numbers) > 1
    for code, found in numbers.items():
        assert found == [f"{prefixes[code]}-002-{nth:03}" for nth in range(1, len(found) + 1)]


def test_analytics_and_lists_of_invoices_are_narrowed_to_an_entity(api: Api) -> None:
    named(api)
    second(api)
    api.plan(amount_cents=1_000)
    api.customer()
    api.customer("partner", account_type="partner")
    api.subscribe("theirs", **ANNIVERSARY)
    api.subscribe("own", billing_entity_code="second", **ANNIVERSARY)
    api.subscribe("paid", external_customer_id="partner", **ANNIVERSARY)
    move(api, 2024, 4, 5, 12)
    api.post("/customers", {"customer": {"external_id": "cus", "billing_entity_code": "second"}})
    move(api, 2024, 5, 5, 12)

    def figures(name: str, root: str, **params: Any) -> list[int]:
        return [each["amount_cents"] for each in api.get(f"/analytics/{name}", months=3, **params)[root]]

    for name, root in (("gross_revenue", "gross_revenues"), ("mrr", "mrrs")):
        assert figures(name, root) == [2_000, 2_000]
        assert figures(name, root, billing_entity_code="second") == [1_000, 2_000]
        assert figures(name, root, billing_entity_code="default") == [1_000]
    assert figures("invoice_collection", "invoice_collections", billing_entity_code="default") == [1_000]
    assert figures("overdue_balance", "overdue_balances", billing_entity_code="default") == [1_000]
    for name in ("gross_revenue", "usage"):
        assert (
            api.code(404, "GET", f"/analytics/{name}", billing_entity_code="x") == "billing_entity_not_found"
        )
    assert [each[0] for each in issued(api, self_billed="true")] == ["default"] * 2
    assert [each[0] for each in issued(api, self_billed="false", **OF_SECOND)] == ["second"] * 2
    lost = listed(api, **OF_SECOND)[0]
    api.post(f"/invoices/{lost['lago_id']}/lose_dispute", {})
    assert [each["number"] for each in listed(api, payment_dispute_lost="true")] == [lost["number"]]
