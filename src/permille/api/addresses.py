"""Addresses: a route is chosen by the raw path, and each segment of it is decoded afterwards.

So `%2F` in an id is a part of the id, never a separator. Servers hand over a path that is decoded already, in
which the two can't be distinguished: it isn't looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes

from starlette.routing import Match, Route as StarletteRoute
from starlette.types import Scope

from permille.core.errors import BadRequest

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def path_segment(text: str) -> str:
    """An id as one segment of an address."""
    return quote(text, safe="")


def canonical_path(scope: Mapping[str, Any]) -> str:
    """The path in which every segment is encoded in the one same way. Raises BadRequest for what is no text."""
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return quote(scope["path"], safe="/")
    if not raw.isascii() or not scope["query_string"].isascii():
        raise BadRequest("the address has characters that aren't percent-encoded")
    path = raw.decode("ascii")
    if _BROKEN_ESCAPE.search(path):
        raise BadRequest("the address has a percent sign that begins no escape: write it as %25")
    return "/".join(_canonical(segment) for segment in path.split("/"))


def _canonical(segment: str) -> str:
    given = unquote_to_bytes(segment)
    try:
        text = given.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the address isn't valid UTF-8") from error
    if "\0" in text:
        raise BadRequest("the address has a NUL character")
    return quote_from_bytes(given, safe="")


class Route(StarletteRoute):
    """A route whose parameters are decoded after they are found. A slash at the end of the path changes nothing."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the route is the one for this address, and its parameters."""
        match, child = super().matches(scope)
        if match is Match.NONE and scope["path"].endswith("/"):
            match, child = super().matches({**scope, "path": scope["path"][:-1]})
        if match is not Match.NONE:
            child["path_params"] = {name: unquote(value) for name, value in child["path_params"].items()}
        return match, child
