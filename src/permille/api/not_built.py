"""What Lago's API has and ours doesn't yet: its addresses answer 501 `not_supported_yet`, not 404.

An entry is taken out of the tables when it is built.
"""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.core.errors import Refusal

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

RESOURCES = (
    "/order_forms",
    "/orders",
    "/quote_versions",
    "/quotes",
)
"""Whole resources: everything at these paths and below them."""

ACTIONS = (
    ("POST", "/credit_notes/{lago_id}/download_xml"),
    ("POST", "/invoices/{lago_id}/download_xml"),
    ("PUT", "/invoices/{lago_id}/sync_salesforce_id"),
)
"""Parts of resources that are built."""

NOT_BUILT = (
    *(((method,), path) for method, path in ACTIONS),
    *((METHODS, path + below) for path in RESOURCES for below in ("", "/{below:path}")),
)
"""(methods, path) of all of it."""


def not_built(_call: Call) -> dict[str, Any]:
    """Raises Refusal with 501."""
    raise Refusal(status=501, code="not_supported_yet")
