"""Charges that are priced in credits and paid in money, over HTTP from the unit to the fee and its explanation."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge, plan_body

_numbers = itertools.count(1)
UNIT = {"code": "credits", "name": "Credits", "short_name": "CR", "description": "What we sell"}
HALF = {"code": "credits", "conversion_rate": "0.5"}


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    conn, memory = open_connection(dsn), Memory()

    def one(tokens: Any, at: datetime = START, **more: Any) -> str:
        name = f"cr-{next(_numbers)}"
        draft = Draft(name, "tokens", "sub", microseconds(at), None, {"tokens": tokens, **more})
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])
        return name

    yield one
    conn.close()


@pytest.fixture
def unit(api: Api) -> Any:
    return api.post("/pricing_units", {"pricing_unit": UNIT})["pricing_unit"]


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


def fees(api: Api) -> list[Any]:
    found: list[Any] = api.get("/fees", fee_type="charge")["fees"]
    return sorted(found, key=lambda fee: (fee["created_at"], fee["amount_cents"]))


def ready(api: Api, *charges: Any, **customer: Any) -> Any:
    made = api.plan("pro", list(charges))
    api.customer(**customer)
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    return made


def explained(api: Api, fee: Any) -> Any:
    return api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]


def rate(api: Api, path: str, **terms: Any) -> Any:
    body = {"charge": {"applied_pricing_unit": terms}}
    return api.put(path, body)["charge"]["applied_pricing_unit"]


# The unit itself


def test_a_unit_is_made_changed_and_deleted(api: Api, stranger: Api, unit: Any) -> None:
    assert {name: unit[name] for name in UNIT} == UNIT
    assert unit["created_at"] == "2024-03-05T10:00:00Z"
    assert api.get("/pricing_units/credits")["pricing_unit"] == unit
    for number in range(3):
        api.post("/pricing_units", {"pricing_unit": {**UNIT, "code": f"more-{number}"}})
    pages = [api.get("/pricing_units", per_page=3, page=number) for number in (1, 2)]
    listed = [[each["code"] for each in page["pricing_units"]] for page in pages]
    assert [len(codes) for codes in listed] == [3, 1]
    assert sorted(itertools.chain(*listed)) == ["credits", "more-0", "more-1", "more-2"]
    assert pages[1]["meta"]["total_count"] == 4
    assert stranger.get("/pricing_units")["pricing_units"] == []
    assert stranger.code(404, "GET", "/pricing_units/credits") == "pricing_unit_not_found"
    changes = {"code": "tokens", "name": "Tokens", "short_name": "TK", "description": None}
    changed = api.put("/pricing_units/credits", {"pricing_unit": changes})["pricing_unit"]
    assert changed == {**unit, **changes}
    assert api.put("/pricing_units/tokens", {"pricing_unit": {"name": "T"}})["pricing_unit"] == {
        **changed,
        "name": "T",
    }
    assert api.delete("/pricing_units/tokens")["pricing_unit"]["lago_id"] == unit["lago_id"]
    assert api.code(404, "DELETE", "/pricing_units/tokens") == "pricing_unit_not_found"
    again = api.post("/pricing_units", {"pricing_unit": {**UNIT, "code": "tokens"}})["pricing_unit"]
    assert again["lago_id"] != unit["lago_id"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"short_name": "CRED"}, {"short_name": ["value_is_too_long"]}),
        ({"short_name": None, "name": ""}, {name: ["value_is_mandatory"] for name in ("short_name", "name")}),
        ({"code": "other"}, {"code": ["value_already_exist"]}),
    ],
)
def test_what_is_wrong_with_a_unit(api: Api, unit: Any, changes: Any, expected: Any) -> None:
    api.post("/pricing_units", {"pricing_unit": {**UNIT, "code": "other"}})
    assert api.details("PUT", "/pricing_units/credits", {"pricing_unit": changes}) == expected
    assert api.details("POST", "/pricing_units", {"pricing_unit": UNIT | changes}) == expected


def test_a_unit_in_use_stays(api: Api, unit: Any) -> None:
    api.plan("pro", [charge(api.metric(), applied_pricing_unit=HALF)])
    assert api.code(405, "DELETE", "/pricing_units/credits") == "attached_to_charges"
    api.delete("/plans/pro/charges/tokens")
    api.delete("/pricing_units/credits")
    assert api.get("/plans/pro")["plan"]["charges"] == []


# The terms of a charge


def test_a_charge_shows_its_unit_until_it_is_taken_away(api: Api, unit: Any) -> None:
    api.post("/pricing_units", {"pricing_unit": {**UNIT, "code": "stars"}})
    metric = api.metric()
    made = api.plan("pro", [charge(metric, applied_pricing_unit=HALF), charge(metric)])
    assert [each["applied_pricing_unit"] for each in made["charges"]] == [HALF, None]
    path = "/plans/pro/charges/tokens"
    stars = {"code": "stars", "conversion_rate": "0.000000000000001"}
    assert rate(api, path, **stars) == stars
    assert rate(api, path, conversion_rate=2) == {"code": "stars", "conversion_rate": "2.0"}
    assert rate(api, path, code="credits") == {"code": "credits", "conversion_rate": "2.0"}
    body = {"charge": {"invoice_display_name": "Kept"}}
    assert api.put(path, body)["charge"]["applied_pricing_unit"]["code"] == "credits"
    gone = api.put(path, {"charge": {"applied_pricing_unit": None}})["charge"]
    assert gone["applied_pricing_unit"] is None
    fresh = charge(metric, code="more", applied_pricing_unit=HALF)
    api.post("/plans/pro/charges", {"charge": fresh})
    assert api.get("/plans/pro/charges/more")["charge"]["applied_pricing_unit"] == HALF


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"code": "none", "conversion_rate": "1"}, {"applied_pricing_unit": ["pricing_unit_not_found"]}),
        ({"conversion_rate": "1"}, {"code": ["value_is_mandatory"]}),
        ({"code": "credits"}, {"conversion_rate": ["value_is_mandatory"]}),
        ({"code": "credits", "conversion_rate": "0"}, {"conversion_rate": ["value_is_out_of_range"]}),
        ({"code": "credits", "conversion_rate": "-1"}, {"conversion_rate": ["value_is_out_of_range"]}),
        ({"code": "credits", "conversion_rate": "0." + "0" * 16 + "1"}, {"conversion_rate": ["value_is_out_of_range"]}),
        ({"code": "credits", "conversion_rate": "many"}, {"conversion_rate": ["value_is_invalid"]}),
        ("credits", {"applied_pricing_unit": ["value_is_invalid"]}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_terms(api: Api, unit: Any, terms: Any, expected: Any) -> None:
    wrong = charge(api.metric(), applied_pricing_unit=terms)
    assert api.details("POST", "/plans", {"plan": plan_body("pro", [wrong])}) == expected
    api.plan("pro")
    body = {"charge": {**wrong, "code": "x"}}
    assert api.details("POST", "/plans/pro/charges", body) == expected


def test_units_of_others_are_unknown(api: Api, stranger: Api, unit: Any) -> None:
    wrong = charge(stranger.metric(), applied_pricing_unit=HALF)
    refused = stranger.details("POST", "/plans", {"plan": plan_body("pro", [wrong])})
    assert refused == {"applied_pricing_unit": ["pricing_unit_not_found"]}


def test_with_subscriptions_only_the_rate_changes(api: Api, unit: Any) -> None:
    api.post("/pricing_units", {"pricing_unit": {**UNIT, "code": "stars"}})
    metric = api.metric()
    ready(api, charge(metric, applied_pricing_unit=HALF), charge(metric))
    path = "/plans/pro/charges/tokens"
    assert rate(api, path, code="stars", conversion_rate="3") == {"code": "credits", "conversion_rate": "3.0"}
    kept = api.put(path, {"charge": {"applied_pricing_unit": None}})["charge"]
    assert kept["applied_pricing_unit"]["conversion_rate"] == "3.0"
    assert rate(api, "/plans/pro/charges/tokens_2", **HALF) is None, "it is priced in money for good"
    wrong = {"charge": {"applied_pricing_unit": {"conversion_rate": 0}}}
    assert api.details("PUT", path, wrong) == {"conversion_rate": ["value_is_out_of_range"]}


def test_a_subscription_has_a_rate_of_its_own(api: Api, unit: Any, send: Any) -> None:
    metric = api.metric()
    sold = api.plan("pro", [charge(metric, applied_pricing_unit=HALF)])
    api.customer()
    override = {"id": sold["charges"][0]["lago_id"], "applied_pricing_unit": {"conversion_rate": "0.25"}}
    api.subscribe(plan_overrides={"charges": [override]})
    api.subscribe("other")
    path = "/subscriptions/sub/charges/tokens"
    quarter = {"code": "credits", "conversion_rate": "0.25"}
    assert api.get(path)["charge"]["applied_pricing_unit"] == quarter
    assert rate(api, path, code="none", conversion_rate="0.2")["conversion_rate"] == "0.2", (
        "a code is no part of an override"
    )
    rate(api, "/subscriptions/other/charges/tokens", conversion_rate="0.5")
    body = {"charge": {"applied_pricing_unit": {"conversion_rate": "0.75"}, "cascade_updates": True}}
    api.put("/plans/pro/charges/tokens", body)
    own = [api.get(f"/subscriptions/{each}/charges/tokens")["charge"] for each in ("sub", "other")]
    rates = [each["applied_pricing_unit"]["conversion_rate"] for each in own]
    assert rates == ["0.2", "0.75"], "what was agreed stays, what was the same follows"
    send(10)
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["amount_cents"] == 200


# What it comes to


def in_full(unit: Any, **figures: Any) -> dict[str, Any]:
    return {
        "lago_pricing_unit_id": unit["lago_id"],
        "pricing_unit_code": "credits",
        "short_name": "CR",
        **figures,
    }


def test_usage_invoice_and_explanation(api: Api, unit: Any, send: Any) -> None:
    """semantics-metering.md 7.13 #7: 300 units at 1.0, of which one is worth 0.5; and a filter of which they are worth less than a cent."""
    metric = api.metric(filters=[{"key": "model", "values": ["8K"]}])
    filters = [{"values": {"model": ["8K"]}, "properties": {"amount": "0.0333"}}]
    ready(api, charge(metric, filters=filters, applied_pricing_unit=HALF))
    send(300)
    send(10, model="8K")
    move(api, 2024, 3, 10, 12)
    path = "/customers/cus/current_usage"
    usage = api.get(path, external_subscription_id="sub")["customer_usage"]
    (item,) = usage["charges_usage"]
    shown = {"short_name": "CR", "conversion_rate": "0.5"}
    assert item["pricing_unit_details"] == {"amount_cents": 30_033, **shown}
    assert (usage["amount_cents"], item["amount_cents"]) == (15_017, 15_017)
    assert [(each["amount_cents"], each["pricing_unit_details"]) for each in item["filters"]] == [
        (17, {"amount_cents": 33, **shown}),
        (15_000, {"amount_cents": 30_000, **shown}),
    ]
    projected = api.get("/customers/cus/projected_usage", external_subscription_id="sub")
    (item,) = projected["customer_projected_usage"]["charges_usage"]
    assert item["filters"][0]["pricing_unit_details"] == {
        "amount_cents": 33,
        **shown,
        "projected_amount_cents": 103,
    }, "31 units by the 31st"
    assert item["projected_amount_cents"] == 52
    move(api, 2024, 4, 1, 1)
    small, large = fees(api)
    assert large["pricing_unit_details"] == in_full(
        unit,
        amount_cents=30_000,
        precise_amount_cents="30000.0",
        unit_amount_cents=100,
        precise_unit_amount="1.0",
        conversion_rate="0.5",
    )
    assert small["pricing_unit_details"] == in_full(
        unit,
        amount_cents=33,
        precise_amount_cents="33.3",
        unit_amount_cents=3,
        precise_unit_amount="0.0333",
        conversion_rate="0.5",
    )
    assert (small["amount_cents"], small["precise_amount"], small["precise_unit_amount"]) == (
        17,
        "0.165",
        "0.01665",
    )
    (invoice,) = api.get("/invoices")["invoices"]
    listed = api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]
    assert {fee["lago_id"]: fee["pricing_unit_details"] for fee in listed if fee["lago_charge_id"]} == {
        fee["lago_id"]: fee["pricing_unit_details"] for fee in (small, large)
    }
    found = explained(api, small)
    assert [step["text"] for step in found["formula"]] == [
        "10 units x 0.0333 = 0.333",
        "0.333 CR to the hundredth, half away from zero: 0.33",
        "0.33 CR x 0.5 = 0.165 EUR",
        "0.165 EUR to the smallest unit, half away from zero: 0.17",
    ]
    assert sum(Decimal(step["amount"]) for step in found["formula"]) == Decimal("0.17")
    assert found["recomputed"] == {"amount_cents": 17, "units": "10.0", "events_count": 1, "is_same": True}


def test_a_fee_keeps_the_unit_and_the_rate_that_it_was_made_with(api: Api, unit: Any, send: Any) -> None:
    ready(api, charge(api.metric(), applied_pricing_unit=HALF))
    send(10)
    move(api, 2024, 4, 1, 1)
    (before,) = fees(api)
    rate(api, "/plans/pro/charges/tokens", conversion_rate="2")
    api.put("/pricing_units/credits", {"pricing_unit": {"code": "stars", "short_name": "ST"}})
    assert fees(api) == [before]
    past = api.get("/customers/cus/past_usage", external_subscription_id="sub")["usage_periods"]
    assert past[0]["charges_usage"][0]["pricing_unit_details"] == {
        "amount_cents": 1_000,
        "short_name": "CR",
        "conversion_rate": "0.5",
    }
    found = explained(api, before)
    assert found["formula"][2]["text"] == "10 CR x 0.5 = 5 EUR"
    assert (found["recomputed"]["amount_cents"], found["recomputed"]["is_same"]) == (2_000, False)
    send(10, datetime(2024, 4, 1, 2, tzinfo=UTC))
    usage = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert usage["charges_usage"][0]["pricing_unit_details"]["short_name"] == "ST"
    assert usage["amount_cents"] == 2_000


def test_a_draft_follows_a_new_rate_and_amendments(api: Api, unit: Any, send: Any) -> None:
    metric = api.metric()
    ready(api, charge(metric, applied_pricing_unit=HALF), billing_configuration={"invoice_grace_period": 5})
    first = send(10)
    send(3)
    move(api, 2024, 4, 1, 1)
    (draft,) = api.get("/invoices")["invoices"]
    assert draft["fees_amount_cents"] == 650
    rate(api, "/plans/pro/charges/tokens", conversion_rate="2")
    amendment = {
        "transaction_id": f"fix-{first}",
        "event_transaction_id": first,
        "kind": "void",
        "reason": "Sent twice",
    }
    answer = api.post("/events/amendments", {"amendment": amendment})
    assert answer["amendment"]["kind"] == "void"
    (fee,) = fees(api)
    recomputed = explained(api, fee)["recomputed"]
    assert (recomputed["amount_cents"], recomputed["is_same"]) == (600, False)
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", {})["invoice"]
    assert refreshed["fees_amount_cents"] == 600
    (fee,) = fees(api)
    assert fee["pricing_unit_details"]["amount_cents"] == 300
    assert fee["pricing_unit_details"]["conversion_rate"] == "2.0"
    assert explained(api, fee)["recomputed"]["is_same"] is True


def test_the_minimum_charge_is_in_the_unit(api: Api, unit: Any, send: Any) -> None:
    """semantics-metering.md 7.13 #6."""
    quarter = {"code": "credits", "conversion_rate": "0.25"}
    ready(api, charge(api.metric(), applied_pricing_unit=quarter, min_amount_cents=1_000))
    send(7)
    move(api, 2024, 4, 1, 1)
    made_up, used = fees(api)
    assert made_up["lago_true_up_parent_fee_id"] == used["lago_id"]
    assert (used["amount_cents"], made_up["amount_cents"]) == (175, 75)
    assert made_up["pricing_unit_details"] == in_full(
        unit,
        amount_cents=300,
        precise_amount_cents="300.0",
        unit_amount_cents=300,
        precise_unit_amount="3.0",
        conversion_rate="0.25",
    )
    assert [step["text"] for step in explained(api, made_up)["formula"]][-2:] == [
        "3 CR x 0.25 = 0.75 EUR",
        "0.75 EUR to the smallest unit, half away from zero: 0.75",
    ]


def test_fees_in_advance_and_their_estimates(api: Api, unit: Any, send: Any) -> None:
    tiers = [
        {"from_value": 0, "to_value": 5, "per_unit_amount": "1", "flat_amount": "1"},
        {"from_value": 6, "to_value": None, "per_unit_amount": "0.333", "flat_amount": "0"},
    ]
    priced = {"graduated_ranges": tiers}
    terms = {"pay_in_advance": True, "invoiceable": False, "applied_pricing_unit": HALF}
    ready(api, charge(api.metric(), charge_model="graduated", properties=priced, **terms))
    sent: list[Any] = []
    for tokens, credits_, cents in ((5, 600, 300), (1, 33, 17)):
        event = {"code": "tokens", "external_subscription_id": "sub", "properties": {"tokens": tokens}}
        (estimated,) = api.post("/events/estimate_fees", {"event": event})["fees"]
        sent.append(send(tokens))
        move(api, 2024, 3, 5, 10, len(sent))
        (fee,) = api.get("/fees", event_transaction_id=sent[-1])["fees"]
        assert (fee["amount_cents"], fee["pricing_unit_details"]["amount_cents"]) == (cents, credits_)
        assert estimated["pricing_unit_details"] == fee["pricing_unit_details"]
        assert estimated["amount_cents"] == cents
        found = explained(api, fee)
        assert sum(Decimal(step["amount"]) for step in found["formula"]) == Decimal(cents) / 100
        assert found["formula"][2]["text"].startswith(f"{Decimal(credits_) / 100} CR x 0.5 = ")
        assert found["recomputed"]["is_same"] is True


def test_an_instant_estimate_is_in_money(api: Api, unit: Any) -> None:
    terms = {"pay_in_advance": True, "applied_pricing_unit": HALF}
    ready(api, charge(api.metric(), properties={"amount": "0.333"}, **terms))
    event = {"code": "tokens", "external_subscription_id": "sub", "properties": {"tokens": 1}}
    (fee,) = api.post("/events/estimate_instant_fees", {"event": event})["fees"]
    assert (fee["amount_cents"], fee["precise_amount"]) == ("17.0", "0.165")


def test_renewals_in_advance(api: Api, unit: Any, send: Any) -> None:
    terms = {"pay_in_advance": True, "invoiceable": False, "applied_pricing_unit": HALF}
    ready(api, charge(api.metric(recurring=True), **terms))
    send(3)
    move(api, 2024, 4, 1, 1)
    assert [fee["pricing_unit_details"]["amount_cents"] for fee in fees(api)] == [300, 300]
    assert [fee["amount_cents"] for fee in fees(api)] == [150, 150]


def test_taxes_are_of_the_money(api: Api, unit: Any, send: Any) -> None:
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    ready(api, charge(api.metric(), applied_pricing_unit=HALF))
    send(10)
    move(api, 2024, 4, 1, 1)
    (fee,) = fees(api)
    assert (fee["amount_cents"], fee["taxes_amount_cents"]) == (500, 100)


def test_a_currency_without_decimals(api: Api, unit: Any, send: Any) -> None:
    metric = api.metric()
    api.plan("pro", [charge(metric, applied_pricing_unit=HALF)], amount_currency="JPY")
    api.customer()
    api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    send(5)
    move(api, 2024, 4, 1, 1)
    (fee,) = fees(api)
    assert (fee["pricing_unit_details"]["amount_cents"], fee["amount_cents"]) == (500, 3), "2.5 yen"
    assert explained(api, fee)["recomputed"]["is_same"] is True


def test_the_invoice_on_paper_says_both(api: Api, unit: Any, send: Any) -> None:
    ready(api, charge(api.metric(), properties={"amount": "0.5"}, applied_pricing_unit=HALF))
    send(300)
    move(api, 2024, 4, 1, 1)
    (invoice,) = api.get("/invoices")["invoices"]
    pdf = api.call("GET", f"/invoices/{invoice['lago_id']}/pdf")
    text = " ".join("".join(page.extract_text() for page in PdfReader(BytesIO(pdf.content)).pages).split())
    assert "150.00 CR at €0.50" in text
    assert "0.50 CR per token" in text
    assert "€75.00" in text
