"""Which rule says who pays for a call, by the names that come with it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from permille.core.llm.litellm import usage_in
from permille.core.llm.payer import SET_BY_REQUESTS, PayerName, PayerRule, payer_names, rule_for
from permille.core.record import replace

NOW = datetime(2026, 10, 1, tzinfo=UTC)


def rule(kind: PayerName, value: str, *, overrides: bool | None = None) -> PayerRule:
    return PayerRule(
        id=UUID(int=1),
        organization_id=UUID(int=2),
        field=kind,
        value=value,
        external_subscription_id=None,
        external_customer_id="acme",
        overrides_request=kind not in SET_BY_REQUESTS if overrides is None else overrides,
        created_at=NOW,
    )


RULES: dict[tuple[str, str], PayerRule] = {
    (each.field, each.value): each
    for each in (
        rule(PayerName.KEY, "k2", overrides=False),
        rule(PayerName.TEAM, "t1"),
        rule(PayerName.END_USER, "e1"),
        rule(PayerName.TAG, "b"),
    )
}


@pytest.mark.parametrize(
    ("names", "overriding", "found"),
    [
        ({"team": ["t1"], "key": ["k2"]}, False, ("key", "k2")),
        ({"team": ["t1"], "key": ["k2"]}, True, ("team", "t1")),
        ({"key": ["t1"], "user": ["k2"]}, False, None),
        ({"end_user": ["e1"], "tag": ["a", "b"]}, False, ("end_user", "e1")),
        ({"end_user": ["e1"], "tag": ["a", "b"]}, True, None),
        ({"tag": ["a", "b"]}, False, ("tag", "b")),
        ({}, False, None),
    ],
)
def test_the_first_rule_about_a_name(
    names: dict[str, list[str]], overriding: bool, found: tuple[str, str] | None
) -> None:
    chosen = rule_for(names, RULES, overriding=overriding)
    assert (None if chosen is None else (chosen.field, chosen.value)) == found


def test_the_lowest_position_goes_first_and_those_without_one_come_after() -> None:
    def first(**positions: int | None) -> str:
        rules = {
            (kind, "n"): replace(rule(PayerName(kind), "n"), position=position)
            for kind, position in positions.items()
        }
        found = rule_for({kind: ["n"] for kind in positions}, rules, overriding=False)
        assert found is not None
        return str(found.field)

    assert first(key=None, team=None) == "key"
    assert first(key=None, team=9, tag=2) == "tag"
    assert first(key=3, team=3, tag=None) == "key"


def test_names_are_short_texts_each_once() -> None:
    given = {
        "key": "k",
        "team": ["t", None, "", 7, "x" * 201],
        "other": "o",
        "tag": [f"{n}" for n in range(30)],
    }
    found = payer_names({"team": "first"}, given, {"key": "k"})
    assert found == {"key": ["k"], "team": ["first", "t"], "tag": [f"{n}" for n in range(20)]}


def test_names_of_a_payload_of_litellm() -> None:
    metadata = {
        "user_api_key_alias": "acme-prod",
        "user_api_key_hash": "88dc",
        "user_api_key_user_id": "u-1",
        "user_api_key_team_id": "team-acme",
        "user_api_key_org_id": None,
        "user_api_key_end_user_id": "e",
    }
    usage = usage_in({"prompt_tokens": 1, "end_user": "e", "request_tags": ["a"], "metadata": metadata})
    assert usage is not None
    assert usage["payer_names"] == {
        "key": ["acme-prod", "88dc"],
        "user": ["u-1"],
        "team": ["team-acme"],
        "end_user": ["e"],
        "tag": ["a"],
    }
    assert usage["payer_requested"] is True
