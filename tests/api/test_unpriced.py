"""Usage that no filter of a charge lists, over HTTP: it is free, held or priced by the default, and nobody misses it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from permille.ingest.intake import Draft, microseconds
from permille.ingest.writer import Memory, Request, open_connection, store

from .conftest import START, Api, charge

_numbers = itertools.count(1)


@pytest.fixture
def send(dsn: str, api: Api) -> Any:
    """Store events; their transaction ids."""
    conn, memory = open_connection(dsn), Memory()

    def many(*models: Any, tokens: int = 10, at: datetime = START, sub: str = "sub") -> list[str]:
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


def move(api: Api, *when: int) -> None:
    api.put("/test_clock", {"test_clock": {"now": datetime(*when, tzinfo=UTC).isoformat()}})


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
