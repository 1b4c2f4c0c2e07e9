"""An event at the very instant at which one subscription ends and another starts is billed once, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from .conftest import Api, charge
from .test_amendments import Sender, send
from .test_credit_notes import move

__all__ = ["send"]

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize("then", ["nothing", "starts", "starts and changes", "starts later"])
def test_an_event_at_an_end_is_not_billed_by_what_starts_then(api: Api, send: Sender, then: str) -> None:
    """5 units at 1.00 at noon, when the clock rests: whatever follows, they are on one invoice."""
    api.plan(charges=[charge(api.metric())])
    metric = api.get("/billable_metrics/tokens")["billable_metric"]
    api.plan("big", charges=[charge(metric)], amount_cents=100)
    api.customer()
    api.subscribe()
    move(api, 2024, 3, 10, 12)
    send(NOON, tokens=5)
    api.delete("/subscriptions/sub")
    if then == "starts later":
        move(api, 2024, 3, 12)
        api.subscribe(subscription_at="2024-03-01T00:00:00Z")
    elif then != "nothing":
        api.subscribe()
    if then == "starts and changes":
        api.subscribe(plan="big")
        api.delete("/subscriptions/sub")
        api.subscribe()
    move(api, 2024, 4, 2)
    (billed,) = api.row(
        "select array_agg(amount_cents) from fee where organization_id = %(organization)s and fee_type = 'charge'"
    )
    assert [cents for cents in billed if cents] == [500]


def test_an_event_after_a_start_at_the_instant_of_an_end_is_of_what_starts(api: Api, send: Sender) -> None:
    api.plan(charges=[charge(api.metric())])
    api.customer()
    api.subscribe()
    move(api, 2024, 3, 10, 12)
    api.delete("/subscriptions/sub")
    started = api.subscribe()
    send(NOON, tokens=5)
    move(api, 2024, 4, 2)
    billed = api.row(
        "select subscription_id::text, amount_cents from fee where organization_id = %(organization)s and fee_type = 'charge'"
    )
    assert billed == (started["lago_id"], 500)
