"""What a price file may ask for: its match rules are tried on every name that is not known, by everybody's server."""

from __future__ import annotations

import re
import time
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.llm.catalogue import genai_prices, litellm, prices
from permille.core.llm.catalogue.match import DEPTH_MAX, RULE_WORK, WAYS_MAX, read_rule
from permille.core.llm.catalogue.prices import RULES_WORK_MAX, Catalogue
from permille.core.llm.catalogue.regex import NAME_MAX, ways
from permille.core.llm.catalogue.rows import UnreadablePricesError


def read(*models: dict[str, Any], **provider: Any) -> Catalogue:
    return genai_prices.read_catalogue([{"id": "acme", "models": list(models), **provider}], label="x")


def model(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": {"input_mtok": 1}, **fields}


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "(a|aa)+$",
        "^(a|a)*$",
        "^" + "a?" * 30 + "a" * 30,
        "^" + "(ab|ab)" * 30 + "$",
        ".*.*.*=",
        "^.*.*.*=",
        r"^(a)\1",
        "^(((){200}){200}){200}",
        "^(?:a?){100000}",
        "(?i)[a-z]",
        "^(?i:[a-z])",
        "^(?>a+)",
        "(?<=a+)b",
        "(",
        "(?L)a",
        "a{99999999999}",
        "(" * 400 + ")" * 400,
    ],
)
def test_a_regular_expression_that_may_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(UnreadablePricesError):
        read(model(match={"regex": pattern}))


@pytest.mark.parametrize(
    "pattern", [r"^gpt-5-\d{4}-\d{2}-\d{2}$", "^(?!.*-tts(?:$|-))", "o[134]", "^(x|yz)?-a+", "^.*=.*$"]
)
def test_one_that_takes_little_is_taken(pattern: str) -> None:
    assert read(model(match={"regex": pattern})).providers[0].models[0].id == "a"


patterns = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "ab", "a|b", "aa|a"]),
    lambda inner: st.builds(
        "".join, st.lists(st.builds("(?:{}){}".format, inner, st.sampled_from(["", "?", "*", "+", "{2}", "{1,3}", "*?"])), min_size=1, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(patterns, st.sampled_from(["", "^"]))
def test_what_is_taken_never_takes_long(pattern: str, begins: str) -> None:
    pattern = f"{begins}(?:{pattern})!"
    if ways(pattern) > WAYS_MAX:
        return
    began = time.thread_time()
    for name in ("a" * NAME_MAX, "ab" * (NAME_MAX // 2)):
        assert re.search(pattern, name) is None
    assert time.thread_time() - began < 0.5


def test_rules_in_rules_have_an_end() -> None:
    rule: dict[str, Any] = {"equals": "a"}
    for _ in range(DEPTH_MAX - 1):
        rule = {"or": [rule]}
    assert read_rule(rule).matches("a")
    for deeper in ({"or": [rule]}, _deep(rule, 2_000)):
        with pytest.raises(UnreadablePricesError):
            read(model(match=deeper))


def _deep(rule: dict[str, Any], depth: int) -> dict[str, Any]:
    for _ in range(depth):
        rule = {"or": [rule]}
    return rule


def test_looking_a_name_up_has_a_bound_for_the_whole_file() -> None:
    contains = [{"contains": str(number)} for number in range(RULES_WORK_MAX // RULE_WORK)]
    with pytest.raises(UnreadablePricesError, match="looking a name up"):
        read(model(match={"or": contains}))
    with pytest.raises(UnreadablePricesError, match="looking a name up"):
        read(model(), provider_match={"or": contains})
    with pytest.raises(UnreadablePricesError, match="looking a name up"):
        read(*(model(str(number), match={"regex": "^.*=.*$"}) for number in range(20)))


def test_a_file_has_no_more_models_and_prices_than_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "MODELS_MAX", 2)
    read(*map(model, "ab"))
    with pytest.raises(UnreadablePricesError, match="more than"):
        read(*map(model, "abc"))
    price = {"litellm_provider": "acme", "input_cost_per_token": 1}
    litellm.read_catalogue({f"acme/{number}": price for number in range(2)}, label="x")
    with pytest.raises(UnreadablePricesError, match="more than"):
        litellm.read_catalogue({f"acme/{number}": price for number in range(3)}, label="x")
    days = [(date(2000, 1, 1) + timedelta(days=number)).isoformat() for number in range(400)]
    dated = [{"prices": {"input_mtok": 1}, "constraint": {"start_date": day}} for day in days]
    with pytest.raises(UnreadablePricesError, match="by date"):
        read(model(prices=dated))
    steps = {"base": 1, "tiers": [{"start": start, "price": 1} for start in range(20)]}
    many = dict.fromkeys(list(genai_prices.KEYS)[:40], steps)
    with pytest.raises(UnreadablePricesError, match="more than"):
        read(model(prices=[{"prices": many, **each} for each in ({}, *({"constraint": {"start_date": day}} for day in days[:100]))]))  # fmt: skip
    steps["tiers"].append({"start": 21, "price": 1})  # type: ignore[attr-defined]
    with pytest.raises(UnreadablePricesError, match="steps"):
        read(model(prices={"input_mtok": steps}))
