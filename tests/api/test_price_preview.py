"""`dry_run` of an edit of prices, over HTTP: it says what the edit does to the running bills, and does none of it."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.catalogue import price_preview

from .conftest import START, Api, charge

MODELS = ("8K", "32K", "new")
_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store an event of a subscription with these properties."""
    conn, memory = open_connection(dsn), Memory()

    def one(sub: str, code: str, **properties: Any) -> None:
        at = microseconds(START)
        draft = Draft(f"preview-{next(_numbers)}", code, sub, at, None, properties)
        store(conn, memory, [Request(api.organization.id, [draft], at)])

    yield one
    conn.close()


def bill(api: Api, sub: str) -> int:
    used = api.get("/customers/cus/current_usage", external_subscription_id=sub)
    amount: int = used["customer_usage"]["amount_cents"]
    return amount


def price(amount: int) -> dict[str, str]:
    return {"amount": str(amount)}


def filters(prices: dict[str, int]) -> list[dict[str, Any]]:
    return [{"values": {"model": [name]}, "properties": price(each)} for name, each in prices.items()]


@pytest.fixture
def tokens(api: Api) -> Any:
    api.customer()
    return api.metric(filters=[{"key": "model", "values": list(MODELS)}])


@pytest.fixture
def sold(api: Api, tokens: Any, send: Any) -> Any:
    """Eight subscriptions, of which number n has used n tokens of 8K."""
    made = api.plan(charges=[charge(tokens, code="tokens", filters=filters({"8K": 2}))])
    for number in range(8):
        api.subscribe(f"sub-{number}")
        if number:
            send(f"sub-{number}", "tokens", tokens=number, model="8K")
    return made


def edited(sold: Any, prices: dict[str, int]) -> dict[str, Any]:
    return {"charges": [{"id": sold["charges"][0]["lago_id"], "filters": filters(prices)}]}


def test_it_counts_the_bills_that_change_and_names_the_five_that_change_most(api: Api, sold: Any) -> None:
    before = api.get("/plans/pro")
    answer = api.put("/plans/pro", {"plan": edited(sold, {"8K": 5}), "dry_run": True})
    assert answer["dry_run"] == {
        "subscriptions": 8,
        "compared": 8,
        "changed": 7,
        "amount_cents_before": {"EUR": 28 * 200},
        "amount_cents_after": {"EUR": 28 * 500},
        "difference": {"EUR": 28 * 300},
        "most_changed": [
            {
                "external_subscription_id": f"sub-{number}",
                "external_customer_id": "cus",
                "currency": "EUR",
                "amount_cents_before": number * 200,
                "amount_cents_after": number * 500,
                "difference": number * 300,
            }
            for number in (7, 6, 5, 4, 3)
        ],
    }
    assert api.get("/plans/pro") == before
    assert bill(api, "sub-7") == 1400


def test_more_subscriptions_than_are_looked_at_are_said(
    api: Api, sold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permille.usecases.catalogue.price_preview.COMPARED_MAX", 5)
    monkeypatch.setattr(price_preview, "BATCH", 2)
    found = api.put("/plans/pro", {"plan": edited(sold, {"8K": 5})}, dry_run="true")["dry_run"]
    assert (found["subscriptions"], found["compared"]) == (8, 5)
    assert found["changed"] in (4, 5), "the one that has used nothing may be among them"


def test_every_edit_of_prices_can_be_asked_for(api: Api, sold: Any) -> None:
    charge_id, path = sold["charges"][0]["lago_id"], "/plans/pro/charges/tokens"
    filter_id = sold["charges"][0]["filters"][0]["lago_id"]
    own = "/subscriptions/sub-3"
    more = {"billable_metric_id": sold["charges"][0]["lago_billable_metric_id"], "code": "more"}
    overrides = {"plan_overrides": {"charges": [{"id": charge_id, "filters": filters({"8K": 1})}]}}
    edits: list[tuple[str, str, Any, int]] = [
        ("PUT", path, {"charge": {"filters": filters({"8K": 3})}}, 2800),
        (
            "POST",
            "/plans/pro/charges",
            {"charge": {**more, "charge_model": "standard", "properties": price(1)}},
            2800,
        ),
        ("DELETE", path, None, -5600),
        ("POST", f"{path}/filters", {"filter": {"values": {"model": ["32K"]}, "properties": price(9)}}, 0),
        ("PUT", f"{path}/filters/{filter_id}", {"filter": {"properties": price(1)}}, -2800),
        ("DELETE", f"{path}/filters/{filter_id}", None, -2800),
        ("PUT", f"{own}/charges/tokens", {"charge": {"filters": filters({"8K": 3})}}, 300),
        ("PUT", f"{own}/charges/tokens/filters/{filter_id}", {"filter": {"properties": price(1)}}, -300),
        ("DELETE", f"{own}/charges/tokens/filters/{filter_id}", None, -300),
        ("PUT", own, {"subscription": overrides}, -300),
    ]
    before = api.get("/plans/pro"), api.get("/subscriptions/sub-3")
    for method, address, body, difference in edits:
        forms = [(body, {"dry_run": "true"})] + ([({**body, "dry_run": True}, {})] if body else [])
        for sent, query in forms:
            found = api._ok(method, address, sent, **query)["dry_run"]
            assert found["difference"] == {"EUR": difference}, (method, address)
    assert (api.get("/plans/pro"), api.get("/subscriptions/sub-3")) == before


def test_what_the_edit_refuses_its_preview_refuses(api: Api, sold: Any) -> None:
    path = "/plans/pro/charges/tokens"
    body = {"charge": {"properties": price(-1)}}
    wrong = api.details("PUT", path, body)
    assert api.details("PUT", path, {**body, "dry_run": True}) == wrong
    assert api.details("PUT", path, {**body, "dry_run": "perhaps"}) == {"dry_run": ["value_is_invalid"]}
    assert api.code(404, "PUT", "/plans/none", {"plan": {"name": "x"}, "dry_run": True}) == "plan_not_found"
    assert (
        api.code(404, "PUT", "/subscriptions/no/charges/x", body, dry_run="true") == "subscription_not_found"
    )


def test_plans_of_single_subscriptions_are_reached_where_the_edit_cascades(api: Api, sold: Any) -> None:
    api.put("/subscriptions/sub-7", {"subscription": {"plan_overrides": {"name": "own"}}})
    body: Any = {"plan": edited(sold, {"8K": 3}), "dry_run": True}
    assert api.put("/plans/pro", body)["dry_run"]["subscriptions"] == 7
    body["plan"]["cascade_updates"] = True
    found = api.put("/plans/pro", body)["dry_run"]
    assert (found["subscriptions"], found["changed"]) == (8, 7)


@pytest.mark.parametrize(("in_advance", "billed"), [(False, (2_700, 8_100)), (True, (3_100, 9_300))])
def test_a_subscription_fee_is_that_which_is_billed_next(
    api: Api, tokens: Any, send: Any, in_advance: bool, billed: tuple[int, int]
) -> None:
    """In arrears that of the running period, by its days; in advance that of the next one, which is whole."""
    api.plan(charges=[charge(tokens)], amount_cents=3_100, pay_in_advance=in_advance)
    api.subscribe(subscription_at=START.isoformat())
    send("sub", "tokens", tokens=2)
    for path, body in (
        ("/plans/pro", {"plan": {"amount_cents": 9_300}}),
        ("/subscriptions/sub", {"subscription": {"plan_overrides": {"amount_cents": 9_300}}}),
    ):
        found = api.put(path, {**body, "dry_run": True})["dry_run"]
        assert found["amount_cents_before"] == {"EUR": 200 + billed[0]}
        assert found["amount_cents_after"] == {"EUR": 200 + billed[1]}
        assert found["changed"] == 1
        later = api.put(path, {**body, "dry_run": True, "effective": "next_period"})["dry_run"]
        assert later["difference"] == {"EUR": 9_300 - 3_100 if in_advance else 0}
    assert api.get("/plans/pro")["plan"]["amount_cents"] == 3_100


@pytest.mark.parametrize("seed", range(6))
def test_what_it_predicts_is_what_current_usage_says(seed: int, api: Api, tokens: Any, send: Any) -> None:
    chance = random.Random(seed)
    users = api.metric("users", aggregation_type="unique_count_agg", field_name="user_id")
    charges = [
        charge(tokens, code="tokens", filters=filters({"8K": 2, "32K": 3})),
        charge(tokens, code="paid", pay_in_advance=True),
        charge(users, code="users", pay_in_advance=chance.random() < 0.5),
        charge(tokens, code="grouped", properties={**price(1), "pricing_group_keys": ["user_id"]}),
    ]
    api.plan(charges=charges, amount_cents=100)
    subs = [f"sub-{number}" for number in range(6)]
    for sub in subs:
        api.subscribe(sub)
    api.put("/subscriptions/sub-0", {"subscription": {"plan_overrides": {"name": "own"}}})
    for _ in range(40):
        code = chance.choice(["tokens", "users"])
        send(
            chance.choice(subs),
            code,
            tokens=chance.randint(0, 9),
            model=chance.choice(MODELS),
            user_id=chance.choice("abc"),
        )
    changed = chance.choice(["tokens", "paid", "users", "grouped"])
    entry: dict[str, Any] = {
        "properties": price(chance.randint(0, 9)),
        "cascade_updates": chance.random() < 0.5,
    }
    if changed == "tokens":
        entry["filters"] = filters({name: chance.randint(0, 9) for name in chance.sample(MODELS, 2)})
    path = f"/plans/pro/charges/{changed}"
    before = {sub: bill(api, sub) for sub in subs}
    found = api.put(path, {"charge": entry, "dry_run": True})["dry_run"]
    assert {sub: bill(api, sub) for sub in subs} == before
    api.put(path, {"charge": entry})
    after = {sub: bill(api, sub) for sub in subs}
    moved = Counter({sub: after[sub] - before[sub] for sub in subs})
    reached = subs if entry["cascade_updates"] else subs[1:]
    fees = 87 * len(reached)  # 27 of the 31 days of March
    assert found["amount_cents_before"]["EUR"] == sum(before[sub] for sub in reached) + fees
    assert found["amount_cents_after"]["EUR"] == sum(after[sub] for sub in reached) + fees
    assert found["changed"] == sum(1 for sub in subs if moved[sub])
    assert [abs(each["difference"]) for each in found["most_changed"]] == sorted(
        (abs(each) for each in moved.values() if each), reverse=True
    )[:5]
