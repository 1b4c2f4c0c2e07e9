"""Errors for people beside Lago's codes; where the addresses of its API that are not built yet lead."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from permille import logs
from permille.api import routes
from permille.api.addresses import Route
from permille.api.http import application
from permille.api.not_built import NOT_BUILT as TABLE
from permille.core.errors import BadRequest, Forbidden, Invalid, NotAllowed, NotFound, Refusal, Unevaluable
from permille.http.requests import Requests
from permille.http.words import message_of
from tests.api.conftest import Api, Server, charge, join, plan_body

PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
LAGO_PATHS = [
    tuple(line.split()) for line in (Path(__file__).parent / "lago_paths.txt").read_text().splitlines()
]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NOT_BUILT = [(method, path) for methods, path in TABLE for method in methods]


def compiled(addresses: Iterable[tuple[str, str]]) -> list[tuple[str, re.Pattern[str]]]:
    """Methods with what their addresses look like, which is made once and not for each test."""
    return [(method, Route(path, print).path_regex) for method, path in addresses]


BUILT_ROUTES = compiled((method, path) for method, path, _ in routes.ENDPOINTS)
NOT_BUILT_ROUTES = compiled(NOT_BUILT)


@pytest.fixture(scope="module")
def nobody(server: Server) -> Api:
    """An organization that has nothing, for all that only ask whether there is such an address."""
    return join(server, "Nobody")


def filled(path: str) -> str:
    return PARAMETER.sub("x", path)


def methods_of(path: str) -> set[str]:
    """What the table of endpoints says that an address of ours takes."""
    found = {method for method, address in BUILT_ROUTES if address.match(path)}
    assert found, path
    return found | ({"HEAD"} if "GET" in found else set())


@pytest.mark.parametrize(("method", "path"), LAGO_PATHS)
def test_every_address_of_lago_is_built_or_said_to_be_not(nobody: Api, method: str, path: str) -> None:
    if (method, path) in (("POST", "/events"), ("POST", "/events/batch")):
        return  # the intake's
    where = filled(path)
    is_built = any(m == method and address.match(where) for m, address in BUILT_ROUTES)
    answer = nobody.call(method, where, {} if method in ("POST", "PUT", "PATCH") else None)
    assert (answer.status_code == 501) == (not is_built), answer.text
    assert is_built or answer.json()["code"] == "not_supported_yet"


def test_nothing_that_is_built_is_said_to_be_not() -> None:
    built = {(method, PARAMETER.sub("{}", path)) for method, path, _ in routes.ENDPOINTS}
    assert not built & {(method, PARAMETER.sub("{}", path)) for method, path in NOT_BUILT}


def test_what_is_not_built_is_for_those_with_a_key_alone(api: Api) -> None:
    assert api.client.get("/api/v1/quotes").status_code == 401
    answer = api.call("GET", "/quotes/x/y")
    assert answer.status_code == 501
    assert answer.json()["code"] == "not_supported_yet"


@pytest.mark.parametrize("path", sorted({path for _, path, _ in routes.ENDPOINTS}))
def test_another_method_is_a_405_that_names_those_that_there_are(nobody: Api, path: str) -> None:
    taken = methods_of(filled(path))
    not_built = {m for m, address in NOT_BUILT_ROUTES if address.match(filled(path))}
    for method in (*METHODS, "OPTIONS"):
        answer = nobody.call(method, filled(path))
        if method not in taken | not_built:
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), method
            assert answer.json()["error"] == "Method Not Allowed"
            assert taken <= set(answer.headers["allow"].split(", ")) <= taken | not_built


def test_an_unknown_path_stays_a_404(api: Api) -> None:
    for method in METHODS:
        for path in ("/nothing", "/customers/x/nothing", "/plans/x/charges/y/z", ""):
            answer = api.call(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "resource_not_found")
            assert "allow" not in answer.headers


@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_a_key_every_route_says_how_to_show_one(api: Api, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    for method, path, _ in routes.ENDPOINTS:
        answer = api.client.request(method, f"/api/v1{filled(path)}", headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert {"status": 401, "error": "Unauthorized"}.items() <= answer.json().items()
        assert "Bearer" in answer.json()["message"]


@pytest.mark.parametrize(
    ("sent", "is_taken"),
    [
        ("abc-123", True),
        ("Root=1-67891233-abcdef012345678912345678", True),
        ("a" * 128, True),
        (None, False),
        ("", False),
        ("a" * 129, False),
        ("two words", False),
        ("a\tb", False),
        ("<script>", False),
        ('"', False),
    ],
)
def test_each_answer_has_the_id_of_its_request(api: Api, sent: str | None, is_taken: bool) -> None:
    headers = {"Authorization": f"Bearer {api.key}"} | ({} if sent is None else {"X-Request-Id": sent})
    seen = set()
    for path in ("/plans", "/plans/none", "/nothing", "/plans/%ff"):
        answer = api.client.get(f"/api/v1{path}", headers=headers)
        found = answer.headers["x-request-id"]
        assert (found == sent) == is_taken
        assert re.fullmatch(r"[!-~]{8,128}" if not is_taken else r"[!-~]{1,128}", found)
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == found
        seen.add(found)
    assert len(seen) == (1 if is_taken else 4)


def test_a_crash_has_the_id_too_and_so_has_the_log() -> None:
    async def broken(_request: Request) -> Response:
        raise ZeroDivisionError

    lines = io.StringIO()
    watched = logging.StreamHandler(lines)
    watched.setFormatter(logs.TextLines(logs.FORMAT))
    logging.getLogger().addHandler(watched)
    try:
        client = TestClient(Requests(application([Route("/x", broken)])), raise_server_exceptions=False)
        answer = client.get("/x", headers={"X-Request-Id": "find-me"})
    finally:
        logging.getLogger().removeHandler(watched)
    assert (answer.status_code, answer.json()["request_id"]) == (500, "find-me")
    assert answer.headers["x-request-id"] == "find-me"
    assert "request_id" in answer.json()["message"]
    assert " ERROR permille.api.http [find-me]: A request crashed" in lines.getvalue()


def test_closed_sets_are_named(api: Api) -> None:
    plan = {
        "plan": plan_body(
            "p", [charge(api.metric(), charge_model="x")], interval="daily", amount_currency="XXX"
        )
    }
    body = api.call("POST", "/plans", plan).json()
    assert body["error_details"].keys() >= {"interval", "amount_currency", "charge_model"}
    assert body["allowed"]["interval"] == ["weekly", "monthly", "quarterly", "semiannual", "yearly"]
    assert "USD" in body["allowed"]["amount_currency"]
    assert "package" in body["allowed"]["charge_model"]
    assert "interval: This value can't be used. Use one of weekly, monthly, quarterly" in body["message"]
    metric = api.metric("dim", filters=[{"key": "model", "values": ["8K", "32K"]}])
    priced = charge(metric, filters=[{"values": {"model": ["64K"]}, "properties": {"amount": "1"}}])
    body = api.call("POST", "/plans", {"plan": plan_body("q", [priced])}).json()
    assert body["allowed"] == {"values": list(metric["filters"][0]["values"])}
    body = api.call("PUT", "/organizations", {"organization": {"timezone": "Nowhere"}}).json()
    assert "allowed" not in body  # there are 600


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (BadRequest("the body is not valid JSON"), "The body is not valid JSON."),
        (NotFound("billable_metric"), "There is no such billable metric."),
        (NotFound("resource"), "There is nothing at this address: look at its path and the ids in it."),
        (Forbidden("something_new"), "Something new."),
        (NotAllowed("invoiced_fee"), "The fee is on an invoice, which is paid or not as a whole."),
        (Refusal(status=501, code="not_supported_yet"), "This isn't built yet."),
        (Unevaluable("no value"), "no value."),
        (Invalid({"name": ["value_is_mandatory"]}), "name: Fill this in."),
        (Invalid({"base": ["exceeded_limit"]}), "There are as many as there can be: delete one first."),
        (
            Invalid({"interval": ["value_is_invalid"]}, allowed={"interval": ("weekly", "monthly")}),
            "interval: This value can't be used. Use one of weekly, monthly.",
        ),
        (
            Invalid({"2": {"code": ["value_is_mandatory"]}, "7": "no value"}),
            "2: code: Fill this in. 7: no value.",
        ),
        (
            Invalid({str(n): {"code": ["value_is_mandatory"]} for n in range(7)}),
            " ".join(f"{n}: code: Fill this in." for n in range(5)) + " And 2 more.",
        ),
    ],
)
def test_a_message_says_what_is_wrong(refusal: Refusal, message: str) -> None:
    assert message_of(refusal) == message
