"""Edits of dimensions and filters in any order, events and amendments in between, against a count over the events."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rebuilding, rollup
from permille.events.postgres.writer import Memory, open_connection, store
from permille.usecases.usage.usage import UsageSearch, current_usage
from tests.rebuilding import rebuild_some

from .conftest import START, Api, Server, charge, join

_numbers = itertools.count(1)

ALL = "__ALL_FILTER_VALUES__"
VALUES = {"k": ("a", "b", "1", "true"), "r": ("x", "y")}
SENT = {"k": ("a", "b", 1, "1", True, "A", None), "r": ("x", "y", "", None), "u": ("bob", 7, None)}

properties = st.fixed_dictionaries({key: st.sampled_from(sent) for key, sent in SENT.items()}).flatmap(
    lambda sent: st.sampled_from([1, 2, 5, "3", "none"]).map(
        lambda value: {"v": value, **{key: text for key, text in sent.items() if text is not None}}
    )
)
metric_filters = st.fixed_dictionaries(
    {},
    optional={
        key: st.lists(st.sampled_from(listed), min_size=1, unique=True) for key, listed in VALUES.items()
    },
)


@dataclass(frozen=True)
class Price:
    """A filter as it is meant to be, or the charge's own price, of no values."""

    values: dict[str, list[str]]
    amount: int
    by_user: bool

    @property
    def body(self) -> dict[str, Any]:
        grouped = {"pricing_group_keys": ["u"]} if self.by_user else {}
        return {"values": self.values, "properties": {"amount": str(self.amount), **grouped}}


def text_of(value: Any) -> str | None:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value and str(value)


def same(one: Price, other: Price) -> bool:
    return {key: set(listed) for key, listed in one.values.items()} == {
        key: set(listed) for key, listed in other.values.items()
    }


class Edits(RuleBasedStateMachine):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self.api: Api = join(server, f"Edits {next(_numbers)}")
        self.events: dict[str, dict[str, Any] | None] = {}
        self.dimensions: dict[str, list[str]] = {}
        self.filters: list[Price] = []
        self.price = Price({}, 1, by_user=False)
        self.ingest, self.memory = open_connection(server.dsn), Memory()
        self.conn = psycopg.connect(server.dsn, autocommit=True)
        self.aggregation = ""

    def teardown(self) -> None:
        self.ingest.close()
        self.conn.close()

    @initialize(
        dimensions=metric_filters,
        aggregation=st.sampled_from(["sum_agg", "count_agg", "max_agg", "unique_count_agg"]),
    )
    def begin(self, dimensions: dict[str, list[str]], aggregation: str) -> None:
        self.aggregation, self.dimensions = aggregation, dimensions
        metric = self.api.metric(
            "m", aggregation_type=aggregation, field_name="v", filters=self._dimensions()
        )
        self.api.plan(charges=[charge(metric, code="c")])
        self.api.customer()
        self.api.subscribe()
        self.send([{"v": 1, "k": k, "r": r, "u": "bob"} for k, r in itertools.product("ab1", "xy")])

    def _dimensions(self) -> list[dict[str, Any]]:
        return [{"key": key, "values": listed} for key, listed in self.dimensions.items()]

    @rule(many=st.lists(properties, min_size=1, max_size=4))
    def send(self, many: list[dict[str, Any]]) -> None:
        names = [f"edit-{next(_numbers)}" for _ in many]
        drafts = [
            Draft(name, "m", "sub", microseconds(START), None, each)
            for name, each in zip(names, many, strict=True)
        ]
        store(self.ingest, self.memory, [Request(self.api.organization.id, drafts, microseconds(START))])
        self.events |= dict(zip(names, many, strict=True))

    @rule(instead=st.none() | properties, choice=st.integers(0, 100))
    def amend(self, instead: dict[str, Any] | None, choice: int) -> None:
        if not self.events:
            return
        name = list(self.events)[choice % len(self.events)]
        wanted = {
            "transaction_id": f"amend-{next(_numbers)}",
            "event_transaction_id": name,
            "kind": "void" if instead is None else "replace",
            "reason": "to see",
            **({} if instead is None else {"properties": instead}),
        }
        self.api.post("/events/amendments", {"amendment": wanted})
        self.events[name] = instead

    @rule()
    def roll_up(self) -> None:
        while rollup.roll_up(self.conn):
            pass

    @rule()
    def rebuild_some(self) -> None:
        rebuild_some(self.conn)

    @rule(dimensions=metric_filters)
    def edit_metric(self, dimensions: dict[str, list[str]]) -> None:
        """Values and keys come and go, with what filters there are; or other events would be repriced."""
        listed = [each["lago_id"] for each in self._filters()]
        body = {"filters": [{"key": key, "values": values} for key, values in dimensions.items()]}
        answer = self.api.call("PUT", "/billable_metrics/m", {"billable_metric": body})
        if answer.status_code == 422:
            (code, *named) = answer.json()["error_details"]["filters"]
            assert (code, bool(named)) == ("would_reprice_other_values", True)
            return
        assert answer.status_code == 200, answer.text
        untouched = self._untouched_events(dimensions)
        places = [self._place(event) for event in untouched]
        self.dimensions = dimensions
        trimmed = [
            Price(
                {
                    key: left
                    for key, listed in each.values.items()
                    if key in dimensions
                    and (left := [value for value in listed if value in (*dimensions[key], ALL)])
                },
                each.amount,
                each.by_user,
            )
            for each in self.filters
        ]
        before = self.filters
        order = [listed.index(each["lago_id"]) for each in self._filters()]
        assert sorted(order) == [place for place, each in enumerate(trimmed) if each.values]
        self.filters = [trimmed[place] for place in order]
        now = [(*order, len(before))[self._place(event)] for event in untouched]
        assert now == places, "an event that nobody touched keeps its price"

    def _filters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/plans/pro/charges/c/filters")["filters"]
        return found

    def _untouched_events(self, dimensions: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Events whose values are listed as they were."""
        kept = [
            [
                value
                for value in SENT[key]
                if (text_of(value) in self.dimensions.get(key, ()))
                == (text_of(value) in dimensions.get(key, ()))
            ]
            for key in VALUES
        ]
        return [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*kept)]

    def _any_filter(self, data: st.DataObject) -> Price:
        keys = data.draw(st.lists(st.sampled_from(sorted(self.dimensions)), min_size=1, unique=True))
        values = {
            key: data.draw(
                st.lists(st.sampled_from(self.dimensions[key]), min_size=1, unique=True) | st.just([ALL])
            )
            for key in keys
        }
        return Price(values, data.draw(st.integers(2, 9)), data.draw(st.booleans()))

    @rule(data=st.data())
    def add_filter(self, data: st.DataObject) -> None:
        if not self.dimensions:
            return
        fresh = self._any_filter(data)
        answer = self.api.call("POST", "/plans/pro/charges/c/filters", {"filter": fresh.body})
        assert (answer.status_code == 422) == any(same(fresh, known) for known in self.filters)
        if answer.status_code == 200:
            self.filters.append(fresh)

    @rule(data=st.data(), default=st.integers(1, 9), by_user=st.booleans())
    def replace_filters(self, data: st.DataObject, default: int, by_user: bool) -> None:
        count = data.draw(st.integers(0, 3)) if self.dimensions else 0
        wanted: list[Price] = []
        for fresh in (self._any_filter(data) for _ in range(count)):
            if not any(same(fresh, known) for known in wanted):
                wanted.append(fresh)
        self.price, self.filters = Price({}, default, by_user), wanted
        body = {"properties": self.price.body["properties"], "filters": [each.body for each in wanted]}
        self.api.put("/plans/pro/charges/c", {"charge": body})

    @rule(choice=st.integers(0, 100))
    def delete_filter(self, choice: int) -> None:
        if not self.filters:
            return
        listed = self.api.get("/plans/pro/charges/c/filters")["filters"]
        gone = choice % len(self.filters)
        self.api.delete(f"/plans/pro/charges/c/filters/{listed[gone]['lago_id']}")
        del self.filters[gone]

    @invariant()
    def usage_is_that_of_the_events(self) -> None:
        if not self.aggregation:
            return
        found = current_usage(
            self.conn,
            organization_id=self.api.organization.id,
            external_customer_id="cus",
            external_subscription_id="sub",
            search=UsageSearch(),
            now=START,
        )
        lines = found.charges[0].lines
        order = [line.filter.values for line in lines if line.filter]
        assert [each for each, _ in itertools.groupby(order)] == [
            each
            for each, _ in itertools.groupby(
                {key: tuple(listed) for key, listed in one.values.items()} for one in self.filters
            )
        ]
        places = {line.filter.id: None for line in lines if line.filter}
        number = {filter_id: nth for nth, filter_id in enumerate(places)}
        assert len(number) == len(self.filters)
        assert {
            (number[line.filter.id] if line.filter else len(self.filters), line.grouped_by.get("u")): (
                line.units,
                line.amount_cents,
            )
            for line in lines
            if line.units
        } == self._expected()

    def _expected(self) -> dict[tuple[int, str | None], tuple[Decimal, int]]:
        """(Place of the filter or after the last one, user) -> units and cents."""
        values: dict[tuple[int, str | None], list[Any]] = defaultdict(list)
        for event in self.events.values():
            if event is not None:
                place = self._place(event)
                by_user = (*self.filters, self.price)[place].by_user
                values[place, text_of(event.get("u")) if by_user else None].append(event["v"])
        expected = {}
        for (place, user), found in values.items():
            if units := self._aggregate(found):
                expected[place, user] = (
                    Decimal(units),
                    units * (*self.filters, self.price)[place].amount * 100,
                )
        return expected

    def _aggregate(self, values: list[Any]) -> int:
        numbers = [int(value) for value in values if value != "none"]
        match self.aggregation:
            case "count_agg":
                return len(values)
            case "sum_agg":
                return sum(numbers)
            case "max_agg":
                return max(numbers, default=0)
            case _:
                return len(set(map(text_of, values)))

    def _place(self, event: dict[str, Any]) -> int:
        """semantics-metering.md section 4.3, its closed form and its recommendation, spelled out."""
        expanded = [
            {
                key: set(self.dimensions[key] if listed == [ALL] else listed)
                for key, listed in each.values.items()
            }
            for each in self.filters
        ]
        matching = [
            i
            for i, each in enumerate(expanded)
            if all(text_of(event.get(key)) in listed for key, listed in each.items())
        ]

        def beats(one: int, other: int) -> bool:
            mine, theirs = expanded[one], expanded[other]
            if mine.keys() != theirs.keys():
                return mine.keys() > theirs.keys()
            if mine == theirs:
                return one < other
            return all(mine[key] <= theirs[key] for key in mine)

        unbeaten = [i for i in matching if not any(beats(other, i) for other in matching if other != i)]
        return min(unbeaten, key=lambda i: (-len(expanded[i]), i), default=len(self.filters))


@pytest.mark.parametrize("in_place_max", [rebuilding.REENCODED_IN_PLACE_MAX, 0])
def test_usage_follows_every_edit(server: Server, monkeypatch: pytest.MonkeyPatch, in_place_max: int) -> None:
    """Whether an edit moves the history itself or leaves it to the background, which is at any stage of it."""
    monkeypatch.setattr(rebuilding, "REENCODED_IN_PLACE_MAX", in_place_max)
    monkeypatch.setattr(rebuilding, "CHUNK", 3)
    run_state_machine_as_test(
        lambda: Edits(server),
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        while rebuild_some(conn):
            pass
        own = conn.execute(
            "select s.id from series s join organization o on o.id = s.organization_id where o.name like 'Edits %'"
        )
        wrong = {series_id for series_id, _, _ in rollup.verify(conn, limit=10_000)}
        assert not wrong & {
            series_id for (series_id,) in own
        }  # tests beside it change events under their cells
        stale = (
            "select count(*) from event e join series s on s.id = e.series_id"
            " join metering m using (organization_id, code) where metering_version < m.version"
        )
        assert conn.execute(stale).fetchone() == (0,)
