"""Counts that remember how they are used: what the reader makes of them holds for all counts that would take the same way."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NoReturn, Self

NO_NUMBER = "sNaN"
NUMBER_PLACE = "\ue000{}\ue001"
_CONSTANT = -1
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", "<=": ">", ">": "<="}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Form = Mapping[int, int]
"""A sum: the place of a count -> how often it is in it, and under _CONSTANT what is in it beside counts."""


class Untraceable(Exception):  # noqa: N818 -- it is a finding, not a fault
    """Something was asked of a count whose answer can't be said for others."""


class Trace:
    """What was asked of counts, and the texts that were made of them."""

    def __init__(self) -> None:
        self.guards: dict[str, None] = {}
        """Conditions on the counts `c`, as Python, in the order in which they were asked."""
        self.values: list[int] = []
        """The counts that are traced, by their places."""
        self._forms: list[Form] = []

    def count(self, value: int) -> TracedCount:
        """The next count."""
        self.values.append(value)
        return TracedCount(self, {len(self.values) - 1: 1})

    def text(self, form: Form) -> str:
        """Holds the place of a number in texts."""
        self._forms.append(form)
        return NUMBER_PLACE.format(len(self._forms) - 1)

    def number(self, place: int) -> str:
        """What a text's place is held for, as Python."""
        return self.expression(self._forms[place])

    def asked(self, form: Form, relation: str) -> bool:
        """Whether a sum is so beside zero. Counts above zero are known to be that, and so are those that are zero."""
        numbers = [self.values[place] * often for place, often in form.items() if place != _CONSTANT]
        is_so = _COMPARE[relation](sum(numbers) + form.get(_CONSTANT, 0), 0)
        left = self._unknown(form)
        is_sign_alone = len(left) == 1 and _CONSTANT not in left
        if left.keys() - {_CONSTANT} and not is_sign_alone:
            self.guards[f"{self.expression(form)}{relation if is_so else _OPPOSITE[relation]}0"] = None
        return is_so

    def expression(self, form: Form) -> str:
        """A sum as Python."""
        terms = [
            f"{often:+d}" if place == _CONSTANT else f"{often:+d}*c[{place}]"
            for place, often in self._unknown(form).items()
        ]
        return "".join(terms).replace("+1*", "+").replace("-1*", "-").removeprefix("+") or "0"

    def _unknown(self, form: Form) -> Form:
        return {
            place: often
            for place, often in form.items()
            if often and (place == _CONSTANT or self.values[place])
        }


def _form_of(value: Any) -> Form:
    if isinstance(value, TracedCount):
        return value.form
    if isinstance(value, int | Decimal) and value == int(value):
        return {_CONSTANT: int(value)}
    raise Untraceable


def _sum(left: Form, right: Form, sign: int) -> dict[int, int]:
    return {
        place: left.get(place, 0) + sign * right.get(place, 0) for place in dict.fromkeys([*left, *right])
    }


class TracedCount(Decimal):
    """A sum of counts. It is added, taken away, compared and written; whatever else is asked of it raises Untraceable.

    To what doesn't ask it, but looks at the number beneath, it is one that can't be reckoned with.
    """

    __slots__ = ("form", "trace")

    trace: Trace
    form: Form

    def __new__(cls, trace: Trace, form: Form) -> Self:
        """With what it is made of."""
        made = super().__new__(cls, NO_NUMBER)
        made.trace, made.form = trace, form
        return made

    def _plus(self, other: Any, sign: int) -> TracedCount:
        return TracedCount(self.trace, _sum(self.form, _form_of(other), sign))

    def _is(self, relation: str, other: Any) -> bool:
        return self.trace.asked(_sum(self.form, _form_of(other), -1), relation)

    def __add__(self, other: Any) -> TracedCount:
        return self._plus(other, 1)

    def __radd__(self, other: Any) -> TracedCount:
        return self._plus(other, 1)

    def __sub__(self, other: Any) -> TracedCount:
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> TracedCount:
        return TracedCount(self.trace, _sum(_form_of(other), self.form, -1))

    def __neg__(self) -> TracedCount:
        return TracedCount(self.trace, _sum({}, self.form, -1))

    def __eq__(self, other: object) -> bool:
        return self._is("==", other)

    def __ne__(self, other: object) -> bool:
        return self._is("!=", other)

    def __lt__(self, other: Any) -> bool:
        return self._is("<", other)

    def __le__(self, other: Any) -> bool:
        return self._is("<=", other)

    def __gt__(self, other: Any) -> bool:
        return self._is(">", other)

    def __ge__(self, other: Any) -> bool:
        return self._is(">=", other)

    def __bool__(self) -> bool:
        return self._is("!=", 0)

    def __hash__(self) -> int:
        raise Untraceable

    def __str__(self) -> str:
        return self.trace.text(self.form)

    def is_finite(self) -> bool:
        """Counts are."""
        return True


_OBJECT = {
    "__class__",
    "__delattr__",
    "__dir__",
    "__getattribute__",
    "__init__",
    "__init_subclass__",
    "__new__",
    "__repr__",
    "__setattr__",
    "__sizeof__",
    "__subclasshook__",
}
"""What every object has."""


def _refuse(_self: Any, *_given: Any, **_named: Any) -> NoReturn:
    raise Untraceable


for _name in {*dir(Decimal)} - {*vars(TracedCount)} - _OBJECT:
    if callable(getattr(Decimal, _name)):
        setattr(TracedCount, _name, _refuse)
