"""Levels of what is paid in advance are kept between fees, and hold only for what they were reckoned from."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from permille.core.instants import microseconds
from permille.core.rating.charge import Place
from permille.core.rating.level import LevelState
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import customers, plans, subscriptions
from permille.usecases.usage import levels

from .conftest import START, Api, charge

LAST = 2**63 - 1
APRIL = datetime(2024, 4, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def keeping_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "LEAST_KEPT", 1)
    monkeypatch.setattr(levels, "PARTS_PER_EVENT", 1_000)


class Shop:
    """A subscription with charges in advance, and what happens to it."""

    def __init__(self, dsn: str, api: Api) -> None:
        self.api, self.dsn, self.count = api, dsn, 0
        self.sent: list[str] = []
        tokens = api.metric("tokens", filters=[{"key": "model", "values": ["a", "b"]}])
        seats = api.metric("seats", aggregation_type="unique_count_agg", recurring=True)
        disks = api.metric("disks", recurring=True)
        rules = {
            "total_units": "state.total_units + event.properties.tokens",
            "amount": "event.properties.tokens * custom_properties.price + state.total_units / 4",
        }
        calls = api.metric("calls", aggregation_type="custom_agg", custom_aggregator=rules, recurring=True)
        by_team = {"pricing_group_keys": ["team"]}
        grouped = {"amount": "0.5", **by_team}
        self.plan = api.plan(
            charges=[
                charge(tokens, pay_in_advance=True, properties=grouped, code="tokens"),
                charge(seats, pay_in_advance=True, invoiceable=False, prorated=True),
                charge(disks, pay_in_advance=True, charge_model="package",
                       properties={"amount": "1", "package_size": 5, "free_units": 3}),
                charge(calls, pay_in_advance=True, charge_model="custom", code="calls",
                       properties={"custom_properties": {"price": "2"}, **by_team}),
            ]
        )  # fmt: skip
        api.customer()
        api.subscribe(subscription_at=START.isoformat())

    def send(self, code: str, value: Any, at: datetime = START, **more: Any) -> None:
        self.count += 1
        name = f"{self.api.organization.id}-{self.count}"
        drafts = [Draft(name, code, "sub", microseconds(at), None, {"tokens": value, **more})]
        conn = open_connection(self.dsn)
        store(conn, Memory(), [Request(self.api.organization.id, drafts, microseconds(at))])
        conn.close()
        self.sent.append(name)

    def amend(self, name: str, **says: Any) -> None:
        kind = "replace" if says else "void"
        body = {
            "event_transaction_id": name,
            "external_subscription_id": "sub",
            "kind": kind,
            "reason": "wrong",
            **says,
        }
        self.count += 1
        sent = {"transaction_id": f"{self.api.organization.id}-amd-{self.count}", **body}
        self.api.post("/events/amendments", {"amendment": sent})

    def bill(self) -> None:
        self.api.put("/test_clock", {"test_clock": self.api.get("/test_clock")["test_clock"]})

    def levels(self, at: datetime, *, whole: bool = False) -> list[tuple[int, dict[Place, LevelState]]]:
        """Of each charge: how many events were read for it, and what its levels have reached.

        The whole period is read for whoever asks for the price of its first event too.
        """
        with psycopg.connect(self.dsn) as conn:
            row = subscriptions.active(conn, self.api.organization.id, "sub")
            assert row is not None
            plan = plans.plan_by_id(conn, row.plan_id)
            customer = customers.by_ids(conn, [row.customer_id])[row.customer_id]
            wanted = [
                (terms, {0, LAST} if whole else {LAST})
                for code in ("calls", "disks", "seats", "tokens")
                for terms in levels.terms_of(row, plan, customer, code=code, at=at)
            ]
            histories = levels.read_histories(conn, wanted)
            return [
                (len(history.events), levels.price(terms, history, billed=())[1])
                for (terms, _), history in zip(wanted, histories, strict=True)
            ]


@pytest.fixture
def shop(dsn: str, api: Api) -> Shop:
    return Shop(dsn, api)


def test_only_events_after_the_last_fee_are_read(shop: Shop) -> None:
    for n in range(5):
        shop.send("tokens", n, team="x")
    shop.bill()
    shop.send("tokens", 7, team="y")
    shop.send("seats", "ann")
    shop.send("calls", 3, team="x")
    calls, disks, seats, tokens = shop.levels(START)
    assert (calls[0], disks[0], seats[0], tokens[0]) == (1, 0, 1, 1)
    units = {place[1]: reached.units for place, reached in tokens[1].items()}
    assert units == {(("team", "x"),): 10, (("team", "y"),): 7}


def test_what_is_kept_of_older_periods_goes(shop: Shop) -> None:
    for month in (3, 4, 5, 6):
        shop.send("tokens", 1, at=datetime(2024, month, 7, tzinfo=UTC))
        shop.api.put("/test_clock", {"test_clock": {"now": f"2024-{month:02}-08T00:00:00Z"}})
    months = shop.api.row(
        "select array_agg(distinct extract(month from to_at)::int) from advance_level l"
        " join subscription s on s.id = l.subscription_id where s.organization_id = %(organization)s"
    )
    assert months[0] == [6, 7]  # the ends of May, for which late events may come, and of June


def test_levels_of_other_rules_do_not_hold(shop: Shop) -> None:
    shop.send("calls", 5, team="x")
    shop.bill()
    assert shop.levels(START)[0][0] == 0
    shop.api.row(
        "with changed as (update billable_metric set custom_aggregator ="
        ' custom_aggregator || \'{"amount": "event.properties.tokens * custom_properties.price * 3"}\''
        " where organization_id = %(organization)s and code = 'calls' returning id) select count(*) from changed"
    )
    shop.api.conn.commit()
    count, reached = shop.levels(START)[0]
    assert (count, [each.highest_amount for each in reached.values()]) == (1, [30])


@pytest.mark.parametrize("seed", range(8))
def test_levels_are_those_of_all_events_whatever_happens(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    at = START
    for _ in range(12):
        match chance.randrange(8):
            case 0 if shop.sent:
                shop.amend(chance.choice(shop.sent))
            case 1 if shop.sent:
                shop.amend(chance.choice(shop.sent), properties={"tokens": chance.randrange(9), "team": "y"})
            case 2:
                price = {"amount": str(chance.randrange(1, 9))}
                shop.api.put("/plans/pro/charges/tokens", {"charge": {"properties": price}})
                own = {"custom_properties": {"price": price["amount"]}, "pricing_group_keys": ["team"]}
                shop.api.put("/plans/pro/charges/calls", {"charge": {"properties": own}})
            case 3:
                filters = [{"key": "model", "values": chance.sample(["a", "b", "c"], 2)}]
                shop.api.put("/billable_metrics/tokens", {"billable_metric": {"filters": filters}})
                other: Any = [{"values": {"model": [filters[0]["values"][0]]}, "properties": {"amount": "2"}}]
                shop.api.put("/plans/pro/charges/tokens", {"charge": {"filters": other}})
            case 4:
                at = APRIL + timedelta(days=2)
                shop.api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})
            case _:
                for _ in range(chance.randrange(1, 4)):
                    when = chance.choice([START, at, at + timedelta(hours=3)])
                    code = chance.choice(["tokens", "seats", "disks", "calls"])
                    value = chance.choice("uvw") if code == "seats" else chance.randrange(-3, 9)
                    kind = chance.choice(["add", "add", "remove"])
                    more = {
                        "model": chance.choice("abc"),
                        "team": chance.choice("xy"),
                        "operation_type": kind,
                    }
                    shop.send(code, value, at=when, **more)
                if chance.random() < 0.8:
                    shop.bill()
        kept = [reached for _, reached in shop.levels(at)]
        assert kept == [reached for _, reached in shop.levels(at, whole=True)]
