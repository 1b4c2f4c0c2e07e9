"""Usage and invoices of random worlds over HTTP, against a reckoning by brute force (tests.api.reckoning)."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres import rollup
from permille.events.postgres.writer import Memory, open_connection, store
from tests.core.given import billing_times, intervals, timezones

from .conftest import START, Api, Server, join
from .reckoning import Line, Sent, Span, lines, span_of

METRICS: list[dict[str, Any]] = [
    {"code": "count", "aggregation_type": "count_agg"},
    {"code": "sum", "aggregation_type": "sum_agg"},
    {"code": "sum_ever", "aggregation_type": "sum_agg", "recurring": True},
    {"code": "max", "aggregation_type": "max_agg"},
    {"code": "latest", "aggregation_type": "latest_agg"},
    {"code": "unique", "aggregation_type": "unique_count_agg"},
    {"code": "unique_ever", "aggregation_type": "unique_count_agg", "recurring": True},
    {"code": "weighted", "aggregation_type": "weighted_sum_agg", "weighted_interval": "seconds"},
    {
        "code": "weighted_ever",
        "aggregation_type": "weighted_sum_agg",
        "weighted_interval": "seconds",
        "recurring": True,
    },
]
CLOUDS = ["aws", "gcp"]

charges = st.fixed_dictionaries(
    {
        "prorated": st.booleans(),
        "grouped": st.booleans(),
        "clouds": st.sampled_from([[], ["aws"], ["gcp", "aws"]]),
        "amount": st.sampled_from(["1", "0.37", "12.5"]),
    }
)
values = st.sampled_from([0, 1, 2, 7, "3.25", -4, "-0.5", "007", "1e3", "+5", " 5", "", None])
properties = st.fixed_dictionaries(
    {},
    optional={
        "v": values,
        "cloud": st.sampled_from([*CLOUDS, "azure", "", None]),
        "region": st.sampled_from(["eu", "us", "", None]),
        "operation_type": st.sampled_from(["add", "remove", "remove", "ADD"]),
    },
)
near = st.sampled_from([-1, 0, 1, -1_000, 1_000, -1_000_000, 1_000_000]).map(
    lambda ticks: timedelta(microseconds=ticks)
)
instants = st.one_of(
    st.tuples(st.just(0), near),
    st.tuples(st.just(1), near),
    st.tuples(st.floats(-0.7, 1.3), st.just(timedelta(0))),
)
"""Where an event lies in its period, from 0 at its start to 1 at its end, and how far from there."""
events = st.lists(
    st.tuples(st.sampled_from([each["code"] for each in METRICS]), instants, properties), max_size=40
)


class Simulated:
    """An organization with one subscription to a charge on every metric."""

    def __init__(self, server: Server, terms: list[dict[str, Any]], **more: Any) -> None:
        self.server, self.api = server, join(server, "Reckoned")
        self.interval, self.billing_time, self.timezone = (
            more["interval"],
            more["billing_time"],
            more["timezone"],
        )
        self.now, self.sent = START, list[Sent]()
        self.terms = {
            metric["code"]: {
                **term,
                "prorated": term["prorated"] and metric["code"] in {"sum_ever", "unique_ever"},
            }
            for metric, term in zip(METRICS, terms, strict=True)
        }
        own = [self._charge(self.api, metric, self.terms[metric["code"]]) for metric in METRICS]
        self.api.plan("pro", own, interval=self.interval)
        self.api.customer(timezone=self.timezone)
        self.api.subscribe(billing_time=self.billing_time)

    @staticmethod
    def _charge(api: Api, metric: dict[str, Any], term: dict[str, Any]) -> dict[str, Any]:
        dimensions = [{"key": "cloud", "values": CLOUDS}]
        made = api.metric(**{"field_name": "v", **metric}, filters=dimensions)
        price = {"amount": term["amount"], "pricing_group_keys": ["region"] if term["grouped"] else []}
        return {
            "billable_metric_id": made["lago_id"],
            "charge_model": "standard",
            "prorated": term["prorated"],
            "properties": price,
            "filters": [{"values": {"cloud": [cloud]}, "properties": price} for cloud in term["clouds"]],
        }

    @property
    def span(self) -> Span:
        return span_of(self.now, START, self.interval, self.billing_time, self.timezone)

    def send(self, script: list[Any]) -> None:
        span, drafts = self.span, []
        for code, (share, distance), given_properties in script:
            at = span.start + share * (span.end - span.start) + distance
            self.sent.append(Sent(len(self.sent), at, code, given_properties))
            name = f"reckoned-{len(self.sent)}"
            drafts.append(Draft(name, code, "sub", microseconds(at), None, dict(given_properties)))
        if drafts:
            with closing(open_connection(self.server.dsn)) as conn:
                store(conn, Memory(), [Request(self.api.organization.id, drafts, microseconds(self.now))])

    def move(self, at: datetime) -> None:
        self.now = at
        self.api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})

    def expected(self, metric: dict[str, Any], span: Span) -> dict[tuple[str | None, ...], Line]:
        return lines(metric, self.terms[metric["code"]], self.sent, span)

    def check_usage(self) -> None:
        found = self.api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
        used = {each["billable_metric"]["code"]: each for each in found["charges_usage"]}
        for metric in METRICS:
            term = self.terms[metric["code"]]
            assert shown(used[metric["code"]], term) == self.expected(metric, self.span), (metric, term)

    def check_invoice(self, span: Span) -> None:
        fees = self.api.get("/fees", fee_type="charge", per_page=1000)["fees"]
        own = [
            each
            for each in fees
            if each["to_date"][:19] == (span.end - timedelta(seconds=1)).isoformat()[:19]
        ]
        for metric in METRICS:
            term = self.terms[metric["code"]]
            billed = {
                place_of(each, term): line_of(each) for each in own if each["item"]["code"] == metric["code"]
            }
            expected = self.expected(metric, span)
            assert billed == {place: line for place, line in expected.items() if any(line[:3])}, (
                metric,
                term,
            )


def shown(used: Any, term: dict[str, Any]) -> dict[tuple[str | None, ...], Line]:
    """The lines of a charge in current usage."""
    groups = used["grouped_usage"] if term["grouped"] else [used]
    return {
        (
            cloud_of(each["values"] if term["clouds"] else None),
            *list(group.get("grouped_by", {}).values()),
        ): line_of(each)
        for group in groups
        for each in (group["filters"] if term["clouds"] else [group])
    }


def cloud_of(found: Any) -> str | None:
    return found["cloud"][0] if found else None


def place_of(fee: Any, term: dict[str, Any]) -> tuple[str | None, ...]:
    cloud = cloud_of(fee["item"]["filters"])
    return (cloud, fee["item"]["grouped_by"].get("region")) if term["grouped"] else (cloud,)


def line_of(each: Any) -> Line:
    aggregated = Fraction(each["total_aggregated_units"])
    return Fraction(each["units"]), each["events_count"], each["amount_cents"], aggregated


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    setting=st.fixed_dictionaries(
        {"timezone": timezones, "interval": intervals, "billing_time": billing_times}
    ),
    terms=st.lists(charges, min_size=len(METRICS), max_size=len(METRICS)),
    script=st.lists(events, min_size=4, max_size=4),
)
def test_usage_and_invoices_are_what_the_events_come_to(server, setting, terms, script):
    """Late events and future ones too, some rolled up and some not, over two periods and into a third."""
    world = Simulated(server, terms, **setting)
    for before, after in (script[:2], script[2:]):
        world.send(before)
        world.check_usage()
        rollup.roll_up(server.conn)
        server.conn.commit()
        world.send(after)
        world.check_usage()
        span = world.span
        world.move(span.end)
        world.check_invoice(span)
    world.check_usage()
