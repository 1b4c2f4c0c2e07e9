"""Usage that no filter of a charge lists, over HTTP: it is free, held or priced by the default, and nobody misses it."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import unpriced as unpriced_store
from permille.usecases import unpriced
from permille.usecases.unpriced import look_some, newest

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store events; their transaction ids."""
    conn, memory = open_connection(dsn), Memory()

    def many(*models: Any, tokens: Any = 10, at: datetime = START, sub: str = "sub") -> list[str]:
        drafts = [
            Draft(
                f"unpriced-{next(_numbers)}",
                "tokens",
                sub,
                microseconds(at),
                None,
                {"tokens": tokens, "model": model},
            )
            for model in models
        ]
        store(conn, memory, [Request(api.organization.id, drafts, microseconds(at))])
        return [draft.transaction_id for draft in drafts]

    yield many
    conn.close()


def listed(*models: str, amount: str = "1") -> dict[str, Any]:
    return {"values": {"model": list(models)}, "properties": {"amount": amount}}


@pytest.fixture
def tokens(api: Api) -> Any:
    api.customer()
    return api.metric(filters=[{"key": "model", "values": ["8K", "32K"]}])


def subscribed(api: Api, tokens: Any, amount: str = "0", **fields: Any) -> Any:
    """The plan with a charge that lists 8K, and a subscription to it."""
    own = charge(tokens, code="tokens", properties={"amount": amount}, filters=[listed("8K")], **fields)
    made = api.plan(charges=[own])
    api.subscribe()
    return made["charges"][0]


def usage(api: Api, **params: Any) -> Any:
    path = "/customers/cus/current_usage"
    return api.get(path, external_subscription_id="sub", **params)["customer_usage"]["charges_usage"][0]


def move(api: Api, *when: Any) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when).replace(tzinfo=UTC).isoformat()}})


# --- the option -------------------------------------------------------------------------------------------


def test_the_choice_is_lagos_by_default_and_can_be_made_everywhere(api: Api, tokens: Any) -> None:
    assert subscribed(api, tokens)["unlisted_values"] == "free"
    path = "/plans/pro/charges/tokens"
    for choice in ("held", "default", "free"):
        assert api.put(path, {"charge": {"unlisted_values": choice}})["charge"]["unlisted_values"] == choice
        assert api.get(path)["charge"]["unlisted_values"] == choice
    api.put(path, {"charge": {"unlisted_values": "held"}})
    assert api.put(path, {"charge": {"invoice_display_name": "T"}})["charge"]["unlisted_values"] == "held"
    refused = api.details("PUT", path, {"charge": {"unlisted_values": "maybe"}})
    assert refused == {"unlisted_values": ["value_is_invalid"]}
    new = charge(tokens, code="more", unlisted_values="default")
    assert api.post("/plans/pro/charges", {"charge": new})["charge"]["unlisted_values"] == "default"
    made = api.plan("other", charges=[charge(tokens, unlisted_values="held")])
    assert made["charges"][0]["unlisted_values"] == "held"


def test_a_subscription_can_choose_for_itself_and_keeps_it(api: Api, tokens: Any) -> None:
    subscribed(api, tokens)
    own = "/subscriptions/sub/charges/tokens"
    assert api.put(own, {"charge": {"unlisted_values": "held"}})["charge"]["unlisted_values"] == "held"
    changed = {"charge": {"unlisted_values": "default", "cascade_updates": True}}
    assert api.put("/plans/pro/charges/tokens", changed)["charge"]["unlisted_values"] == "default"
    assert api.get(own)["charge"]["unlisted_values"] == "held"
    overrides = {"charges": [{"id": api.get(own)["charge"]["lago_id"], "unlisted_values": "free"}]}
    api.put("/subscriptions/sub", {"subscription": {"plan_overrides": overrides}})
    assert api.get(own)["charge"]["unlisted_values"] == "free"


def test_a_choice_follows_to_copies_that_have_none_of_their_own(api: Api, tokens: Any) -> None:
    subscribed(api, tokens)
    api.put("/subscriptions/sub/charges/tokens", {"charge": {"invoice_display_name": "Mine"}})
    changed = {"charge": {"unlisted_values": "held", "cascade_updates": True}}
    api.put("/plans/pro/charges/tokens", changed)
    assert api.get("/subscriptions/sub/charges/tokens")["charge"]["unlisted_values"] == "held"


# --- usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        ("free", "0", "20.0"),
        ("free", "2", "0.0"),
        ("default", "0", "0.0"),
        ("held", "0", "20.0"),
        ("held", "2", "20.0"),
    ],
)
def test_usage_says_how_many_units_have_no_price(
    api: Api, tokens: Any, send: Any, case: tuple[str, str, str]
) -> None:
    choice, amount, unpriced = case
    subscribed(api, tokens, amount, unlisted_values=choice)
    send("8K", "32K", "64K")
    found = usage(api)
    default = int(amount) * 20 * 100
    assert (found["unpriced_units"], found["amount_cents"]) == (unpriced, 1_000 + default)
    by_filter = [(each["values"], each["unpriced_units"]) for each in found["filters"]]
    assert by_filter == [({"model": ["8K"]}, "0.0"), (None, unpriced)]


def test_an_event_says_which_charges_have_no_price_for_it(api: Api, tokens: Any, send: Any) -> None:
    other = charge(tokens, code="b", properties={"amount": "1"}, filters=[listed("8K")])
    own = charge(tokens, code="tokens", properties={"amount": "0"}, filters=[listed("8K")])
    api.plan(charges=[own, other])
    api.subscribe()
    send("8K", "32K")
    send("32K", tokens="many")
    send("32K", sub="nobody")
    send("32K", at=datetime(2024, 3, 1, tzinfo=UTC))
    found = [
        (each["properties"]["model"], each["properties"]["tokens"], each["unpriced_by"])
        for each in reversed(api.get("/events", external_subscription_id="sub")["events"])
    ]
    assert sorted(found, key=str) == [
        ("32K", "many", []),
        ("32K", 10, ["tokens"]),
        ("32K", 10, []),
        ("8K", 10, []),
    ]
    move(api, 2024, 3, 6)
    api.delete("/subscriptions/sub")
    (shown,) = [e for e in api.get("/events")["events"] if e["unpriced_by"]]
    assert shown["properties"]["model"] == "32K", "the subscription that ran then counts"
    mended = {"properties": {"model": "8K", "tokens": 10}, "kind": "replace", "reason": "typo"}
    names = {"transaction_id": "x", "event_transaction_id": shown["transaction_id"]}
    api.post("/events/amendments", {"amendment": {**names, **mended}})
    assert api.get(f"/events/{shown['transaction_id']}")["event"]["unpriced_by"] == []


# --- held: the invoice waits ------------------------------------------------------------------------------


def invoices(api: Api) -> list[Any]:
    found: list[Any] = api.get("/invoices")["invoices"]
    return [api.get(f"/invoices/{each['lago_id']}")["invoice"] for each in reversed(found)]


def shown(api: Api) -> list[tuple[str, int]]:
    return [(each["status"], each["fees_amount_cents"]) for each in invoices(api)]


@pytest.fixture
def held(api: Api, tokens: Any, send: Any) -> Api:
    """A month with usage of 32K, which no filter lists, is over."""
    subscribed(api, tokens, unlisted_values="held")
    send("8K", "32K")
    move(api, 2024, 4, 1, 1)
    return api


def test_the_invoice_of_held_usage_stays_a_draft_while_others_go_on(held: Api, send: Any) -> None:
    api = held
    assert shown(api) == [("draft", 1_000)]
    (draft,) = invoices(api)
    assert draft["number"].endswith("-DRAFT")
    fees = [(fee["item"]["filters"], fee["units"], fee["is_unpriced"]) for fee in draft["fees"][1:]]
    assert fees == [({"model": ["8K"]}, "10.0", False), (None, "10.0", True)]
    path = f"/invoices/{draft['lago_id']}"
    refused = api.details("PUT", f"{path}/finalize", {})
    assert refused == {"unlisted_values": ["usage_without_price"]}
    assert api.put(f"{path}/refresh", {})["invoice"]["status"] == "draft"
    send("8K", at=datetime(2024, 4, 10, tzinfo=UTC))
    move(api, 2024, 6, 1, 1)
    assert shown(api) == [("draft", 1_000), ("finalized", 1_000), ("finalized", 0)]
    told = api.row("select count(*) from webhook where organization_id = %(organization)s")
    assert told == (0,)


@pytest.mark.parametrize(
    ("method", "path", "body", "cents"),
    [
        ("POST", "/plans/pro/charges/tokens/filters", {"filter": listed("32K", amount="3")}, 4_000),
        ("PUT", "/plans/pro/charges/tokens", {"charge": {"unlisted_values": "default"}}, 1_000),
        ("PUT", "/plans/pro/charges/tokens", {"charge": {"unlisted_values": "free"}}, 1_000),
        (
            "PUT",
            "/plans/pro/charges/tokens",
            {"charge": {"unlisted_values": "default", "properties": {"amount": "2"}}},
            3_000,
        ),
        ("DELETE", "/billable_metrics/tokens", None, 0),
    ],
)
def test_a_price_or_a_decision_lets_it_go_on(
    held: Api, method: str, path: str, body: Any, cents: int
) -> None:
    api = held
    move(api, 2024, 4, 9)
    assert api.call(method, path, body).status_code == 200
    move(api, 2024, 4, 9)
    assert shown(api) == [("finalized", cents)]
    (final,) = invoices(api)
    assert (final["sequential_id"], final["issuing_date"]) == (1, "2024-04-09"), "as of now"


def test_amending_the_event_lets_it_go_on(api: Api, tokens: Any, send: Any) -> None:
    subscribed(api, tokens, unlisted_values="held")
    (wrong,) = send("8k")
    move(api, 2024, 4, 1, 1)
    assert shown(api) == [("draft", 0)]
    amended = {
        "transaction_id": "mend",
        "event_transaction_id": wrong,
        "kind": "replace",
        "reason": "mistyped",
        "properties": {"model": "8K", "tokens": 10},
    }
    api.post("/events/amendments", {"amendment": amended})
    move(api, 2024, 4, 1, 1)
    assert shown(api) == [("finalized", 1_000)]


def test_it_can_be_made_final_by_hand_as_soon_as_there_is_a_price(held: Api) -> None:
    api = held
    (draft,) = invoices(api)
    api.put("/plans/pro/charges/tokens", {"charge": {"unlisted_values": "default"}})
    path = f"/invoices/{draft['lago_id']}"
    assert api.put(f"{path}/finalize", {})["invoice"]["status"] == "finalized"


def test_a_grace_period_goes_on_and_its_draft_waits_at_its_end(api: Api, tokens: Any, send: Any) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 5})
    subscribed(api, tokens, unlisted_values="held")
    send("32K")
    move(api, 2024, 4, 1, 1)
    api.post("/plans/pro/charges/tokens/filters", {"filter": listed("32K", amount="3")})
    move(api, 2024, 4, 5)
    assert shown(api) == [("draft", 0)], "its day has not come"
    move(api, 2024, 4, 6)
    assert shown(api) == [("finalized", 3_000)]


def test_a_late_event_that_nobody_priced_keeps_the_draft_at_the_end_of_its_grace(
    api: Api, tokens: Any, send: Any
) -> None:
    api.customer(billing_configuration={"invoice_grace_period": 5})
    subscribed(api, tokens, unlisted_values="held")
    send("8K")
    move(api, 2024, 4, 2)
    send("32K")
    move(api, 2024, 4, 20)
    assert shown(api) == [("draft", 1_000)]


def test_what_a_subscription_used_until_its_end_waits_too(api: Api, tokens: Any, send: Any) -> None:
    subscribed(api, tokens, unlisted_values="held")
    send("32K")
    api.delete("/subscriptions/sub")
    assert shown(api) == [("draft", 0)]
    api.post("/plans/pro/charges/tokens/filters", {"filter": listed("32K", amount="3")})
    move(api, 2024, 3, 6)
    assert shown(api) == [("finalized", 3_000)]


def test_a_plan_or_a_customer_whose_usage_waits_stays_so_that_somebody_can_decide(held: Api) -> None:
    api = held
    for path in ("/plans/pro", "/customers/cus"):
        assert api.details("DELETE", path, None) == {"unlisted_values": ["usage_without_price"]}
    assert shown(api) == [("draft", 1_000)]


def test_held_usage_of_a_level_that_is_carried_over_waits_each_period(api: Api, send: Any) -> None:
    api.customer()
    dimension = [{"key": "model", "values": ["8K", "32K"]}]
    subscribed(api, api.metric(recurring=True, filters=dimension), unlisted_values="held")
    send("32K")
    move(api, 2024, 5, 1, 1)
    assert shown(api) == [("draft", 0), ("draft", 0)]
    api.put("/plans/pro/charges/tokens", {"charge": {"unlisted_values": "default"}})
    move(api, 2024, 5, 1, 1)
    assert shown(api) == [("finalized", 0), ("finalized", 0)]


# --- held, in advance: the event's fee waits --------------------------------------------------------------


@pytest.mark.parametrize("invoiceable", [True, False])
def test_the_fee_of_a_held_event_waits_alone_and_is_made_once(
    api: Api, tokens: Any, send: Any, invoiceable: bool
) -> None:
    own = {"pay_in_advance": True, "invoiceable": invoiceable}
    first = charge(
        tokens, code="a", properties={"amount": "0"}, filters=[listed("8K")], unlisted_values="held", **own
    )
    second = charge(tokens, code="b", properties={"amount": "5"}, **own)
    api.plan(charges=[first, second])
    api.subscribe()
    send("32K", "8K", tokens=2)
    move(api, 2024, 3, 6)

    def fees() -> list[tuple[str, int]]:
        made = api.get("/fees")["fees"]
        return sorted((fee["item"]["code"], fee["amount_cents"]) for fee in made)

    assert sorted(fee["amount_cents"] for fee in api.get("/fees")["fees"]) == [200, 1_000, 1_000]
    move(api, 2024, 3, 20)
    api.post("/plans/pro/charges/a/filters", {"filter": listed("32K", amount="3")})
    move(api, 2024, 3, 21)
    assert sorted(fee["amount_cents"] for fee in api.get("/fees")["fees"]) == [200, 600, 1_000, 1_000]
    move(api, 2024, 3, 22)
    assert len(fees()) == 4
    assert all(status == "finalized" for status, _ in shown(api))


def test_a_held_event_is_billed_after_its_subscription_has_ended(api: Api, tokens: Any, send: Any) -> None:
    subscribed(api, tokens, pay_in_advance=True, unlisted_values="held")
    send("32K")
    move(api, 2024, 3, 6)
    api.delete("/subscriptions/sub")
    assert api.get("/fees", fee_type="charge")["fees"] == []
    api.post("/plans/pro/charges/tokens/filters", {"filter": listed("32K", amount="3")})
    move(api, 2024, 3, 7)
    assert [fee["amount_cents"] for fee in api.get("/fees", fee_type="charge")["fees"]] == [3_000]


def test_a_voided_event_waits_no_more(api: Api, tokens: Any, send: Any) -> None:
    subscribed(api, tokens, pay_in_advance=True, unlisted_values="held")
    (wrong,) = send("32K")
    move(api, 2024, 3, 6)
    waiting = "select count(*) from unpriced_advance_event where organization_id = %(organization)s"
    assert api.row(waiting) == (1,)
    body = {"transaction_id": "v", "event_transaction_id": wrong, "kind": "void", "reason": "wrong"}
    api.post("/events/amendments", {"amendment": body})
    move(api, 2024, 3, 7)
    assert api.row(waiting) == (0,)
    assert api.get("/fees")["fees"] == []


def test_recurring_fees_without_an_invoice_have_nothing_to_wait_on(api: Api) -> None:
    api.customer()
    metric = api.metric(recurring=True, filters=[{"key": "model", "values": ["8K"]}])
    own = charge(
        metric, pay_in_advance=True, invoiceable=False, unlisted_values="held", filters=[listed("8K")]
    )
    body = {"plan": {"name": "x", "code": "x", "interval": "monthly", "amount_cents": 0}}
    body["plan"] |= {"amount_currency": "EUR", "pay_in_advance": False, "charges": [own]}
    assert api.details("POST", "/plans", body) == {"unlisted_values": ["held_needs_an_invoice"]}


# --- noticed: once for each combination -------------------------------------------------------------------


@pytest.fixture
def look(dsn: str, api: Api) -> Any:
    """What the background does: roll up, and look at what is new or has changed; the webhooks that this has made."""
    api.post("/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "https://example.com/hook"}})
    told: set[Any] = set()

    def now() -> list[Any]:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while rollup.roll_up(conn):
                pass
            while look_some(conn, api.organization.id, now=START):
                pass
            rows = conn.execute(
                "select id, payload from webhook where organization_id = %s and webhook_type = 'usage.unpriced'"
                " order by id",
                [api.organization.id],
            ).fetchall()
        new = [json.loads(payload)["unpriced_usage"] for name, payload in rows if name not in told]
        told.update(name for name, _ in rows)
        return sorted(new, key=lambda each: (each["charge_code"], str(each["values"])))

    return now


def listed_now(api: Api) -> list[Any]:
    api.conn.rollback()
    return [(each.of.values, each.units) for each in newest(api.conn, api.organization.id, limit=9)]


def test_each_new_combination_is_reported_once(api: Api, tokens: Any, send: Any, look: Any) -> None:
    made = subscribed(api, tokens)
    assert look() == []
    send("8K", "32K", "64K", "32K", None)
    found = look()
    assert [each["values"] for each in found] == [{"model": "32K"}, {"model": "64K"}, {"model": None}]
    assert found[0] == {
        "lago_charge_id": made["lago_id"],
        "charge_code": "tokens",
        "plan_code": "pro",
        "billable_metric_code": "tokens",
        "values": {"model": "32K"},
        "unlisted_values": "free",
        "noticed_at": "2024-03-05T10:00:00Z",
    }
    send("32K", "128K")
    assert [each["values"] for each in look()] == [{"model": "128K"}]
    send("32K", at=datetime(2024, 4, 3, tzinfo=UTC))
    assert look() == [], "a month more is nothing new"
    units = {each["model"]: units for each, units in listed_now(api)}
    assert units == {"32K": 40, "64K": 10, "128K": 10, None: 10}


def test_another_subscription_with_the_same_values_is_nothing_new(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    subscribed(api, tokens)
    api.subscribe("more")
    send("32K")
    assert len(look()) == 1
    send("32K", sub="more")
    assert look() == []
    assert listed_now(api) == [({"model": "32K"}, 20)]


def test_a_price_or_a_decision_settles_it_and_its_end_is_reported_again(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    subscribed(api, tokens)
    send("32K")
    assert len(look()) == 1
    path = "/plans/pro/charges/tokens"
    added = api.post(f"{path}/filters", {"filter": listed("32K", amount="3")})["filter"]
    assert (look(), listed_now(api)) == ([], [])
    api.delete(f"{path}/filters/{added['lago_id']}")
    assert [each["values"] for each in look()] == [{"model": "32K"}]
    for fields in (
        {"unlisted_values": "default"},
        {"unlisted_values": "free", "properties": {"amount": "1"}},
    ):
        api.put(path, {"charge": fields})
        assert (look(), listed_now(api)) == ([], []), fields
    api.put(path, {"charge": {"unlisted_values": "held"}})
    assert [each["unlisted_values"] for each in look()] == ["held"]
    api.delete(path)
    assert (look(), listed_now(api)) == ([], [])


def test_a_dimension_more_makes_other_combinations(api: Api, tokens: Any, send: Any, look: Any) -> None:
    subscribed(api, tokens)
    send("32K")
    assert len(look()) == 1
    dimensions = [{"key": "model", "values": ["8K", "32K"]}, {"key": "type", "values": ["in"]}]
    api.put("/billable_metrics/tokens", {"billable_metric": {"filters": dimensions}})
    assert [each["values"] for each in look()] == [{"model": "32K", "type": None}]
    assert listed_now(api) == [({"model": "32K", "type": None}, 10)]


def test_usage_from_before_the_subscription_is_noticed_at_its_start(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    api.plan(charges=[charge(tokens, properties={"amount": "0"}, filters=[listed("8K")])])
    send("32K")
    assert look() == []
    api.subscribe()
    assert [each["values"] for each in look()] == [{"model": "32K"}]


def test_a_plan_of_a_subscriptions_own_has_its_own_answer(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    subscribed(api, tokens, unlisted_values="default")
    send("32K")
    assert look() == []
    api.put("/subscriptions/sub/charges/tokens", {"charge": {"unlisted_values": "held"}})
    assert [each["values"] for each in look()] == [{"model": "32K"}]


def test_no_sender_of_ever_new_values_fills_the_table(
    api: Api, tokens: Any, send: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpriced_store, "COMBINATIONS_MAX", 3)
    subscribed(api, tokens)
    send(*[f"m{n}" for n in range(5)])
    assert len(look()) == 3
    send("m9")
    assert look() == []
    assert len(listed_now(api)) == 3


def test_what_is_free_by_a_price_is_noticed_by_nobody(api: Api, tokens: Any, send: Any, look: Any) -> None:
    free = charge(tokens, code="b", properties={"amount": "5"}, filters=[listed("32K", amount="0")])
    api.plan(charges=[free, charge(tokens, code="c", properties={"amount": "0"})])
    api.subscribe()
    send("32K", "64K")
    assert (look(), listed_now(api)) == ([], [])


# --- prices that change at an instant -----------------------------------------------------------------------


def next_period(api: Api, path: str, fields: dict[str, Any]) -> None:
    api.put(path, {"charge": fields, "effective": "next_period"})


def test_a_price_of_the_next_period_does_not_price_the_running_one(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    subscribed(api, tokens)
    send("32K")
    assert len(look()) == 1
    next_period(
        api, "/plans/pro/charges/tokens", {"unlisted_values": "default", "properties": {"amount": "2"}}
    )
    assert look() == []
    assert listed_now(api) == [({"model": "32K"}, 10)], "the running period still gives it away"
    assert usage(api)["unpriced_units"] == "10.0"
    send("64K")
    assert [each["values"] for each in look()] == [{"model": "64K"}]
    move(api, 2024, 4, 20)
    send("32K", at=datetime(2024, 4, 20, tzinfo=UTC))
    assert look() == []
    by_time = [each["unpriced_by"] for each in api.get("/events")["events"]]
    assert by_time == [[], ["tokens"], ["tokens"]], "newest first: each event by the prices of its own period"
    move(api, 2024, 5, 3)
    assert (look(), listed_now(api)) == ([], []), "no period from before the change is running any more"


def test_a_price_that_ends_with_the_period_is_missed_as_soon_as_it_ends(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    subscribed(api, tokens, "2")
    send("32K")
    assert look() == []
    next_period(api, "/plans/pro/charges/tokens", {"unlisted_values": "held"})
    send("64K")
    assert (look(), listed_now(api)) == ([], []), "this period has a price"
    move(api, 2024, 4, 2)
    assert sorted(each["values"]["model"] for each in look()) == ["32K", "64K"]


def test_usage_from_before_a_plans_first_charge_is_noticed(
    api: Api, tokens: Any, send: Any, look: Any
) -> None:
    api.plan(charges=[])
    api.subscribe()
    send("32K")
    assert look() == []
    own = charge(tokens, code="tokens", properties={"amount": "0"}, filters=[listed("8K")])
    api.post("/plans/pro/charges", {"charge": own})
    assert [each["values"] for each in look()] == [{"model": "32K"}]


def test_a_customer_of_whom_it_fails_holds_nobody_up(
    api: Api, tokens: Any, send: Any, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribed(api, tokens, unlisted_values="held")
    bad = api.customer("bad")["lago_id"]
    api.subscribe("else", external_customer_id="bad")
    look()
    real = unpriced._record

    def failing_for_one(conn: Any, organization_id: Any, candidates: Any, now: datetime) -> None:
        if any(str(each.customer_id) == bad for each in candidates):
            raise KeyError("a bug")
        real(conn, organization_id, candidates, now)

    with monkeypatch.context() as patched:
        patched.setattr(unpriced, "_record", failing_for_one)
        send("64K")
        send("128K", sub="else")
        assert [each["values"]["model"] for each in look()] == ["64K"]
    assert look() == [], "it is left alone for a while"
    move(api, *(START + unpriced.PAUSE_OF_FAILED).timetuple()[:6])
    assert [each["values"]["model"] for each in look()] == ["128K"]
