"""The shape of an answer: all that is kept of it but its counts and ids. Answers of one shape are read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from permille.core.llm.parts import OWN_ID
from permille.core.llm.redact import COUNTS, IDS, LIST_MAX, NAME, NAMES, NESTED
from permille.core.llm.traced import Trace

_SAFE = re.compile(r"[A-Za-z0-9_.:/@+,~-]{1,200}\Z")
"""What an id is made of that is the same in a name, in JSON and in UTF-8."""
SPAN = "span:"
ID_PLACE = "\ue002{}\ue003"
COUNT_END = 10**15
KEY_MAX = 400
_BESIDE = ("provider", "api", "model", "tier")
_END, _TEXT, _OBJECT, _LIST, _ITEM, _TRUE, _FALSE, _ID, _SPAN, _SIGNS = range(10)


class Shape(NamedTuple):
    """An answer taken apart: `key` is the same for answers that are read alike."""

    key: tuple[Any, ...]
    counts: list[int]
    ids: list[str]


class _Unusual(Exception):  # noqa: N818 -- a closer look is needed
    """There is something in the answer that has no place in a shape."""


def shape_of(usage: Mapping[str, Any]) -> Shape | None:
    """The shape of a usage as `POST /api/v1/llm/usage` takes it, without its content. None: it is to be read closely."""
    key: list[Any] = [usage.get(name) for name in _BESIDE]
    counts: list[int] = []
    ids: list[str] = []
    try:
        if (own := usage.get("id")) is not None:
            _add_id("id", own, key, ids)
        if (response := usage.get("response")) is not None:
            key.append(_ITEM)
            _add_answer(response, key, counts, ids)
        else:
            _add_counts(usage.get("usage"), key, counts)
    except (_Unusual, AttributeError, TypeError, RecursionError):
        return None
    if not all(each is None or type(each) is str for each in key[: len(_BESIDE)]):
        return None
    if not ids or not counts or len(key) > KEY_MAX or min(counts) < 0 or max(counts) >= COUNT_END:
        return None
    key.append(_SIGNS)
    key += map(bool, counts)
    return Shape(tuple(key), counts, ids)


def _add_id(name: str, value: str, key: list[Any], ids: list[str]) -> None:
    if not _SAFE.match(value) or value.startswith(OWN_ID):
        raise _Unusual
    key += (_SPAN if value.startswith(SPAN) else _ID, name)
    ids.append(value)


def _add_answer(answer: Mapping[str, Any], key: list[Any], counts: list[int], ids: list[str]) -> None:
    """As `kept`."""
    for name, value in answer.items():
        kind = type(value)
        if kind is dict:
            if name in COUNTS:
                key += (_OBJECT, name)
                _add_counts(value, key, counts)
            elif name in NESTED:
                key += (_OBJECT, name)
                _add_answer(value, key, counts, ids)
                key.append(_END)
        elif kind is list:
            _add_list(name, value, key, counts, ids)
        elif name in NAMES and value is not None:
            if kind is str and name in IDS:
                _add_id(name, value, key, ids)
            else:
                _add_value(name, value, key, counts)


def _add_list(name: str, found: Sequence[Any], key: list[Any], counts: list[int], ids: list[str]) -> None:
    if name in NESTED:
        key += (_LIST, name)
        for each in found[:LIST_MAX]:
            if type(each) is dict:
                key.append(_ITEM)
                _add_answer(each, key, counts, ids)
                key.append(_END)
        key.append(_END)
    elif name == "webSearchQueries":
        raise _Unusual


def _add_counts(found: Any, key: list[Any], counts: list[int]) -> None:
    """As `counts_kept`."""
    for name, value in found.items():
        if type(value) is int:
            counts.append(value)
            key.append(name)
        elif type(value) is dict:
            key += (_OBJECT, name)
            _add_counts(value, key, counts)
        elif type(value) is list:
            key += (_LIST, name)
            for each in value:
                if type(each) is not dict:
                    raise _Unusual
                key.append(_ITEM)
                _add_counts(each, key, counts)
            key.append(_END)
        elif value is not None:
            _add_value(name, value, key, counts)
    key.append(_END)


def _add_value(name: str, value: Any, key: list[Any], counts: list[int]) -> None:
    if type(value) is str:
        if NAME.match(value):
            key += (_TEXT, name, value)
    elif type(value) is int:
        counts.append(value)
        key.append(name)
    elif type(value) is bool:
        key += (_TRUE if value else _FALSE, name)
    else:
        raise _Unusual


class TracedAnswer:
    """An answer whose counts are traced, and whose ids are texts that hold their places."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.ids: list[str] = []

    def id(self, value: str) -> str:
        """Holds an id's place."""
        self.ids.append(value)
        place = ID_PLACE.format(len(self.ids) - 1)
        return f"{SPAN}{place}" if value.startswith(SPAN) else place

    def answer(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """What `kept` says of an answer."""
        return {
            name: self.id(value)
            if type(value) is str and name in IDS
            else self.counts(value)
            if name in COUNTS
            else self._nested(value)
            for name, value in kept.items()
        }

    def _nested(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self.answer(value)
        if isinstance(value, list):
            return [self._nested(each) for each in value]
        return self.counts(value)

    def counts(self, value: Any) -> Any:
        """What `counts_kept` says of an object of counts."""
        if isinstance(value, dict):
            return {name: self.counts(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.counts(each) for each in value]
        return self.trace.count(value) if type(value) is int else value
