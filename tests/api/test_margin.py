"""GET /analytics/margin, against a slow oracle: every raw event costed by itself in fractions, every fee added up."""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from permille.core.llm.call import SentCall
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.core.llm.read import SentUsage
from permille.events.calls import requests_of
from permille.events.engine import upkeep
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import shipped_prices
from permille.usecases.llm_usages import prepare

from .conftest import Api, charge
from .test_usage import move, ready, send  # noqa: F401

AUGUST, SEPTEMBER = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
SOL, SOL_CHANGES = "gpt-5.6-sol", date(2026, 8, 21)
DEEPSEEK = "deepseek-v4-flash"
RAW = """
select s.code, e.at, s.external_subscription_id, coalesce(e.extra, '{}') || s.dimensions as said, e.value
from counted_event e join series s on s.id = e.series_id where s.organization_id = %(organization)s
"""


class Calls:
    """Calls of models as the intake stores them."""

    def __init__(self, dsn: str, api: Api) -> None:
        self.api, self.conn, self.memory = api, open_connection(dsn), Memory()
        self.dsn, self.count = dsn, 0

    def __call__(self, sub: str, at: datetime, provider: str, answer: dict[str, Any], **more: Any) -> None:
        self.count += 1
        answer = {"id": f"call-{self.count}", **answer}
        call = SentCall(
            usage=SentUsage(provider=provider, response=answer, **more),
            external_subscription_id=sub,
            external_customer_id=None,
            at=at,
            properties={"team": "t"},
        )
        with psycopg.connect(self.dsn) as conn:
            [prepared] = prepare(conn, self.api.organization.id, [call])
        assert prepared.problem is None, prepared
        requests = requests_of(self.api.organization.id, prepared, now=at)
        store(self.conn, self.memory, requests)
        assert all(each.duplicates == [] for each in requests)


@pytest.fixture
def calls(dsn: str, api: Api) -> Iterator[Calls]:
    made = Calls(dsn, api)
    yield made
    made.conn.close()


def chat(model: str, into: int, cached: int, out: int, reasoning: int = 0, **usage: Any) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "model": model,
        "usage": {
            "prompt_tokens": into,
            "completion_tokens": out,
            "total_tokens": into + out,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
            **usage,
        },
    }


@pytest.fixture
def world(api: Api, calls: Calls) -> Api:
    """Two customers in August: one by the catalogue in New York, one by packages in EUR, folded to input and output."""
    move(api, 2026, 8, 1, 8)
    metric = api.metric(
        code="llm_tokens",
        aggregation_type="sum_agg",
        field_name="quantity",
        filters=[
            {"key": "type", "values": ["input", "cached_input", "output"]},
            {"key": "model", "values": [DEEPSEEK, SOL]},
        ],
    )
    api.plan(
        "cat", [charge(metric, charge_model="catalogue", properties={"markup": "1.3"})], amount_currency="USD"
    )
    package = {"amount": "0.01", "package_size": 1000, "free_units": 0}
    filters = [
        {"values": {"model": [model], "type": ["input", "cached_input"]}, "properties": package}
        for model in (DEEPSEEK, SOL)
    ]
    filters += [{"values": {"type": ["output"]}, "properties": {**package, "amount": "0.05"}}]
    api.plan(
        "pack",
        [charge(metric, charge_model="package", properties=package, filters=filters)],
        amount_cents=900,
    )
    api.customer("ny", timezone="America/New_York", currency="USD")
    api.customer("eu", timezone="Europe/Paris", currency="EUR")
    api.subscribe("ny-sub", plan="cat", external_customer_id="ny")
    api.subscribe("eu-sub", plan="pack", external_customer_id="eu")
    used(calls, AUGUST)
    return api


def used(calls: Calls, since: datetime, seed: int = 7) -> None:
    chance = random.Random(seed)
    for number in range(40):
        at = since + timedelta(minutes=chance.randrange(12 * 60, 29 * 24 * 60))
        sub, into = chance.choice(["ny-sub", "eu-sub"]), chance.randrange(2_000, 300_000)
        provider, model = chance.choice([("deepseek", DEEPSEEK), ("openai", SOL)])
        answer = chat(model, into, into // 3, chance.randrange(20, 900), 17)
        if provider == "deepseek":
            hits = {"prompt_cache_hit_tokens": into // 3, "prompt_cache_miss_tokens": into - into // 3}
            answer["usage"] |= hits
        calls(sub, at, provider, answer, cost="0.0123456789" if number % 5 == 0 else None)
    calls("eu-sub", since + timedelta(days=3), "acme", chat("own", 1_000, 0, 50))
    calls("eu-sub", since + timedelta(days=3), "openrouter", chat(f"openai/{SOL}", 900, 0, 30, cost="0.25"))


ZONES = {"ny-sub": "America/New_York", "eu-sub": "Europe/Paris"}
OWNERS = {"ny-sub": ("ny", "cat", "USD"), "eu-sub": ("eu", "pack", "EUR")}


def by_event(api: Api, names: Sequence[str], first: date, last: date) -> tuple[Any, Any]:
    """Group -> what its events of these days cost, and how much of them has no price: one event after the other."""
    catalogue = shipped_prices.catalogue()
    costs: dict[Any, Fraction] = defaultdict(Fraction)
    uncosted: dict[Any, Fraction] = defaultdict(Fraction)
    api.conn.rollback()
    for code, at, sub, said, value in api.conn.execute(RAW, {"organization": api.organization.id}).fetchall():
        day = at.astimezone(ZoneInfo(ZONES[sub])).date()
        if not first <= day <= last:
            continue
        customer, plan, currency = OWNERS[sub]
        texts = {**said, "customer": customer, "plan": plan, "day": day.isoformat()}
        group = (*(texts.get(name) for name in names), currency)
        if code == "llm_cost":
            costs[group] += Fraction(value)
        elif said.get("cost_source") != "provider":
            found = catalogue.price(
                said["provider"],
                said["model"],
                Measure(code, said["type"], said["modality"]),
                Conditions(said["tier"], int(said["context"])),
                on=at.astimezone(UTC).date(),
            )
            if found is None:
                uncosted[group] += Fraction(value)
            else:
                costs[group] += Fraction(found.row.rate.amount) * Fraction(value) / found.row.rate.per
    return {group: cost for group, cost in costs.items() if cost}, dict(uncosted)


def by_fee(api: Api, names: Sequence[str]) -> dict[Any, int]:
    """Group -> what the fees of all invoices come to."""
    found: dict[Any, int] = defaultdict(int)
    for invoice in api.get("/invoices")["invoices"]:
        for fee in api.get(f"/invoices/{invoice['lago_id']}")["invoice"]["fees"]:
            customer, plan, currency = OWNERS[fee["external_subscription_id"]]
            texts: dict[str, Any] = {"customer": customer, "plan": plan, **fee["item"]["grouped_by"]}
            listed = fee["item"].get("filters") or {}
            texts |= {name: values[0] for name, values in listed.items() if len(values) == 1}
            if fee["item"]["type"] == "subscription":
                texts.pop("type", None)
            found[(*(texts.get(name) for name in names), currency)] += fee["amount_cents"]
    return {group: cents for group, cents in found.items() if cents}


NAMES = {"customer": "external_customer_id", "plan": "plan_code"}


def margins(api: Api, by: str, since: str = "2026-08-01", until: str = "2026-08-31", **query: Any) -> Any:
    query |= {"usd_exchange_rates[EUR]": "0.875", "from": since, "to": until, "group_by[]": by}
    return api.get("/analytics/margin", **query)


def grouped(found: Any, by: str, figure: Any) -> dict[Any, Any]:
    names = [NAMES.get(name, name) for name in by.split(",")]
    pairs = [((*(each[name] for name in names), each["currency"]), figure(each)) for each in found["margins"]]
    assert len(dict(pairs)) == len(pairs)
    return {group: value for group, value in pairs if value}


def uncosted_of(each: Any) -> Fraction:
    return sum((Fraction(used["quantity"]) for used in each["uncosted"]), Fraction())


def test_a_closed_month_reconciles_with_its_invoices_and_with_its_events(
    world: Api, dsn: str, calls: Calls
) -> None:
    running = margins(world, "customer", until="2026-09-02")
    by_customer = {each["external_customer_id"]: each for each in running["margins"]}
    usage = world.get("/customers/ny/current_usage", external_subscription_id="ny-sub")["customer_usage"]
    assert by_customer["ny"]["billed_amount_cents"] == 0 < by_customer["ny"]["unbilled_amount_cents"]
    assert by_customer["ny"]["unbilled_amount_cents"] == usage["amount_cents"]

    with psycopg.connect(dsn) as conn:  # what is in by now is read from cells, what comes from events
        while upkeep.roll_up(conn):
            conn.commit()
    used(calls, AUGUST, seed=8)
    move(world, 2026, 9, 1, 12)
    used(calls, SEPTEMBER, seed=9)

    first, last = date(2026, 8, 1), date(2026, 8, 31)
    for by in ("customer", "model,type", "provider", "plan,model"):
        found = margins(world, by)
        costs, uncosted = by_event(world, by.split(","), first, last)
        assert grouped(found, by, lambda each: Fraction(each["cost_usd"])) == costs
        assert grouped(found, by, uncosted_of) == uncosted
        assert grouped(found, by, lambda each: each["billed_amount_cents"]) == by_fee(world, by.split(","))
        for each in [*found["margins"], *found["totals"]]:
            rate = {"USD": Fraction(1), "EUR": Fraction(7, 8)}[each["currency"]]
            cost = Fraction(each["cost_usd"]) * rate * 100
            assert Fraction(each["cost_amount_cents"]) == cost
            assert Fraction(each["margin_amount_cents"]) == each["revenue_amount_cents"] - cost
    for since, until in ((1, 26), (3, 29), (2, 8)):  # days of a month, or the month less the others
        days = date(2026, 8, since), date(2026, 8, until)
        some = margins(world, "customer,type", *map(str, days))
        costs, uncosted = by_event(world, ("customer", "type"), *days)
        assert grouped(some, "customer,type", lambda each: Fraction(each["cost_usd"])) == costs
        assert grouped(some, "customer,type", uncosted_of) == uncosted
    totals = {each["currency"]: each["billed_amount_cents"] for each in found["totals"]}
    invoiced = {each["currency"]: each["fees_amount_cents"] for each in world.get("/invoices")["invoices"]}
    assert totals == invoiced
    sol = shipped_prices.catalogue().model("openai", SOL)
    assert sol is not None
    assert SOL_CHANGES in sol.changes(), "a price changes within the month"


def test_days_pages_rates_and_files(world: Api) -> None:
    by = "day,model"
    found = margins(world, by, since="2026-08-19", until="2026-08-26", per_page=1000)
    costs, _ = by_event(world, by.split(","), date(2026, 8, 19), date(2026, 8, 26))
    assert grouped(found, by, lambda each: Fraction(each["cost_usd"])) == costs
    page = margins(world, by, since="2026-08-19", until="2026-08-26", per_page=2, page=2)
    assert page["margins"] == found["margins"][2:4]
    assert page["totals"] == found["totals"]
    assert page["meta"]["total_count"] == len(found["margins"])

    plain = world.get("/analytics/margin", **{"from": "2026-08-01", "to": "2026-08-31"})["totals"]
    assert [(each["currency"], each["usd_exchange_rate"]) for each in plain] == [
        ("EUR", None),
        ("USD", "1.0"),
    ]
    assert [each["margin_amount_cents"] is None for each in plain] == [True, False]

    answer = world.call(
        "GET", "/analytics/margin", **{"from": "2026-08-01", "to": "2026-08-31", "format": "csv"}
    )
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"].startswith("text/csv")
    assert {row["model"] for row in rows} == {DEEPSEEK, SOL, f"openai/{SOL}", "own", ""}
    assert "llm_tokens 1050.0 in 2 events" in {row["uncosted"] for row in rows}
    wrong = {"group_by": "moon", "usd_exchange_rates[ZZZ]": "1", "from": "2026-09-02", "to": "2026-09-01"}
    assert world.details("GET", "/analytics/margin", None, **wrong) == {
        "from": ["value_is_out_of_range"],
        "group_by": ["value_is_invalid"],
        "usd_exchange_rates[ZZZ]": ["value_is_invalid"],
    }


def test_without_usage_of_models_there_is_revenue_alone(api: Api) -> None:
    api.plan(amount_cents=500, pay_in_advance=True)
    api.customer()
    api.subscribe()
    found = api.get("/analytics/margin", group_by="plan")
    [each] = found["margins"]
    assert (each["plan_code"], each["billed_amount_cents"], each["cost_usd"]) == ("pro", 435, "0.0")
    assert (each["margin_share"], each["uncosted"]) == ("1.0", [])


def test_usage_of_those_who_have_tomorrow_already_is_there_without_asking(api: Api, send: Any) -> None:  # noqa: F811
    metric = api.metric(code="tokens", field_name="n")
    ready(api, charge(metric, properties={"amount": "2"}), customer={"timezone": "Pacific/Auckland"})
    send("tokens", n=5)
    for when, day in (((2024, 3, 5, 12), "2024-03-06"), ((2024, 3, 31, 10, 30), "2024-03-31")):
        move(api, *when)
        [each] = api.get("/analytics/margin", group_by="plan,day")["margins"]
        assert (each["day"], each["unbilled_amount_cents"]) == (day, 1_000)


def test_revenue_of_other_metrics_is_a_figure_of_its_own_as_their_cost_is_not_looked_up(
    api: Api,
    send: Any,  # noqa: F811
) -> None:
    own = api.metric(code="tokens", field_name="n")
    llm = api.metric(code="llm_tokens", field_name="quantity")
    charges = [charge(own, properties={"amount": "2"}), charge(llm, properties={"amount": "3"})]
    ready(api, *charges, amount_cents=3_100)
    send("tokens", n=5)
    send("llm_tokens", quantity=1)
    names = ("billed_amount_cents", "unbilled_amount_cents", "revenue_without_cost_amount_cents")

    def figures() -> list[int]:
        [each] = api.get("/analytics/margin", group_by="plan")["margins"]
        return [each[name] for name in names]

    assert figures() == [0, 1_300, 1_000]
    move(api, 2024, 4, 1, 1)
    query = {"group_by": "plan", "from": "2024-03-01", "to": "2024-03-31"}
    billed = 2_700 + 1_300  # 27 of 31 days
    [each] = api.get("/analytics/margin", **query)["margins"]
    assert [each[name] for name in names] == [billed, 0, 1_000]
    row = api.call("GET", "/analytics/margin", format="csv", **query).text.splitlines()[1].split(",")
    assert row[4:6] == [str(billed), "1000"]


def test_open_usage_comes_to_what_its_lines_do_one_by_one(world: Api, send: Any, dsn: str) -> None:  # noqa: F811
    """Linear prices by kind, for all subscriptions at once, beside current usage of each."""
    calls_made = world.metric(code="calls", aggregation_type="count_agg", field_name=None)
    own = world.metric(code="llm_images", field_name="quantity")
    price = {"provider": "acme", "model": "own", "type": "input", "amount": "0.07", "per": 3}
    dated = [price, {**price, "amount": "0.11", "from": "2026-08-11"}]
    charges = [
        charge(calls_made, properties={"amount": "0.005", "pricing_group_keys": ["team"]}),
        charge(own, charge_model="catalogue", properties={"prices": dated}, rounding="per_fee"),
    ]
    world.plan("lines", charges, amount_currency="USD")
    for number in range(4):
        world.customer(f"c{number}", timezone=["UTC", "Asia/Kolkata"][number % 2], currency="USD")
        world.subscribe(f"s{number}", plan="lines", external_customer_id=f"c{number}")
    chance = random.Random(5)
    for _ in range(80):
        at, sub = AUGUST + timedelta(hours=chance.randrange(20, 700)), f"s{chance.randrange(4)}"
        send("calls", at, sub, team=chance.choice(["x", "y"]))
        texts = {"provider": "acme", "model": "own", "type": chance.choice(["input", "output"])}
        send("llm_images", at, sub, quantity=chance.randrange(-2, 9), **texts)
    move(world, 2026, 8, 20, 12)

    def compare() -> None:
        by = "customer,model,type"
        found = margins(world, by)
        expected: dict[Any, int] = defaultdict(int)
        for name in [f"c{number}" for number in range(4)] + ["ny", "eu"]:
            sub = f"{name}-sub" if len(name) == 2 and name in ("ny", "eu") else f"s{name[1:]}"
            used = world.get(f"/customers/{name}/current_usage", external_subscription_id=sub)[
                "customer_usage"
            ]
            for usage in used["charges_usage"]:
                for line in usage["grouped_usage"] or [usage]:
                    for one in line["filters"] or [line]:
                        texts = dict(line.get("grouped_by") or {})
                        listed = one.get("values") or {}
                        texts |= {key: values[0] for key, values in listed.items() if len(values) == 1}
                        group = (name, texts.get("model"), texts.get("type"), used["currency"])
                        expected[group] += one["amount_cents"]
        assert sum(map(bool, expected.values())) > 10
        assert grouped(found, by, lambda each: each["unbilled_amount_cents"]) == {
            group: cents for group, cents in expected.items() if cents
        }

    compare()
    with psycopg.connect(dsn) as conn:
        while upkeep.roll_up(conn):
            conn.commit()
    compare()
    world.put("/billable_metrics/llm_images", {"billable_metric": {"field_name": "n"}})
    compare()
