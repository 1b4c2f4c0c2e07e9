"""GET /api_logs: the requests that write, whatever came of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from permille.ids import new_id
from permille.store.api_logs import LoggedRequest
from permille.usecases.api_log import SHARE_MAX, ApiLog

from .conftest import Api, Server

TAX = {"tax": {"name": "VAT", "code": "vat", "rate": "20"}}


@pytest.fixture(autouse=True)
def nothing_waits(server: Server) -> None:
    """Requests of other tests take no place."""
    server.engine.api_log.write(server.engine.pool)


def logs(api: Api, server: Server, **filters: Any) -> Any:
    """What is logged so far, newest first."""
    server.engine.api_log.write(server.engine.pool)
    return api.get("/api_logs", **filters)["api_logs"]


def test_writes_are_logged_with_what_came_of_them(api: Api, server: Server, stranger: Api) -> None:
    api.post("/taxes", TAX)
    refused = api.call("POST", "/taxes", TAX)
    api.get("/taxes")
    api.call("DELETE", "/taxes/vat", dry=1)
    deleted, again, made = logs(api, server)
    assert (made["http_method"], made["request_path"], made["http_status"]) == ("post", "/taxes", 200)
    assert (made["request_body"], made["request_response"], made["client"]) == (TAX, None, "testclient")
    assert (made["api_version"], made["request_origin"]) == ("v1", "http://testserver/")
    assert (again["http_status"], again["request_response"]) == (422, refused.json())
    assert again["request_id"] == refused.headers["x-request-id"]
    assert deleted["request_body"] == {}
    assert (deleted["http_method"], deleted["request_path"]) == ("delete", "/taxes/vat?dry=1")
    assert api.get(f"/api_logs/{again['request_id']}")["api_log"] == again
    assert stranger.code(404, "GET", f"/api_logs/{again['request_id']}") == "api_log_not_found"
    assert logs(stranger, server) == []
    assert [each["http_status"] for each in logs(api, server, **{"http_statuses[]": "failed"})] == [422]
    assert len(logs(api, server, **{"http_statuses[]": ["succeeded", "422"]})) == 3
    assert len(logs(api, server, **{"http_methods[]": "delete"})) == 1
    assert len(logs(api, server, request_paths="/taxes/")) == 1
    assert logs(api, server, api_version="v2") == []
    assert logs(api, server, to_date="2020-01-01") == []
    assert len(logs(api, server, from_date="2020-01-01", to_date="2199-12-31", per_page=2)) == 2
    for path in ("/api_logs", "/activity_logs"):
        assert api.details("GET", path, None, to_date="9999-12-31") == {"to_date": ["invalid_date"]}
    wrong = api.details("GET", "/api_logs", None, **{"http_statuses[]": "good"})
    assert wrong == {"http_statuses": ["value_is_invalid"]}


def test_a_body_that_no_column_could_hold_stops_nobody_else(api: Api, server: Server) -> None:
    api.call("POST", "/taxes", {"tax": {"name": "a\0b", "rate": 10**400}})
    api.call("POST", "/taxes", {"tax": {"name": "x" * 20_000}})
    api.call("POST", "/events/estimate_fees", {"event": {"code": "c", "properties": {"prompt": "private"}}})
    estimate, long, odd = logs(api, server)
    assert odd["request_body"] == {"tax": {"name": "a\0b", "rate": 10**400}}
    assert long["request_body"] == {}
    assert estimate["request_body"] == {"event": "(not shown)"}


def test_one_organization_takes_no_more_than_its_share(
    api: Api, server: Server, stranger: Api, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime(2024, 3, 5, tzinfo=UTC)
    waiting = ApiLog()
    for owner, count in ((api, SHARE_MAX + 5), (stranger, 1)):
        for _ in range(count):
            waiting.note(
                LoggedRequest(
                    id=new_id(now),
                    organization_id=owner.organization.id,
                    api_key_id=owner.organization.id,
                    request_id="x",
                    method="post",
                    path="/plans",
                    status=200,
                    client="",
                    origin="",
                    body=None,
                    answer=None,
                    duration_ms=1,
                    at=now,
                )
            )
    waiting.write(server.engine.pool)
    assert "misses 5" in caplog.text
    assert api.get("/api_logs")["meta"]["total_count"] == SHARE_MAX
    assert stranger.get("/api_logs")["meta"]["total_count"] == 1
