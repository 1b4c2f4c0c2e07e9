"""Records: frozen objects with named fields, made, copied and compared in C (docs/decisions/019-records.md)."""

from __future__ import annotations

from typing import dataclass_transform

from msgspec import Struct, field
from msgspec.structs import asdict, astuple, replace

__all__ = ["Record", "asdict", "astuple", "field", "names_of", "replace"]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record(Struct, frozen=True):
    """Its fields can't be set again; `replace` makes another. With several fields, declare it with kw_only=True."""


def names_of(kind: type[Record]) -> tuple[str, ...]:
    """The names of its fields, in their order."""
    return kind.__struct_fields__
