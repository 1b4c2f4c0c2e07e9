"""Usage by kind: whole months less what a window leaves of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from permille.events.postgres.kinds import signed
from permille.events.usage import UsageQuery

SINCE = datetime(2026, 1, 20, tzinfo=UTC)


def window(from_: datetime | None, to: datetime) -> UsageQuery:
    return UsageQuery(
        organization_id=UUID(int=1), external_subscription_id="s", codes=("c",), from_=from_, to=to
    )


def test_what_is_added_and_taken_away_leaves_each_instant_of_the_window_once() -> None:
    chance = random.Random(2)
    taken_away = set()
    for _ in range(400):
        from_ = SINCE + timedelta(hours=chance.randrange(24 * 60))
        asked = window(
            chance.choice([from_, from_, None]), from_ + timedelta(hours=chance.randrange(1, 24 * 50))
        )
        parts = signed(asked)
        taken_away.add(len(parts))
        edges = [at for _, each in parts for at in (each.from_ or SINCE, each.to)]
        for at in [*edges, *(each - timedelta(microseconds=1) for each in edges)]:
            times = sum(
                sign for sign, each in parts if (each.from_ or SINCE - timedelta(days=1)) <= at < each.to
            )
            assert times == ((asked.from_ or SINCE - timedelta(days=1)) <= at < asked.to)
    assert taken_away == {1, 2, 3}


def test_the_end_of_time_has_no_month() -> None:
    asked = window(SINCE, datetime.max.replace(tzinfo=UTC))
    assert signed(asked) == [(1, asked)]
