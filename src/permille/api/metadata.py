"""Metadata of plans and credit notes: what their owners keep with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.http import Call
from permille.api.validation import INVALID, OUT_OF_RANGE, SHORT_TEXT, Fields, storable
from permille.core.errors import BadRequest, NotFound

METADATA_MAX = 50
METADATA_KEY_MAX = 100


def read_metadata(fields: Fields) -> Mapping[str, Any] | None:
    """A flat object of texts, None when there is nothing in it."""
    value = fields.given["metadata"]
    if not value:
        return None
    if not isinstance(value, dict) or not storable(value, depth=1):
        fields.refuse("metadata", INVALID)
        return None
    fine = all(
        len(key) <= METADATA_KEY_MAX and (text is None or (isinstance(text, str) and len(text) <= SHORT_TEXT))
        for key, text in value.items()
    )
    if not fine or len(value) > METADATA_MAX:
        fields.refuse("metadata", OUT_OF_RANGE if fine else INVALID)
        return None
    return value


def sent_metadata(call: Call) -> Mapping[str, Any]:
    """The metadata of the request. Raises BadRequest, Invalid."""
    if not isinstance(call.body, dict) or "metadata" not in call.body:
        raise BadRequest("param is missing or the value is empty or invalid: metadata")
    return checked_metadata(call.body["metadata"]) or {}


def checked_metadata(metadata: Any) -> Mapping[str, Any] | None:
    """The metadata as they are kept: what was there already may be too much together with what is sent. Raises Invalid."""
    fields = Fields({"metadata": metadata})
    kept = read_metadata(fields)
    fields.check()
    return kept


def without_key(metadata: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """The metadata without one of them. Raises NotFound where it is not there."""
    kept = dict(metadata or {})
    if key not in kept:
        raise NotFound("metadata")
    del kept[key]
    return kept
