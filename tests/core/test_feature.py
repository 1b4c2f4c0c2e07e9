"""What a subscription is entitled to: its plan's values, its own over them, without what was taken away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st

from permille.core.feature import (
    Feature,
    Grant,
    Privilege,
    ValueType,
    entitlements,
    merge_privileges,
    with_own_values,
    with_values,
    without_feature,
    without_privilege,
)

SEATS, SSO = UUID(int=1), UUID(int=2)


def privilege(code: str, value_type: str = "string", *options: str) -> Privilege:
    return Privilege(code=code, name=None, value_type=ValueType(value_type), select_options=options)


def feature(feature_id: UUID, code: str, *codes: str) -> Feature:
    return Feature(
        id=feature_id,
        organization_id=uuid4(),
        code=code,
        name=None,
        description=None,
        privileges=tuple(map(privilege, codes)),
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
    )


FEATURES = {SEATS: feature(SEATS, "seats", "max", "admins"), SSO: feature(SSO, "sso", "provider")}
PLAN = with_values({}, {SEATS: {"max": "10", "admins": "2"}})


def seen(own: dict[UUID, Grant], plan: dict[UUID, Grant] = PLAN) -> dict[str, Any]:
    return {
        each.feature.code: {one.privilege.code: one.value for one in each.privileges}
        for each in entitlements(FEATURES, plan, own)
    }


def test_a_subscription_has_its_plans_values_and_its_own_over_them() -> None:
    own = with_own_values(PLAN, {}, {SEATS: {"max": "15"}, SSO: {"provider": "okta"}})
    assert seen(own) == {"seats": {"max": "15", "admins": "2"}, "sso": {"provider": "okta"}}
    (seats, _) = entitlements(FEATURES, PLAN, own)
    assert seats.overrides == {"max": "15"}


def test_a_value_equal_to_the_plans_is_none_of_its_own() -> None:
    own = with_own_values(PLAN, {}, {SEATS: {"max": "15"}})
    assert with_own_values(PLAN, own, {SEATS: {"max": "10"}}) == {}


def test_what_is_taken_away_is_gone_until_it_is_given_back() -> None:
    own = without_feature(PLAN, with_own_values(PLAN, {}, {SEATS: {"max": "15"}}), SEATS)
    assert seen(own) == {}
    assert seen(with_own_values(PLAN, own, {SEATS: {}})) == {"seats": {"max": "10", "admins": "2"}}
    own = without_privilege(PLAN, {}, SEATS, "admins")
    assert seen(own) == {"seats": {"max": "10"}}
    assert seen(with_own_values(PLAN, own, {SEATS: {"admins": "2"}})) == {
        "seats": {"max": "10", "admins": "2"}
    }
    assert without_feature(PLAN, with_own_values(PLAN, {}, {SSO: {"provider": "okta"}}), SSO) == {}


values = st.dictionaries(st.sampled_from(["max", "admins"]), st.sampled_from(["1", "2", "10"]))
edits = st.lists(
    st.tuples(st.just("set"), values)
    | st.tuples(st.just("drop"), st.sampled_from(["max", "admins"]))
    | st.tuples(st.just("drop all"), st.none()),
    max_size=8,
)


@given(values, edits)
def test_any_edits_come_to_what_a_dictionary_would(granted: dict[str, str], sequence: list[Any]) -> None:
    plan = with_values({}, {SEATS: granted})
    own: dict[UUID, Grant] = {}
    expected: dict[str, str] | None = dict(granted)
    for what, given_ in sequence:
        if what == "set":
            own = with_own_values(plan, own, {SEATS: given_})
            expected = {**(dict(granted) if expected is None else expected), **given_}
        elif expected is not None and what == "drop all":
            own = without_feature(plan, own, SEATS)
            expected = None
        elif expected is not None and given_ in expected:
            own = without_privilege(plan, own, SEATS, given_)
            del expected[given_]
    assert seen(own, plan) == ({} if expected is None else {"seats": expected})


@pytest.mark.parametrize(
    ("value_type", "given_", "kept"),
    [
        ("integer", 10, "10"),
        ("integer", "-7", "-7"),
        ("integer", 1.5, None),
        ("integer", True, None),
        ("integer", "²", None),
        ("integer", 10**30, None),
        ("boolean", True, "true"),
        ("boolean", "false", "false"),
        ("boolean", 1, None),
        ("string", "x", "x"),
        ("string", 5, None),
        ("string", "", None),
        ("select", "okta", "okta"),
    ],
)
def test_values_fit_their_type(value_type: str, given_: Any, kept: str | None) -> None:
    one = privilege("p", value_type, "okta")
    assert one.text_of(given_) == kept
    if kept is not None:
        assert one.text_of(one.value_of(kept)) == kept


def test_a_known_privilege_keeps_its_type_and_gets_more_options() -> None:
    known = (privilege("provider", "select", "google"),)
    sent = Privilege(
        code="provider", name="P", value_type=ValueType.SELECT, select_options=("okta", "google")
    )
    (merged, new) = merge_privileges(known, [sent, privilege("x")])
    assert (merged.name, merged.select_options, new.code) == ("P", ("google", "okta"), "x")
