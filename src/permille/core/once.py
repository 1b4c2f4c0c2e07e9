"""Properties that are computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Once(Generic[T]):
    """functools.cached_property as it is from Python 3.12 on: without a lock, which costs more than what is computed."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name = compute, compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Once[T]: ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> T: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> Once[T] | T:
        if owner is None:
            return self
        found = owner.__dict__[self._name] = self._compute(owner)
        return found


class OnceForAll(Generic[T]):
    """As Once, for all objects with the same `shared`, a dictionary: what they are alike in."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name = compute, compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> OnceForAll[T]: ...

    @overload
    def __get__(self, owner: Any, kind: type[Any]) -> T: ...

    def __get__(self, owner: Any, kind: type[Any]) -> OnceForAll[T] | T:
        if owner is None:
            return self
        if self._name not in owner.shared:
            owner.shared[self._name] = self._compute(owner)
        found: T = owner.shared[self._name]
        return found
