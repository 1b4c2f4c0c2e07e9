"""Who pays for a call where its sender does not say it: rules about the names that come with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.record import Record

NAMES_MAX = 20
NAME_LENGTH_MAX = 200
POSITION_MAX = 1_000_000


class PayerName(StrEnum):
    """Kinds of names that a call may come with, in the order in which rules about them are looked at."""

    KEY = "key"
    USER = "user"
    TEAM = "team"
    ORGANIZATION = "organization"
    END_USER = "end_user"
    TAG = "tag"


_KINDS = tuple(str(each) for each in PayerName)

SET_BY_REQUESTS = frozenset({PayerName.END_USER, PayerName.TAG})
"""Names that the caller of a gateway writes into its request; the gateway itself says the others."""

PayerNames = Mapping[str, Sequence[str]]
"""Kind of name -> the names of a call."""


class PayerRule(Record, kw_only=True):
    """Calls with this name are paid by a subscription, or by a customer."""

    id: UUID
    organization_id: UUID
    field: PayerName
    value: str
    external_subscription_id: str | None
    external_customer_id: str | None
    overrides_request: bool
    """Whether it goes before a payer that the request of an end user names."""
    created_at: datetime
    position: int | None = None
    """Rules with one are looked at before those without, the lowest first."""


PayerRules = Mapping[tuple[str, str], PayerRule]
"""Kind and name -> the rule about it."""


def rule_for(names: PayerNames, rules: PayerRules, *, overriding: bool) -> PayerRule | None:
    """The first rule about one of the names; with `overriding` only of those that go before the request.

    Rules of one position, and those without, are looked at in the order of the kinds of names.
    """
    found = [rule for kind in PayerName for name in names.get(kind, ()) if (rule := rules.get((kind, name)))]
    fitting = [rule for rule in found if rule.overrides_request or not overriding]
    return min(fitting, key=_place, default=None)


def _place(rule: PayerRule) -> tuple[bool, int]:
    return rule.position is None, rule.position or 0


def payer_names(*sources: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names in these sources, each once, those of the first source first. What is no short text is left out."""
    found: dict[str, list[str]] = {}
    if not any(sources):
        return found
    for kind in _KINDS:
        given = [each for source in sources if kind in source for each in _listed(source[kind])]
        if not given:
            continue
        names = [name for name in given if isinstance(name, str) and 0 < len(name) <= NAME_LENGTH_MAX]
        if names:
            found[kind] = list(dict.fromkeys(names))[:NAMES_MAX]
    return found


def _listed(given: Any) -> Iterable[Any]:
    return given if isinstance(given, list | tuple) else (given,)
