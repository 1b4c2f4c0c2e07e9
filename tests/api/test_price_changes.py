"""Prices that are valid from an instant on, over HTTP: a period keeps the prices that it began with."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api, charge

MAY = datetime(2024, 5, 1, tzinfo=UTC)
_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store an event of a subscription with these properties; its transaction id."""
    conn, memory = open_connection(dsn), Memory()

    def one(at: datetime = START, sub: str = "sub", code: str = "tokens", **properties: Any) -> str:
        name = f"change-{next(_numbers)}"
        draft = Draft(name, code, sub, microseconds(at), None, {"tokens": 1, **properties})
        store(conn, memory, [Request(api.organization.id, [draft], microseconds(at))])
        return name

    yield one
    conn.close()


def day(month: int, number: int, hour: int = 0) -> datetime:
    return datetime(2024, month, number, hour, tzinfo=UTC)


def move_to(api: Api, at: datetime) -> None:
    api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})


def price(amount: int) -> dict[str, str]:
    return {"amount": str(amount)}


@pytest.fixture
def tokens(api: Api) -> Any:
    api.customer()
    return api.metric(filters=[{"key": "model", "values": ["8K", "32K"]}])


@pytest.fixture
def sold(api: Api, tokens: Any) -> Any:
    """A plan at 1.00, with a subscription since the 5th of March."""
    made = api.plan(charges=[charge(tokens, code="tokens")])
    api.subscribe()
    return made


def reprice(api: Api, amount: int, *, path: str = "/plans/pro/charges/tokens", **said: Any) -> Any:
    return api.put(path, {"charge": {"properties": price(amount)}, **said})["charge"]


def bill(api: Api, sub: str = "sub") -> int:
    used = api.get("/customers/cus/current_usage", external_subscription_id=sub)
    amount: int = used["customer_usage"]["amount_cents"]
    return amount


def invoiced(api: Api) -> list[int]:
    """What the invoices with fees come to, oldest first."""
    return [each["fees_amount_cents"] for each in api.get("/invoices")["invoices"]][::-1]


def amount_of(api: Api) -> list[str]:
    return [each["properties"]["amount"] for each in api.get("/plans/pro")["plan"]["charges"]]


def test_the_running_period_keeps_its_price_and_the_next_has_the_new_one(
    api: Api, sold: Any, send: Any
) -> None:
    send()
    assert (
        api.put(
            "/plans/pro/charges/tokens",
            {"charge": {"properties": price(3)}, "effective": "next_period", "dry_run": True},
        )["dry_run"]["changed"]
        == 0
    )
    reprice(api, 3, effective="next_period")
    assert bill(api) == 100
    assert amount_of(api) == ["1"]
    (change,) = api.get("/plans/pro")["plan"]["scheduled_changes"]
    assert [each["properties"] for each in change["charges"]] == [price(3)]
    assert change["charges"][0]["lago_id"] == sold["charges"][0]["lago_id"]
    move_to(api, day(3, 20))
    assert (bill(api), amount_of(api)) == (100, ["3"])
    api.subscribe("later")
    send(day(3, 20), "later")
    assert (bill(api), bill(api, "later")) == (100, 300)
    move_to(api, day(4, 2))
    send(day(4, 2))
    assert (bill(api), sorted(invoiced(api))) == (300, [400])
    (fee,) = [fee for fee in api.get("/fees")["fees"] if fee["amount_cents"] == 100]
    explained = api.get(f"/fees/{fee['lago_id']}/explanation")["fee_explanation"]
    assert explained["recomputed"]["is_same"] is True


@pytest.mark.parametrize(
    ("sent", "april"),
    [
        ("2024-04-01", 300),
        (" 20240401 ", 300),
        ("2024-W14-1", 300),
        ("2024-W14  ", 300),
        ("2024-04-01T00:00:01Z", 100),
    ],
)
def test_a_day_or_an_instant(api: Api, sold: Any, send: Any, sent: str, april: int) -> None:
    reprice(api, 3, effective_at=sent)
    send()
    move_to(api, day(4, 1, 1))
    send(day(4, 1, 1))
    move_to(api, MAY)
    assert invoiced(api) == [100, april]


@pytest.mark.parametrize("sent", ["2024-04-01", "20240401", " 20240401 ", "2024-W14-1"])
def test_a_day_begins_in_the_timezone_of_the_organization(api: Api, sold: Any, sent: str) -> None:
    api.put("/organizations", {"organization": {"timezone": "America/New_York"}})
    reprice(api, 3, effective_at=sent)
    (change,) = api.get("/plans/pro")["plan"]["scheduled_changes"]
    assert change["effective_at"] == "2024-04-01T04:00:00Z"


def test_two_changes_one_after_the_other_and_one_is_cancelled(api: Api, sold: Any, send: Any) -> None:
    reprice(api, 5, effective_at="2024-05-01")
    reprice(api, 3, effective_at="2024-04-01")
    first, second = api.get("/plans/pro")["plan"]["scheduled_changes"]
    assert [each["charges"][0]["properties"]["amount"] for each in (first, second)] == ["3", "5"]
    assert [each["effective_at"] for each in (first, second)] == [
        "2024-04-01T00:00:00Z",
        "2024-05-01T00:00:00Z",
    ]
    gone = api.delete(f"/plans/pro/scheduled_changes/{first['lago_id']}")["scheduled_change"]
    assert gone == first
    assert api.get("/plans/pro")["plan"]["scheduled_changes"] == [second]
    for month in (3, 4, 5):
        move_to(api, day(month, 28))
        send(day(month, 28))
    move_to(api, day(6, 1))
    assert invoiced(api) == [100, 100, 500]
    path = f"/plans/pro/scheduled_changes/{first['lago_id']}"
    assert api.code(404, "DELETE", path) == "scheduled_change_not_found"


def test_an_edit_now_changes_every_period_that_is_not_billed(api: Api, sold: Any, send: Any) -> None:
    reprice(api, 3, effective="next_period")
    reprice(api, 9, effective_at="2024-05-01")
    move_to(api, day(3, 6))
    reprice(api, 7)
    send()
    assert (bill(api), amount_of(api)) == (700, ["7"])
    for month in (4, 5):
        move_to(api, day(month, 28))
        send(day(month, 28))
    move_to(api, day(6, 1))
    assert invoiced(api) == [700, 700, 900], "what is scheduled for May stays scheduled"


def test_what_an_edit_does_not_touch_keeps_its_scheduled_change(api: Api, tokens: Any, send: Any) -> None:
    filters = [
        {"values": {"model": [name]}, "properties": price(number)}
        for number, name in enumerate(("8K", "32K"), 1)
    ]
    made = api.plan(charges=[charge(tokens, code="tokens", filters=filters)])
    api.subscribe()
    path = "/plans/pro/charges/tokens/filters"
    first, second = (each["lago_id"] for each in made["charges"][0]["filters"])
    api.put(f"{path}/{first}", {"filter": {"properties": price(10)}, "effective": "next_period"})
    api.put(f"{path}/{second}", {"filter": {"properties": price(20)}})
    send(model="8K")
    send(model="32K")
    move_to(api, day(4, 2))
    send(day(4, 2), model="8K")
    send(day(4, 2), model="32K")
    assert (invoiced(api), bill(api)) == ([100 + 2000], 1000 + 2000)


def test_charges_and_filters_come_and_go_with_the_next_period(
    api: Api, sold: Any, tokens: Any, send: Any
) -> None:
    send(model="8K")
    more = {"billable_metric_id": tokens["lago_id"], "code": "more", "charge_model": "standard"}
    api.post("/plans/pro/charges", {"charge": {**more, "properties": price(50)}, "effective": "next_period"})
    api.post(
        "/plans/pro/charges/tokens/filters",
        {"filter": {"values": {"model": ["8K"]}, "properties": price(7)}, "effective": "next_period"},
    )
    assert bill(api) == 100
    move_to(api, day(4, 2))
    send(day(4, 2), model="8K")
    assert (invoiced(api), bill(api)) == ([100], 5000 + 700)
    api.delete("/plans/pro/charges/tokens", effective="next_period")
    assert bill(api) == 5700
    move_to(api, day(5, 2))
    send(day(5, 2), model="8K")
    assert (invoiced(api), bill(api)) == ([100, 5700], 5000)
    assert api.get("/plans/pro/charges")["meta"]["total_count"] == 1


def test_a_draft_of_the_old_period_keeps_the_old_price(api: Api, sold: Any, send: Any) -> None:
    api.put(
        "/billing_entities/" + api.get("/billing_entities")["billing_entities"][0]["code"],
        {"billing_entity": {"invoice_grace_period": 5}},
    )
    reprice(api, 3, effective_at="2024-04-01")
    send()
    move_to(api, day(4, 2))
    send(day(3, 30))
    (draft,) = api.get("/invoices")["invoices"]
    assert draft["status"] == "draft"
    refreshed = api.put(f"/invoices/{draft['lago_id']}/refresh", None)["invoice"]
    assert refreshed["fees_amount_cents"] == 200
    move_to(api, day(4, 20))
    assert invoiced(api) == [200]


def test_what_is_paid_in_advance_is_priced_by_the_period_of_its_event(
    api: Api, tokens: Any, send: Any
) -> None:
    api.plan(charges=[charge(tokens, code="tokens", pay_in_advance=True, invoiceable=False)])
    api.subscribe()
    reprice(api, 3, effective_at="2024-04-01")
    names = [send()]
    move_to(api, day(4, 2))
    names += [send(day(4, 2)), send(day(3, 30))]
    move_to(api, day(4, 3))
    fees = {fee["event_transaction_id"]: fee for fee in api.get("/fees")["fees"]}
    assert [fees[name]["amount_cents"] for name in names] == [100, 300, 100]
    event = {"code": "tokens", "external_subscription_id": "sub", "properties": {"tokens": 1}}
    assert api.post("/events/estimate_fees", {"event": event})["fees"][0]["amount_cents"] == 300
    for name in names:
        explained = api.get(f"/fees/{fees[name]['lago_id']}/explanation")["fee_explanation"]
        assert explained["recomputed"]["is_same"] is True


def test_what_ends_in_its_period_is_billed_at_the_old_price(api: Api, sold: Any, send: Any) -> None:
    reprice(api, 3, effective="next_period")
    move_to(api, day(3, 10))
    send(day(3, 10))
    move_to(api, day(3, 10, 12))
    api.delete("/subscriptions/sub")
    api.subscribe()
    move_to(api, day(3, 11))
    send(day(3, 11))
    assert (invoiced(api), bill(api)) == ([100], 300)


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/plans/pro", {"plan": {"amount_cents": 5, "name": "Other"}}, {"name"}),
        ("/plans/pro/charges/tokens", {"charge": {"invoice_display_name": "x"}}, {"invoice_display_name"}),
        (
            "/subscriptions/sub",
            {"subscription": {"plan_overrides": {"amount_cents": 5, "name": "x"}}},
            {"name"},
        ),
        ("/subscriptions/sub", {"subscription": {"name": "x"}}, {"name"}),
    ],
)
def test_what_cannot_be_scheduled_is_refused_by_name(
    api: Api, sold: Any, path: str, body: Any, names: set[str]
) -> None:
    wrong = api.details("PUT", path, {**body, "effective": "next_period"})
    assert wrong == {name: ["cannot_be_scheduled"] for name in names}
    assert api.details("PUT", path, {**body, "effective": "soon"}) == {"effective": ["value_is_invalid"]}
    both = {"effective": "now", "effective_at": "2024-04-01"}
    assert api.details("PUT", path, {**body, **both}) == {"effective_at": ["value_is_invalid"]}
    assert api.details("PUT", path, {**body, "effective_at": "x"}) == {"effective_at": ["invalid_date"]}


def test_fixed_charges_cannot_be_scheduled(api: Api) -> None:
    """Units of a subscription alone neither: nothing that waits is done at once without a word."""
    api.customer()
    api.post(
        "/add_ons", {"add_on": {"name": "S", "code": "seat", "amount_cents": 100, "amount_currency": "USD"}}
    )
    seat = {"add_on_code": "seat", "charge_model": "standard", "units": 1, "properties": price(1)}
    made = api.plan(fixed_charges=[seat])["fixed_charges"][0]
    api.subscribe()
    later = {"effective": "next_period"}
    refused = {"fixed_charges": ["cannot_be_scheduled"]}
    path = "/plans/pro/fixed_charges"
    assert api.details("POST", path, {"fixed_charge": seat, **later}) == refused
    assert api.details("PUT", f"{path}/seat", {"fixed_charge": {"units": 2}, **later}) == refused
    assert api.details("DELETE", f"{path}/seat", None, **later) == refused
    own = {"units": 2, "id": made["lago_id"]}
    body = {"subscription": {"plan_overrides": {"fixed_charges": [own]}}}
    assert api.details("PUT", "/subscriptions/sub", {**body, **later}) == refused
    found = api.details(
        "PUT", "/subscriptions/sub/fixed_charges/seat", {"fixed_charge": {"units": 2}, **later}
    )
    assert found == {"units": ["cannot_be_scheduled"]}
    assert api.get("/subscriptions/sub/fixed_charges/seat")["fixed_charge"]["units"] == 1


@pytest.mark.parametrize("first", ["scheduled", "now"])
def test_no_two_charges_have_one_code_at_any_time(api: Api, sold: Any, tokens: Any, first: str) -> None:
    more = {"billable_metric_id": tokens["lago_id"], "code": "more", "charge_model": "standard"}
    now = {"charge": {**more, "properties": price(50)}}
    scheduled = {**now, "effective_at": "2024-05-01"}
    one, other = (scheduled, now) if first == "scheduled" else (now, scheduled)
    api.post("/plans/pro/charges", one)
    assert api.details("POST", "/plans/pro/charges", other) == {"code": ["value_already_exist"]}


def test_plans_of_single_subscriptions_keep_and_follow_by_the_same_rules(
    api: Api, sold: Any, send: Any
) -> None:
    api.subscribe("own", plan_overrides={"name": "Own"})
    reprice(api, 3, effective="next_period", cascade_updates=True)
    for sub in ("sub", "own"):
        send(sub=sub)
        assert bill(api, sub) == 100
    # A copy has what is scheduled for the plan that it is a copy of.
    reprice(api, 9, path="/subscriptions/sub/charges/tokens", effective_at="2024-05-01")
    assert bill(api) == 100
    for month in (4, 5):
        move_to(api, day(month, 2))
        for sub in ("sub", "own"):
            send(day(month, 2), sub)
    assert (bill(api), bill(api, "own")) == (900, 300)
    assert sorted(invoiced(api)) == [200, 600]
    (change, *_) = api.get("/subscriptions/sub")["subscription"]["plan"]["scheduled_changes"][-1:]
    api.delete(f"/subscriptions/sub/scheduled_changes/{change['lago_id']}")
    assert bill(api) == 300


def test_a_change_of_one_subscription_is_cancelled_by_the_id_it_is_shown_by(
    api: Api, sold: Any, send: Any
) -> None:
    reprice(api, 3, effective_at="2024-04-01")
    (change,) = api.get("/subscriptions/sub")["subscription"]["plan"]["scheduled_changes"]
    api.delete(f"/subscriptions/sub/scheduled_changes/{change['lago_id']}")
    move_to(api, day(4, 2))
    send(day(4, 2))
    api.subscribe("other")
    send(day(4, 2), "other")
    assert (bill(api), bill(api, "other")) == (100, 300)


def test_a_cancelled_change_cascades(api: Api, sold: Any, send: Any) -> None:
    api.subscribe("own", plan_overrides={"name": "Own"})
    reprice(api, 3, effective_at="2024-04-01", cascade_updates=True)
    (change,) = api.get("/plans/pro")["plan"]["scheduled_changes"]
    api.delete(f"/plans/pro/scheduled_changes/{change['lago_id']}", cascade_updates="true")
    move_to(api, day(4, 2))
    send(day(4, 2), "own")
    assert bill(api, "own") == 100


def test_what_is_kept_of_a_charge_is_all_that_it_costs(api: Api, sold: Any, send: Any) -> None:
    body = {
        "unlisted_values": "default",
        "rounding": "per_charge",
        "filters": [{"values": {"model": ["8K"]}, "properties": price(4)}],
    }
    api.put(
        "/plans/pro/charges/tokens",
        {"charge": {**body, "properties": price(2)}, "effective_at": "2024-04-01"},
    )
    (before,) = api.get("/plans/pro")["plan"]["charges"]
    assert (before["unlisted_values"], before["rounding"], before["filters"], before["properties"]) == (
        "free",
        "per_fee",
        [],
        price(1),
    )
    move_to(api, day(4, 2))
    (after,) = api.get("/plans/pro")["plan"]["charges"]
    assert (after["unlisted_values"], after["rounding"], len(after["filters"]), after["properties"]) == (
        "default",
        "per_charge",
        1,
        price(2),
    )


def test_a_metric_that_loses_a_value_loses_it_in_every_version(api: Api, tokens: Any, send: Any) -> None:
    filters = [{"values": {"model": ["8K", "32K"]}, "properties": price(2)}]
    api.plan(charges=[charge(tokens, code="tokens", filters=filters)])
    api.subscribe()
    body = {"filters": [{**filters[0], "properties": price(5)}]}
    api.put("/plans/pro/charges/tokens", {"charge": body, "effective": "next_period"})
    api.put(
        "/billable_metrics/tokens", {"billable_metric": {"filters": [{"key": "model", "values": ["8K"]}]}}
    )
    send(model="8K")
    send(model="32K")
    assert bill(api) == 200 + 100
    move_to(api, day(4, 2))
    send(day(4, 2), model="8K")
    assert (invoiced(api), bill(api)) == ([300], 500)
    assert [plan["code"] for plan in api.get("/plans")["plans"]] == ["pro"]
    api.delete("/billable_metrics/tokens")
    assert bill(api) == 0


@pytest.mark.parametrize("seed", range(12))
def test_each_period_costs_what_a_slow_oracle_says(api: Api, sold: Any, send: Any, seed: int) -> None:
    """The oracle keeps the list of edits, and finds the price of each period by walking through it."""
    chance = random.Random(seed)
    edits: list[tuple[datetime | None, datetime, int]] = []
    used: dict[int, int] = {}
    for month in (3, 4, 5, 6):
        for number in sorted(chance.sample(range(6, 28), 3)):
            now = day(month, number)
            move_to(api, now)
            amount = chance.randint(1, 3)
            kind = chance.choice(["now", "next_period", "at", "past", "use"])
            if kind == "use":
                send(now)
                used[month] = used.get(month, 0) + 1
            elif kind == "at":
                since = day(chance.randint(month + 1, 8), chance.choice([1, 15]))
                reprice(api, amount, effective_at=since.isoformat())
                edits.append((since, now, amount))
            elif kind == "past":
                since = day(chance.randint(2, month), chance.choice([1, 4]))
                reprice(api, amount, effective_at=since.isoformat())
                edits.append((since, now, amount))
            else:
                reprice(api, amount, effective=kind)
                edits.append((None if kind == "now" else now, now, amount))
        send(day(month, 28))
        used[month] = used.get(month, 0) + 1
        move_to(api, day(month, 28))
        assert bill(api) == used[month] * oracle(edits, month) * 100, (month, edits)
    move_to(api, day(7, 1))
    assert invoiced(api) == [
        used[m] * billed * 100 for m, billed in zip(used, billed_prices(edits), strict=True)
    ]


def oracle(edits: list[tuple[datetime | None, datetime, int]], month: int) -> int:
    """The price of a month's period by all edits so far.

    Each edit sets the price from its instant on, until the next instant that another has set it from. One of now sets
    all prices up to now. One that says what is so already changes nothing.
    """
    begins = START if month == 3 else day(month, 1)
    line: dict[datetime, int] = {datetime.min.replace(tzinfo=UTC): 1}

    def worth(then: datetime) -> int:
        return line[max(at for at in line if at <= then)]

    for since, made, amount in edits:
        if worth(since or made) == amount:
            continue
        if since is None:
            later = {at: was for at, was in line.items() if at > made}
            line = {datetime.min.replace(tzinfo=UTC): amount, **later}
        else:
            line[since] = amount
    return worth(begins)


def billed_prices(edits: list[tuple[datetime | None, datetime, int]]) -> list[int]:
    """The price of each month by the edits that were made before its end."""
    return [oracle([each for each in edits if each[1] < day(month + 1, 1)], month) for month in (3, 4, 5, 6)]


Scheduled = Callable[[Api, Any, int, str], Any]


def of_plan_charge(api: Api, sold: Any, amount: int, at: str) -> Any:
    return reprice(api, amount, effective_at=at)


def of_whole_plan(api: Api, sold: Any, amount: int, at: str) -> Any:
    entry = {"id": sold["charges"][0]["lago_id"], "properties": price(amount)}
    return api.put("/plans/pro", {"plan": {"charges": [entry]}, "effective_at": at})


def of_own_charge(api: Api, sold: Any, amount: int, at: str) -> Any:
    return reprice(api, amount, path="/subscriptions/sub/charges/tokens", effective_at=at)


def of_overrides(api: Api, sold: Any, amount: int, at: str) -> Any:
    entry = {"id": sold["charges"][0]["lago_id"], "properties": price(amount)}
    overrides = {"plan_overrides": {"charges": [entry]}}
    return api.put("/subscriptions/sub", {"subscription": overrides, "effective_at": at})


@pytest.mark.parametrize("schedule", [of_plan_charge, of_whole_plan, of_own_charge, of_overrides])
def test_a_price_is_scheduled_back_to_that_of_today(
    api: Api, sold: Any, send: Any, schedule: Scheduled
) -> None:
    schedule(api, sold, 2, "2024-04-01")
    schedule(api, sold, 1, "2024-05-01")
    for month in (3, 4, 5):
        send(day(month, 20))
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert invoiced(api) == [100, 200, 100]


@pytest.mark.parametrize("path", ["/plans/pro", "/subscriptions/sub"])
def test_a_fee_is_scheduled_back_to_that_of_today(api: Api, tokens: Any, path: str) -> None:
    api.plan(charges=[charge(tokens)], amount_cents=3_100)
    api.subscribe()
    change_fee(api, 6_200, path=path, effective_at="2024-04-01")
    change_fee(api, 3_100, path=path, effective_at="2024-05-01")
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert plan_fees(api) == [2_700, 6_200, 3_100]


def test_filters_are_scheduled_back_and_those_that_come_later_are_found(api: Api, sold: Any) -> None:
    path = "/plans/pro/charges/tokens/filters"
    made = api.post(
        path,
        {
            "filter": {"values": {"model": ["8K"]}, "properties": price(2)},
            "effective_at": "2024-04-01",
        },
    )["filter"]
    one = f"{path}/{made['lago_id']}"
    api.put(one, {"filter": {"properties": price(3)}, "effective_at": "2024-05-01"})
    api.put(one, {"filter": {"properties": price(2)}, "effective_at": "2024-06-01"})
    api.delete(one, effective_at="2024-07-01")
    changes = api.get("/plans/pro")["plan"]["scheduled_changes"]
    found = [[each["properties"]["amount"] for each in one["charges"][0]["filters"]] for one in changes]
    assert found == [["2"], ["3"], ["2"], []]
    assert api.get(path)["filters"] == []
    assert api.call("PUT", one, {"filter": {"properties": price(9)}}).status_code == 404


def test_plans_of_single_subscriptions_are_scheduled_back_too(api: Api, sold: Any, send: Any) -> None:
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": {"name": "own"}}})
    reprice(api, 2, effective_at="2024-04-01", cascade_updates=True)
    reprice(api, 1, effective_at="2024-05-01", cascade_updates=True)
    for month in (3, 4, 5):
        send(day(month, 20))
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert invoiced(api) == [100, 200, 100]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_comes_before_changes_and_those_behind_it_stay_what_they_are(
    api: Api, sold: Any, is_cancelled: bool
) -> None:
    """The price of May is that of today, and of June that of April: neither follows what happens to these."""
    for amount, at in ((2, "2024-04-01"), (1, "2024-05-01"), (2, "2024-06-01")):
        reprice(api, amount, effective_at=at)
    first = api.get("/plans/pro")["plan"]["scheduled_changes"][0]
    if is_cancelled:
        api.delete(f"/plans/pro/scheduled_changes/{first['lago_id']}")
    reprice(api, 5)
    amounts = [
        each["charges"][0]["properties"]["amount"]
        for each in api.get("/plans/pro")["plan"]["scheduled_changes"]
    ]
    assert amounts == (["1", "2"] if is_cancelled else ["2", "1", "2"])


@pytest.mark.parametrize("edit", [of_plan_charge, of_own_charge])
def test_a_price_that_an_edit_before_it_makes_equal_stays_scheduled(
    api: Api, sold: Any, send: Any, edit: Scheduled
) -> None:
    path = "/subscriptions/sub" if edit is of_own_charge else "/plans/pro"
    edit(api, sold, 2, "2024-05-01")
    reprice(api, 2, path=f"{path}/charges/tokens")
    reprice(api, 7, path=f"{path}/charges/tokens")
    for month in (3, 4, 5):
        send(day(month, 20))
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert invoiced(api) == [700, 700, 200]


def test_copies_and_cancelled_changes_keep_what_is_scheduled_although_it_is_equal(
    api: Api, sold: Any
) -> None:
    reprice(api, 3, effective_at="2024-04-01")
    reprice(api, 2, effective_at="2024-05-01")
    reprice(api, 2)
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": {"name": "own"}}})
    plan = api.get("/plans/pro")["plan"]
    april, may = plan["scheduled_changes"]
    api.delete(f"/plans/pro/scheduled_changes/{april['lago_id']}", cascade_updates="true")
    reprice(api, 7, cascade_updates=True)
    for path, root in (("/plans/pro", "plan"), ("/subscriptions/sub", "subscription")):
        found = api.get(path)[root]
        found = found if root == "plan" else found["plan"]
        [left] = found["scheduled_changes"]
        assert (left["effective_at"], left["charges"][0]["properties"]) == (may["effective_at"], price(2))


def test_what_changes_all_prices_up_to_now_is_not_said_by_earlier_changes_any_more(
    api: Api, sold: Any
) -> None:
    """April's change and what it was made equal to are over: an edit from March on reaches the periods since."""
    reprice(api, 3, effective_at="2024-04-01")
    move_to(api, day(4, 2))
    reprice(api, 5)
    reprice(api, 6, effective_at="2024-03-15")
    assert amount_of(api) == ["6"]
    assert api.get("/plans/pro")["plan"]["scheduled_changes"][0]["effective_at"] == "2024-03-15T00:00:00Z"


def test_an_edit_from_a_past_instant_starts_from_the_prices_of_then(api: Api, sold: Any) -> None:
    reprice(api, 2, effective_at="2024-04-10")
    move_to(api, day(4, 20))
    reprice(api, 2, effective_at="2024-04-01")
    changes = api.get("/plans/pro")["plan"]["scheduled_changes"]
    assert [(each["effective_at"][:10], each["charges"][0]["properties"]) for each in changes] == [
        ("2024-04-01", price(2)),
        ("2024-04-10", price(2)),
    ]
    reprice(api, 4, effective_at="2024-03-25")
    changes = api.get("/plans/pro")["plan"]["scheduled_changes"]
    assert [each["charges"][0]["properties"]["amount"] for each in changes] == ["4", "2", "2"]


def plan_fees(api: Api, sub: str = "sub") -> list[int]:
    """What the plan's own fees of a subscription come to, oldest first."""
    found = api.get("/fees", fee_type="subscription", external_subscription_id=sub)["fees"]
    return [each["amount_cents"] for each in sorted(found, key=lambda each: each["from_date"])]


def change_fee(api: Api, cents: int, *, path: str = "/plans/pro", **said: Any) -> Any:
    terms = {"amount_cents": cents}
    body = {"plan": terms} if path.startswith("/plans") else {"subscription": {"plan_overrides": terms}}
    return api.put(path, {**body, **said})


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("path", ["/plans/pro", "/subscriptions/sub"])
@pytest.mark.parametrize(
    ("in_advance", "said", "expected"),
    [
        (False, {}, [8_100, 9_300, 9_300]),
        (False, {"effective": "next_period"}, [2_700, 9_300, 9_300]),
        (False, {"effective_at": "2024-05-01"}, [2_700, 3_100, 9_300]),
        (True, {}, [2_700, 9_300, 9_300, 9_300]),
        (True, {"effective": "next_period"}, [2_700, 9_300, 9_300, 9_300]),
        (True, {"effective_at": "2024-05-01"}, [2_700, 3_100, 9_300, 9_300]),
    ],
)
def test_a_period_keeps_the_fee_that_it_began_with(
    api: Api, path: str, in_advance: bool, said: Any, expected: list[int]
) -> None:
    """From the 5th of March on, to the 1st of June."""
    api.plan(amount_cents=3_100, pay_in_advance=in_advance)
    api.subscribe(subscription_at=START.isoformat())
    change_fee(api, 9_300, path=path, **said)
    shown = api.get("/subscriptions/sub")["subscription"]["plan_amount_cents"]
    assert shown == (3_100 if said else 9_300), "what a period that begins now has"
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert plan_fees(api) == expected


def test_a_change_of_the_fee_is_shown_kept_by_others_and_cancelled(api: Api, tokens: Any) -> None:
    api.plan(charges=[charge(tokens, code="tokens")], amount_cents=3_100)
    api.subscribe(subscription_at=START.isoformat())
    plan = change_fee(api, 9_300, effective_at="2024-05-01")["plan"]
    (change,) = plan["scheduled_changes"]
    assert (plan["amount_cents"], change["amount_cents"]) == (3_100, 9_300)
    reprice(api, 7, effective_at="2024-04-01")
    assert [each["amount_cents"] for each in api.get("/plans/pro")["plan"]["scheduled_changes"]] == [
        3_100,
        9_300,
    ]
    now = change_fee(api, 6_200)["plan"]
    assert (now["amount_cents"], [each["amount_cents"] for each in now["scheduled_changes"]]) == (
        6_200,
        [6_200, 9_300],
    ), "what is scheduled for later stays what it is"
    cancelled = api.delete(f"/plans/pro/scheduled_changes/{change['lago_id']}")["scheduled_change"]
    assert cancelled["amount_cents"] == 9_300
    for month in (4, 5, 6):
        move_to(api, day(month, 1, 1))
    assert plan_fees(api) == [5_400, 6_200, 6_200]
    assert api.get("/plans")["plans"][0]["amount_cents"] == 6_200


def test_a_plan_of_its_own_follows_a_change_of_the_fee_from_the_same_instant_on(
    api: Api, tokens: Any
) -> None:
    api.plan(charges=[charge(tokens)], amount_cents=3_100)
    for sub, own in (("sub", {"name": "own"}), ("other", {"amount_cents": 100})):
        api.subscribe(sub, subscription_at=START.isoformat())
        api.put(f"/subscriptions/{sub}", {"subscription": {"plan_overrides": own}})
    terms = {"amount_cents": 9_300, "cascade_updates": True}
    api.put("/plans/pro", {"plan": terms, "effective": "next_period"})
    for month in (4, 5):
        move_to(api, day(month, 1, 1))
    assert plan_fees(api) == [2_700, 9_300]
    assert plan_fees(api, "other") == [87, 100]


def test_what_is_an_upgrade_is_judged_by_the_fee_in_force(api: Api, tokens: Any) -> None:
    """The plan will cost more than the other one, but does not yet."""
    api.plan(charges=[charge(tokens)], amount_cents=3_100)
    api.plan("plus", amount_cents=6_200)
    api.subscribe()
    change_fee(api, 9_300, effective_at="2024-05-01")
    assert api.subscribe(plan="plus")["plan_code"] == "plus"
