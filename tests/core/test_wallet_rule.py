"""What is shared of usage among wallets, and by how much rules top up (semantics-billing.md 5.6, V-130 to V-136)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from permille.core.period import Interval, start_of_day
from permille.core.record import names_of, replace
from permille.core.wallet import share, worth_of
from permille.core.wallet_rule import (
    Method,
    Pending,
    Trigger,
    WalletRule,
    is_below,
    moved_top_up,
    next_top_up,
    rule_credits,
)

from .test_wallet import bucket, wallet

ZERO = Decimal(0)


def rule(**fields: Any) -> WalletRule:
    columns = {
        "trigger": Trigger.THRESHOLD,
        "method": Method.FIXED,
        "threshold_credits": Decimal(5),
        "paid_credits": ZERO,
        "granted_credits": ZERO,
        "grants_target_top_up": False,
        "ignore_paid_top_up_limits": False,
    }
    return WalletRule(**{**dict.fromkeys(names_of(WalletRule)), **columns, **fields})


def only(*metrics: int) -> dict[str, Any]:
    return {"billable_metric_ids": tuple(UUID(int=each) for each in metrics)}


@pytest.mark.parametrize(
    ("scopes", "absorbing", "expected"),
    [
        (((1,), (2,), (3,), (4,)), (), (1000, 2000, 3000, 4000)),
        (((1, 2), (2, 3), (3, 4), (4, 1)), (), (1000, 3000, 4000, 2000)),
        (((), (), (), ()), (), (1000, 2000, 3000, 4000)),
        (((), (), (), ()), (3,), (0, 0, 10_000, 0)),
        (((1,), (1,), (1,), (1,)), (), (1000, 0, 0, 0)),
    ],
)
def test_usage_is_shared_and_the_last_wallet_takes_the_rest(
    scopes: tuple[tuple[int, ...], ...], absorbing: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    rows = [wallet(number, number * 1000, **only(*metrics)) for number, metrics in enumerate(scopes, 1)]
    usage = [bucket(str(1000 * metric), metric=metric) for metric in (1, 2, 3, 4)]
    shared = share(rows, {UUID(int=each) for each in absorbing}, usage)
    assert tuple(shared.values()) == expected


def test_what_is_shared_is_rounded_once() -> None:
    shared = share(
        [wallet(1, 10_000)], (), [bucket("100.4", metric=1), bucket("9.4"), bucket("-3", metric=2)]
    )
    assert list(shared.values()) == [110]


@pytest.mark.parametrize(
    ("fields", "limits", "usage", "pending", "wanted"),
    [
        (
            {"method": Method.TARGET, "target_ongoing_balance": Decimal(10), "grants_target_top_up": True},
            {},
            600,
            "0",
            ("0", "6"),
        ),
        (
            {"method": Method.TARGET, "target_ongoing_balance": Decimal(10)},
            {"paid_top_up_min_amount_cents": 5000},
            600,
            "0",
            ("50", "0"),
        ),
        (
            {
                "method": Method.TARGET,
                "target_ongoing_balance": Decimal(10),
                "ignore_paid_top_up_limits": True,
            },
            {"paid_top_up_min_amount_cents": 5000},
            600,
            "0",
            ("6", "0"),
        ),
        ({"paid_credits": Decimal(10)}, {}, 600, "0", ("10", "0")),
        ({"paid_credits": Decimal(3), "threshold_credits": Decimal(9)}, {}, 600, "0", ("6", "0")),
        (
            {"paid_credits": Decimal(3), "threshold_credits": Decimal(9)},
            {"paid_top_up_max_amount_cents": 500},
            600,
            "0",
            ("5", "0"),
        ),
        ({"paid_credits": Decimal(3), "threshold_credits": Decimal(9)}, {}, 600, "4", ("3", "0")),
        ({"method": Method.TARGET, "target_ongoing_balance": Decimal(10)}, {}, 600, "4", ("2", "0")),
        (
            {"paid_credits": Decimal("1.001"), "threshold_credits": Decimal("5.0005")},
            {},
            600,
            "0",
            ("2.002", "0"),
        ),
        ({"method": Method.TARGET, "target_ongoing_balance": Decimal(10)}, {}, 600, "6", ("0", "0")),
        ({"granted_credits": Decimal(2)}, {}, 600, "0", ("0", "2")),
        (
            {"trigger": Trigger.INTERVAL, "paid_credits": Decimal(7), "granted_credits": Decimal(1)},
            {},
            600,
            "0",
            ("7", "1"),
        ),
        (
            {"trigger": Trigger.INTERVAL, "method": Method.TARGET, "target_ongoing_balance": Decimal(4)},
            {},
            600,
            "0",
            ("0", "0"),
        ),
    ],
)
def test_rules_top_up_by(
    fields: dict[str, Any], limits: dict[str, Any], usage: int, pending: str, wanted: tuple[str, str]
) -> None:
    topped = wallet(1, 1000, ongoing_usage_balance_cents=usage, **limits)
    assert rule_credits(rule(**fields), topped, Pending(Decimal(pending))) == tuple(map(Decimal, wanted))


def test_credits_that_are_on_their_way_count_for_a_threshold() -> None:
    low = wallet(1, 1000, ongoing_usage_balance_cents=500)
    assert is_below(rule(), low, Pending())
    assert not is_below(rule(), low, Pending(Decimal("0.1")))
    assert not is_below(rule(), wallet(1, 1000, ongoing_usage_balance_cents=499), Pending())


_CREDITS = st.decimals(0, 100, places=5)


@given(
    fields=st.fixed_dictionaries(
        {
            "method": st.sampled_from(Method),
            "threshold_credits": _CREDITS,
            "paid_credits": _CREDITS,
            "granted_credits": _CREDITS,
            "grants_target_top_up": st.booleans(),
            "ignore_paid_top_up_limits": st.booleans(),
        }
    ),
    above=st.just(ZERO) | _CREDITS,
    rate=st.sampled_from(["1", "0.5", "2.5", "0.7", "0.03", "0.013", "333.33"]),
    limits=st.tuples(st.none() | st.integers(0, 10_000), st.none() | st.integers(1, 10_000)),
    used=st.integers(0, 100_000),
    waiting=st.tuples(_CREDITS, _CREDITS),
)
def test_another_look_tops_nothing_up(
    *,
    fields: dict[str, Any],
    above: Decimal,
    rate: str,
    limits: tuple[int | None, int | None],
    used: int,
    waiting: tuple[Decimal, Decimal],
) -> None:
    """Whatever waits for its payment: how often a clock stops, or an event comes, must not say how much money is asked for."""
    found = rule(**fields, target_ongoing_balance=fields["threshold_credits"] + above)
    least, most = limits
    looked_at = wallet(
        1,
        1000,
        credits_balance=worth_of(Decimal(10), Decimal(rate), "EUR").credits,
        rate_amount=Decimal(rate),
        ongoing_usage_balance_cents=used,
        paid_top_up_min_amount_cents=least,
        paid_top_up_max_amount_cents=most,
    )
    pending, looks = Pending(sum(waiting, ZERO), waiting[0]), []
    for _ in range(3):
        wanted = (
            rule_credits(found, looked_at, pending) if is_below(found, looked_at, pending) else (ZERO, ZERO)
        )
        paid, granted = (worth_of(each, Decimal(rate), "EUR").credits for each in wanted)
        looks.append((paid, granted))
        pending = Pending(pending.credits + paid, pending.by_threshold + paid)
        looked_at = replace(looked_at, credits_balance=looked_at.credits_balance + granted)
    assert looks[1:] == [(ZERO, ZERO)] * 2


def test_intervals_follow_the_last_day_of_the_month_and_begin_at_the_start() -> None:
    monthly = rule(trigger=Trigger.INTERVAL, interval=Interval.MONTHLY)
    made = wallet(1, 0, created_at=datetime(2024, 1, 31, 9, tzinfo=UTC))
    first = next_top_up(monthly, made, after=datetime(2024, 1, 31, 9, tzinfo=UTC), timezone="UTC")
    assert first == datetime(2024, 2, 29, tzinfo=UTC)
    later = rule(
        trigger=Trigger.INTERVAL, interval=Interval.WEEKLY, started_at=datetime(2024, 3, 5, 12, tzinfo=UTC)
    )
    assert next_top_up(later, made, after=datetime(2024, 2, 1, tzinfo=UTC), timezone="UTC") == datetime(
        2024, 3, 5, tzinfo=UTC
    )
    assert next_top_up(later, made, after=datetime(2024, 3, 5, 13, tzinfo=UTC), timezone="UTC") == datetime(
        2024, 3, 12, tzinfo=UTC
    )
    assert next_top_up(rule(), made, after=datetime(2024, 3, 5, tzinfo=UTC), timezone="UTC") is None


@given(
    started_at=st.none() | st.datetimes(datetime(2023, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),
    after=st.datetimes(datetime(2024, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)),
    interval=st.sampled_from(Interval),
    timezone=st.sampled_from(["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/Sao_Paulo"]),
)
def test_after_a_top_up_comes_one_of_a_later_day(
    started_at: datetime | None, after: datetime, interval: Interval, timezone: str
) -> None:
    """Else an instant at which a rule tops up would never end."""
    found = rule(trigger=Trigger.INTERVAL, interval=interval, started_at=started_at)
    made = wallet(1, 0, created_at=datetime(2024, 1, 1, 9, tzinfo=UTC))
    first = next_top_up(found, made, after=after, timezone=timezone)
    assert first is not None
    second = next_top_up(found, made, after=first, timezone=timezone)
    assert second is not None
    assert after < first < second
    if started_at is not None and first < started_at:
        assert first == start_of_day(started_at, timezone)


def test_the_day_on_which_a_rule_starts_is_not_topped_up_again() -> None:
    later = rule(
        trigger=Trigger.INTERVAL, interval=Interval.MONTHLY, started_at=datetime(2026, 3, 10, 22, tzinfo=UTC)
    )
    made = wallet(1, 0, created_at=datetime(2026, 3, 10, 8, tzinfo=UTC))
    for hour in (8, 9):
        after = datetime(2026, 3, 10, hour, tzinfo=UTC)
        assert next_top_up(later, made, after=after, timezone="UTC") == datetime(2026, 4, 10, tzinfo=UTC)


@pytest.mark.parametrize("interval", [Interval.WEEKLY, Interval.MONTHLY, Interval.YEARLY])
@pytest.mark.parametrize("anchor_day", [2, 15, 28, 31])
@pytest.mark.parametrize("hour", [3, 12, 22])
@pytest.mark.parametrize(
    ("before", "after"), [("Asia/Tokyo", "America/New_York"), ("America/New_York", "Asia/Tokyo")]
)
def test_each_interval_tops_up_once_whenever_its_customer_moves_to_another_timezone(
    interval: Interval, anchor_day: int, hour: int, before: str, after: str
) -> None:
    """Also within the hours in which a day has begun in one of them only."""
    anchor = datetime(2026, 1, anchor_day, hour, tzinfo=UTC)
    topped = rule(trigger=Trigger.INTERVAL, interval=interval, started_at=anchor)
    made = wallet(1, 0, created_at=anchor)
    start, end = anchor + timedelta(days=1), anchor + timedelta(days=800)

    def play(moves_at: datetime | None) -> list[datetime]:
        found, timezone = [], before
        at = next_top_up(topped, made, after=start, timezone=before)
        while at and at < end:
            if moves_at and timezone == before and moves_at <= at:
                timezone = after
                at = moved_top_up(topped, made, due_at=at, before=before, after=after, now=moves_at)
                continue
            found.append(at)
            at = next_top_up(topped, made, after=at, timezone=timezone)
        return found

    stayed = play(None)
    for offset in (-30, -15, -1, 0, 1, 7, 15, 30):
        moved = play(stayed[1] + timedelta(hours=offset))
        pauses = [(later - earlier).days for earlier, later in pairwise(moved)]
        usual = [(later - earlier).days for earlier, later in pairwise(stayed)]
        assert min(pauses) >= min(usual) - 4
        assert max(pauses) <= max(usual) + 4
