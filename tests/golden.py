"""A pytest plugin that writes down what the product answered: `pytest -p tests.golden` with GOLDEN=folder.

One file a test: every JSON answer over HTTP, and what the test left in the tables of money. Ids, keys and
the system's own time are left out, so that two runs of one program write the same.
tools/golden.py records and compares.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest

ID = re.compile(
    r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b"
    r"|\b[0-9a-f]{6,12}\b|pm_[\w-]+|\b[A-Z]{3}-[0-9A-F]{4}\b"
)
"""Identifiers, short ones of tests, API keys, and the prefix of an organization's numbers."""
INSTANT = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?")
RECENT = timedelta(days=2)
TABLES = ("invoice", "fee", "invoice_subscription", "credit_note", "subscription")

_answers: list[Any] = []


def _recorded(send: Callable[..., Any]) -> Callable[..., Any]:
    def sent(client: Any, request: Any, **options: Any) -> Any:
        response = send(client, request, **options)
        if "json" in response.headers.get("content-type", ""):
            response.read()
            _answers.append(
                [request.method, request.url.raw_path.decode(), response.status_code, response.text]
            )
        return response

    return sent


def _body(text: str) -> Any:
    try:
        return json.loads(text, parse_float=str)
    except ValueError:
        return text


def pytest_configure() -> None:
    """Listen to every client of HTTP that a test may use."""
    for name in ("httpx", "httpx2"):
        client = import_module(name).Client
        client.send = _recorded(client.send)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Write what the test has seen and left."""
    found = getattr(item, "funcargs", {}).get("db")
    left = _tables(found) if isinstance(found, psycopg.Connection) else {}
    if _answers or left:
        name = re.sub(r"[^\w.\[\]-]+", "_", item.nodeid)[:200]
        (Path(os.environ["GOLDEN"]) / f"{name}.json").write_text(
            _normal(json.dumps([_answers, left], indent=1))
        )
    _answers.clear()


def _tables(conn: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """The rows of each table without their ids, which order them by chance."""
    if conn.closed or conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR:
        return {}
    return {
        table: sorted(
            ID.sub("<id>", row) for (row,) in conn.execute(f"select to_jsonb(t)::text from {table} t")
        )
        for table in TABLES
    }


def _normal(text: str) -> str:
    now = datetime.now(UTC)

    def instant(match: re.Match[str]) -> str:
        at = datetime.fromisoformat(match[0])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return "<now>" if abs(at - now) < RECENT else match[0]

    return ID.sub("<id>", INSTANT.sub(instant, text))
