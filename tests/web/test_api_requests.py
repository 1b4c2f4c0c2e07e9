"""The page of requests to the API: what was sent, why it was refused, and with which key."""

from __future__ import annotations

import html
import re
from typing import Any

import psycopg
import pytest

from permille.clock import system_now
from permille.ids import new_id
from permille.store import api_logs
from permille.store.api_logs import LoggedRequest
from permille.usecases import organizations as usecase

from .conftest import Browser, Server

TAX = {"tax": {"name": "VAT", "code": "vat", "rate": "19"}}


@pytest.fixture
def send(server: Server, browser: Browser) -> Any:
    """Send a request to the API with the key "Shop", and have it logged."""
    with psycopg.connect(browser.dsn) as conn:
        key = usecase.add_key(conn, browser.organization.id, name="Shop", now=system_now())

    def request(method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {key.secret}"}
        answer = server.client.request(method, f"/api/v1{path}", json=body, headers=headers)
        server.engine.api_log.write(server.engine.pool)
        return answer

    return request


def shown(browser: Browser, **filters: str) -> list[str]:
    """The requests in the table, newest first."""
    text = html.unescape(browser.ok("/api-requests", **filters))
    return re.findall(r'<th scope="row">(\w+ <code>.*?)</code></th><td class="n">(\d+)', text)


def test_what_was_sent_and_why_it_was_refused(browser: Browser, reader: Browser, send: Any) -> None:
    assert "Nothing has been sent yet." in browser.ok("/api-requests")
    send("POST", "/taxes", TAX)
    send("POST", "/taxes", {"tax": {"name": "<b>", "code": "vat", "rate": "19", "api_key": "s3cret"}})
    text = html.unescape(browser.ok("/api-requests"))
    assert shown(browser) == [("POST <code>/taxes", "422"), ("POST <code>/taxes", "200")]
    assert '"value_already_exist"' in text
    assert text.count("<td>Shop</td>") == 2
    assert "s3cret" not in text
    assert "<b>" not in browser.ok("/api-requests")
    assert shown(reader) == []


def test_filters_by_outcome_path_request_and_day(browser: Browser, send: Any) -> None:
    send("POST", "/taxes", TAX)
    send("DELETE", "/coupons/none")
    deleted, made = ("DELETE <code>/coupons/none", "404"), ("POST <code>/taxes", "200")
    assert shown(browser, outcome="failed") == [deleted]
    assert shown(browser, outcome="succeeded") == [made]
    assert shown(browser, address="tax") == [made]
    assert shown(browser, **{"from": "2020-01-01", "to": "2199-12-31"}) == [deleted, made]
    assert "No request fits these filters" in browser.ok("/api-requests", to="2020-01-01")
    assert browser.client.get("/app/api-requests?from=soon").status_code == 422


def test_a_request_is_found_by_its_id(browser: Browser) -> None:
    now = system_now()
    rows = [
        LoggedRequest(
            id=new_id(now),
            organization_id=browser.organization.id,
            api_key_id=new_id(now),
            request_id=request_id,
            method="put",
            path=f"/plans/{request_id}",
            status=200,
            client="curl",
            origin="https://billing.example/",
            body=None,
            answer=None,
            duration_ms=12,
            at=now,
        )
        for request_id in ("first", "second")
    ]
    with psycopg.connect(browser.dsn) as conn:
        api_logs.add(conn, rows)
    assert shown(browser, request="second") == [("PUT <code>/plans/second", "200")]
    assert "12 ms" in browser.ok("/api-requests", request="second")
