"""Rules that say which names mean a model or a provider: equals, contains, starts_with, ends_with, regex, or, and."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from permille.core.llm.catalogue.rows import UnreadablePricesError
from permille.core.record import Record

TEXT_MAX = 1_000

_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "equals": lambda text, name: name == text.lower(),
    "contains": lambda text, name: text.lower() in name,
    "starts_with": lambda text, name: name.startswith(text.lower()),
    "ends_with": lambda text, name: name.endswith(text.lower()),
    "regex": lambda text, name: re.search(text, name) is not None,
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


def read_rule(given: Any) -> MatchRule:
    """A rule as price files write it: `{"or": [{"equals": "gpt-4o"}, ...]}`. UnreadablePricesError for what is none."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise UnreadablePricesError("a match rule is an object with one key")
    [(kind, value)] = given.items()
    if kind in _JOINS:
        if not isinstance(value, list) or not value:
            raise UnreadablePricesError(f"{kind} joins a list of rules")
        return MatchRule(kind, rules=tuple(map(read_rule, value)))
    if kind not in _TESTS or not isinstance(value, str) or len(value) > TEXT_MAX:
        raise UnreadablePricesError(f"{kind} is no match rule with a text")
    if kind == "regex":
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise UnreadablePricesError(f"{value!r} is no regular expression: {error}") from error
    return MatchRule(kind, value)
