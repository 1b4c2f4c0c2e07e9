"""Prepaid credits over the API: wallets, what fills and empties them, what invoices take and give back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.database.connections import open_pool
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import customers, wallets
from permille.usecases import ongoing_balances

from .conftest import Api, charge
from .test_credit_notes import move


def open_wallet(api: Api, granted: str | None = "10", **fields: Any) -> Any:
    body = {
        "external_customer_id": "cus",
        "rate_amount": "1",
        "currency": "EUR",
        "granted_credits": granted,
        **fields,
    }
    return api.post("/wallets", {"wallet": body})["wallet"]


def look(api: Api, row: Any) -> Any:
    return api.get(f"/wallets/{row['lago_id']}")["wallet"]


def top_up(api: Api, row: Any, **fields: Any) -> list[Any]:
    body = {"wallet_transaction": {"wallet_id": row["lago_id"], **fields}}
    found: list[Any] = api.post("/wallet_transactions", body)["wallet_transactions"]
    return found


def transactions(api: Api, row: Any, **params: Any) -> list[Any]:
    found: list[Any] = api.get(f"/wallets/{row['lago_id']}/wallet_transactions", **params)[
        "wallet_transactions"
    ]
    return found


def bill(api: Api, cents: int, plan: str = "pro") -> Any:
    """An invoice of so much, at once."""
    api.plan(plan, amount_cents=cents, pay_in_advance=True)
    api.subscribe(f"sub-{plan}", plan, billing_time="anniversary")
    return api.get(f"/invoices/{api.get('/invoices')['invoices'][0]['lago_id']}")["invoice"]


def test_a_wallet_is_opened_changed_listed_and_terminated(api: Api) -> None:
    api.customer()
    api.metric()
    made = open_wallet(
        api, "2.5", rate_amount="2", name="Year 1", applies_to={"billable_metric_codes": ["tokens"]}
    )
    assert (made["code"], made["balance_cents"], made["credits_balance"], made["priority"]) == (
        "year_1",
        500,
        "2.5",
        50,
    )
    assert made["applies_to"] == {"fee_types": [], "billable_metric_codes": ["tokens"]}
    second = open_wallet(api, None, code="two", priority=3)
    listed = api.get("/wallets", external_customer_id="cus")["wallets"]
    assert {row["code"] for row in listed} == {"two", "year_1"}
    assert api.get("/customers/cus/wallets/two")["wallet"] == second
    changed = api.put("/customers/cus/wallets/two", {"wallet": {"name": "Second", "priority": 1}})["wallet"]
    assert (changed["name"], changed["priority"], changed["code"]) == ("Second", 1, "two")
    assert api.post("/wallets/" + second["lago_id"] + "/metadata", {"metadata": {"a": "1"}}) == {
        "metadata": {"a": "1"}
    }
    assert api.call("PATCH", "/customers/cus/wallets/two/metadata", {"metadata": {"b": "2"}}).json()[
        "metadata"
    ] == {"a": "1", "b": "2"}
    assert api.delete("/customers/cus/wallets/two/metadata/a") == {"metadata": {"b": "2"}}
    assert api.delete(f"/wallets/{made['lago_id']}")["wallet"]["status"] == "terminated"
    assert api.delete(f"/wallets/{made['lago_id']}")["wallet"]["terminated_at"]
    assert (
        api.code(405, "PUT", f"/wallets/{made['lago_id']}", {"wallet": {"name": "x"}})
        == "wallet_is_terminated"
    )
    assert api.code(404, "GET", f"/wallets/{uuid4()}") == "wallet_not_found"


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({"granted_credits": 10}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"paid_credits": "-1"}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"granted_credits": "0.001"}, {"granted_credits": ["amount_rounds_to_zero"]}),
        (
            {"paid_credits": "9.99", "paid_top_up_min_amount_cents": 1000},
            {"paid_credits": ["amount_below_minimum"]},
        ),
        (
            {"paid_credits": "9", "paid_top_up_max_amount_cents": 899},
            {"paid_credits": ["amount_above_maximum"]},
        ),
        ({"rate_amount": "0"}, {"rate_amount": ["value_is_invalid"]}),
        ({"currency": "XXX"}, {"currency": ["value_is_invalid"]}),
        ({"priority": 51}, {"priority": ["value_is_out_of_range"]}),
        ({"expiration_at": "2024-01-01T00:00:00Z"}, {"expiration_at": ["invalid_date"]}),
        ({"external_customer_id": "nobody"}, {"customer": ["customer_not_found"]}),
        ({"applies_to": {"fee_types": ["tax"]}}, {"fee_types": ["value_is_invalid"]}),
        (
            {"applies_to": {"billable_metric_codes": ["none"]}},
            {"billable_metric_codes": ["value_is_invalid"]},
        ),
        ({"transaction_metadata": [{"key": "k" * 21, "value": "v"}]}, {"key": ["value_is_too_long"]}),
    ],
)
def test_bad_wallets_are_refused_and_leave_nothing(api: Api, fields: Any, details: Any) -> None:
    api.customer()
    body = {"external_customer_id": "cus", "rate_amount": "1", "currency": "EUR", **fields}
    assert api.details("POST", "/wallets", {"wallet": body}) == details
    assert api.get("/wallets")["wallets"] == api.get("/invoices")["invoices"] == []


def test_a_customer_has_six_active_wallets_and_a_code_once(api: Api) -> None:
    api.customer()
    made = [open_wallet(api, None, code=f"w{number}") for number in range(5)]
    assert api.details(
        "POST", "/customers/cus/wallets", {"wallet": {"rate_amount": "1", "currency": "EUR", "code": "w1"}}
    ) == {"code": ["value_already_exist"]}
    open_wallet(api, None)
    body = {"wallet": {"rate_amount": "1", "currency": "EUR"}}
    assert api.details("POST", "/customers/cus/wallets", body) == {"customer": ["wallet_limit_reached"]}
    api.delete(f"/wallets/{made[1]['lago_id']}")
    assert open_wallet(api, None, code="w1")["status"] == "active"


def test_of_wallets_made_at_one_instant_the_first_one_pays_first(api: Api) -> None:
    api.customer()
    made = [open_wallet(api, "1", code=f"w{number}") for number in range(5)]
    bill(api, 250)
    assert [look(api, row)["balance_cents"] for row in made] == [0, 0, 50, 100, 100]


def test_bought_credits_are_there_once_their_invoice_is_paid(api: Api) -> None:
    api.customer()
    row = open_wallet(api, None, name="Main", paid_credits="12.345678", transaction_name="Start")
    (bought,) = transactions(api, row)
    assert (
        bought["status"],
        bought["amount"],
        bought["credit_amount"],
        bought["remaining_amount_cents"],
    ) == ("pending", "12.35", "12.35", None)
    invoice = api.get(f"/invoices/{bought['lago_invoice_id']}")["invoice"]
    (fee,) = invoice["fees"]
    assert (invoice["invoice_type"], invoice["total_amount_cents"], invoice["taxes_amount_cents"]) == (
        "credit",
        1235,
        0,
    )
    assert (fee["item"]["type"], fee["item"]["item_type"], fee["item"]["lago_item_id"]) == (
        "credit",
        "WalletTransaction",
        bought["lago_id"],
    )
    assert fee["invoice_display_name"] == "Start"
    for status, expected, cents in (
        ("failed", "failed", 0),
        ("succeeded", "settled", 1235),
        ("succeeded", "settled", 1235),
    ):
        api.put(f"/invoices/{invoice['lago_id']}", {"invoice": {"payment_status": status}})
        assert transactions(api, row)[0]["status"] == expected
        assert look(api, row)["balance_cents"] == cents


def test_without_a_provider_nowhere_are_credits_paid(api: Api) -> None:
    api.customer()
    row = open_wallet(api, None, paid_credits="4")
    (bought,) = transactions(api, row)
    path = f"/wallet_transactions/{bought['lago_id']}/payment_url"
    assert api.details("POST", path, None) == {"base": ["no_linked_payment_provider"]}
    unknown = f"/wallet_transactions/{uuid4()}/payment_url"
    assert api.code(404, "POST", unknown) == "wallet_transaction_not_found"


def test_an_invoice_that_waits_for_its_payment_is_not_there(api: Api) -> None:
    api.customer()
    row = open_wallet(api, None, invoice_requires_successful_payment=True)
    (bought,) = top_up(api, row, paid_credits="15")
    assert bought["invoice_requires_successful_payment"] is True
    assert api.get("/invoices")["invoices"] == []
    assert api.code(404, "GET", f"/invoices/{bought['lago_invoice_id']}") == "invoice_not_found"
    assert look(api, row)["balance_cents"] == 0


def test_several_kinds_at_once_limits_and_voids(api: Api) -> None:
    api.customer()
    row = open_wallet(api, "100", paid_top_up_max_amount_cents=500)
    made = top_up(
        api,
        row,
        paid_credits="9",
        granted_credits="20",
        voided_credits="14.28444999",
        ignore_paid_top_up_limits=True,
        priority=7,
    )
    assert [each["transaction_status"] for each in made] == ["purchased", "granted", "voided"]
    assert [each["amount"] for each in made] == ["9.0", "20.0", "14.28"]
    after = look(api, row)
    assert (after["credits_balance"], after["balance_cents"]) == ("105.71556", 10_572)
    (first,) = api.get(f"/wallet_transactions/{made[2]['lago_id']}/fundings")["wallet_transaction_fundings"]
    assert (first["amount_cents"], first["wallet_transaction"]["lago_id"]) == (1428, made[1]["lago_id"])
    wanted = {"wallet_id": row["lago_id"], "voided_credits": "6", "voided_transaction_id": made[1]["lago_id"]}
    assert api.details("POST", "/wallet_transactions", {"wallet_transaction": wanted}) == {
        "voided_credits": ["exceeds_remaining_transaction_amount"]
    }
    wanted = {"wallet_id": row["lago_id"], "voided_credits": "105.71557"}
    assert api.details("POST", "/wallet_transactions", {"wallet_transaction": wanted}) == {
        "voided_credits": ["insufficient_credits"]
    }
    wanted = {"wallet_id": str(uuid4()), "paid_credits": "1"}
    assert api.details("POST", "/wallet_transactions", {"wallet_transaction": wanted}) == {
        "wallet_id": ["wallet_not_found"]
    }
    assert api.details("GET", f"/wallet_transactions/{made[2]['lago_id']}/consumptions", None) == {
        "transaction_type": ["not_inbound"]
    }


def test_an_invoice_takes_lots_in_their_order_and_a_void_gives_back(api: Api) -> None:
    api.customer()
    row = open_wallet(api, "30")
    (urgent,) = top_up(api, row, granted_credits="20", priority=1)
    invoice = bill(api, 6_000)
    assert (invoice["prepaid_credit_amount_cents"], invoice["total_amount_cents"]) == (5_000, 1_000)
    assert invoice["prepaid_granted_credit_amount_cents"] == 5_000
    (taken,) = transactions(api, row, transaction_type="outbound")
    assert taken["lago_invoice_id"] == invoice["lago_id"]
    parts = api.get(f"/wallet_transactions/{taken['lago_id']}/fundings")["wallet_transaction_fundings"]
    assert [
        (part["amount_cents"], part["wallet_transaction"]["lago_id"] == urgent["lago_id"]) for part in parts
    ] == [(2_000, True), (3_000, False)]
    after = look(api, row)
    assert (after["balance_cents"], after["consumed_credits"]) == (0, "50.0")
    api.post(f"/invoices/{invoice['lago_id']}/void", {})
    after = look(api, row)
    assert (after["balance_cents"], after["consumed_credits"]) == (5_000, "0.0")
    (back,) = [each for each in transactions(api, row) if each["lago_voided_invoice_id"]]
    assert (back["transaction_status"], back["remaining_amount_cents"]) == ("granted", 5_000)


def test_drafts_take_nothing_and_what_is_settled_is_not_edited(api: Api) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 3})
    row = open_wallet(api, "30")
    api.plan(amount_cents=1_000)
    api.subscribe()
    move(api, 2024, 4, 1, 1)
    assert [each["prepaid_credit_amount_cents"] for each in api.get("/invoices")["invoices"]] == [0]
    move(api, 2024, 4, 5, 1)
    assert [each["prepaid_credit_amount_cents"] for each in api.get("/invoices")["invoices"]] == [871]
    assert look(api, row)["balance_cents"] == 2_129
    with pytest.raises(Exception, match="not edited"):
        api.conn.execute(
            "update wallet_transaction set amount_cents = 1 where wallet_id = %s", [row["lago_id"]]
        )


def test_twenty_at_once_spend_a_wallet_once(api: Api) -> None:
    """Invoices that are made at the same time, and voids: what they take is what there was."""
    api.customer()
    row = open_wallet(api, "100")
    api.plan("seat", amount_cents=700, pay_in_advance=True)

    def one(number: int) -> int:
        if number % 4 == 3:
            body = {"wallet_id": row["lago_id"], "voided_credits": "7"}
            return api.call("POST", "/wallet_transactions", {"wallet_transaction": body}).status_code
        body = {
            "external_customer_id": "cus",
            "plan_code": "seat",
            "external_id": f"s{number}",
            "billing_time": "anniversary",
        }
        return api.call("POST", "/subscriptions", {"subscription": body}).status_code

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(one, range(20)))
    invoices = api.get("/invoices")["invoices"]
    voids, subscribed = answers[3::4], [status for number, status in enumerate(answers) if number % 4 < 3]
    assert (set(subscribed), set(voids) <= {200, 422}) == ({200}, True)
    voided = voids.count(200)
    assert len(invoices) == 15
    assert (
        sum(each["prepaid_credit_amount_cents"] for each in invoices) + voided * 700
        == 10_000 - look(api, row)["balance_cents"]
    )
    assert look(api, row)["balance_cents"] < 700


def send(api: Api, dsn: str, units: int, transaction: str) -> None:
    at = microseconds(datetime.fromisoformat(api.get("/test_clock")["test_clock"]["now"]))
    with open_connection(dsn) as conn:
        draft = Draft(transaction, "tokens", "sub", at, None, {"tokens": units})
        store(conn, Memory(), [Request(api.organization.id, [draft], at)])


def test_usage_that_nobody_can_pay_stops_no_other_balance_and_no_clock(api: Api, dsn: str) -> None:
    api.plan(charges=[charge(api.metric(), properties={"amount": "1000000"})])
    for payer in ("cus", "other"):
        api.customer(payer, currency="EUR")
    wrong, right = open_wallet(api), open_wallet(api, external_customer_id="other")
    api.subscribe()
    api.subscribe("fine", external_customer_id="other", plan_code="pro")
    send(api, dsn, 10**15, "wrong")
    move(api, 2024, 3, 6)
    assert look(api, wrong)["ongoing_usage_balance_cents"] == 2**63 - 1
    assert look(api, right)["ongoing_balance_cents"] == 1_000
    move(api, 2024, 4, 2)


@pytest.mark.parametrize(
    "how",
    [
        {"method": "target", "target_ongoing_balance": "20", "grants_target_top_up": True},
        {"method": "target", "target_ongoing_balance": "20"},
        {"method": "fixed", "paid_credits": "10"},
    ],
)
def test_usage_that_nobody_can_pay_tops_nothing_up_until_it_is_mended(
    api: Api, dsn: str, how: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.plan(charges=[charge(api.metric(), properties={"amount": "1000000"})])
    for payer in ("cus", "other"):
        api.customer(payer, currency="EUR")
    rule = {"trigger": "threshold", "threshold_credits": "5", **how}
    wrong = open_wallet(api, recurring_transaction_rules=[rule])
    right = open_wallet(api, external_customer_id="other")
    api.subscribe()
    api.subscribe("fine", external_customer_id="other", plan_code="pro")
    send(api, dsn, 10**15, "wrong")
    move(api, 2024, 3, 6)
    assert look(api, right)["ongoing_balance_cents"] == 1_000
    assert [each["source"] for each in transactions(api, wrong)] == ["manual"]
    assert f"wallet {wrong['lago_id']}" in caplog.text
    amended = {"transaction_id": "am", "event_transaction_id": "wrong", "kind": "void", "reason": "a test"}
    api.post("/events/amendments", {"amendment": {**amended, "external_subscription_id": "sub"}})
    move(api, 2024, 3, 7)
    assert look(api, wrong)["ongoing_balance_cents"] == 1_000


def test_usage_and_drafts_lower_the_ongoing_balance_and_rules_top_up(api: Api, dsn: str) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.post("/taxes", {"tax": {"name": "V", "code": "v", "rate": "10", "applied_to_organization": True}})
    api.plan(charges=[charge(api.metric())])
    rule = {
        "trigger": "threshold",
        "method": "target",
        "threshold_credits": "5",
        "target_ongoing_balance": "20",
        "grants_target_top_up": True,
    }
    row = open_wallet(api, "10", recurring_transaction_rules=[rule])
    assert row["recurring_transaction_rules"][0]["threshold_credits"] == "5.0"
    api.subscribe()
    send(api, dsn, 4, "one")
    move(api, 2024, 3, 6)
    after = look(api, row)
    assert (
        after["balance_cents"],
        after["ongoing_usage_balance_cents"],
        after["credits_ongoing_balance"],
    ) == (1000, 440, "5.6")
    send(api, dsn, 1, "two")
    move(api, 2024, 3, 7)
    after = look(api, row)
    assert (after["credits_balance"], after["ongoing_balance_cents"]) == ("25.5", 2_000)
    assert transactions(api, row)[0]["source"] == "threshold"
    move(api, 2024, 4, 1, 2)
    assert look(api, row)["ongoing_usage_balance_cents"] == 550
    move(api, 2024, 4, 5)
    after = look(api, row)
    assert (after["balance_cents"], after["ongoing_usage_balance_cents"]) == (2_000, 0)
    changed = api.put(f"/wallets/{row['lago_id']}", {"wallet": {"recurring_transaction_rules": []}})["wallet"]
    assert changed["recurring_transaction_rules"] == []


def seen_by_the_worker(api: Api, dsn: str) -> list[int]:
    """What wallets have after usage once the worker has looked, without a move of the clock."""
    with open_connection(dsn) as conn:
        while rollup.roll_up(conn):
            conn.commit()
    with open_pool(dsn, size=2, name="test") as pool:
        while ongoing_balances.refresh_live(pool, datetime.now(UTC)):
            pass
    return [
        each["ongoing_balance_cents"]
        for each in reversed(api.get("/wallets", external_customer_id="cus")["wallets"])
    ]


def test_ongoing_balances_follow_amendments_and_what_other_wallets_have(api: Api, dsn: str) -> None:
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    first = open_wallet(api, "2", name="first", priority=1)
    second = open_wallet(api, "10", name="second")
    send(api, dsn, 5, "event")
    move(api, 2024, 3, 6)
    assert seen_by_the_worker(api, dsn) == [0, 700]
    amendment = {
        "transaction_id": "fix",
        "event_transaction_id": "event",
        "kind": "replace",
        "properties": {"tokens": 4},
        "reason": "wrong",
    }
    api.post("/events/amendments", {"amendment": amendment})
    assert seen_by_the_worker(api, dsn) == [0, 800]
    top_up = {"wallet_id": first["lago_id"], "granted_credits": "1"}
    api.post("/wallet_transactions", {"wallet_transaction": top_up})
    assert seen_by_the_worker(api, dsn) == [0, 900]
    api.post("/wallet_transactions", {"wallet_transaction": {**top_up, "granted_credits": "5"}})
    assert seen_by_the_worker(api, dsn) == [400, 1_000]
    voided = {"wallet_id": first["lago_id"], "voided_credits": "7"}
    api.post("/wallet_transactions", {"wallet_transaction": voided})
    assert seen_by_the_worker(api, dsn) == [0, 700]
    api.delete(f"/wallets/{first['lago_id']}")
    assert look(api, second)["ongoing_balance_cents"] == 700
    assert seen_by_the_worker(api, dsn)[-1] == 600


def test_ongoing_balances_follow_prices_and_taxes_without_an_event(api: Api, dsn: str) -> None:
    """7 tokens at 1.00, 3.00, then 2.00 for this subscription alone; its tax goes from 0 to 20 and to 50 %, then away."""
    api.customer()
    plan = api.plan(charges=[charge(api.metric())])
    api.subscribe()
    open_wallet(api, "40")
    send(api, dsn, 7, "event")
    assert seen_by_the_worker(api, dsn) == [3_300]
    (own,) = plan["charges"]
    api.put(f"/plans/pro/charges/{own['code']}", {"charge": {"properties": {"amount": "3"}}})
    assert seen_by_the_worker(api, dsn) == [1_900]
    api.put(f"/subscriptions/sub/charges/{own['code']}", {"charge": {"properties": {"amount": "2"}}})
    assert seen_by_the_worker(api, dsn) == [2_600]
    api.post("/taxes", {"tax": {"name": "V", "code": "v", "rate": "20", "applied_to_organization": True}})
    assert seen_by_the_worker(api, dsn) == [2_320]
    api.put("/taxes/v", {"tax": {"rate": "50"}})
    assert seen_by_the_worker(api, dsn) == [1_900]
    api.post("/taxes", {"tax": {"name": "W", "code": "w", "rate": "100"}})
    api.customer(tax_codes=["w"])
    assert seen_by_the_worker(api, dsn) == [1_200]
    api.delete("/taxes/w")
    assert seen_by_the_worker(api, dsn) == [1_900]
    api.delete("/billable_metrics/tokens")
    assert seen_by_the_worker(api, dsn) == [4_000]


def test_ongoing_balances_follow_refreshed_drafts_and_ends_without_an_invoice(api: Api, dsn: str) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    open_wallet(api, "20")
    send(api, dsn, 5, "event")
    move(api, 2024, 4, 1, 12)
    assert seen_by_the_worker(api, dsn) == [1_500]
    (tokens,) = api.get("/plans/pro/charges")["charges"]
    price = {"charge": {"charge_model": "standard", "properties": {"amount": "2"}}}
    api.put(f"/plans/pro/charges/{tokens['code']}", price)
    (draft,) = api.get("/invoices")["invoices"]
    api.put(f"/invoices/{draft['lago_id']}/refresh", {})
    assert seen_by_the_worker(api, dsn) == [1_000]
    send(api, dsn, 1, "more")
    assert seen_by_the_worker(api, dsn) == [800]
    api.delete("/subscriptions/sub", on_termination_invoice="skip")
    assert seen_by_the_worker(api, dsn) == [1_000]


def test_lines_of_a_draft_that_come_to_nothing_take_nothing_of_the_ongoing_balance(
    api: Api, dsn: str
) -> None:
    """Each of three lines is 0.4 cents with 0.2 of tax; a bill doesn't take taxes of lines without a cent from wallets."""
    api.customer(billing_configuration={"invoice_grace_period": 3})
    api.post("/taxes", {"tax": {"name": "V", "code": "v", "rate": "50", "applied_to_organization": True}})
    metric = api.metric()
    api.plan(charges=[charge(metric, code=f"c{n}", properties={"amount": "0.004"}) for n in range(3)])
    api.subscribe()
    row = open_wallet(api, "20")
    send(api, dsn, 1, "event")
    move(api, 2024, 4, 1, 12)
    (draft,) = api.get("/invoices")["invoices"]
    fees = api.get(f"/invoices/{draft['lago_id']}")["invoice"]["fees"]
    assert [(fee["amount_cents"], fee["precise_amount"]) for fee in fees[1:]] == [(0, "0.004")] * 3
    assert look(api, row)["ongoing_usage_balance_cents"] == 0


def test_usage_that_is_counted_while_another_worker_reckons_is_reckoned_next(api: Api, dsn: str) -> None:
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    row = open_wallet(api, "10")
    send(api, dsn, 1, "first")
    now = datetime.now(UTC)
    with psycopg.connect(dsn) as other:
        assert ongoing_balances.refresh(other, api.organization.id, now=now) == 1
        send(api, dsn, 2, "second")
        assert seen_by_the_worker(api, dsn) == [1_000]
        other.commit()
    assert seen_by_the_worker(api, dsn) == [700]
    assert api.row("select count(*) from wallet_to_refresh") == (0,)
    assert look(api, row)["ongoing_usage_balance_cents"] == 300


def test_no_transaction_says_what_is_to_be_reckoned_without_the_lock_of_the_customer(
    api: Api, dsn: str
) -> None:
    customer = [UUID(api.customer()["lago_id"])]
    open_wallet(api)
    with psycopg.connect(dsn) as conn:
        customers.lock_all(conn, customer)
        wallets.set_up_to_date(conn, customer)
        conn.commit()
    with psycopg.connect(dsn) as conn, pytest.raises(psycopg.errors.RaiseException, match="not locked"):
        wallets.set_out_of_date(conn, customer, at=datetime.now(UTC))


def test_a_wallet_that_has_topped_itself_up_is_depleted_no_more(api: Api, dsn: str) -> None:
    """So that it says so again, also where one look finds it depleted twice."""
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    rule = {"trigger": "threshold", "threshold_credits": "1", "granted_credits": "10"}
    open_wallet(api, "5", recurring_transaction_rules=[rule])
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    webhooks = (
        "select count(*) from webhook where organization_id = %(organization)s"
        " and webhook_type = 'wallet.depleted_ongoing_balance'"
    )
    for number, left in enumerate([900, 800], 1):
        send(api, dsn, 6 if number == 1 else 11, f"event{number}")
        assert seen_by_the_worker(api, dsn) == [left]
        assert api.row(webhooks) == (number,)


@pytest.mark.parametrize("trigger", ["interval", "threshold"])
def test_credits_of_a_rule_that_are_worth_nothing_are_left_out(api: Api, trigger: str) -> None:
    """As they are refused where somebody asks for them: one such rule must not stop an organization."""
    api.customer()
    when = {"interval": "monthly"} if trigger == "interval" else {"threshold_credits": "5"}
    rule = {"trigger": trigger, "paid_credits": "0.001", "granted_credits": "4", **when}
    row = open_wallet(api, "3", recurring_transaction_rules=[rule])
    move(api, 2024, 4, 6)
    assert [each["amount"] for each in transactions(api, row)] == ["4.0", "3.0"]


def topped_up(api: Api, row: Any) -> list[tuple[str, str]]:
    """The days and amounts of the top-ups at a threshold, the oldest first."""
    found = [each for each in transactions(api, row) if each["source"] == "threshold"]
    return [(each["settled_at"][:10], each["amount"]) for each in reversed(found)]


def test_a_threshold_is_looked_at_at_each_instant_on_the_way_of_a_clock(api: Api) -> None:
    api.plan(amount_cents=300)
    api.customer()
    api.subscribe(billing_time="anniversary")
    rule = {
        "trigger": "threshold",
        "method": "target",
        "threshold_credits": "5",
        "target_ongoing_balance": "8",
        "grants_target_top_up": True,
    }
    row = open_wallet(api, "7", recurring_transaction_rules=[rule])
    move(api, 2024, 8, 1)
    assert topped_up(api, row) == [
        ("2024-04-05", "4.0"),
        ("2024-05-05", "3.0"),
        ("2024-06-05", "3.0"),
        ("2024-07-05", "3.0"),
    ]


@pytest.mark.parametrize(("used", "granted"), [(5, 4), (8, 4), (9, 8), (30, 28), (32, 28), (33, 32)])
def test_what_a_rule_grants_closes_the_gap_however_often_it_is_looked(
    api: Api, dsn: str, used: int, granted: int
) -> None:
    """Each stop of a clock, or each further event, would grant once more otherwise."""
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    rule = {"trigger": "threshold", "threshold_credits": "5", "granted_credits": "4", "paid_credits": "0"}
    row = open_wallet(api, "10", recurring_transaction_rules=[rule])
    send(api, dsn, used, "much")
    for day in (6, 7, 8):
        move(api, 2024, 3, day)
    assert topped_up(api, row) == [("2024-03-05", f"{granted}.0")]
    assert look(api, row)["credits_ongoing_balance"] == f"{10 - used + granted}.0"


@pytest.mark.parametrize(
    ("how", "most", "bought"),
    [
        ({"method": "target", "target_ongoing_balance": "5"}, None, "3.0"),
        ({"method": "target", "target_ongoing_balance": "9"}, None, "7.0"),
        ({"method": "fixed", "paid_credits": "1"}, None, "4.0"),
        ({"method": "fixed", "paid_credits": "1"}, 200, "2.0"),
    ],
)
def test_what_a_rule_buys_is_asked_for_once_until_it_is_paid(
    api: Api, dsn: str, how: Any, most: int | None, bought: str
) -> None:
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    rule = {"trigger": "threshold", "threshold_credits": "5", **how}
    row = open_wallet(api, "10", recurring_transaction_rules=[rule], paid_top_up_max_amount_cents=most)
    send(api, dsn, 8, "much")
    for day in (6, 7, 8):
        move(api, 2024, 3, day)
    assert [each["amount"] for each in transactions(api, row)] == [bought, "10.0"]
    invoice_id = transactions(api, row)[0]["lago_invoice_id"]
    api.put(f"/invoices/{invoice_id}", {"invoice": {"payment_status": "succeeded"}})
    move(api, 2024, 3, 9)
    more = ["2.0"] if most else []
    assert [each["amount"] for each in transactions(api, row)] == [*more, bought, "10.0"]


def test_what_a_rule_gives_with_a_purchase_waits_with_it_after_a_payment_that_failed(
    api: Api, dsn: str
) -> None:
    api.customer()
    api.plan(charges=[charge(api.metric())])
    api.subscribe()
    how = {"trigger": "threshold", "threshold_credits": "5", "paid_credits": "10", "granted_credits": "1"}
    row = open_wallet(api, "10", recurring_transaction_rules=[how])
    send(api, dsn, 8, "much")
    move(api, 2024, 3, 5, 13)
    bought = next(each for each in transactions(api, row) if each["transaction_status"] == "purchased")
    api.put(f"/invoices/{bought['lago_invoice_id']}", {"invoice": {"payment_status": "failed"}})
    for minute in (10, 20, 30):
        api.put("/test_clock", {"test_clock": {"now": f"2024-03-05T13:{minute}:00Z"}})
    assert len(transactions(api, row)) == 3
    move(api, 2024, 3, 5, 15)
    assert [each["amount"] for each in transactions(api, row)] == ["1.0", "10.0", "1.0", "10.0", "10.0"]


def test_a_start_without_an_invoice_is_looked_at_at_its_instant(api: Api) -> None:
    """What a charge costs without any usage is in the ongoing balance as soon as its period runs."""
    tier = {"from_value": 0, "to_value": None, "per_unit_amount": "1", "flat_amount": "6"}
    api.plan(
        charges=[charge(api.metric(), charge_model="graduated", properties={"graduated_ranges": [tier]})]
    )
    api.customer()
    api.subscribe(subscription_at="2024-03-20T00:00:00Z")
    rule = {
        "trigger": "threshold",
        "method": "fixed",
        "threshold_credits": "5",
        "granted_credits": "2",
        "paid_credits": "0",
    }
    row = open_wallet(api, "10", recurring_transaction_rules=[rule])
    move(api, 2024, 3, 25)
    assert [day for day, _ in topped_up(api, row)] == ["2024-03-20"]


def test_an_interval_tops_up_to_its_target_by_what_the_invoice_of_the_same_instant_has_left(
    api: Api, dsn: str
) -> None:
    """What was usage a moment ago is paid from the balance by then, and doesn't lack twice."""
    api.plan(charges=[charge(api.metric())])
    api.customer()
    api.subscribe()
    rule = {
        "trigger": "interval",
        "interval": "monthly",
        "method": "target",
        "started_at": "2024-03-01T00:00:00Z",
        "target_ongoing_balance": "30",
        "grants_target_top_up": True,
    }
    row = open_wallet(api, "40", recurring_transaction_rules=[rule])
    send(api, dsn, 25, "one")
    move(api, 2024, 4, 2)
    assert [(each["source"], each["amount"]) for each in transactions(api, row)] == [
        ("interval", "15.0"),
        ("manual", "25.0"),
        ("manual", "40.0"),
    ]
    assert look(api, row)["ongoing_balance_cents"] == 3_000


@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Kiritimati"])
def test_a_rule_that_begins_at_noon_tops_up_once_on_that_day(api: Api, timezone: str) -> None:
    api.customer(timezone=timezone)
    rule = {"trigger": "interval", "interval": "weekly", "started_at": "2024-03-06T12:00:00Z"}
    row = open_wallet(api, "3", recurring_transaction_rules=[rule | {"granted_credits": "3"}])
    move(api, 2024, 3, 12)
    assert [each["source"] for each in transactions(api, row)] == ["interval", "manual"]
    move(api, 2024, 3, 14)
    assert look(api, row)["balance_cents"] == 900


def test_intervals_top_up_until_the_rule_and_the_wallet_expire(api: Api) -> None:
    api.customer()
    rule = {"trigger": "interval", "interval": "monthly", "expiration_at": "2024-05-10T00:00:00Z"}
    row = open_wallet(api, "3", expiration_at="2024-06-01T00:00:00Z", recurring_transaction_rules=[rule])
    move(api, 2024, 5, 31)
    assert [each["source"] for each in transactions(api, row)] == ["interval", "interval", "manual"]
    assert look(api, row)["recurring_transaction_rules"] == []
    move(api, 2024, 6, 2)
    after = look(api, row)
    assert (after["status"], after["balance_cents"]) == ("terminated", 900)


@pytest.mark.parametrize(
    "rules",
    [
        [{"trigger": "interval", "paid_credits": "1"}],
        [{"trigger": "threshold", "paid_credits": "1"}],
        [
            {
                "trigger": "threshold",
                "threshold_credits": "5",
                "method": "target",
                "target_ongoing_balance": "4",
            }
        ],
        [{"trigger": "threshold", "threshold_credits": "5"}],
    ],
)
def test_bad_rules_are_refused(api: Api, rules: Any) -> None:
    api.customer()
    body = {
        "external_customer_id": "cus",
        "rate_amount": "1",
        "currency": "EUR",
        "recurring_transaction_rules": rules,
    }
    assert api.details("POST", "/wallets", {"wallet": body}) == {
        "recurring_transaction_rules": ["invalid_recurring_rule"]
    }


@pytest.mark.parametrize("mover", ["customer", "billing entity"])
@pytest.mark.parametrize(
    ("zones", "moves_at", "topped_up_at"),
    [
        (("Asia/Tokyo", "America/New_York"), (2024, 3, 20), ["2024-04-01T04:00:00Z", "2024-05-01T04:00:00Z"]),
        (
            ("Asia/Tokyo", "America/New_York"),
            (2024, 3, 31, 20),
            ["2024-03-31T15:00:00Z", "2024-05-01T04:00:00Z"],
        ),
        (
            ("America/New_York", "Asia/Tokyo"),
            (2024, 3, 31, 20),
            ["2024-03-31T20:00:00Z", "2024-04-30T15:00:00Z"],
        ),
    ],
)
def test_an_interval_tops_up_once_where_a_customer_moves_to_another_timezone(
    api: Api, mover: str, zones: tuple[str, str], moves_at: tuple[int, ...], topped_up_at: list[str]
) -> None:
    def live_in(zone: str) -> None:
        if mover == "customer":
            api.post("/customers", {"customer": {"external_id": "cus", "timezone": zone}})
        else:
            api.put("/billing_entities/default", {"billing_entity": {"timezone": zone}})

    api.customer()
    live_in(zones[0])
    rule = {"trigger": "interval", "interval": "monthly", "granted_credits": "5", "paid_credits": "0"}
    row = open_wallet(api, recurring_transaction_rules=[{**rule, "started_at": "2024-03-01T12:00:00Z"}])
    move(api, *moves_at)
    live_in(zones[1])
    move(api, 2024, 5, 2)
    assert [each["created_at"] for each in reversed(transactions(api, row))][1:] == topped_up_at


def test_a_rule_that_is_changed_on_the_day_on_which_it_starts_tops_up_on_the_next(api: Api) -> None:
    api.customer()
    rule = {"trigger": "interval", "interval": "weekly", "granted_credits": "5", "paid_credits": "0"}
    rule["started_at"] = "2024-03-05T22:00:00Z"
    row = open_wallet(api, recurring_transaction_rules=[rule])
    for hour in (11, 12):
        move(api, 2024, 3, 5, hour)
        changed = {"recurring_transaction_rules": [{**rule, "transaction_name": f"at {hour}"}]}
        api.put(f"/wallets/{row['lago_id']}", {"wallet": changed})
    move(api, 2024, 3, 13)
    assert [each["created_at"] for each in transactions(api, row)][:-1] == ["2024-03-12T00:00:00Z"]


def test_a_rule_that_is_named_by_its_id_is_changed_and_keeps_what_is_not_sent(api: Api) -> None:
    api.customer()
    rule = {
        "trigger": "interval",
        "interval": "monthly",
        "granted_credits": "5",
        "started_at": "2024-03-20T00:00:00Z",
        "expiration_at": "2024-06-01T00:00:00Z",
        "transaction_name": "Each month",
        "transaction_metadata": [{"key": "a", "value": "b"}],
    }
    row = open_wallet(api, recurring_transaction_rules=[rule])
    (before,) = row["recurring_transaction_rules"]
    move(api, 2024, 3, 6)
    path, changed = f"/wallets/{row['lago_id']}", {"trigger": "interval", "granted_credits": "7"}
    named = {**changed, "lago_id": before["lago_id"]}
    (after,) = api.put(path, {"wallet": {"recurring_transaction_rules": [named]}})["wallet"][
        "recurring_transaction_rules"
    ]
    assert after == {**before, "granted_credits": "7.0"}
    move(api, 2024, 3, 21)
    assert [(each["amount"], each["name"]) for each in transactions(api, row)][:-1] == [("7.0", "Each month")]
    wrong = {"recurring_transaction_rules": [{**named, "interval": None}]}
    assert api.details("PUT", path, {"wallet": wrong}) == {
        "recurring_transaction_rules": ["invalid_recurring_rule"]
    }
    new = {"recurring_transaction_rules": [{**changed, "interval": "weekly"}]}
    (other,) = api.put(path, {"wallet": new})["wallet"]["recurring_transaction_rules"]
    assert other["lago_id"] != before["lago_id"]
    assert (other["started_at"], other["transaction_name"]) == (None, None)
