"""Events of a billed period that come after its invoice is final: said so, proposed, and billed once or written off."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

import permille.database
from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.store import audit
from permille.usecases import event_warnings
from permille.usecases.invoices import advance
from tests.late import is_all_checked, review_late_usage

from .conftest import START, Api, charge
from .test_amendments import Sender, amend

Review = Callable[[], None]
MIGRATION = (
    Path(permille.database.__file__).parent / "migrations" / "0219_late_usage_beside_charges_in_advance.sql"
)


def ts(*parts: Any) -> datetime:
    return datetime(*parts).replace(tzinfo=UTC)


def move(api: Api, *when: int) -> None:
    api.put("/test_clock", {"test_clock": {"now": ts(*when).isoformat()}})


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    sender = Sender(dsn, api)
    yield sender
    sender.conn.close()


@pytest.fixture
def review(dsn: str) -> Review:
    return lambda: review_late_usage(dsn)


def proposals(api: Api, **query: Any) -> list[Any]:
    found: list[Any] = api.get("/late_usage", **query)["late_usage"]
    return found


def invoices(api: Api) -> list[Any]:
    """The invoices with their fees by number, drafts last."""
    listed = sorted(api.get("/invoices")["invoices"], key=lambda each: each["number"])
    return [api.get(f"/invoices/{each['lago_id']}")["invoice"] for each in listed]


def billed(api: Api, since: datetime) -> int:
    """What the usage of the period that begins then was billed at, on all invoices."""
    (cents,) = api.row(
        "select coalesce(sum(amount_cents), 0) from fee"
        " where organization_id = %(organization)s and fee_type = 'charge' and from_at = %(since)s",
        since=since,
    )
    return int(cents)


def ready(api: Api, *, fields: Any = None, **metric: Any) -> None:
    found = api.metric(filters=[{"key": "model", "values": ["a", "b"]}], **metric)
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "0.01"}}]
    api.plan(charges=[charge(found, properties={"amount": "0.1"}, filters=filters, **(fields or {}))])
    api.customer()
    api.subscribe()


def test_late_usage_is_said_proposed_and_billed_on_the_next_invoice(
    api: Api, send: Any, review: Review
) -> None:
    ready(api)
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    in_time = send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    late = send(ts(2024, 3, 20), tokens=50, model="a")
    send(ts(2024, 3, 21), tokens=3, model="b")
    send(ts(2024, 4, 1, 12), tokens=7, model="a")
    review()
    assert api.get(f"/events/{in_time}")["event"]["too_late"] is None
    (first,) = invoices(api)
    (proposal,) = proposals(api)
    said = api.get(f"/events/{late}")["event"]["too_late"]
    assert said == {
        "lago_invoice_id": first["lago_id"],
        "invoice_number": first["number"],
        "from_date": "2024-03-05T10:00:00Z",
        "to_date": "2024-03-31T23:59:59Z",
        "lago_late_usage_id": proposal["lago_id"],
        "late_usage_status": "open",
        "adjusting_invoice_number": None,
        "reason": None,
    }
    assert (proposal["status"], proposal["events_count"], proposal["units"], proposal["amount_cents"]) == (
        "open",
        2,
        "53.0",
        80,
    )
    assert [(line["filter"], line["units"], line["amount_cents"]) for line in proposal["lines"]] == [
        ({"model": ["a"]}, "50.0", 50),
        (None, "3.0", 30),
    ]
    (payload,) = api.row(
        "select count(*) from webhook where organization_id = %(organization)s"
        " and webhook_type = 'event.too_late' and object_type = 'late_usage'"
    )
    assert payload == 1
    path = f"/late_usage/{proposal['lago_id']}"
    scheduled = api.post(f"{path}/bill", None)["late_usage"]
    assert scheduled["status"] == "scheduled"
    assert api.post(f"{path}/bill", None)["late_usage"] == scheduled, "asking again changes nothing"
    assert api.details("POST", f"{path}/accept", {"late_usage": {"reason": "no"}}) == {
        "status": ["late_usage_is_billed"]
    }
    move(api, 2024, 5, 1, 1)
    _, second = invoices(api)
    lines = [
        (fee["units"], fee["amount_cents"], fee["from_date"][:10], fee["lago_late_usage_id"])
        for fee in second["fees"]
        if fee["item"]["type"] == "charge"
    ]
    assert lines == [
        ("7.0", 7, "2024-04-01", None),
        ("50.0", 50, "2024-03-05", proposal["lago_id"]),
        ("3.0", 30, "2024-03-05", proposal["lago_id"]),
    ]
    assert second["fees_amount_cents"] == 87
    done = api.get(path)["late_usage"]
    assert (done["status"], done["adjusting_invoice_number"]) == ("billed", second["number"])
    assert api.get(f"/events/{late}")["event"]["too_late"]["adjusting_invoice_number"] == second["number"]
    review()
    assert proposals(api, status="open") == []
    for fee in second["fees"]:
        api.get(f"/fees/{fee['lago_id']}/explanation")


def test_what_is_accepted_is_not_billed_and_what_comes_after_is_proposed_again(
    api: Api, send: Any, review: Review
) -> None:
    ready(api)
    move(api, 2024, 4, 2)
    late = send(tokens=50, model="a")
    review()
    (proposal,) = proposals(api)
    path = f"/late_usage/{proposal['lago_id']}"
    assert api.details("POST", f"{path}/accept", {"late_usage": {"reason": ""}, "x": 1}) == {
        "reason": ["value_is_mandatory"]
    }
    accepted = api.post(f"{path}/accept", {"late_usage": {"reason": "Our fault"}})["late_usage"]
    assert (accepted["status"], accepted["reason"]) == ("accepted", "Our fault")
    assert api.post(f"{path}/accept", {"late_usage": {"reason": "Again"}})["late_usage"] == accepted
    assert api.details("POST", f"{path}/bill", None) == {"status": ["late_usage_is_accepted"]}
    assert api.get(f"/events/{late}")["event"]["too_late"]["reason"] == "Our fault"
    send(tokens=5, model="a")
    review()
    (again,) = proposals(api, status="open")
    assert (again["units"], again["amount_cents"]) == ("5.0", 5)
    assert sorted(each["status"] for each in proposals(api)) == ["accepted", "open"]


def test_of_a_subscription_that_is_over_it_is_billed_at_once(api: Api, send: Any, review: Review) -> None:
    ready(api)
    move(api, 2024, 3, 20)
    api.delete("/subscriptions/sub")
    send(ts(2024, 3, 10), tokens=40, model="a")
    review()
    (proposal,) = proposals(api, external_subscription_id="sub")
    done = api.post(f"/late_usage/{proposal['lago_id']}/bill", None)["late_usage"]
    assert done["status"] == "billed"
    last = invoices(api)[-1]
    assert (last["number"], last["fees_amount_cents"], last["status"]) == (
        done["adjusting_invoice_number"],
        40,
        "finalized",
    )
    assert api.call("GET", f"/invoices/{last['lago_id']}/pdf").status_code == 200
    assert api.get("/customers/cus/past_usage", external_subscription_id="sub")["usage_periods"]


def test_an_end_without_an_invoice_bills_what_is_scheduled(api: Api, send: Any, review: Review) -> None:
    ready(api)
    move(api, 2024, 4, 2)
    send(tokens=40, model="a")
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    api.delete("/subscriptions/sub", on_termination_invoice="skip")
    assert api.get(f"/late_usage/{proposal['lago_id']}")["late_usage"]["status"] == "billed"
    assert billed(api, START) == 40
    unbilled = send(ts(2024, 4, 1), tokens=1, model="a")
    said = api.get(f"/events/{unbilled}")["event"]["too_late"]
    assert (said["lago_invoice_id"], said["from_date"]) == (None, None)


def test_a_draft_keeps_it_when_it_is_priced_again(api: Api, send: Any, review: Review) -> None:
    ready(api)
    move(api, 2024, 4, 2)
    send(tokens=40, model="a")
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    api.customer(billing_configuration={"invoice_grace_period": 5})
    move(api, 2024, 5, 2)
    draft = invoices(api)[-1]
    assert (draft["status"], draft["fees_amount_cents"]) == ("draft", 40)
    in_grace = send(ts(2024, 4, 9), tokens=2, model="a")
    assert api.get(f"/events/{in_grace}")["event"]["too_late"] is None
    assert api.put(f"/invoices/{draft['lago_id']}/refresh", {})["invoice"]["fees_amount_cents"] == 42
    move(api, 2024, 5, 7)
    assert invoices(api)[-1]["fees_amount_cents"] == 42
    review()
    assert proposals(api, status="open") == []
    after = send(ts(2024, 4, 9), tokens=3, model="a")
    review()
    assert api.get(f"/events/{after}")["event"]["too_late"]["invoice_number"] == invoices(api)[-1]["number"]
    assert [each["amount_cents"] for each in proposals(api, status="open")] == [3]


def test_a_minimum_takes_late_usage_in(api: Api, send: Any, review: Review) -> None:
    ready(api, fields={"min_amount_cents": 3_100})
    send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    assert billed(api, START) == 2_700
    send(ts(2024, 3, 20), tokens=1_000, model="a")
    review()
    (proposal,) = proposals(api)
    assert (proposal["amount_cents"], [line["amount_cents"] for line in proposal["lines"]]) == (
        0,
        [1_000, -1_000],
    )
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    send(ts(2024, 3, 20), tokens=2_000, model="a")
    review()
    (more,) = proposals(api, status="open")
    assert more["amount_cents"] == 400, "3,100 events at 0.01 are above the minimum of 27.00"


@pytest.mark.parametrize("amount", ["0.5", "2"])
def test_a_minimum_that_was_billed_takes_late_usage_in_whatever_has_become_of_other_prices(
    api: Api, send: Any, review: Review, amount: str
) -> None:
    found = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])

    def terms(of_a: str) -> dict[str, Any]:
        prices = {"a": of_a, "b": "0.05"}
        filters = [{"values": {"model": [key]}, "properties": {"amount": prices[key]}} for key in prices]
        return {"properties": {"amount": "0"}, "min_amount_cents": 1_000, "filters": filters}

    api.plan(charges=[charge(found, code="tokens", **terms("1"))])
    api.customer()
    api.subscribe()
    send(START, tokens=1, model="a")
    move(api, 2024, 4, 2)
    least = billed(api, START)
    api.put("/plans/pro/charges/tokens", {"charge": terms(amount)})
    send(ts(2024, 3, 20), tokens=1, model="b")
    review()
    (proposal,) = proposals(api)
    assert [line["amount_cents"] for line in proposal["lines"]] == [5, -5]
    send(ts(2024, 3, 20), tokens=200, model="b")
    review()
    (proposal,) = proposals(api)
    assert proposal["amount_cents"] == 100 + 201 * 5 - least


def test_late_usage_is_paid_with_the_minimum_commitment_that_its_period_was_billed_up_to(
    api: Api, send: Any, review: Review
) -> None:
    committed(api, send)
    assert billed_for_march(api) == 2_700, "27 of 31 days of 31.00: 17.00 beside 10 tokens"
    send(ts(2024, 3, 20), tokens=5)
    send(ts(2024, 3, 20), code="calls", calls=15)
    review()
    both = proposals(api)
    assert sum(each["amount_cents"] for each in both) == 300, "5.00 and 15.00, less 17.00"
    lines = [line for each in both for line in each["lines"] if line["is_commitment"]]
    assert sum(line["amount_cents"] for line in lines) == -1_700
    for each in both:
        api.post(f"/late_usage/{each['lago_id']}/bill", None)
    move(api, 2024, 5, 2)
    assert billed_for_march(api) == 3_000, "what was used is above the minimum now"
    send(ts(2024, 3, 20), tokens=1)
    review()
    assert [each["amount_cents"] for each in proposals(api, status="open")] == [100]


def test_late_usage_takes_nothing_of_a_minimum_commitment_that_was_given_back(
    api: Api, send: Any, review: Review
) -> None:
    committed(api, send)
    (invoice,) = invoices(api)
    (fee,) = [each for each in invoice["fees"] if each["item"]["type"] == "commitment"]
    items = [{"fee_id": fee["lago_id"], "amount_cents": 1_600}]
    note = {"invoice_id": invoice["lago_id"], "credit_amount_cents": 1_600, "items": items}
    api.post("/credit_notes", {"credit_note": note})
    send(ts(2024, 3, 20), tokens=5)
    review()
    (proposal,) = proposals(api)
    assert [line["amount_cents"] for line in proposal["lines"]] == [500, -100]
    accepted = {"late_usage": {"reason": "Ours"}}
    api.post(f"/late_usage/{proposal['lago_id']}/accept", accepted)
    send(ts(2024, 3, 20), tokens=2)
    review()
    assert [each["amount_cents"] for each in proposals(api, status="open")] == [200]


def test_what_a_minimum_commitment_has_paid_costs_nothing_after_the_subscription_with_its_taxes(
    api: Api, send: Any, review: Review
) -> None:
    committed(api, send, tax_codes=["vat"])
    api.delete("/subscriptions/sub")
    send(ts(2024, 3, 20), tokens=12)
    review()
    (proposal,) = proposals(api)
    assert proposal["amount_cents"] == 0
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    (made,) = [each for each in invoices(api) if len(each["fees"]) == 2 and each["total_amount_cents"] == 0]
    assert sorted(each["amount_cents"] for each in made["fees"]) == [-1_200, 1_200]
    assert sorted(each["taxes_amount_cents"] for each in made["fees"]) == [-240, 240]
    assert list(audit.findings(api.conn, organization_id=api.organization.id)) == []


def test_a_coupon_beside_what_is_less_of_a_minimum_commitment_leaves_its_taxes(
    api: Api, send: Any, review: Review
) -> None:
    committed(api, send, tax_codes=["vat"])
    send(ts(2024, 3, 20), tokens=20)
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    coupon = {
        "name": "C",
        "code": "c",
        "coupon_type": "fixed_amount",
        "amount_cents": 100,
        "amount_currency": "EUR",
    }
    api.post("/coupons", {"coupon": {**coupon, "frequency": "once", "expiration": "no_expiration"}})
    api.post("/applied_coupons", {"applied_coupon": {"external_customer_id": "cus", "coupon_code": "c"}})
    move(api, 2024, 5, 2)
    (made,) = [each for each in invoices(api) if each["coupons_amount_cents"]]
    fees, taxed = made["fees_amount_cents"], made["sub_total_excluding_taxes_amount_cents"]
    assert taxed == fees - 100
    assert made["taxes_amount_cents"] == taxed // 5
    assert any(each["amount_cents"] < 0 for each in made["fees"])
    assert list(audit.findings(api.conn, organization_id=api.organization.id)) == []


def test_what_is_less_of_a_minimum_commitment_comes_back_with_its_invoice(
    api: Api, send: Any, review: Review
) -> None:
    committed(api, send)
    send(ts(2024, 3, 20), tokens=20)
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    move(api, 2024, 5, 2)
    (made,) = [each for each in invoices(api) if any(fee["amount_cents"] < 0 for fee in each["fees"])]
    whole = {"generate_credit_note": True, "credit_amount": made["total_amount_cents"], "refund_amount": 0}
    api.post(f"/invoices/{made['lago_id']}/void", whole)
    assert list(audit.findings(api.conn, organization_id=api.organization.id)) == []


def billed_for_march(api: Api) -> int:
    """All fees of the plan's first period, on all invoices."""
    (cents,) = api.row(
        "select sum(amount_cents) from fee where organization_id = %(organization)s and to_at <= '2024-04-01Z'"
    )
    return int(cents)


def committed(api: Api, send: Any, **customer: Any) -> None:
    """A plan with a minimum commitment, whose first period was billed up to it beside 10 tokens at 1.00."""
    metrics = [api.metric(), api.metric("calls", field_name="calls")]
    api.plan(charges=[charge(each) for each in metrics], minimum_commitment={"amount_cents": 3_100})
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20"}})
    api.customer(**customer)
    api.subscribe()
    send(START, tokens=10)
    move(api, 2024, 4, 2)


def test_a_recurring_metric_lacks_it_in_every_billed_period(api: Api, send: Any, review: Review) -> None:
    ready(api, recurring=True)
    move(api, 2024, 5, 2)
    send(ts(2024, 3, 20), tokens=100, model="a")
    review()
    assert sorted((each["from_date"][:10], each["amount_cents"]) for each in proposals(api)) == [
        ("2024-03-05", 100),
        ("2024-04-01", 100),
    ]
    move(api, 2024, 6, 2)
    assert billed(api, ts(2024, 5, 1)) == 100, "it is carried over into the next one"


def test_less_than_was_billed_can_only_be_accepted(api: Api, send: Any, review: Review) -> None:
    ready(api)
    send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    send(ts(2024, 3, 20), tokens=-30, model="a")
    review()
    (proposal,) = proposals(api)
    assert proposal["amount_cents"] == -30
    path = f"/late_usage/{proposal['lago_id']}"
    assert api.details("POST", f"{path}/bill", None) == {"amount_cents": ["value_is_negative"]}
    send(ts(2024, 3, 21), tokens=30, model="a")
    review()
    assert api.get(path)["late_usage"]["events_count"] == 2
    assert api.get(path)["late_usage"]["amount_cents"] == 0


def test_late_usage_that_is_held_waits_for_a_price(api: Api, send: Any, review: Review) -> None:
    """`held` since the bill: b has no price any more; a, at 0.01, has one."""
    ready(api)
    send(START, tokens=1, model="b")
    move(api, 2024, 4, 2)
    api.put("/plans/pro/charges/tokens", {"charge": {"unlisted_values": "held"}})
    send(ts(2024, 3, 20), tokens=3, model="b")
    review()
    (proposal,) = proposals(api)
    assert (proposal["units"], proposal["amount_cents"]) == ("3.0", 30)
    path = f"/late_usage/{proposal['lago_id']}"
    refused = api.details("POST", f"{path}/bill", None)
    assert refused == {"unlisted_values": ["usage_without_price"]}
    api.put("/plans/pro/charges/tokens", {"charge": {"unlisted_values": "default"}})
    assert api.post(f"{path}/bill", None)["late_usage"]["status"] == "scheduled"


def test_late_usage_of_listed_values_does_not_wait_and_free_usage_says_that_nobody_priced_it(
    api: Api, send: Any, review: Review
) -> None:
    found = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "0.01"}}]
    api.plan(charges=[charge(found, properties={"amount": "0"}, filters=filters)])
    api.customer()
    api.subscribe()
    move(api, 2024, 4, 2)
    send(ts(2024, 3, 20), tokens=100, model="a")
    send(ts(2024, 3, 20), tokens=3, model="b")
    review()
    (both,) = proposals(api)
    api.post(f"/late_usage/{both['lago_id']}/bill", None)
    api.put("/plans/pro/charges/tokens", {"charge": {"unlisted_values": "held"}})
    send(ts(2024, 3, 21), tokens=200, model="a")
    review()
    (listed,) = proposals(api, status="open")
    assert (listed["units"], listed["amount_cents"]) == ("200.0", 200)
    assert api.post(f"/late_usage/{listed['lago_id']}/bill", None)["late_usage"]["status"] == "scheduled"
    move(api, 2024, 5, 1, 1)
    late = [fee for each in invoices(api) for fee in each["fees"] if fee["lago_late_usage_id"]]
    assert sorted((fee["amount_cents"], fee["is_unpriced"]) for fee in late) == [
        (0, True),
        (100, False),
        (200, False),
    ]


def test_charges_in_advance_have_their_own_fees(dsn: str, api: Api, send: Any, review: Review) -> None:
    ready(api, fields={"pay_in_advance": True})
    move(api, 2024, 4, 2)
    late = send(tokens=40, model="a")
    review()
    assert proposals(api) == []
    assert api.get(f"/events/{late}")["event"]["too_late"] is None
    api.delete("/subscriptions/sub")
    after = send(tokens=40, model="a")
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        advance.bill_live(pool, START)
    assert api.get(f"/events/{late}")["event"]["too_late"] is None, "it has its fee"
    assert api.get(f"/events/{after}")["event"]["too_late"]["lago_invoice_id"] is None


@pytest.mark.parametrize("fields", [{}, {"invoiceable": False, "regroup_paid_fees": "invoice"}])
def test_invoices_of_charges_in_advance_have_billed_nothing_else_of_the_period(
    dsn: str, api: Api, send: Any, review: Review, fields: Any
) -> None:
    calls = api.metric("calls", aggregation_type="count_agg", field_name=None)
    ahead = charge(calls, pay_in_advance=True, properties={"amount": "1"}, **fields)
    api.plan(charges=[charge(api.metric(), properties={"amount": "0.1"}), ahead])
    api.customer()
    api.subscribe()
    send(tokens=100)
    send(code="calls")
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        advance.bill_live(pool, START)
    for fee in api.get("/fees")["fees"]:
        if not fee["invoiceable"]:
            api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}})
    move(api, 2024, 4, 2)
    review()
    assert proposals(api) == [], "nothing came too late"
    late = send(ts(2024, 3, 20), tokens=50)
    review()
    (proposal,) = proposals(api)
    said = api.get(f"/events/{late}")["event"]["too_late"]
    of = api.get(f"/invoices/{proposal['lago_invoice_id']}")["invoice"]
    assert said["lago_invoice_id"] == of["lago_id"]
    assert [fee["amount_cents"] for fee in of["fees"] if fee["item"]["code"] == "tokens"] == [10_00]
    (period,) = api.get("/customers/cus/past_usage", external_subscription_id="sub")["usage_periods"]
    assert period["lago_invoice_id"] == of["lago_id"], "the period is listed once"
    scheduled = api.post(f"/late_usage/{proposal['lago_id']}/bill", None)["late_usage"]
    assert [proposal["amount_cents"], scheduled["amount_cents"]] == [5_00, 5_00]
    with psycopg.connect(dsn) as conn:  # as a database with wrong ones is migrated
        conn.execute("update late_usage set amount_cents = 1500 where id = %s", [proposal["lago_id"]])
        conn.execute(MIGRATION.read_bytes())
    review()
    again = [(each["status"], each["amount_cents"], each["lago_invoice_id"]) for each in proposals(api)]
    assert again == [("open", 5_00, of["lago_id"])]


def test_an_upgrade_takes_late_usage_of_the_plan_before_along(api: Api, send: Any, review: Review) -> None:
    ready(api)
    api.plan(
        "dear", amount_cents=31_00, charges=[charge(api.get("/billable_metrics/tokens")["billable_metric"])]
    )
    move(api, 2024, 4, 2)
    api.subscribe(plan="dear")
    send(ts(2024, 3, 20), tokens=100, model="a")
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    move(api, 2024, 5, 2)
    assert billed(api, START) == 100
    assert invoices(api)[-1]["fees"][-1]["lago_late_usage_id"] == proposal["lago_id"]


def test_a_plan_of_its_own_that_came_later_bills_nothing_twice(api: Api, send: Any, review: Review) -> None:
    ready(api)
    send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": {"amount_cents": 100}}})
    send(ts(2024, 3, 20), tokens=10, model="a")
    review()
    assert [each["amount_cents"] for each in proposals(api)] == [10]


def test_another_price_alone_is_no_late_usage(api: Api, send: Any, review: Review) -> None:
    ready(api)
    send(START, tokens=100, model="a")
    send(START, tokens=10, model="b")
    move(api, 2024, 4, 2)
    send(ts(2024, 3, 20), tokens=1, model="b")
    review()
    assert [each["is_charge_changed"] for each in proposals(api)] == [False]
    filters = [{"values": {"model": ["a"]}, "properties": {"amount": "9"}}]
    api.put("/plans/pro/charges/tokens", {"charge": {"filters": filters}})
    send(ts(2024, 3, 21), tokens=1, model="b")
    review()
    (proposal,) = proposals(api)
    assert (proposal["is_charge_changed"], proposal["units"], proposal["amount_cents"]) == (True, "2.0", 20)


def test_open_late_usage_follows_prices_and_is_billed_at_those_of_now(
    api: Api, send: Any, review: Review
) -> None:
    ready(api)
    send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    send(ts(2024, 3, 20), tokens=10, model="b")
    review()

    def price(amount: str) -> None:
        api.put("/plans/pro/charges/tokens", {"charge": {"properties": {"amount": amount}}})

    (proposal,) = proposals(api)
    assert proposal["amount_cents"] == 100
    price("0.2")
    review()
    (proposal,) = proposals(api)
    assert proposal["amount_cents"] == 200, "no event came since"
    price("0.3")
    send(ts(2024, 3, 21), tokens=1, model="b")
    path = f"/late_usage/{proposal['lago_id']}/bill"
    decided = api.post(path, None)["late_usage"]
    assert (decided["status"], decided["units"], decided["amount_cents"]) == ("scheduled", "11.0", 330)
    move(api, 2024, 5, 1, 1)
    review()
    assert invoices(api)[1]["fees_amount_cents"] == 330
    assert proposals(api, status="open") == []


def test_late_usage_follows_amendments(api: Api, send: Any, review: Review) -> None:
    """What is listed is what a decision would bill: 5.00 of late usage are 3.00 less of what was billed, then none."""
    ready(api)
    in_time = send(START, tokens=30, model="b")
    move(api, 2024, 4, 2)
    late = send(ts(2024, 3, 20), tokens=50, model="b")
    review()
    assert [each["amount_cents"] for each in proposals(api)] == [500]
    amend(api, in_time, kind="replace", properties={"tokens": 10, "model": "b"})
    review()
    assert [(each["amount_cents"], each["units"]) for each in proposals(api)] == [(300, "30.0")]
    amend(api, in_time, kind="replace", properties={"tokens": 30, "model": "b"})
    amend(api, late)
    review()
    assert proposals(api) == []


def test_amendments_know_what_was_decided(api: Api, send: Any, review: Review) -> None:
    ready(api)
    send(START, tokens=100, model="a")
    move(api, 2024, 4, 2)
    late = send(ts(2024, 3, 20), tokens=10, model="a")
    review()
    (proposal,) = proposals(api)
    api.post(f"/late_usage/{proposal['lago_id']}/bill", None)
    (note,) = amend(api, late)["proposed_credit_notes"]
    assert note["difference_amount_cents"] == 10, "what was billed of it since, and not what came late"


def test_others_see_nothing_of_it(api: Api, stranger: Api, send: Any, review: Review) -> None:
    ready(api)
    move(api, 2024, 4, 2)
    send(tokens=40, model="a")
    review()
    (proposal,) = proposals(api)
    path = f"/late_usage/{proposal['lago_id']}"
    assert proposals(stranger) == []
    assert stranger.code(404, "GET", path) == "late_usage_not_found"
    assert stranger.code(404, "POST", f"{path}/bill") == "late_usage_not_found"
    assert (
        stranger.code(404, "POST", f"{path}/accept", {"late_usage": {"reason": "x"}})
        == "late_usage_not_found"
    )
    assert api.details("GET", "/late_usage", None, status="lost") == {"status": ["value_is_invalid"]}


def test_events_are_looked_at_when_nothing_is_under_way_that_may_lack_them(
    dsn: str, api: Api, send: Any
) -> None:
    """A bill may have read before the event came, and be committed after the event was rolled up."""
    ready(api)
    move(api, 2024, 4, 2)
    review_late_usage(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.connect(dsn) as slow:
        slow.execute("update customer set name = 'slow' where organization_id = %s", [api.organization.id])
        send(START, tokens=40, model="a")
        review_late_usage(dsn, seconds=0.5)
        assert not is_all_checked(conn)
        assert proposals(api) == []
        slow.commit()
        review_late_usage(dsn)
        assert is_all_checked(conn)
        assert [each["amount_cents"] for each in proposals(api)] == [40]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_late_each_period_is_billed_once_and_whole(
    dsn: str, api: Api, send: Any, review: Review, seed: int
) -> None:
    chance = random.Random(seed)
    metric = api.metric(filters=[{"key": "model", "values": ["a", "b"]}])
    ranges = [
        {"from_value": 0, "to_value": 100, "per_unit_amount": "0.013", "flat_amount": "0"},
        {"from_value": 101, "to_value": None, "per_unit_amount": "0.0071", "flat_amount": "1"},
    ]
    filters = [{"values": {"model": ["a"]}, "properties": {"graduated_ranges": ranges}}]
    graduated = charge(
        metric,
        charge_model="graduated",
        properties={"graduated_ranges": ranges},
        filters=filters,
        min_amount_cents=chance.choice([0, 300]),
    )
    api.plan(charges=[graduated])
    api.customer(billing_configuration={"invoice_grace_period": chance.choice([0, 0, 4])})
    api.subscribe()
    months = [(START, ts(2024, 4, 1)), *((ts(2024, each, 1), ts(2024, each + 1, 1)) for each in range(4, 8))]
    used: list[tuple[datetime, str, int]] = []
    for month in range(3, 8):
        for _ in range(chance.randrange(6)):
            begin, end = months[chance.randrange(month - 2)]
            at = begin + (end - begin) * chance.random()
            if at > ts(2024, month, 28):
                continue
            event = (max(at, START), chance.choice("abc"), chance.randrange(1, 150))
            used.append(event)
            send(event[0], model=event[1], tokens=event[2])
            if chance.random() < 0.5:
                review()
                for each in proposals(api, status="open"):
                    decide(api, each, chance.choice(["bill", "accept", None, None]))
        move(api, 2024, month + 1, chance.choice([1, 3, 6]), 1)
    if chance.random() < 0.5:
        api.delete("/subscriptions/sub")
    review()
    for each in proposals(api, status="open"):
        decide(api, each, "bill")
    move(api, 2024, 12, 20)
    review()
    assert proposals(api, status="open") == []
    written_off = [each for each in proposals(api) if each["status"] == "accepted"]
    assert {each["status"] for each in proposals(api)} <= {"billed", "accepted"}
    for begin, end in months:
        mine = [(model, tokens) for at, model, tokens in used if begin <= at < end]
        least = Decimal(graduated["min_amount_cents"])
        least *= Decimal(27) / 31 if begin == START else 1
        lost = sum(
            each["amount_cents"] for each in written_off if each["from_date"][:10] == f"{begin:%Y-%m-%d}"
        )
        assert billed(api, begin) + lost == max(_price(mine), _cents(least)), (seed, begin)


def decide(api: Api, proposal: Any, how: str | None) -> None:
    if how is not None:
        api.post(f"/late_usage/{proposal['lago_id']}/{how}", {"late_usage": {"reason": "so"}})


def _price(used: list[tuple[str, int]]) -> int:
    """By hand: of each of the two prices the first 100 at 0.013, the rest at 0.0071 and 1.00."""
    total = 0
    for models in ("a", "bc"):
        units = Decimal(sum(tokens for model, tokens in used if model in models))
        total += _cents(min(units, Decimal(100)) * Decimal("1.3"))
        if units > 100:
            total += _cents(Decimal(130) + (units - 100) * Decimal("0.71") + 100) - 130
    return total


def _cents(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def test_strict_warns_of_an_event_whose_period_is_billed(api: Api) -> None:
    api.plan("pro", [charge(api.metric())])
    api.customer()
    api.subscribe(subscription_at=START.isoformat())

    def warned(at: datetime) -> list[Any]:
        drafts = [Draft(name, "tokens", "sub", microseconds(at), None, {"tokens": 1}) for name in ("a", "b")]
        api.conn.rollback()
        found = event_warnings.warnings_of(api.conn, api.organization.id, drafts)
        return [(index, each.field, each.code) for index, each in found]

    assert warned(START) == []
    move(api, 2024, 4, 2)
    late = [(index, "timestamp", "period_is_billed") for index in (0, 1)]
    assert warned(START) == late
    assert warned(ts(2024, 4, 2)) == []
