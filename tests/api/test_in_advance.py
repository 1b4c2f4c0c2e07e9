"""Charges paid in advance, over HTTP: events make fees, fees make invoices, renewals, regrouping, estimates."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.invoices import advance
from permille.usecases.usage import levels

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture(autouse=True, params=["from all events", "from kept levels"])
def keeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds for few events, whose levels are reckoned anew, and where levels are kept."""
    if request.param == "from kept levels":
        monkeypatch.setattr(levels, "LEAST_KEPT", 1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store events of one request; their transaction ids."""
    conn, memory = open_connection(dsn), Memory()

    def many(
        *values: Any, at: datetime = START, code: str = "tokens", sub: str = "sub", **more: Any
    ) -> list[str]:
        drafts = [
            Draft(f"adv-{next(_numbers)}", code, sub, microseconds(at), None, {"tokens": value, **more})
            for value in values
        ]
        request = Request(api.organization.id, drafts, microseconds(at))
        store(conn, memory, [request])
        assert request.duplicates == []
        return [draft.transaction_id for draft in drafts]

    yield many
    conn.close()


def move(api: Api, *when: Any) -> None:
    at = datetime(*when).replace(tzinfo=UTC) if when else START
    api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})


def fees(api: Api, **search: Any) -> list[Any]:
    """In the order of the instant, then of the amount."""
    found: list[Any] = api.get("/fees", fee_type="charge", **search)["fees"]
    return sorted(found, key=lambda fee: (fee["created_at"], fee["amount_cents"]))


def invoices(api: Api) -> list[Any]:
    found: list[Any] = api.get("/invoices")["invoices"]
    return sorted(found, key=lambda each: (each["created_at"], each["fees_amount_cents"]))


def ready(api: Api, *charges: Any, **plan: Any) -> None:
    api.plan("pro", list(charges), **plan)
    api.customer()
    api.subscribe(subscription_at=START.isoformat())


def waiting(api: Api) -> int:
    count = "select count(*) from advance_event where organization_id = %(id)s"
    return int(api.row(count, id=api.organization.id)[0])


def test_an_event_makes_an_invoice_for_each_charge_on_its_metric(api: Api, send: Any) -> None:
    metric = api.metric()
    ready(
        api,
        charge(metric, pay_in_advance=True),
        charge(metric, pay_in_advance=True, properties={"amount": "2"}),
        charge(metric),
    )
    (transaction,) = send(3)
    move(api)
    made = fees(api, event_transaction_id=transaction)
    assert sorted(fee["amount_cents"] for fee in made) == [300, 600]
    assert all(fee["pay_in_advance"] and fee["invoiceable"] and fee["lago_invoice_id"] for fee in made)
    assert [(each["fees_amount_cents"], each["status"], each["invoice_type"]) for each in invoices(api)] == [
        (cents, "finalized", "subscription") for cents in (300, 600)
    ]
    numbers = [each["number"] for each in invoices(api)]
    assert len(set(numbers)) == 2
    move(api)
    assert len(fees(api)) == 2, "moving the clock again bills nothing again"


def test_the_fee_follows_by_itself_in_the_worker(api: Api, send: Any, dsn: str) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    send(2, 3)
    assert waiting(api) == 2
    with ConnectionPool(dsn, min_size=1, max_size=2, open=True) as pool:
        assert advance.bill_live(pool, START) >= 2
        assert waiting(api) == 0
        advance.bill_live(pool, START)
    assert [fee["amount_cents"] for fee in fees(api)] == [200, 300]
    assert [fee["created_at"] for fee in fees(api)] == [START.strftime("%Y-%m-%dT%H:%M:%SZ")] * 2


def test_events_that_another_worker_bills_are_skipped(api: Api, send: Any, dsn: str) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    send(2)
    with psycopg.connect(dsn) as other, ConnectionPool(dsn, min_size=1, max_size=2, open=True) as pool:
        other.execute(
            "select from customer where organization_id = %s for no key update", [api.organization.id]
        )
        advance.bill_live(pool, START)
        assert waiting(api) == 1
        other.rollback()
        advance.bill_live(pool, START)
    assert [fee["amount_cents"] for fee in fees(api)] == [200]


def test_other_events_make_no_fee_and_do_not_wait_for_ever(api: Api, send: Any) -> None:
    api.metric("other")
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(1, code="other")
    assert waiting(api) == 0, "nothing on it is paid in advance"
    send(1, sub="nobody")
    send(1, at=datetime(2020, 1, 1, tzinfo=UTC))
    send("no number")
    assert waiting(api) == 3
    move(api)
    assert waiting(api) == 0
    assert fees(api) == []


def test_a_charge_that_comes_later_bills_what_comes_after_it(api: Api, send: Any) -> None:
    metric = api.metric()
    ready(api)
    send(5)
    made = api.post("/plans/pro/charges", {"charge": charge(metric, pay_in_advance=True, code="late")})
    assert made["charge"]["pay_in_advance"] is True
    send(4)
    move(api)
    assert [fee["amount_cents"] for fee in fees(api)] == [400]


def test_what_waits_is_billed_before_the_end(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(3)
    api.delete("/subscriptions/sub")
    assert [fee["amount_cents"] for fee in fees(api)] == [300]
    send(4)
    move(api)
    assert len(fees(api)) == 1, "an event of a subscription that has ended is not billed"


def test_the_period_of_an_event_is_that_of_its_own_time(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    move(api, 2024, 4, 10)
    send(5, at=datetime(2024, 3, 20, tzinfo=UTC))
    send(5, at=datetime(2024, 4, 9, tzinfo=UTC))
    move(api, 2024, 4, 10)
    assert {fee["from_date"][:10] for fee in fees(api)} == {f"{START:%Y-%m-%d}", "2024-04-01"}


def test_usage_shows_what_is_paid_and_what_is_carried_over(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(10, -4, 2)
    move(api)
    (used,) = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"][
        "charges_usage"
    ]
    assert (used["units"], used["amount_cents"], used["events_count"]) == ("8.0", 1_000, 3)
    assert sorted((fee["units"], fee["amount_cents"]) for fee in fees(api)) == [
        ("0.0", 0),
        ("10.0", 1_000),
        ("2.0", 0),
    ]


@pytest.mark.parametrize("recurring", [False, True])
@pytest.mark.parametrize(
    "values", [("a", None), (None, "a"), ("", "a", None, "a"), (None, ""), (-5, "b", None)]
)
@pytest.mark.parametrize("in_advance", [True, False])
def test_the_units_of_a_unique_count_by_its_price_are_its_amount(
    api: Api, send: Any, in_advance: bool, values: tuple[Any, ...], recurring: bool
) -> None:
    """Without a value an event is not paid in advance, nor counted; in arrears no value is one value, as in Lago."""
    seats = api.metric(aggregation_type="unique_count_agg", recurring=recurring)
    ready(api, charge(seats, pay_in_advance=in_advance, invoiceable=not in_advance))
    send(*values)
    move(api, 2024, 3, 6)
    found = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    (used,) = found["charges_usage"]
    expected = len({value for value in values if value or not in_advance})
    assert (float(used["units"]), used["amount_cents"]) == (expected, 100 * expected)
    if in_advance:
        assert sum(fee["amount_cents"] for fee in fees(api)) == used["amount_cents"]
        assert sum(float(fee["units"]) for fee in fees(api) if fee["amount_cents"]) == expected
    move(api, 2024, 4, 1, 1)
    billed = [
        fee for fee in fees(api) if fee["from_date"].startswith("2024-03" if not in_advance else "2024-04")
    ]
    if recurring or not in_advance:
        assert sum(fee["amount_cents"] for fee in billed) == 100 * expected
        assert sum(float(fee["units"]) for fee in billed) == expected


@pytest.mark.parametrize("recurring", [False, True])
def test_usage_counts_what_is_paid_in_the_order_of_arrival(api: Api, send: Any, recurring: bool) -> None:
    """Two at a time were paid; that one of them is told again later, with an earlier time, changes nothing."""
    seats = api.metric(aggregation_type="unique_count_agg", recurring=recurring)
    ready(api, charge(seats, pay_in_advance=True, invoiceable=False))
    for minute, value, operation in [(2, "a", "add"), (5, "b", "add"), (6, "b", "remove"), (1, "a", "add")]:
        send(value, at=START + timedelta(minutes=minute), operation_type=operation)
    move(api, 2024, 3, 6)
    assert sum(fee["amount_cents"] for fee in fees(api)) == 200
    found = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert (found["amount_cents"], found["charges_usage"][0]["units"]) == (200, "1.0")


@pytest.mark.parametrize(
    ("terms", "events", "expected"),
    [
        # x and y at 10 % of 1 and 0.50 each; x goes and both stay paid.
        (
            {"aggregation_type": "unique_count_agg", "rate": "10", "fixed_amount": "0.5"},
            [("x", 1, "add"), ("y", 2, "add"), ("x", 3, "remove")],
            120,
        ),
        # a at no less than 1.00; that it goes costs nothing, and b comes in its place.
        (
            {"aggregation_type": "unique_count_agg", "rate": "10", "per_transaction_min_amount": "1"},
            [("a", 1, "add"), ("a", 2, "remove"), ("b", 3, "add")],
            100,
        ),
        # The one that comes first is free, though the other is of an earlier time: 10 % of 50.
        (
            {
                "aggregation_type": "sum_agg",
                "rate": "10",
                "free_units_per_events": 1,
                "per_transaction_min_amount": "0.02",
            },
            [(1, 5, "add"), (50, 2, "add")],
            500,
        ),
        # The same without bounds: 1 of 51 units and one event are free.
        (
            {"aggregation_type": "sum_agg", "rate": "10", "fixed_amount": "0.5", "free_units_per_events": 1},
            [(1, 5, "add"), (50, 2, "add")],
            550,
        ),
        # 10 % of 10 and 0.50; what comes back up to the 10 costs nothing.
        (
            {"aggregation_type": "sum_agg", "rate": "10", "fixed_amount": "0.5"},
            [(10, 1, "add"), (-4, 2, "add"), (2, 3, "add")],
            150,
        ),
    ],
)
def test_usage_is_what_was_paid_event_by_event(
    api: Api, send: Any, terms: Any, events: Any, expected: int
) -> None:
    metric = api.metric(aggregation_type=terms["aggregation_type"])
    ready(
        api,
        charge(metric, charge_model="percentage", properties=terms, pay_in_advance=True, invoiceable=False),
    )
    for value, minute, operation in events:
        send(value, at=START + timedelta(minutes=minute), operation_type=operation)
    move(api, 2024, 3, 6)
    assert sum(fee["amount_cents"] for fee in fees(api)) == expected
    found = api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    assert found["amount_cents"] == expected


def test_a_recurring_metric_is_paid_again_for_each_period(api: Api, send: Any) -> None:
    metric = api.metric("seats", recurring=True, aggregation_type="unique_count_agg", field_name="tokens")
    alone = charge(metric, pay_in_advance=True, invoiceable=False, code="alone")
    ready(api, charge(metric, pay_in_advance=True, prorated=True, properties={"amount": "31"}), alone)
    send("ann", "bob", code="seats")
    move(api, 2024, 4, 1, 1)
    renewed = [fee for fee in fees(api) if fee["from_date"].startswith("2024-04-01")]
    assert sorted((fee["amount_cents"], fee["lago_invoice_id"] is None) for fee in renewed) == [
        (200, True),
        (6_200, False),
    ]
    assert all(fee["to_date"].startswith("2024-04-30T23:59:59") and fee["pay_in_advance"] for fee in renewed)
    (invoice,) = [each for each in invoices(api) if each["fees_amount_cents"] == 6_200]
    assert invoice["issuing_date"] == "2024-04-01"


def test_paid_fees_are_gathered_once_and_the_others_wait(api: Api, send: Any) -> None:
    api.post("/taxes", {"tax": {"name": "VAT", "code": "vat", "rate": "20", "applied_to_organization": True}})
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False, regroup_paid_fees="invoice"))
    send(3, 4, 5)
    move(api)
    first, second, third = fees(api)
    for fee, status in ((first, "succeeded"), (second, "succeeded"), (third, "failed")):
        shown = api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": status}})["fee"]
        assert shown["payment_status"] == status
        assert (shown["succeeded_at"] is None) == (status == "failed")
    move(api, 2024, 4, 1, 1)
    (gathered,) = [each for each in invoices(api) if each["invoice_type"] == "advance_charges"]
    assert (
        gathered["fees_amount_cents"],
        gathered["taxes_amount_cents"],
        gathered["total_amount_cents"],
    ) == (700, 140, 840)
    assert (gathered["status"], gathered["payment_status"], gathered["total_due_amount_cents"]) == (
        "finalized",
        "succeeded",
        0,
    )
    on_it = api.get(f"/invoices/{gathered['lago_id']}")["invoice"]["fees"]
    assert {fee["lago_id"] for fee in on_it} == {first["lago_id"], second["lago_id"]}
    assert (
        api.code(405, "PUT", f"/fees/{first['lago_id']}", {"fee": {"payment_status": "failed"}})
        == "invoiced_fee"
    )
    move(api, 2024, 5, 1, 1)
    assert len([each for each in invoices(api) if each["invoice_type"] == "advance_charges"]) == 1


def test_fees_by_when_they_were_paid_or_not(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    send(3, 4, 5, 6)
    move(api)
    paid = dict(zip(("succeeded", "failed", "refunded"), fees(api), strict=False))
    for day, (status, fee) in enumerate(paid.items(), start=20):
        move(api, 2024, 3, day, 12)
        api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": status}})
    for day, (status, fee) in enumerate(paid.items(), start=20):
        at, later = f"2024-03-{day}T12:00:00Z", f"2024-03-{day}T12:00:01Z"
        (found,) = fees(api, **{f"{status}_at_from": at, f"{status}_at_to": at})
        assert (found["lago_id"], found[f"{status}_at"]) == (fee["lago_id"], at)
        assert len(fees(api, **{f"{status}_at_from": "2024-03-01"})) == 1
        assert fees(api, **{f"{status}_at_from": later}) == []
        assert fees(api, **{f"{status}_at_to": "2024-03-02"}) == []
        refused = api.details("GET", "/fees", None, **{f"{status}_at_to": "soon"})
        assert refused == {f"{status}_at_to": ["invalid_date"]}


def test_a_fee_keeps_what_is_not_said(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    send(3)
    move(api)
    path = f"/fees/{fees(api)[0]['lago_id']}"
    assert api.details("PUT", path, {"fee": {"payment_status": "eaten"}}) == {
        "payment_status": ["value_is_invalid"]
    }
    assert api.call("PUT", path, {"fee": {"other": 1}}).json()["fee"]["payment_status"] == "pending"
    assert (
        api.code(
            404, "PUT", "/fees/0190cafe-0000-7000-8000-000000000000", {"fee": {"payment_status": "failed"}}
        )
        == "fee_not_found"
    )


def test_a_change_of_the_payment_sets_its_own_instant_alone(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False))
    send(3)
    move(api)
    path = f"/fees/{fees(api)[0]['lago_id']}"
    for status, column in (
        ("succeeded", "succeeded_at"),
        ("failed", "failed_at"),
        ("refunded", "refunded_at"),
        ("pending", None),
    ):
        shown = api.put(path, {"fee": {"payment_status": status}})["fee"]
        set_ones = {name for name in ("succeeded_at", "failed_at", "refunded_at") if shown[name]}
        assert set_ones == ({column} if column else set())
        assert api.get(path)["fee"] == shown


def test_a_fee_without_an_invoice_can_be_deleted(api: Api, stranger: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False, regroup_paid_fees="invoice"))
    send(3, 4)
    move(api)
    first, second = fees(api)
    for fee in (first, second):
        api.put(f"/fees/{fee['lago_id']}", {"fee": {"payment_status": "succeeded"}})
    path = f"/fees/{first['lago_id']}"
    shown = api.get(path)["fee"]
    assert stranger.code(404, "DELETE", path) == "fee_not_found"
    assert api.delete(path)["fee"] == shown
    assert api.code(404, "GET", path) == "fee_not_found"
    assert api.code(404, "DELETE", path) == "fee_not_found"
    assert api.code(404, "DELETE", "/fees/x") == "fee_not_found"
    move(api, 2024, 4, 1, 1)
    assert [fee["lago_id"] for fee in fees(api)] == [second["lago_id"]], "its event makes no other"
    (gathered,) = [each for each in invoices(api) if each["invoice_type"] == "advance_charges"]
    assert gathered["fees_amount_cents"] == 400
    assert api.code(405, "DELETE", f"/fees/{second['lago_id']}") == "invoiced_fee"
    assert api.get(f"/fees/{second['lago_id']}")["fee"]["lago_invoice_id"] == gathered["lago_id"]


def test_webhooks_name_fees_and_their_invoices(api: Api, send: Any) -> None:
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(3)
    move(api)
    rows = api.row(
        "select array_agg(webhook_type order by id) as told from webhook where organization_id = %(id)s"
        " and webhook_type in ('fee.created', 'invoice.created')",
        id=api.organization.id,
    )
    assert sorted(rows[0]) == ["fee.created", "invoice.created"]


def estimate(api: Api, path: str = "estimate_fees", **event: Any) -> list[Any]:
    found: list[Any] = api.post(
        f"/events/{path}", {"event": {"code": "tokens", "external_subscription_id": "sub", **event}}
    )["fees"]
    return found


def test_an_estimate_is_what_the_event_will_cost(api: Api, send: Any) -> None:
    tiers = [
        {"from_value": 0, "to_value": 5, "per_unit_amount": "1", "flat_amount": "2"},
        {"from_value": 6, "to_value": None, "per_unit_amount": "3", "flat_amount": "4"},
    ]
    priced = {"charge_model": "graduated", "properties": {"graduated_ranges": tiers}}
    ready(api, charge(api.metric(), pay_in_advance=True, invoiceable=False, **priced))
    for value in (3, 4, 2, -1, 6):
        (expected,) = estimate(api, properties={"tokens": value})
        assert expected["lago_id"] is None
        (transaction,) = send(value)
        move(api)
        (fee,) = fees(api, event_transaction_id=transaction)
        for name in ("amount_cents", "units", "precise_amount", "taxes_amount_cents", "from_date", "item"):
            assert fee[name] == expected[name], name


def test_an_estimate_of_nothing(api: Api) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    (fee,) = estimate(api)
    assert (fee["units"], fee["amount_cents"]) == ("0.0", 0)


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        ({"external_subscription_id": None}, 404, "subscription_not_found"),
        ({"external_subscription_id": "nobody"}, 404, "subscription_not_found"),
        ({"code": "nothing"}, 404, "billable_metric_not_found"),
        ({"timestamp": "yesterday"}, 422, "validation_errors"),
        ({"properties": {"tokens": "many"}}, 422, "validation_errors"),
        # of several the first in this order
        ({"external_subscription_id": "no", "timestamp": "x", "code": "no"}, 404, "subscription_not_found"),
        ({"external_subscription_id": "no", "code": 7}, 404, "subscription_not_found"),
        ({"timestamp": "x", "code": "no"}, 422, "validation_errors"),
        ({"code": "no", "properties": {"tokens": "many"}}, 404, "billable_metric_not_found"),
        ({"code": 7}, 404, "billable_metric_not_found"),
    ],
)
def test_estimates_that_cannot_be(api: Api, event: Any, status: int, code: str) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    sent = {"code": "tokens", "external_subscription_id": "sub"} | event
    assert api.code(status, "POST", "/events/estimate_fees", {"event": sent}) == code


def test_an_instant_estimate_knows_neither_usage_nor_allowances(api: Api, send: Any) -> None:
    rate = {"rate": "10", "fixed_amount": "1", "free_units_per_events": 5, "per_transaction_max_amount": "3"}
    metric = api.metric()
    ready(
        api,
        charge(metric, pay_in_advance=True, charge_model="percentage", properties=rate),
        charge(
            metric,
            pay_in_advance=True,
            charge_model="package",
            properties={"amount": "9", "package_size": 1, "free_units": 0},
        ),
    )
    send(100)
    move(api)
    for tokens, cents, amount in ((5, "150.0", "1.5"), (50, "300.0", "3.0"), (-5, "0.0", "0.0")):
        (fee,) = estimate(api, "estimate_instant_fees", properties={"tokens": tokens}, transaction_id="tx")
        assert (fee["amount_cents"], fee["precise_amount"], fee["events_count"]) == (cents, amount, 1)
        assert (fee["units"], fee["event_transaction_id"]) == (f"{tokens}.0", "tx")


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        ({"external_subscription_id": "no", "code": "no"}, 404, "subscription_not_found"),
        ({"external_subscription_id": None, "timestamp": "x"}, 404, "subscription_not_found"),
        ({"code": "no"}, 422, "validation_errors"),
        ({"code": None}, 422, "validation_errors"),
    ],
)
def test_instant_estimates_that_cannot_be(api: Api, event: Any, status: int, code: str) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    sent = {"code": "tokens", "external_subscription_id": "sub"} | event
    assert api.code(status, "POST", "/events/estimate_instant_fees", {"event": sent}) == code


def test_an_instant_estimate_does_not_look_at_the_timestamp_and_names_its_filter(api: Api) -> None:
    metric = api.metric(filters=[{"key": "model", "values": ["8k", "32k"]}], description="Tokens used")
    prices = [{"values": {"model": ["8k", "32k"]}, "properties": {"amount": "2"}}]
    ready(api, charge(metric, pay_in_advance=True, filters=prices))
    sent: dict[str, Any] = {"timestamp": "yesterday", "properties": {"tokens": 3, "model": "8k"}}
    (fee,) = estimate(api, "estimate_instant_fees", **sent)
    assert (fee["amount_cents"], fee["item"]["filter_invoice_display_name"]) == ("600.0", "8k, 32k")
    (fee,) = estimate(api, **sent | {"timestamp": None})
    assert (fee["amount_cents"], fee["item"]["description"]) == (600, "Tokens used")


def test_instant_estimates_of_a_batch(api: Api) -> None:
    ready(
        api,
        charge(api.metric(), pay_in_advance=True),
        charge(
            api.metric("calls", aggregation_type="count_agg", field_name=None),
            pay_in_advance=True,
            properties={"amount": "7"},
        ),
    )
    events = [
        {"code": code, "external_subscription_id": "sub", "properties": {"tokens": 2}}
        for code in ("tokens", "calls", "else")
    ]
    found = api.post("/events/batch_estimate_instant_fees", {"events": events})["fees"]
    assert [(fee["item"]["code"], fee["amount_cents"]) for fee in found] == [
        ("tokens", "200.0"),
        ("calls", "700.0"),
    ]
    assert api.details("POST", "/events/batch_estimate_instant_fees", {"events": []}) == {
        "events": ["no_events"]
    }
    lost = [{"code": "tokens", "external_subscription_id": "nobody"}]
    assert (
        api.code(404, "POST", "/events/batch_estimate_instant_fees", {"events": lost})
        == "subscription_not_found"
    )


def test_a_metric_without_a_charge_in_advance_has_no_estimate(api: Api) -> None:
    ready(api, charge(api.metric()))
    for path in ("estimate_fees", "estimate_instant_fees"):
        body = {"event": {"code": "tokens", "external_subscription_id": "sub"}}
        assert api.details("POST", f"/events/{path}", body) == {"code": ["does_not_match_an_instant_charge"]}


def explanation(api: Api, fee: Any) -> Any:
    return api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]


def test_a_fee_is_explained_by_its_event(api: Api, send: Any) -> None:
    ready(api, charge(api.metric(), pay_in_advance=True))
    send(5)
    (transaction,) = send(4)
    move(api)
    (fee,) = fees(api, event_transaction_id=transaction)
    found = explanation(api, fee)
    assert [event["transaction_id"] for event in found["events"]["page"]] == [transaction]
    assert found["events"]["count"] == found["events"]["count_on_fee"] == 1
    assert found["recomputed"] == {"amount_cents": 400, "units": "4.0", "events_count": 1, "is_same": True}
    assert found["formula"][-1]["text"].startswith("4")


def test_a_renewal_is_explained_by_what_was_carried_over(api: Api, send: Any) -> None:
    metric = api.metric("seats", recurring=True, aggregation_type="unique_count_agg", field_name="tokens")
    ready(api, charge(metric, pay_in_advance=True, prorated=True))
    send("ann", "bob", code="seats")
    move(api, 2024, 4, 1, 1)
    send("eve", code="seats", at=datetime(2024, 4, 1, 1, tzinfo=UTC))
    move(api, 2024, 4, 2)
    (fee,) = [each for each in fees(api) if each["amount_cents"] == 200]
    found = explanation(api, fee)
    assert found["events"]["count"] == 2
    assert (found["recomputed"]["amount_cents"], found["recomputed"]["is_same"]) == (200, True)
