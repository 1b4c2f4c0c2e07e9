"""The whole application on a database of its own, seen by somebody who is signed in."""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from argon2 import PasswordHasher
from psycopg import Connection
from starlette.testclient import TestClient

from permille.api.http import Call, Engine
from permille.app import build
from permille.clock import system_now
from permille.config import from_environment
from permille.core.instants import microseconds
from permille.core.organization import Organization
from permille.database.connections import encode_answer
from permille.embedded.postgres import EmbeddedPostgres
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.store import organizations, sessions, users
from permille.usecases.catalogue import price_lists
from permille.web import security

START = datetime(2026, 10, 1, 12, tzinfo=UTC)
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Browser:
    """A browser of a user, looking at an organization. `ok` and `sent` answer the page's text."""

    client: TestClient
    organization: Organization
    dsn: str

    def ok(self, path: str, **params: str) -> str:
        response = self.client.get(f"/app{path}", params=params)
        assert response.status_code == 200, (response.status_code, response.headers.get("location"))
        forms = re.findall(
            r'<form\b[^>]*method="post"[^>]*>(?!<input type="hidden" name="form_token")', response.text
        )
        assert all("data-again" in form for form in forms), "a form without a token is done twice"
        return response.text

    def post(self, path: str, form: Any = None, **headers: str) -> Any:
        return self.client.post(f"/app{path}", data=form or {}, headers=headers or SAME_ORIGIN)

    def sent(self, path: str, form: Any = None) -> str:
        """Where a form that is accepted leads to."""
        response = self.post(path, form)
        assert response.status_code == 303, response.text
        return response.headers["location"]

    def confirmed(self, path: str, form: Any = None, **when: str) -> str:
        """Where a change of prices leads to whose effect on running bills is shown first: at once, or from `when`."""
        page = self.post(path, form)
        assert page.status_code == 200, (page.status_code, page.text)
        assert "Nothing is saved yet." in page.text
        return self.sent(path, {**sent_by(page.text), **(when or {"effective": "now"})})

    def refused(self, path: str, form: Any = None) -> str:
        response = self.post(path, form)
        assert response.status_code == 422, (response.status_code, response.text)
        return response.text

    def row(self, query: str, *values: Any) -> Any:
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(query, values).fetchone()


def text_of(page: str) -> str:
    """The words of a page, spaces made one."""
    without = re.sub(r"<(script|style)[^>]*>.*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", without).strip()


def sent_by(page: str) -> dict[str, list[str]]:
    """The fields that the page's form would send."""
    form = page.split('class="form"', 1)[1].split("</form>", maxsplit=1)[0]
    fields: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>|<select.*?</select>", form, flags=re.DOTALL):
        name = re.findall(r'name="([^"]*)"', tag)[0]
        value = re.search(
            r'<option value="([^"]*)" selected' if tag.startswith("<select") else r'value="([^"]*)"', tag
        )
        if not re.search('type="(checkbox|radio)"', tag) or " checked" in tag:
            fields.setdefault(name, []).append(html.unescape(value[1]) if value else "")
    return fields


@dataclass(frozen=True, kw_only=True)
class Server:
    dsn: str
    client: TestClient
    engine: Engine


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> Iterator[Server]:
    """One application for all of these tests: organizations never see each other."""
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as conn:
        conn.execute("create database test_web template permille owner permille")
    dsn = postgres.dsn.replace("@/permille?", "@/test_web?", 1)
    application = build(replace(from_environment(), database_url=dsn))
    client = TestClient(application.rest, follow_redirects=False)
    yield Server(dsn=dsn, client=client, engine=application.engine)
    application.engine.pool.close()


@pytest.fixture(scope="module", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Hashes that cost next to nothing: what real ones cost is for test_passwords.py."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(security, "_hasher", quick)
        patched.setattr(security, "_NOBODY", quick.hash("of no user"))
        yield


@pytest.fixture
def dsn(server: Server) -> str:
    return server.dsn


def join(server: Server, *, role: str = "admin", test_mode: bool = True, is_owner: bool = False) -> Browser:
    """A new user with the role in a new organization, who looks at it."""
    client = TestClient(server.client.app, follow_redirects=False)
    now = system_now()
    with psycopg.connect(server.dsn) as conn:
        email = f"user-{next(_numbers)}@example.com"
        user = users.add(conn, email=email, password_hash=None, is_owner=is_owner, now=now)
        assert user is not None
        secret = sessions.open_session(conn, user_id=user.id, now=now)
        organization = organizations.add(
            conn, name="Acme AI", test_now=START if test_mode else None, entity={}, now=now
        )
        users.join_organization(conn, user_id=user.id, organization_id=organization.id, role=role, now=now)
        digest = users.digest_of(secret)
        sessions.choose_organization(conn, digest=digest, organization_id=organization.id)
    client.cookies.set("permille", secret)
    return Browser(client=client, organization=organization, dsn=server.dsn)


@pytest.fixture
def browser(server: Server) -> Browser:
    """An admin of an organization in test mode at 2026-10-01T12:00Z that has nothing yet."""
    return join(server)


@pytest.fixture
def reader(server: Server) -> Browser:
    """Somebody with the role read-only."""
    return join(server, role="read_only")


@pytest.fixture
def api(server: Server, browser: Browser) -> Callable[..., Any]:
    """Call a function of the API in the browser's organization; its answer as clients read it."""

    def call(function: Any, body: Any = None, **path: str) -> Any:
        from starlette.datastructures import QueryParams

        with server.engine.pool.connection() as conn:
            organization = organizations.by_id(conn, browser.organization.id)
            assert organization is not None
            answer = function(
                Call(
                    engine=server.engine,
                    conn=conn,
                    organization=organization,
                    key_id=organization.id,
                    now=organization.now(system_now()),
                    path=path,
                    query=QueryParams(),
                    body=body,
                )
            )
        return json.loads(encode_answer(answer))

    return call


@pytest.fixture
def send(server: Server, browser: Browser) -> Iterator[Callable[..., None]]:
    """Store events as ingestion does."""
    conn: Connection[Any] = open_connection(server.dsn)
    memory = Memory()

    def one(code: str, sub: str, at: datetime = START, **properties: Any) -> None:
        draft = Draft(f"tx-{next(_numbers)}", code, sub, microseconds(at), None, properties)
        store(conn, memory, [Request(browser.organization.id, [draft], microseconds(at))])

    yield one
    conn.close()


@pytest.fixture
def gpt4(server: Server, browser: Browser) -> None:
    """The price list is in, and acme is on it."""
    with server.engine.pool.connection() as conn:
        organization = organizations.by_id(conn, browser.organization.id)
        assert organization is not None
        price_lists.apply(conn, organization=organization, slug="openai-gpt-4", now=START)
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme Chat, Inc.", "currency": "USD"})
    form = {"plan_code": "openai-gpt-4", "external_id": "acme-1", "billing_time": "calendar"}
    browser.sent("/subscribe/acme", form)
