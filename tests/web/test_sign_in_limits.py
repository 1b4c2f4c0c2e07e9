"""How often somebody may guess, how many at once, and whom a stranger can't lock out; sessions and the password."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import psycopg
import pytest
from starlette.testclient import TestClient

from permille.clock import system_now
from permille.store import users
from permille.usecases.attempts import PER_ADDRESS, PER_BROWSER, PER_EMAIL
from permille.web import security

from .conftest import SAME_ORIGIN, Server, join, text_of
from .test_sign_in import PASSWORD, become, link, sign_in


def browser_at(server: Server, address: str) -> TestClient:
    return TestClient(server.client.app, follow_redirects=False, client=(address, 4711))


def known_user(server: Server, email: str, address: str) -> TestClient:
    """A user, in the browser in which it was made, signed out."""
    client = browser_at(server, address)
    assert become(client, link(server, role="finance"), email).status_code == 303
    client.post("/app/sign-out", headers=SAME_ORIGIN)
    return client


def at_once(server: Server, attempts: Sequence[tuple[str, str]]) -> list[httpx2.Response]:
    """The answers to wrong passwords, all sent at once: (email, address) each."""

    async def one(email: str, address: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=server.client.app, client=(address, 4711))
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            form = {"email": email, "password": "wrong password"}
            return await client.post("/app/sign-in", data=form, headers=SAME_ORIGIN)

    async def every() -> list[httpx2.Response]:
        return await asyncio.gather(*(one(*each) for each in attempts))

    return asyncio.run(every())


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that are really compared with a hash."""
    found: list[str] = []

    class Counting:
        def verify(self, _hash: str, password: str) -> bool:
            found.append(password)
            time.sleep(0.02)
            return False

    monkeypatch.setattr(security, "_hasher", Counting())
    return found


def test_of_many_guesses_at_once_no_more_are_tried_than_one_after_the_other(
    server: Server, tried: list[str]
) -> None:
    """F11: counted before they are tried, under the subject's lock."""
    for _ in range(5):
        answers = at_once(server, [("guessed@example.com", "198.51.100.1")] * 20)
        assert {each.status_code for each in answers} <= {422, 429}
    assert len(tried) == PER_EMAIL
    many = [(f"guessed-{n}@example.com", "198.51.100.2") for n in range(100)]
    for begin in range(0, 100, 20):
        at_once(server, many[begin : begin + 20])
    assert len(tried) == PER_EMAIL + PER_ADDRESS


def test_an_ipv6_network_counts_as_one_address(server: Server, tried: list[str]) -> None:
    every = [(f"six-{n}@example.com", f"2001:db8:6::{n:x}") for n in range(PER_ADDRESS + 10)]
    for begin in range(0, len(every), 5):
        at_once(server, every[begin : begin + 5])
    assert len(tried) == PER_ADDRESS


def test_the_queue_for_passwords_is_short(server: Server, tried: list[str]) -> None:
    """F11: 100 strangers at once, each at a user and an address of its own."""
    begun = time.monotonic()
    answers = at_once(server, [(f"queued-{n}@example.com", f"203.0.113.{n}") for n in range(100)])
    assert len(tried) == 22
    refused = [each for each in answers if each.status_code == 429]
    assert len(refused) == 78
    assert {each.headers["retry-after"] for each in refused} == {"1"}
    assert "Many sign in at the moment" in refused[0].text
    assert time.monotonic() - begun < 20


def test_too_many_failures_are_refused_even_with_the_right_password(server: Server) -> None:
    email = "tried@example.com"
    known_user(server, email, "198.51.100.10")
    elsewhere = browser_at(server, "198.51.100.11")
    for _ in range(PER_EMAIL):
        assert sign_in(elsewhere, email, "wrong password").status_code == 422
    refused = sign_in(elsewhere, email)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "900")
    with psycopg.connect(server.dsn) as conn:
        conn.execute("update sign_in_failure set at = at - interval '16 minutes'")
    assert sign_in(elsewhere, email).status_code == 303


def test_a_stranger_locks_nobody_out_of_a_browser_that_is_known(server: Server) -> None:
    """F12."""
    email = "victim@example.com"
    own = known_user(server, email, "198.51.100.20")
    stranger = browser_at(server, "198.51.100.21")
    for _ in range(PER_EMAIL + 2):
        sign_in(stranger, email, "wrong password")
    assert sign_in(browser_at(server, "198.51.100.22"), email).status_code == 429
    assert sign_in(own, email).status_code == 303
    assert own.get("/app/account").status_code in (200, 303)


def test_colleagues_behind_one_address_are_not_locked_out(server: Server) -> None:
    """F12: their own browsers are known, whatever comes from the address that they share."""
    own = known_user(server, "colleague@example.com", "198.51.100.30")
    for n in range(PER_ADDRESS + 1):
        sign_in(browser_at(server, "198.51.100.30"), f"nobody-{n % 7}{n}@example.com", "wrong password")
    assert sign_in(browser_at(server, "198.51.100.30"), "somebody@example.com").status_code == 429
    assert sign_in(own, "colleague@example.com").status_code == 303


def test_a_known_browser_is_known_of_its_user_alone_and_has_a_limit_too(server: Server) -> None:
    own = known_user(server, "mallory@example.com", "198.51.100.40")
    known_user(server, "other@example.com", "198.51.100.41")
    for _ in range(PER_EMAIL):
        assert sign_in(own, "other@example.com", "wrong password").status_code == 422
    assert sign_in(own, "other@example.com").status_code == 429
    for _ in range(PER_BROWSER):
        assert sign_in(own, "mallory@example.com", "wrong password").status_code == 422
    assert sign_in(own, "mallory@example.com").status_code == 429
    assert sign_in(browser_at(server, "198.51.100.42"), "mallory@example.com").status_code == 303


def test_a_success_forgives_the_email_and_not_the_address(server: Server) -> None:
    own = known_user(server, "careful@example.com", "198.51.100.50")
    elsewhere = browser_at(server, "198.51.100.51")
    for _ in range(3):
        for _ in range(PER_EMAIL - 1):
            sign_in(elsewhere, "careful@example.com", "wrong password")
        assert sign_in(browser_at(server, "198.51.100.51"), "careful@example.com").status_code == 303
    with psycopg.connect(server.dsn) as conn:
        row = conn.execute("select count(*) from sign_in_failure where subject = 'address:198.51.100.51'")
        assert row.fetchone() == (3 * (PER_EMAIL - 1),)
    del own


FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def two_sessions(server: Server, email: str) -> tuple[TestClient, TestClient]:
    """The user in two browsers."""
    first = known_user(server, email, "198.51.100.60")
    second = browser_at(server, "2001:db8::60")
    second.headers["user-agent"] = FIREFOX
    for each in (first, second):
        assert sign_in(each, email).status_code == 303
    return first, second


def test_sessions_are_listed_with_when_address_and_browser(server: Server) -> None:
    first, second = two_sessions(server, "lists@example.com")
    words = text_of(first.get("/app/account").text)
    assert "Firefox on Linux 2001:db8::60" in words
    assert "testclient 198.51.100.60" in words
    assert str(system_now().year) in words
    assert text_of(second.get("/app/account").text).count("this one") == 1


def test_a_session_is_ended_by_its_user_alone(server: Server) -> None:
    first, second = two_sessions(server, "ends@example.com")
    (path,) = re.findall(r"/app/account/sessions/[0-9a-f]{64}/end", first.get("/app/account").text)
    stranger = join(server, role="admin").client
    assert stranger.post(path, headers=SAME_ORIGIN).status_code == 404
    assert second.get("/app/account").status_code == 200
    assert first.post(path, headers=SAME_ORIGIN).status_code == 303
    assert second.get("/app/account").status_code == 303
    assert first.post(path, headers=SAME_ORIGIN).status_code == 404
    assert first.post("/app/account/sessions/zz/end", headers=SAME_ORIGIN).status_code == 404


def test_all_other_sessions_are_ended_at_once(server: Server) -> None:
    first, second = two_sessions(server, "others@example.com")
    assert first.post("/app/account/end-other-sessions", headers=SAME_ORIGIN).status_code == 303
    assert (first.get("/app/account").status_code, second.get("/app/account").status_code) == (200, 303)


def change_password(client: TestClient, current: str, new: str) -> Any:
    form = {"current_password": current, "new_password": new}
    return client.post("/app/account/password", data=form, headers=SAME_ORIGIN)


def test_a_password_is_changed_by_who_knows_it_and_ends_the_other_sessions(server: Server) -> None:
    first, second = two_sessions(server, "changes@example.com")
    wrong = change_password(first, "wrong password", "a better password")
    assert (wrong.status_code, "This is not your password" in wrong.text) == (422, True)
    assert "At least 10" in change_password(first, PASSWORD, "short").text
    assert (
        change_password(first, PASSWORD, "a better password").headers["location"].endswith("password_changed")
    )
    assert (first.get("/app/account").status_code, second.get("/app/account").status_code) == (200, 303)
    assert sign_in(second, "changes@example.com").status_code == 422
    assert sign_in(second, "changes@example.com", "a better password").status_code == 303
    with psycopg.connect(server.dsn) as conn:
        row = conn.execute(
            "select count(*) from audit_entry where action = 'changed own password'"
        ).fetchone()
        assert row is not None
        assert row[0] >= 1


def test_the_current_password_is_not_guessed_without_limit(server: Server) -> None:
    first, _ = two_sessions(server, "guarded@example.com")
    for _ in range(PER_BROWSER):
        assert change_password(first, "wrong password", "a better password").status_code == 422
    assert change_password(first, PASSWORD, "a better password").status_code == 429


def test_nobody_changes_a_password_from_another_site_or_signed_out(server: Server) -> None:
    first, _ = two_sessions(server, "sites@example.com")
    answer = first.post("/app/account/password", data={}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    stranger = browser_at(server, "198.51.100.70")
    assert change_password(stranger, PASSWORD, "a better password").headers["location"] == "/app/sign-in"


def test_who_is_in_no_organization_has_an_account(server: Server) -> None:
    with psycopg.connect(server.dsn) as conn:
        token = users.add_sign_in_link(conn, email="no-organization@example.com", now=system_now())
        conn.execute("update app_user set is_owner = false where email = 'no-organization@example.com'")
    client = browser_at(server, "198.51.100.80")
    client.post(f"/app/link/{token}", headers=SAME_ORIGIN)
    assert client.get("/app").status_code == 403
    page = client.get("/app/account")
    assert (page.status_code, "Set the password" in page.text) == (200, True)
    assert change_password(client, "", "a first password").status_code == 303
    assert sign_in(client, "no-organization@example.com", "a first password").status_code == 303
