"""What the API and the intake of events read of an address's query."""

from __future__ import annotations

from starlette.datastructures import QueryParams

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def query_flag(query: QueryParams, name: str) -> bool | None:
    """A boolean parameter; junk counts as none."""
    return _FLAGS.get(query.get(name, "").lower())
