"""Rules that say which names mean a model or a provider: equals, contains, starts_with, ends_with, regex, or, and."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from permille.core.llm.catalogue.regex import ways
from permille.core.llm.catalogue.rows import UnreadablePricesError
from permille.core.record import Record

TEXT_MAX = 1_000
DEPTH_MAX = 8
"""Rules in rules."""
WAYS_MAX = 100_000
"""In how many ways a regular expression may be tried on a name."""
RULE_WORK = 20
"""Ways of a regular expression that take as long as a rule does."""


@lru_cache(4_096)
def _compiled(text: str) -> re.Pattern[str]:
    """`re` forgets all but 512, and a lookup may ask for each of a file."""
    return re.compile(text)


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "equals": lambda text, name: name == text.lower(),
    "contains": lambda text, name: text.lower() in name,
    "starts_with": lambda text, name: name.startswith(text.lower()),
    "ends_with": lambda text, name: name.endswith(text.lower()),
    "regex": lambda text, name: _compiled(text).search(name) is not None,
}
_JOINS: Mapping[str, Callable[[list[bool]], bool]] = {"or": any, "and": all}


class MatchRule(Record):
    """One rule: its kind, with a text or with the rules that it joins."""

    kind: str
    text: str = ""
    rules: tuple[MatchRule, ...] = ()

    def matches(self, name: str) -> bool:
        """Whether it means this name, which is in lower case."""
        if self.rules:
            return _JOINS[self.kind]([each.matches(name) for each in self.rules])
        return _TESTS[self.kind](self.text, name)

    @property
    def work(self) -> int:
        """What trying it on a name takes at most, in ways of a regular expression."""
        own = ways(self.text) if self.kind == "regex" else 0
        return RULE_WORK + own + sum(each.work for each in self.rules)

    @property
    def only_names(self) -> tuple[str, ...] | None:
        """The names in lower case where it means these and no others, else None."""
        if self.kind == "equals":
            return (self.text.lower(),)
        if self.kind != "or":
            return None
        found: list[str] = []
        for rule in self.rules:
            names = rule.only_names
            if names is None:
                return None
            found += names
        return tuple(found)


def equals(name: str) -> MatchRule:
    """The rule that means one name."""
    return MatchRule("equals", name)


def any_of(rules: Iterable[MatchRule]) -> MatchRule:
    """The rule that means what any of these mean."""
    return MatchRule("or", rules=tuple(rules))


def read_rule(given: Any, *, depth: int = DEPTH_MAX) -> MatchRule:
    """A rule as price files write it: `{"or": [{"equals": "gpt-4o"}, ...]}`. UnreadablePricesError for what is none."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise UnreadablePricesError("a match rule is an object with one key")
    [(kind, value)] = given.items()
    if kind in _JOINS:
        if not isinstance(value, list) or not value:
            raise UnreadablePricesError(f"{kind} joins a list of rules")
        if depth == 1:
            raise UnreadablePricesError(f"match rules are in each other more than {DEPTH_MAX} times")
        return MatchRule(kind, rules=tuple(read_rule(each, depth=depth - 1) for each in value))
    if kind not in _TESTS or not isinstance(value, str) or len(value) > TEXT_MAX:
        raise UnreadablePricesError(f"{kind} is no match rule with a text")
    if kind == "regex":
        try:
            if ways(value) > WAYS_MAX:
                raise UnreadablePricesError(f"{value!r} may take too long: it can match in too many ways")
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise UnreadablePricesError(f"{value!r} is no regular expression: {error}") from error
    return MatchRule(kind, value)
