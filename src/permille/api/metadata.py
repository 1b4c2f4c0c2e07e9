"""Metadata of plans: what their owners keep with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.validation import INVALID, OUT_OF_RANGE, SHORT_TEXT, Fields, storable

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
