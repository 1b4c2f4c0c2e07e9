"""The invoice run end to end on a real database: who is billed, when, for which days, how much, under which number."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from permille.store import billing_entities, customers, fees as fee_store, invoices, subscriptions
from permille.usecases import subscriptions as life
from permille.usecases.catalogue import billing_entities as catalogue
from permille.usecases.invoices import run

from .world import Filter, World, bills, check_invariants, fee_lines, move, ts


def test_a_plan_in_arrears_is_billed_for_the_days_used_and_then_for_months(world: World) -> None:
    plan = world.plan(amount_cents=3100, charges=[(world.metric(), "0.5")])
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 11, 15))
    world.use("sub", "tokens", 7, at=ts(2024, 1, 11, 14))  # before the start
    world.use("sub", "tokens", 10, at=ts(2024, 1, 31, 23, 59, 59))
    world.use("sub", "tokens", 4, at=ts(2024, 2, 1))
    move(world, 2024, 3, 1)
    assert bills(world) == [
        (ts(2024, 2, 1), "subscription_periodic", 2100 + 500),
        (ts(2024, 3, 1), "subscription_periodic", 3100 + 200),
    ]
    assert fee_lines(world) == [
        ("subscription", 1, 2100),
        ("charge", 10, 500),
        ("subscription", 1, 3100),
        ("charge", 4, 200),
    ]
    check_invariants(world)


def test_a_plan_in_advance_is_billed_at_the_start_and_pays_usage_afterwards(world: World) -> None:
    plan = world.plan(amount_cents=2900, pay_in_advance=True, charges=[(world.metric(), "1")])
    world.subscribe(world.customer(), plan, now=ts(2024, 2, 20, 9))
    world.use("sub", "tokens", 3, at=ts(2024, 2, 25))
    move(world, 2024, 3, 1)
    assert bills(world) == [
        (ts(2024, 2, 20, 9), "subscription_starting", 1000),  # 10 of 29 days
        (ts(2024, 3, 1), "subscription_periodic", 2900 + 300),
    ]
    assert world.rows("select skip_charges, issuing_date::text from invoice order by created_at") == [
        (True, "2024-02-20"),
        (False, "2024-03-01"),
    ]
    check_invariants(world)


def test_a_start_later_today_is_billed_now(world: World) -> None:
    plan = world.plan(amount_cents=2900, pay_in_advance=True)
    world.subscribe(world.customer(), plan, now=ts(2024, 2, 20, 9), subscription_at=ts(2024, 2, 20, 18))
    assert bills(world) == [(ts(2024, 2, 20, 9), "subscription_starting", 1000)]


@pytest.mark.parametrize(
    ("interval", "billing_time", "expected"),
    [
        ("weekly", "calendar", [ts(2024, 1, 22), ts(2024, 1, 29), ts(2024, 2, 5)]),
        ("weekly", "anniversary", [ts(2024, 1, 24), ts(2024, 1, 31), ts(2024, 2, 7)]),
        ("monthly", "anniversary", [ts(2024, 2, 17), ts(2024, 3, 17)]),
        ("quarterly", "calendar", [ts(2024, 4, 1), ts(2024, 7, 1)]),
        ("semiannual", "anniversary", [ts(2024, 7, 17), ts(2025, 1, 17)]),
        ("yearly", "calendar", [ts(2025, 1, 1)]),
        ("yearly", "anniversary", [ts(2025, 1, 17)]),
    ],
)
def test_each_interval_has_its_days(
    world: World, interval: str, billing_time: str, expected: list[Any]
) -> None:
    plan = world.plan(interval=interval, amount_cents=7000)
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 17, 8), billing_time=billing_time)
    last = expected[-1]
    move(world, last.year, last.month, last.day)
    assert [at for at, _, _ in bills(world)] == expected
    assert bills(world)[-1][2] == (7000 if (interval, billing_time) != ("yearly", "calendar") else 6694)
    check_invariants(world)


def test_a_yearly_plan_may_bill_usage_by_the_month(world: World) -> None:
    plan = world.plan(
        interval="yearly", amount_cents=36600, bill_charges_monthly=True, charges=[(world.metric(), "1")]
    )
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 1))
    world.use("sub", "tokens", 2, at=ts(2024, 3, 9))
    move(world, 2025, 1, 1)
    assert [cents for _, _, cents in bills(world)] == [0, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 36600]
    check_invariants(world)


def test_periods_end_at_the_customers_midnight(world: World) -> None:
    tokyo = world.customer(timezone="Asia/Tokyo")
    world.subscribe(tokyo, world.plan(charges=[(world.metric(), "1")]), now=ts(2024, 1, 5))
    world.use("sub", "tokens", 1, at=ts(2024, 1, 31, 14, 59, 59))
    world.use("sub", "tokens", 8, at=ts(2024, 1, 31, 15))
    move(world, 2024, 2, 1)
    assert bills(world) == [(ts(2024, 1, 31, 15), "subscription_periodic", 100)]
    assert world.rows("select timezone, issuing_date::text, created_at from invoice") == [
        ("Asia/Tokyo", "2024-02-01", ts(2024, 1, 31, 15))
    ]


def test_the_end_bills_what_was_used_and_nothing_comes_after(world: World) -> None:
    plan = world.plan(amount_cents=3000, charges=[(world.metric(), "1")])
    world.subscribe(world.customer(), plan, now=ts(2024, 4, 1))
    world.use("sub", "tokens", 5, at=ts(2024, 4, 10, 11))
    world.use("sub", "tokens", 9, at=ts(2024, 4, 10, 13))
    move(world, 2024, 4, 10, 12)
    world.terminate(at=ts(2024, 4, 10, 12))
    move(world, 2024, 8, 1)
    assert bills(world) == [(ts(2024, 4, 10, 12), "subscription_terminating", 1000 + 500)]
    assert world.rows("select recurring, charges_to_at from invoice_subscription") == [
        (False, ts(2024, 4, 10, 12).replace(microsecond=1))
    ]
    check_invariants(world)


@pytest.mark.parametrize("invoice", ["generate", "skip"])
def test_the_end_bills_first_what_a_late_run_has_missed(world: World, invoice: str) -> None:
    plan = world.plan(amount_cents=3100, charges=[(world.metric(), "1")])
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 1), on_termination_invoice=invoice)
    world.use("sub", "tokens", 2, at=ts(2024, 2, 3))
    world.terminate(at=ts(2024, 3, 10))  # nobody has moved the clock
    at_the_end = [(ts(2024, 3, 10), "subscription_terminating", 1000)]
    assert bills(world) == [
        (ts(2024, 2, 1), "subscription_periodic", 3100),
        (ts(2024, 3, 1), "subscription_periodic", 3100 + 200),
        *(at_the_end if invoice == "generate" else []),
    ]
    check_invariants(world)


def test_days_after_the_end_are_credited_also_where_a_late_run_has_missed_their_bill(world: World) -> None:
    world.subscribe(world.customer(), world.plan(amount_cents=3100, pay_in_advance=True), now=ts(2024, 1, 1))
    world.terminate(at=ts(2024, 3, 10))  # nobody has moved the clock
    assert [(at, cents) for at, _, cents in bills(world)][-2:] == [
        (ts(2024, 3, 1), 3100),
        (ts(2024, 3, 10), 0),
    ]
    assert world.rows("select total_amount_cents from credit_note") == [(2100,)]
    check_invariants(world)


def test_an_end_may_skip_its_invoice(world: World) -> None:
    plan = world.plan(amount_cents=3000)
    world.subscribe(world.customer(), plan, now=ts(2024, 4, 1), on_termination_invoice="skip")
    world.terminate(at=ts(2024, 4, 10))
    run.bill_terminations(world.conn, [_only_subscription(world)], at=ts(2024, 4, 10))
    assert bills(world) == []


def _only_subscription(world: World) -> Any:
    ((found,),) = world.rows("select id from subscription")
    return found


def test_a_billing_day_without_anything_to_bill_gives_a_paid_invoice_of_nothing(world: World) -> None:
    world.subscribe(world.customer(), world.plan(charges=[(world.metric(), "1")]), now=ts(2024, 1, 1))
    move(world, 2024, 2, 1)
    assert world.rows("select number, status, payment_status, total_amount_cents from invoice") == [
        ("ACM-001-001", "finalized", "succeeded", 0)
    ]
    assert fee_lines(world) == [("subscription", 1, 0)]


@pytest.mark.parametrize(("entity", "customer"), [(False, "inherit"), (True, "skip")])
def test_an_invoice_of_nothing_may_be_left_out(world: World, entity: bool, customer: str) -> None:
    world.set_entity(finalize_zero_amount_invoice=entity)
    payer = world.customer(finalize_zero_amount_invoice=customer)
    world.subscribe(payer, world.plan(charges=[(world.metric(), "1")]), now=ts(2024, 1, 1))
    world.use("sub", "tokens", 1, at=ts(2024, 2, 5))
    move(world, 2024, 3, 1)
    assert world.rows("select status, sequential_id, finalized_at from invoice order by created_at") == [
        ("closed", None, None),
        ("finalized", 1, ts(2024, 3, 1)),
    ]
    assert len(world.rows("select from webhook where webhook_type = 'invoice.created'")) == 1
    check_invariants(world)


def test_usage_goes_to_the_prices_of_its_dimensions(world: World) -> None:
    metric = world.metric(filters={"type": ("input", "output"), "model": ("small", "large")})
    prices = {
        "properties": {"amount": "7"},
        "filters": [
            Filter(values={"type": ("input",)}, properties={"amount": "0.000001"}),
            Filter(values={"type": ("output",), "model": ("large",)}, properties={"amount": "0.00004"}),
        ],
    }
    world.subscribe(world.customer(), world.plan(charges=[(metric, prices)]), now=ts(2024, 1, 1))
    world.use("sub", "tokens", 1_000_000, at=ts(2024, 1, 5), type="input", model="large")
    world.use("sub", "tokens", 2_500_000, at=ts(2024, 1, 6), type="input", model="small")
    world.use("sub", "tokens", 1_234, at=ts(2024, 1, 7), type="output", model="large")
    move(world, 2024, 2, 1)
    assert fee_lines(world) == [
        ("subscription", 1, 0),
        ("charge", 3_500_000, 350),
        ("charge", 1_234, 5),  # 4.936 cents
    ]
    (fee,) = [each for each in _fees(world) if each.units == 1_234]
    assert (fee.precise_amount_cents, fee.precise_unit_amount) == (Decimal("4.936"), Decimal("0.00004"))
    assert (fee.events_count, fee.from_at, fee.to_at) == (1, ts(2024, 1, 1), ts(2024, 2, 1))
    assert fee.charge_filter_id is not None


def _fees(world: World) -> list[fee_store.StoredFee]:
    ids = [invoice_id for (invoice_id,) in world.rows("select id from invoice")]
    return [fee for found in fee_store.of_invoices(world.conn, ids).values() for fee in found]


def test_recurring_metrics_keep_what_was_added_before(world: World) -> None:
    seats = world.metric("seats", "sum_agg", recurring=True)
    users = world.metric("users", "unique_count_agg", recurring=True, field_name="user")
    plan = world.plan(charges=[(seats, "1"), (users, "10")])
    world.subscribe(world.customer(), plan, now=ts(2024, 1, 1))
    world.use("sub", "seats", 5, at=ts(2024, 1, 5))
    world.use("sub", "seats", -2, at=ts(2024, 2, 5))
    world.use("sub", "users", None, at=ts(2024, 1, 9), user="ann")
    move(world, 2024, 4, 1)
    assert [cents for _, _, cents in bills(world)] == [500 + 1000, 300 + 1000, 300 + 1000]
    check_invariants(world)


def test_a_weighted_sum_is_weighed_by_the_whole_period(world: World) -> None:
    storage = world.metric("storage", "weighted_sum_agg", recurring=True, weighted_interval="seconds")
    world.subscribe(world.customer(), world.plan(charges=[(storage, "1")]), now=ts(2024, 4, 16))
    world.use("sub", "storage", 10, at=ts(2024, 4, 16))
    move(world, 2024, 6, 1)
    assert [cents for _, _, cents in bills(world)] == [500, 1000]


def test_subscriptions_of_a_customer_share_an_invoice_by_currency_order_and_wish(world: World) -> None:
    payer, other = world.customer("a"), world.customer("b")
    dollars, euros = world.plan("usd", amount_cents=100), world.plan("eur", amount_currency="EUR")
    world.subscribe(payer, dollars, "one")
    world.subscribe(payer, dollars, "two")
    world.subscribe(payer, euros, "three")
    world.subscribe(payer, dollars, "alone", consolidate_invoice=False)
    world.subscribe(payer, dollars, "ordered", purchase_order_number="PO-1")
    world.subscribe(other, dollars, "other")
    move(world, 2024, 2, 1)
    found = world.rows(
        "select array_agg(s.external_id order by s.external_id), i.currency, i.purchase_order_number"
        " from invoice i join invoice_subscription p on p.invoice_id = i.id"
        " join subscription s on s.id = p.subscription_id group by i.id order by 1"
    )
    assert found == [
        (["alone"], "USD", None),
        (["one", "two"], "USD", None),
        (["ordered"], "USD", "PO-1"),
        (["other"], "USD", None),
        (["three"], "EUR", None),
    ]
    check_invariants(world)


def test_different_due_instants_of_a_customer_are_never_mixed(world: World) -> None:
    payer, plan = world.customer(), world.plan(amount_cents=100)
    for day in (3, 4, 5):
        world.subscribe(payer, plan, f"sub-{day}", now=ts(2024, 1, day), billing_time="anniversary")
    billed = 0
    while done := run.bill_due(world.conn, organization_id=world.id, until=ts(2024, 2, 5)):
        billed += done
    assert billed == 3
    assert world.rows("select created_at, number from invoice order by sequential_id") == [
        (ts(2024, 2, day), f"ACM-001-00{place}") for place, day in enumerate((3, 4, 5), start=1)
    ]


def number_by(world: World, mode: str) -> None:
    entity = billing_entities.default(world.conn, world.id)
    catalogue.change(
        world.conn, world.id, entity, settings={"document_numbering": mode}, now=entity.updated_at
    )


def test_numbers_may_be_the_billing_entitys(world: World) -> None:
    world.set_entity(timezone="Asia/Tokyo")
    first, second = world.customer("a"), world.customer("b")
    plan = world.plan(amount_cents=100)
    world.subscribe(first, plan, "one")
    world.subscribe(second, plan, "two")
    move(world, 2024, 2, 1)
    number_by(world, "per_billing_entity")
    move(world, 2024, 4, 1)
    number_by(world, "per_customer")
    move(world, 2024, 5, 1)
    assert [number for (number,) in world.rows("select number from invoice order by created_at, number")] == [
        "ACM-001-001",
        "ACM-002-001",
        "ACM-202403-003",
        "ACM-202403-004",
        "ACM-202404-005",
        "ACM-202404-006",
        "ACM-001-004",
        "ACM-002-004",
    ]
    check_invariants(world)


def test_dates_follow_the_settings(world: World) -> None:
    world.set_entity(subscription_invoice_issuing_date_anchor="current_period_end", net_payment_term=30)
    plan = world.plan(amount_cents=100)
    world.subscribe(world.customer("a"), plan, "one")
    world.subscribe(world.customer("b", net_payment_term=0), plan, "two")
    move(world, 2024, 2, 1)
    assert world.rows(
        "select issuing_date::text, payment_due_date::text, expected_finalization_date::text, net_payment_term"
        " from invoice order by number"
    ) == [("2024-01-31", "2024-03-01", "2024-02-01", 30), ("2024-01-31", "2024-01-31", "2024-02-01", 0)]


def test_a_trial_delays_the_fee_of_a_plan_in_advance(world: World) -> None:
    plan = world.plan(amount_cents=3100, pay_in_advance=True, trial_period=Decimal(10))
    made = world.subscribe(world.customer(), plan, now=ts(2024, 1, 2))
    move(world, 2024, 2, 1)
    assert bills(world) == [
        (ts(2024, 1, 12), "subscription_starting", 2000),
        (ts(2024, 2, 1), "subscription_periodic", 3100),
    ]
    assert subscriptions.by_ids(world.conn, [made.id])[made.id].trial_ended_at == ts(2024, 1, 12)
    assert world.rows("select created_at from webhook where webhook_type = 'subscription.trial_ended'") == [
        (ts(2024, 1, 12),)
    ]


def test_a_move_to_another_timezone_loses_and_doubles_no_usage(world: World) -> None:
    payer = world.customer(timezone="America/New_York")
    made = world.subscribe(payer, world.plan(charges=[(world.metric(), "1")]), now=ts(2024, 1, 10))
    world.use("sub", "tokens", 1, at=ts(2024, 1, 10, 1))
    for place, instant in enumerate(
        (ts(2024, 1, 31, 20), ts(2024, 2, 1, 4, 59), ts(2024, 2, 1, 5), ts(2024, 2, 29, 16))
    ):
        world.use("sub", "tokens", 10**place, at=instant)
    move(world, 2024, 2, 10)
    customers.update(world.conn, customer_id=payer, columns={"timezone": "Asia/Tokyo"}, now=ts(2024, 2, 10))
    life.schedule(world.conn, subscriptions.by_ids(world.conn, [made.id])[made.id], now=ts(2024, 2, 10))
    move(world, 2024, 4, 1)
    assert sum(cents for _, _, cents in bills(world)) == 100 * (1 + 1111)
    check_invariants(world)


def test_the_outbox_names_each_final_invoice_once(world: World) -> None:
    plan = world.plan(amount_cents=100)
    for name in "abc":
        world.subscribe(world.customer(name), plan, name)
    move(world, 2024, 2, 1)
    assert world.rows(
        "select count(*), count(distinct object_id), min(created_at) from webhook"
        " where webhook_type = 'invoice.created' and object_id in (select id from invoice)"
    ) == [(3, 3, ts(2024, 2, 1))]


def test_a_final_invoice_reads_back_as_it_was_written(world: World) -> None:
    world.subscribe(world.customer(), world.plan(amount_cents=3100), now=ts(2024, 1, 11))
    move(world, 2024, 2, 1)
    ((invoice_id,),) = world.rows("select id from invoice")
    invoice = invoices.invoices_by_ids(world.conn, [invoice_id])[invoice_id]
    assert (invoice.number, invoice.total_amount_cents, invoice.payment_status) == (
        "ACM-001-001",
        2100,
        "pending",
    )
    ((fee,),) = fee_store.of_invoices(world.conn, [invoice_id]).values()
    assert (fee.fee_type, fee.amount_details) == ("subscription", {"plan_amount_cents": 3100})
    ((on_invoice,),) = invoices.subscriptions_of(world.conn, [invoice_id]).values()
    assert (on_invoice.from_at, on_invoice.to_at) == (ts(2024, 1, 11), ts(2024, 2, 1))


def test_texts_of_any_kind_reach_the_invoice_unchanged(world: World) -> None:
    text = 'tab\t "quote" back\\slash \\N {brace}, new\nline'
    world.set_entity(document_number_prefix="A\\N-{1}")
    metric = world.metric()
    price = {"properties": {"amount": "1", "pricing_group_keys": ["team"]}, "invoice_display_name": text}
    plan = world.plan(amount_cents=100, invoice_display_name=text, charges=[(metric, price)])
    world.subscribe(world.customer(), plan, text, purchase_order_number=text)
    world.use(text, "tokens", 2, at=ts(2024, 1, 5), team=text)
    move(world, 2024, 2, 1)
    assert world.rows("select purchase_order_number, number, total_amount_cents from invoice") == [
        (text, "A\\N-{1}-001-001", 300)
    ]
    assert [(fee.invoice_display_name, fee.grouped_by) for fee in _fees(world)] == [
        (text, {}),
        (text, {"team": text}),
    ]


def test_details_of_a_price_are_kept_exactly(world: World) -> None:
    ranges = [
        {"from_value": 0, "to_value": 10, "per_unit_amount": "0.1", "flat_amount": "3"},
        {"from_value": 11, "to_value": None, "per_unit_amount": "0.05", "flat_amount": "0"},
    ]
    price = {"charge_model": "graduated", "properties": {"graduated_ranges": ranges}}
    world.subscribe(world.customer(), world.plan(charges=[(world.metric(), price)]))
    world.use("sub", "tokens", "12.5", at=ts(2024, 1, 5))
    move(world, 2024, 2, 1)
    fee = _fees(world)[1]
    assert fee.amount_cents == 300 + 100 + 13  # 4.125, rounded half away from zero
    assert [Decimal(str(each["units"])) for each in fee.amount_details["graduated_ranges"]] == [
        Decimal(10),
        Decimal("2.5"),
    ]
