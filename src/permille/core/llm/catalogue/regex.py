"""How long a regular expression of a price file may take: `re` tries one way of matching after the other, and holds the interpreter meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from re import IGNORECASE
from typing import Any

NAME_MAX = 256
"""Characters of a name that are counted on."""
ENDLESS = 10**12
"""As good as without end."""

_parse: Any = import_module("re._parser").parse  # no other module knows the language as `re` does


@lru_cache(4_096)
def ways(pattern: str) -> int:
    """In how many ways the pattern can be tried on a name, at most. Raises what `re.compile` does."""
    parsed = _parse(pattern)
    if parsed.state.flags & IGNORECASE:
        return ENDLESS  # names are in lower case; sets of characters would be compiled one by one
    begins = bool(parsed) and str(parsed[0][1]) in {"AT_BEGINNING", "AT_BEGINNING_STRING"}
    return min(_all(parsed) * (1 if begins else NAME_MAX), ENDLESS)


def _all(items: Iterable[tuple[Any, Any]]) -> int:
    """Ways of what follows each other: each way of one goes on with each of the next."""
    found = 1
    for kind, value in items:
        found = min(found * _one(str(kind), value), ENDLESS)
    return found


def _one(kind: str, value: Any) -> int:
    match kind:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
            return 1
        case "BRANCH":
            return sum(map(_all, value[1]))
        case "SUBPATTERN" if not value[1] & IGNORECASE:
            return _all(value[3])
        case "ASSERT" | "ASSERT_NOT":
            return _all(value[1])
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _repeated(*value)
    return ENDLESS  # references to groups, and what is not known


def _repeated(least: int, most: Any, item: Any) -> int:
    """Ways of what is there several times: it can end after each, and each has its ways. What may be empty takes up no name."""
    most = min(int(most), NAME_MAX)
    if least > NAME_MAX:
        return ENDLESS
    each = _all(item) if item.getwidth()[0] else max(_all(item), 2)
    found: int = each ** max(least, most) * (max(most, least) - least + 1)
    return min(found, ENDLESS)
