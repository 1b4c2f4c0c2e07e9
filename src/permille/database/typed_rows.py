"""Rows as objects whose fields are enums where the database keeps texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
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


def typed_row(kind: type[T]) -> BaseRowFactory[T]:
    """As psycopg's class_row, with enums."""

    def factory(cursor: Any) -> RowMaker[T]:
        names = [column.name for column in cursor.description or ()]
        enums = list(enums_of(kind).items())

        def make(values: Sequence[Any]) -> T:
            row = dict(zip(names, values, strict=True))
            for name, enum in enums:
                if row[name] is not None:
                    row[name] = enum(row[name])
            return kind(**row)

        return make

    return factory
