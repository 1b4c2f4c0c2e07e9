"""GET /subscriptions/{id}/daily_usage over HTTP: days, dates, pages, filters, groups, every aggregation."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from permille.events.postgres import rollup

from .conftest import START, charge
from .test_usage import move, ready, send

__all__ = ["send"]

PATH = "/subscriptions/sub/daily_usage"


def daily(api: Any, **params: Any) -> Any:
    return api.get(PATH, **params)


def by_day(api: Any, **params: Any) -> dict[str, str]:
    """Date -> units of the first charge."""
    return {each["date"]: each["charges_usage"][0]["units"] for each in daily(api, **params)["daily_usage"]}


def day(number: int, hour: int = 12, month: int = 3) -> datetime:
    return datetime(2024, month, number, hour, tzinfo=UTC)


def test_the_running_period_up_to_today_unless_dates_are_given(api, send):
    ready(api, charge(api.metric()))
    send(at=day(5), tokens=1)
    send(at=day(7), tokens=2)
    send(at=day(9), tokens=4)
    assert by_day(api) == {"2024-03-05": "1.0"}
    move(api, 2024, 3, 8, 23)
    four = {"2024-03-05": "1.0", "2024-03-06": "0.0", "2024-03-07": "2.0", "2024-03-08": "0.0"}
    assert by_day(api) == four
    move(api, 2024, 4, 2)
    assert by_day(api) == {"2024-04-01": "0.0", "2024-04-02": "0.0"}
    assert by_day(api, from_date="2024-03-05", to_date="2024-03-08") == four
    # only days that are subscribed, those of the running period to its end
    found = daily(api, from_date="2020-01-01", to_date="2030-01-01", per_page="1")
    assert found["meta"]["total_count"] == 27 + 30
    assert by_day(api, from_date="2024-05-01", to_date="2024-06-01") == {}
    assert by_day(api, from_date="2024-05-01") == {}


def test_pages_of_days(api, send):
    ready(api, charge(api.metric("seats", recurring=True)))
    send("seats", at=day(6), tokens=5)
    send("seats", at=day(8), tokens=-2)
    move(api, 2024, 3, 10)
    whole = by_day(api)
    assert list(whole.values()) == ["0.0", "5.0", "5.0", "3.0", "3.0", "3.0"]
    paged: dict[str, str] = {}
    for number in (1, 2, 3):
        paged |= by_day(api, page=number, per_page=2)
    assert paged == whole
    assert daily(api, page="2", per_page="4")["meta"] == {
        "current_page": 2,
        "next_page": None,
        "prev_page": 1,
        "total_pages": 2,
        "total_count": 6,
    }
    assert by_day(api, page=9) == {}


def test_a_day_by_filter_and_group(api, send):
    metric = api.metric(filters=[{"key": "model", "values": ["8K", "32K"]}])
    filters = [
        {
            "values": {"model": ["8K"]},
            "invoice_display_name": "Small",
            "properties": {"amount": "1", "pricing_group_keys": ["region"]},
        },
        {"values": {"model": ["32K"]}, "properties": {"amount": "2"}},
    ]
    made = api.plan("pro", [charge(metric, filters=filters)])["charges"][0]
    api.customer()
    api.subscribe()
    for model, region, tokens in (
        ("8K", "us", 1),
        ("8K", "eu", 2),
        ("32K", "eu", 4),
        ("1M", "eu", 8),
        ("8K", "us", 16),
    ):
        send(model=model, region=region, tokens=tokens)
    (one,) = daily(api)["daily_usage"]
    assert (one["from_datetime"], one["to_datetime"]) == ("2024-03-05T10:00:00Z", "2024-03-05T23:59:59Z")
    (used,) = one["charges_usage"]
    assert (used["units"], used["events_count"]) == ("31.0", 5)
    assert used["charge"] == {
        "lago_id": made["lago_id"],
        "code": made["code"],
        "charge_model": "standard",
        "invoice_display_name": None,
    }
    lines = [
        (
            each["invoice_display_name"],
            each["values"],
            each["grouped_by"],
            each["units"],
            each["events_count"],
        )
        for each in used["breakdown"]
    ]
    assert lines == [
        ("Small", {"model": ["8K"]}, {"region": "eu"}, "2.0", 1),
        ("Small", {"model": ["8K"]}, {"region": "us"}, "17.0", 2),
        (None, {"model": ["32K"]}, {}, "4.0", 1),
        (None, None, {}, "8.0", 1),
    ]
    ids = [each["lago_charge_filter_id"] for each in used["breakdown"]]
    assert ids[0] == ids[1] == made["filters"][0]["lago_id"]
    assert ids[3] is None


def test_days_are_the_customers(api, send):
    ready(api, charge(api.metric()), customer={"timezone": "America/Los_Angeles"})
    send(at=datetime(2024, 3, 10, 9, tzinfo=UTC), tokens=1)  # 1:00 of the 10th, a day of 23 hours
    send(at=datetime(2024, 3, 11, 6, 59, tzinfo=UTC), tokens=2)  # its last minute
    send(at=datetime(2024, 3, 11, 7, tzinfo=UTC), tokens=4)
    move(api, 2024, 3, 12)
    found = by_day(api, from_date="2024-03-10")
    assert found == {"2024-03-10": "3.0", "2024-03-11": "4.0"}


def test_a_terminated_subscription_keeps_its_days(api, send):
    ready(api, charge(api.metric()))
    send(at=day(5), tokens=1)
    move(api, 2024, 3, 7, 9)
    api.delete("/subscriptions/sub")
    move(api, 2024, 5, 1)
    assert api.code(404, "GET", PATH) == "subscription_not_found"
    assert by_day(api, status="terminated") == {"2024-03-05": "1.0", "2024-03-06": "0.0", "2024-03-07": "0.0"}


def test_one_that_has_not_started_has_no_days(api):
    api.plan("pro", [charge(api.metric())])
    api.customer()
    api.subscribe(subscription_at="2024-06-01T00:00:00Z")
    assert daily(api, status="pending")["daily_usage"] == []


def test_what_is_refused(api, stranger):
    ready(api, charge(api.metric()))
    assert api.details("GET", PATH, None, from_date="soon") == {"from_date": ["invalid_date"]}
    assert api.details("GET", PATH, None, from_date="2024-03-05", to_date="2024-03-04") == {
        "to_date": ["invalid_date"]
    }
    assert api.code(404, "GET", PATH, charge_code="none") == "charge_not_found"
    assert stranger.code(404, "GET", PATH) == "subscription_not_found"
    assert by_day(api, from_date="1900-01-01", to_date="2199-12-31")["2024-03-31"] == "0.0"


AGGREGATIONS: dict[str, Any] = {
    "count": {"aggregation_type": "count_agg", "field_name": None},
    "sum": {},
    "sum_ever": {"recurring": True},
    "max": {"aggregation_type": "max_agg"},
    "latest": {"aggregation_type": "latest_agg"},
    "unique": {"aggregation_type": "unique_count_agg"},
    "unique_ever": {"aggregation_type": "unique_count_agg", "recurring": True},
    "weighted": {"aggregation_type": "weighted_sum_agg", "weighted_interval": "seconds"},
}


@pytest.mark.parametrize("seed", range(3))
def test_every_aggregation_against_a_recomputation_from_the_raw_events(api, send, server, seed):
    chance = random.Random(seed)
    zone = chance.choice(["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Auckland"])
    metrics = [api.metric(code, **fields) for code, fields in AGGREGATIONS.items()]
    ready(api, *map(charge, metrics), customer={"timezone": zone})
    sent: list[tuple[datetime, str, int, bool]] = []
    for n in range(100):
        at = START + timedelta(minutes=chance.randrange(-3 * 1440, 40 * 1440))
        code, value, is_add = chance.choice(list(AGGREGATIONS)), chance.randrange(1, 9), chance.random() < 0.7
        sent.append((at, code, value, is_add))
        send(code, at=at, tokens=value, operation_type="add" if is_add else "remove")
        if n == 50:
            rollup.roll_up(server.conn)
            server.conn.commit()
    move(api, 2024, 4, 14)
    found = daily(api, from_date="2024-03-05", to_date="2024-04-30")["daily_usage"]
    assert len(found) == 57
    for each in found:
        own = date.fromisoformat(each["date"])
        for used in each["charges_usage"]:
            code = used["billable_metric"]["code"]
            events = sorted(
                (one for one in sent if one[1] == code), key=lambda one: (one[0], sent.index(one))
            )
            expected = recomputed(code, events, own, ZoneInfo(zone))
            assert abs(Decimal(used["units"]) - expected) < Decimal("1e-11"), (code, own)


def recomputed(code: str, events: Any, own: date, zone: ZoneInfo) -> Decimal:
    """By the definition, from the events of a metric in order: those of the day, of the period so far, or of ever."""
    start = datetime(own.year, own.month, own.day, tzinfo=zone).astimezone(UTC)
    after = own + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=zone).astimezone(UTC)
    opened = max(datetime(own.year, own.month, 1, tzinfo=zone).astimezone(UTC), START)
    start, whole = max(start, START), Decimal((end - start).total_seconds())
    of_day = [one for one in events if start <= one[0] < end]
    of_period = [one for one in events if opened <= one[0] < end]
    ever = [one for one in events if one[0] < end]
    match code:
        case "count":
            return Decimal(len(of_day))
        case "sum":
            return Decimal(sum(value for _, _, value, _ in of_day))
        case "sum_ever":
            return Decimal(sum(value for _, _, value, _ in ever))
        case "max":
            return Decimal(max((value for _, _, value, _ in of_day), default=0))
        case "latest":
            return Decimal(of_period[-1][2] if of_period else 0)
        case "unique" | "unique_ever":
            there = {value: is_add for _, _, value, is_add in (of_day if code == "unique" else ever)}
            return Decimal(sum(there.values()))
        case _:
            stood = [
                (value, Decimal((end - max(at, start)).total_seconds())) for at, _, value, _ in of_period
            ]
            return sum((value * seconds for value, seconds in stood), Decimal(0)) / whole
