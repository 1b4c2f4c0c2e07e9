"""Ids with slashes and other signs are found by every route; what can't be read is a 400, never a 500."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache, partial
from typing import Any
from urllib.parse import quote, unquote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient

from permille import web
from permille.api import routes
from permille.api.addresses import Route, canonical_path, path_segment
from permille.api.http import Engine, application
from permille.config import Config
from permille.core.errors import BadRequest
from permille.web.shown import from_path, in_path
from tests.api.conftest import Api, charge
from tests.odd_ids import ODD_IDS

PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def every_route() -> list[Route]:
    engine: Any = Engine(config=Config(), pool=None, key_use=None)  # type: ignore[arg-type]
    found: list[Any] = [*routes.all_routes(engine), *web.routes(engine)]
    assert all(isinstance(each, Route) for each in found)
    return found


def echo(route: Route) -> Route:
    """A route at the same place that says which one it is and what it was given."""

    async def answer(request: Request) -> Response:
        return JSONResponse({"path": route.path, "given": request.path_params})

    return Route(route.path, answer, methods=route.methods)


def encoded(text: str) -> str:
    """Dots too, which the client takes for directions."""
    return path_segment(text).replace(".", "%2E")


@cache
def echoing() -> tuple[list[Route], Starlette]:
    """Every route, and an application of their echoes."""
    every = every_route()
    return every, application([echo(route) for route in every])


async def asked(app: Starlette, method: str, path: str) -> tuple[int, bytes]:
    """The status and the body of a request, without what a client costs."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": unquote(path), "raw_path": path.encode()}
    around = {"headers": [], "query_string": b"", "server": ("testserver", 80), "scheme": "http"}
    await app({**scope, **around, "client": ("testclient", 1), "root_path": ""}, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent)


@pytest.mark.parametrize("odd", ODD_IDS)
def test_every_route_gets_the_id_as_it_is(odd: str) -> None:
    every, app = echoing()

    async def ask_all() -> int:
        seen = 0
        for route in every:
            names = PARAMETER.findall(route.path)
            for name in names:
                given = {other: odd if other == name else f"any {other}" for other in names}
                path = PARAMETER.sub(
                    partial(lambda given, match: encoded(given[match[1]]), given), route.path
                )
                for method in (route.methods or set()) - {"HEAD"}:
                    status, body = await asked(app, method, path)
                    assert status == 200, (method, path, body)
                    assert json.loads(body) == {"path": route.path, "given": given}
                    seen += 1
        return seen

    assert asyncio.run(ask_all()) > 100


def test_a_slash_at_the_end_changes_nothing_and_leads_nowhere_else() -> None:
    every = every_route()
    client = TestClient(application([echo(route) for route in every]), follow_redirects=False)
    for route in every:
        if ":path}" in route.path or route.path == "/":
            continue
        path = PARAMETER.sub("x", route.path) + "/"
        for method in (route.methods or set()) - {"HEAD"}:
            found = client.request(method, path, headers={"host": "evil.test"})
            assert (found.status_code, found.json()["path"]) == (200, route.path)


def test_slashes_as_they_are_go_on_to_be_part_of_a_transaction_id() -> None:
    client = TestClient(application([echo(route) for route in every_route()]))
    for path, expected in {"a/b": "a/b", "a%2Fb/c": "a/b/c", "/a": "/a", "a/": "a/"}.items():
        assert client.get(f"/api/v1/events/{path}").json()["given"] == {"transaction_id": expected}


@pytest.mark.parametrize(
    "broken", ["%", "100%", "%4", "%zz", "%ff", "%C3", "%ED%A0%80", "%00", "a%00b", "%2"]
)
def test_an_address_that_cannot_be_read_is_a_400(broken: str) -> None:
    client = TestClient(application([echo(route) for route in every_route()]))
    for route in every_route():
        for name in PARAMETER.findall(route.path):
            raw = PARAMETER.sub(
                partial(lambda name, match: broken if match[1] == name else "x", name), route.path
            )
            scope = {"raw_path": raw.encode(), "query_string": b"", "path": raw}
            with pytest.raises(BadRequest):
                canonical_path(scope)
    answer = client.get("/api/v1/plans/%ff")
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


def test_an_address_is_canonical_whatever_was_encoded_in_it() -> None:
    def canonical(raw: bytes) -> str:
        return canonical_path({"raw_path": raw, "query_string": b"", "path": "not looked at"})

    assert canonical(b"/api/v1/%70lans/a%2fb") == "/api/v1/plans/a%2Fb"
    assert canonical(b"/api/v1/plans/gid:x@y+z") == "/api/v1/plans/gid%3Ax%40y%2Bz"
    assert canonical(b"/a//b/") == "/a//b/"
    assert canonical_path({"path": "/a b", "query_string": b""}) == "/a%20b"
    for raw in (b"/a\xff", b"/\xc3\xa9"):
        with pytest.raises(BadRequest):
            canonical(raw)
    with pytest.raises(BadRequest):
        canonical_path({"raw_path": b"/a", "query_string": b"x=\xff"})


@pytest.mark.parametrize("odd", ODD_IDS)
def test_links_of_the_web_admin_lead_to_the_id(odd: str) -> None:
    from urllib.parse import unquote

    segment = in_path(odd)
    assert from_path(unquote(segment)) == odd
    assert "/" not in segment
    assert unquote(segment) not in (".", "..")


@pytest.mark.parametrize("odd", ODD_IDS[::3])
def test_everything_with_an_id_of_its_own_is_read_changed_and_deleted(api: Api, odd: str) -> None:
    at = encoded(odd)
    metric = api.metric(odd)
    api.post("/taxes", {"tax": {"name": "n", "code": odd, "rate": "20"}})
    api.post("/pricing_units", {"pricing_unit": {"name": "n", "code": odd, "short_name": "CR"}})
    api.plan(odd, [charge(metric, code=odd)])
    api.customer(odd)
    api.post(
        "/subscriptions",
        {"subscription": {"external_customer_id": odd, "plan_code": odd, "external_id": odd}},
    )
    for path, root in {
        f"/billable_metrics/{at}": "billable_metric",
        f"/taxes/{at}": "tax",
        f"/pricing_units/{at}": "pricing_unit",
        f"/plans/{at}": "plan",
        f"/plans/{at}/charges/{at}": "charge",
        f"/customers/{at}": "customer",
        f"/subscriptions/{at}": "subscription",
    }.items():
        assert odd in api.get(path)[root].values()
    usage = api.get(f"/customers/{at}/current_usage", external_subscription_id=odd)
    assert usage["customer_usage"]["charges_usage"][0]["billable_metric"]["code"] == odd
    assert api.put(f"/plans/{at}", {"plan": {"name": "renamed"}})["plan"]["name"] == "renamed"
    assert api.delete(f"/subscriptions/{at}")["subscription"]["status"] == "terminated"
    for noun in ("customers", "plans", "billable_metrics", "taxes", "pricing_units"):
        api.delete(f"/{noun}/{at}")
        assert api.call("GET", f"/{noun}/{at}").status_code == 404


def test_an_encoded_slash_deletes_nothing_else(api: Api) -> None:
    api.plan("p", [charge(api.metric(), code="x")])
    assert api.code(404, "DELETE", f"/plans/{quote('p/charges/x', safe='')}") == "plan_not_found"
    assert api.get("/plans/p/charges/x")["charge"]["code"] == "x"


def test_a_nul_in_any_of_several_values_is_refused(api: Api) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    for method, path, _ in routes.ENDPOINTS:
        if method == "GET" and "{" not in path:
            for query in ("a=%00&a=b", "a=b&a=%00", "currency[]=%00&currency[]=a", "%00=a"):
                answer = api.client.get(f"/api/v1{path}?{query}", headers=headers)
                assert answer.status_code == 400, path
