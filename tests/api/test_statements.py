"""What users send never becomes part of a SQL statement's text: it goes beside it, as a parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from permille.api.routes import ENDPOINTS

from .conftest import Api
from .contract import operation_of
from .test_hostile_input import changed, paths, ready  # noqa: F401 - a fixture
from .test_tenants import PARAMETER

SENT = "Qz7'\"; --"
SHORT = "Qz7"
"""What of it is looked for: the rest may be escaped or cut away."""

SEARCHES = [
    "search_term",
    "external_customer_id",
    "external_subscription_id",
    "plan_code",
    "currency",
    "status[]",
    "name",
    "code",
    "transaction_id",
    "billing_entity_codes[]",
    "customer_external_id",
    "payment_status[]",
    "invoice_type[]",
    "order_by",
    "metadata[a]",
    "timestamp_from",
    "from_datetime",
    "issuing_date_from",
    "page",
    "per_page",
    "reason[]",
    "value",
]


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The text of every statement that is executed."""
    seen: set[str] = set()
    for cls, method in (
        (psycopg.Cursor, "execute"),
        (psycopg.Cursor, "executemany"),
        (psycopg.Cursor, "copy"),
        (psycopg.Cursor, "stream"),
    ):
        original = getattr(cls, method)

        def recorded(self: Any, query: Any, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
            seen.add(query if isinstance(query, str) else repr(query))
            return _original(self, query, *args, **kwargs)

        monkeypatch.setattr(cls, method, recorded)
    yield seen
    assert len(seen) > 10
    assert not [text for text in seen if SHORT.lower() in text.lower()]


def test_no_value_of_a_body_is_in_a_statement(ready: Any, texts: set[str]) -> None:  # noqa: F811
    api, wanted = ready
    for method, path, root, body in wanted:
        for place in paths(body):
            sent = json.dumps({root: changed(body, place, SENT)})
            api.client.request(
                method, f"/api/v1{path}", content=sent, headers={"Authorization": f"Bearer {api.key}"}
            )


def searches(path: str) -> Iterator[dict[str, str]]:
    """Each parameter that a list declares by itself, as one that is refused hides the others; all others together."""
    operation = operation_of("GET", f"/api/v1{path}")
    assert operation is not None
    names = {each["name"].partition("[")[0] for each in operation["parameters"] if each["in"] == "query"}
    declared = [key for key in SEARCHES if key.partition("[")[0] in names]
    yield from ({key: SENT} for key in declared)
    yield dict.fromkeys(SEARCHES, SENT)
    yield {key: SENT for key in SEARCHES if key not in declared}


def test_no_part_of_an_address_is_in_a_statement(api: Api, texts: set[str]) -> None:
    alone = 0
    for method, pattern, _ in ENDPOINTS:
        path = PARAMETER.sub(quote(SENT), pattern)
        api.call(method, path, {} if method in ("POST", "PUT") else None)
        for params in searches(path) if method == "GET" else ():
            api.call(method, path, **params)
            alone += len(params) == 1
    assert alone > 200
