"""When customers are asked for what is overdue."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from permille.core.invoice.dunning import (
    DunningCampaign,
    DunningState,
    dunned,
    is_exhausted,
    next_attempt_at,
    to_request,
)

AT = datetime(2025, 3, 1, 9, tzinfo=UTC)
CAMPAIGN = DunningCampaign(
    id=UUID(int=1),
    organization_id=UUID(int=2),
    code="late",
    name="Late",
    description=None,
    thresholds={"EUR": 15_000, "USD": 700},
    days_between_attempts=3,
    max_attempts=2,
    created_at=AT,
    updated_at=AT,
)


@pytest.mark.parametrize(
    ("overdue", "currencies"),
    [
        ({"EUR": 14_999}, []),
        ({"EUR": 15_000}, ["EUR"]),
        ({"EUR": 1, "USD": 9_000}, ["USD"]),
        ({"EUR": 99_999, "USD": 700}, ["EUR", "USD"]),
        ({"JPY": 10**9}, []),
        ({}, []),
    ],
)
def test_a_currency_is_asked_for_from_its_threshold_on(
    overdue: dict[str, int], currencies: list[str]
) -> None:
    assert dunned(CAMPAIGN, overdue) == currencies
    assert to_request(CAMPAIGN, DunningState(attempts={}), overdue) == currencies


def test_attempts_are_counted_by_currency_and_end_together() -> None:
    overdue = {"EUR": 20_000, "USD": 800}
    one_left = DunningState(attempts={"EUR": 2, "USD": 1})
    assert to_request(CAMPAIGN, one_left, overdue) == ["USD"]
    assert not is_exhausted(CAMPAIGN, one_left, overdue)
    assert is_exhausted(CAMPAIGN, DunningState(attempts={"EUR": 2, "USD": 2}), overdue)
    assert is_exhausted(CAMPAIGN, DunningState(attempts={"EUR": 2}), {"EUR": 20_000})
    assert not is_exhausted(CAMPAIGN, DunningState(attempts={"EUR": 2}), {"EUR": 100})


def test_attempts_are_more_than_so_many_days_apart() -> None:
    assert next_attempt_at(CAMPAIGN, DunningState(attempts={})) is None
    after = next_attempt_at(CAMPAIGN, DunningState(attempts={}, last_attempt_at=AT))
    assert after is not None
    assert timedelta(days=3) < after - AT < timedelta(days=3, seconds=1)
