"""Rows as objects whose fields are enums where the database keeps texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from sys import intern
from typing import Any, TypeVar, get_args, get_type_hints

from psycopg.rows import BaseRowFactory, RowMaker

T = TypeVar("T")

_known: dict[type[Any], Mapping[str, type[StrEnum]]] = {}


def enums_of(kind: type[Any]) -> Mapping[str, type[StrEnum]]:
    """The fields of a class that are enums, with or without None."""
    if (found := _known.get(kind)) is None:
        found = _known[kind] = {
            name: each
            for name, hint in get_type_hints(kind).items()
            for each in (hint, *get_args(hint))
            if isinstance(each, type) and issubclass(each, StrEnum)
        }
    return found


def with_enums(kind: type[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the texts of enum fields as members of their enums. Raises ValueError for a text that is none."""
    chosen = {name: enum(row[name]) for name, enum in enums_of(kind).items() if row.get(name) is not None}
    return {**row, **chosen}


class _Members(dict[Any, StrEnum | None]):
    """Members by their texts: a look-up takes a quarter of what a call of the enum takes. None is itself."""

    def __init__(self, enum: type[StrEnum]) -> None:
        super().__init__((member.value, member) for member in enum)
        self[None] = None
        self._enum = enum

    def __missing__(self, text: str) -> StrEnum:
        return self._enum(text)


_members = cache(_Members)


def typed_row(kind: type[T]) -> BaseRowFactory[T]:
    """As psycopg's class_row, with enums. Raises ValueError for a text that is none."""

    def factory(cursor: Any) -> RowMaker[T]:
        # Interned, as the names of fields are: a constructor then compares addresses.
        names = [intern(column.name) for column in cursor.description or ()]
        members = [(name, _members(enum)) for name, enum in enums_of(kind).items() if name in names]

        def make(values: Sequence[Any]) -> T:
            row = dict(zip(names, values, strict=True))
            for name, found in members:
                row[name] = found[row[name]]
            return kind(**row)

        return make

    return factory
