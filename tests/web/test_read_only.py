"""What a read-only user sees: every page that a link leads to opens, and none has a form that changes anything."""

from __future__ import annotations

import html
import re
from pathlib import Path

import psycopg
from starlette.routing import Route

from permille import web
from permille.clock import system_now
from permille.store import sessions, users
from permille.web import rendering

from .conftest import Browser, join

ALLOWED = {"/app/sign-out", "/app/switch-organization"}
OWN = "/app/account/"
"""What users change about themselves."""
PAGES_MAX = 150


def reader_of(server, browser) -> Browser:
    """A read-only user who looks at the organization of the browser."""
    reader, now = join(server, role="read_only"), system_now()
    digest = users.digest_of(reader.client.cookies["permille"])
    with psycopg.connect(server.dsn) as conn:
        session = sessions.session(conn, secret=reader.client.cookies["permille"], now=now)
        assert session is not None
        users.join_organization(
            conn,
            user_id=session.user.id,
            organization_id=browser.organization.id,
            role="read_only",
            now=now,
        )
        sessions.choose_organization(conn, digest=digest, organization_id=browser.organization.id)
    return reader


def test_a_read_only_user_finds_no_form_that_changes_anything(server, browser, gpt4, send):
    send("gpt_4_tokens", "acme-1", model="8K", type="input", tokens=1_000)
    browser.sent("/test-clock", {"to": "period"})
    seen: set[str] = set()
    reader, waiting = reader_of(server, browser), ["/app"]
    while waiting and len(seen) < PAGES_MAX:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = reader.client.get(path)
        assert answer.status_code == 200, path
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        forms = re.findall(r'<form[^>]*method="post"[^>]*>', answer.text)
        actions = {found[1] if (found := re.search(r'action="([^"]*)"', form)) else path for form in forms}
        assert {one for one in actions if not one.startswith(OWN)} <= ALLOWED, path
        links = {html.unescape(link) for link in re.findall(r'href="(/app[^"#]*)', answer.text)}
        waiting += sorted(link for link in links - seen if "/static/" not in link)
    assert len(seen) > 20
    assert {"/app/customers/acme", "/app/plans/openai-gpt-4", "/app/settings", "/app/developers"} <= seen


def test_a_page_with_a_form_is_closed_or_shows_it_without(server, browser, gpt4):
    reader = reader_of(server, browser)
    names = {"external_id": "acme", "code": "openai-gpt-4", "user_id": "x", "lago_id": "x"}
    closed = 0
    for route in web.routes(server.engine):
        if not isinstance(route, Route) or not {"GET", "POST"} <= (route.methods or set()):
            continue
        path = re.sub(r"\{(\w+)(?::path)?\}", lambda match: names.get(match[1], "x"), route.path)
        if path in ("/app/sign-in", "/app/link/x"):
            continue
        answer = reader.client.get(path)
        closed += answer.status_code == 403
        if answer.status_code == 200:
            forms = re.findall(r'<form[^>]*method="post"[^>]*>', answer.text)
            assert all(any(f'action="{one}' in form for one in (*ALLOWED, OWN)) for form in forms), path
    assert closed > 10


def test_each_form_that_makes_something_new_opens_empty(server, browser):
    opened = [
        route.path
        for route in web.routes(server.engine)
        if isinstance(route, Route) and "GET" in (route.methods or set()) and "/new-" in route.path
        if "{" not in route.path and browser.client.get(route.path).status_code == 200
    ]
    assert {"/app/new-custom-section", "/app/new-coupon", "/app/new-plan"} <= set(opened)


def test_no_field_shows_a_grey_value_that_looks_typed():
    for template in (Path(rendering.__file__).parent / "templates").glob("*.html"):
        assert "placeholder=" not in template.read_text(), template.name
