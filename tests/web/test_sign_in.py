"""Signing in, one-time links, sessions, roles, and what is refused to strangers and other sites."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from starlette.testclient import TestClient

from permille.clock import system_now
from permille.config import from_environment
from permille.store import organizations, sessions, users
from permille.store.users import local_path
from permille.web import rendering
from permille.web.security import is_from_here
from permille.web.sign_in import first_user_link, sign_in_link

from .conftest import SAME_ORIGIN, join, text_of

PASSWORD = "correct horse battery"


@pytest.fixture
def client(server):
    return TestClient(server.client.app, follow_redirects=False)


def link(server, role="finance", now=None, organization_id=None):
    """An invitation to an organization, by default a new one."""
    now = now or system_now()
    with psycopg.connect(server.dsn) as conn:
        if organization_id is None:
            organization_id = organizations.add(conn, name="Globex", test_now=None, entity={}, now=now).id
        return "/app/link/" + users.add_invitation(conn, organization_id=organization_id, role=role, now=now)


def become(client, path, email):
    return client.post(path, data={"email": email, "password": PASSWORD}, headers=SAME_ORIGIN)


def sign_in(client, email, password=PASSWORD, path="/app/sign-in"):
    return client.post(path, data={"email": email, "password": password}, headers=SAME_ORIGIN)


def test_everything_leads_a_stranger_to_the_sign_in(client):
    assert client.get("/").headers["location"] == "/app"
    assert client.get("/app/customers?q=a").headers["location"] == "/app/sign-in?next=/app/customers%3Fq%3Da"
    assert client.post("/app/new-customer", headers=SAME_ORIGIN).headers["location"] == "/app/sign-in"


def test_the_sign_in_page(client):
    page = client.get("/app/sign-in?next=/app/plans")
    assert page.status_code == 200
    assert 'name="password"' in page.text


def test_a_link_makes_a_user_once_who_then_signs_in(server, client):
    path = link(server, role="finance")
    assert "Join" in client.get(path).text
    assert "finance" in client.get(path).text  # looking does not use it up
    joined = become(client, path, "Fin@example.com")
    assert joined.status_code == 303
    cookie = joined.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie
    assert client.get("/app/audit-log").status_code in (200, 303)
    assert client.get(path).status_code == 410
    client.cookies.clear()
    assert become(client, path, "other@example.com").status_code == 410
    assert sign_in(client, "fin@EXAMPLE.com").headers["location"] == "/app"


def test_the_password_is_kept_as_argon2id_and_the_cookie_as_a_digest(server, client):
    become(client, link(server, role="finance"), "hash@example.com")
    secret = client.cookies["permille"]
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, "hash@example.com")
        assert user is not None
        assert user.password_hash is not None
        assert user.password_hash.startswith("$argon2id$")
        found = conn.execute("select digest from user_session where user_id = %s", [user.id]).fetchall()
    assert found == [(users.digest_of(secret),)]


@pytest.mark.parametrize(
    ("email", "password", "word"),
    [("nobody", PASSWORD, "can't be used"), ("", PASSWORD, "Fill this in"), ("a@b.example", "short", "10")],
)
def test_what_cannot_be_a_user(server, client, email, password, word):
    path = link(server, role="finance")
    response = client.post(path, data={"email": email, "password": password}, headers=SAME_ORIGIN)
    assert response.status_code == 422
    assert word in response.text.replace("&#39;", "'")
    assert client.get(path).status_code == 200


def test_an_email_is_taken_once(server, client):
    become(client, link(server, role="finance"), "twice@example.com")
    again = become(client, link(server, role="admin"), "TWICE@example.com")
    assert again.status_code == 422
    assert "taken" in again.text


def test_a_link_of_a_user_signs_in_and_leads_on(server, client):
    with psycopg.connect(server.dsn) as conn:
        token = users.add_sign_in_link(
            conn, email="demo@example.com", path="/app/customers/acme", now=system_now()
        )
    path = f"/app/link/{token}"
    assert "demo@example.com" in client.get(path).text
    assert client.post(path, headers=SAME_ORIGIN).headers["location"] == "/app/customers/acme"
    client.cookies.clear()
    assert client.post(path, headers=SAME_ORIGIN).status_code == 410


def test_links_expire(server, client):
    assert client.get(link(server, now=system_now() - timedelta(hours=25))).status_code == 410


def test_a_plain_cookie_behind_https_is_said_aloud(server, client, caplog):
    """A proxy that nobody trusts can't make it secure, but the log says what to set."""
    become(client, link(server), "plain@example.com")
    assert "isn't trusted" not in caplog.text
    path = link(server)
    headers = {**SAME_ORIGIN, "X-Forwarded-Proto": "https"}
    joined = client.post(path, data={"email": "tls@example.com", "password": PASSWORD}, headers=headers)
    assert (joined.status_code, "Secure" in joined.headers["set-cookie"]) == (303, False)
    assert "PERMILLE_TRUSTED_PROXIES" in caplog.text


def test_behind_https_the_cookie_is_secure_without_a_word(server, caplog):
    """The scheme is what a trusted proxy says: see tests/test_server.py."""
    client = TestClient(server.client.app, follow_redirects=False, base_url="https://bill.example")
    cookie = become(client, link(server), "secure@example.com").headers["set-cookie"]
    assert cookie.startswith("__Host-permille=")
    assert "Secure" in cookie
    assert "isn't trusted" not in caplog.text


def test_the_first_user_has_a_link_until_there_is_one(postgres):
    with psycopg.connect(postgres.superuser_dsn, autocommit=True) as conn:
        conn.execute("create database test_first template permille owner permille")
    dsn = postgres.dsn.replace("@/permille?", "@/test_first?", 1)
    config = from_environment({"PERMILLE_DATABASE_URL": dsn, "PERMILLE_PUBLIC_URL": "https://bill.example"})
    first, second = first_user_link(config), first_user_link(config)
    assert first is not None
    assert second is not None
    assert first.startswith("https://bill.example/app/link/")
    from permille.app import build

    application = build(config)
    client = TestClient(application.rest, follow_redirects=False, base_url="https://bill.example")
    answer = become(client, first.removeprefix("https://bill.example"), "root@example.com")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-permille=")
    assert "Secure" in cookie
    assert become(client, second.removeprefix("https://bill.example"), "b@example.com").status_code == 410
    assert first_user_link(config) is None
    # Nothing is there yet: the way goes to the first organization, whose key is shown once.
    assert client.get("/app/customers").headers["location"] == "/app/new-organization"
    assert '<option value="DE">Germany</option>' in client.get("/app/new-organization").text
    form = {"name": "First", "test_mode": "1", "now": "2026-10-01"}
    made = client.post("/app/new-organization", data=form, headers=SAME_ORIGIN)
    assert made.status_code == 200
    assert "pm_" in made.text
    assert "Test mode" in client.get("/app/customers").text
    application.engine.pool.close()


def test_a_wrong_password_and_an_unknown_email_are_answered_alike(server, client):
    become(client, link(server, role="finance"), "known@example.com")
    wrong = sign_in(client, "known@example.com", "wrong password")
    unknown = sign_in(client, "unknown@example.com", "wrong password")
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.text.replace("known", "") == unknown.text.replace("unknown", "")


def test_signing_out_ends_the_session(server):
    browser = join(server)
    browser.ok("/customers")
    secret = browser.client.cookies["permille"]
    assert browser.sent("/sign-out") == "/app/sign-in"
    browser.client.cookies.set("permille", secret)
    assert browser.client.get("/app/customers").status_code == 303


@pytest.mark.parametrize("column", ["expires_at", "last_seen_at"])
def test_sessions_end(server, column):
    browser = join(server)
    secret = browser.client.cookies["permille"]
    with psycopg.connect(server.dsn) as conn:
        conn.execute(
            f"update user_session set {column} = {column} - interval '8 days' where digest = %s",
            [users.digest_of(secret)],
        )
    assert browser.client.get("/app/customers").status_code == 303


def test_the_page_after_the_sign_in_is_ours():
    assert local_path("/app/customers?q=1") == "/app/customers?q=1"
    for stranger in ("https://evil.example", "//evil.example", "/application", "/app/\\evil", "/app/\n", ""):
        assert local_path(stranger) == "/app"


def test_where_a_form_may_come_from():
    assert is_from_here("GET", {"sec-fetch-site": "cross-site"})
    assert is_from_here("POST", {"sec-fetch-site": "same-origin"})
    assert is_from_here("POST", {"origin": "https://a.example", "host": "a.example"})
    for headers in (
        {"sec-fetch-site": "cross-site", "origin": "https://a.example", "host": "a.example"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://b.example", "host": "a.example"},
        {"origin": "null", "host": "a.example"},
        {},
    ):
        assert not is_from_here("POST", headers)


@pytest.mark.parametrize("path", ["/new-customer", "/test-clock", "/sign-out", "/sign-in", "/users"])
def test_forms_of_other_sites_are_refused(browser, path):
    answer = browser.post(path, {"external_id": "x"}, **{"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    browser.ok("/customers")


def test_every_page_has_the_strict_policy_and_nothing_inline(browser):
    for path in ("/customers", "/new-customer", "/users", "/audit-log"):
        response = browser.client.get(f"/app{path}")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "<style" not in response.text
        assert " style=" not in response.text
        assert "onclick" not in response.text
        assert response.headers["cache-control"] == "no-store"


def test_static_files_are_ours_and_only_they(client):
    assert client.get("/app/static/app.css").headers["content-type"].startswith("text/css")
    assert client.get("/app/static/secrets.txt").status_code == 404
    assert client.get("/app/static/..%2Fpages.py").status_code == 404


def test_who_only_reads_cannot_change_anything(reader):
    assert "New customer" not in reader.ok("/customers")
    for path in ("/new-customer", "/test-clock", "/new-organization", "/users"):
        assert reader.post(path, {"external_id": "x", "name": "x"}).status_code == 403
    assert reader.client.get("/app/users").status_code == 403
    assert reader.row("select count(*) from customer where organization_id = %s", reader.organization.id) == (
        0,
    )


def test_finance_neither_invites_nor_makes_organizations(server):
    finance = join(server, role="finance")
    assert finance.post("/users", {"role": "admin"}).status_code == 403
    assert finance.post("/new-organization", {"name": "x"}).status_code == 403
    assert finance.sent("/new-customer", {"external_id": "x"}).startswith("/app/customers/x")


def user_of(browser):
    """The id of the one who is signed in."""
    digest = users.digest_of(browser.client.cookies["permille"])
    return browser.row("select user_id from user_session where digest = %s", digest)[0]


def invited(browser, role="finance"):
    """The path of an invitation to the browser's organization, made on its page of users."""
    return re.findall(r"/app/link/[\w-]+", browser.post("/users", {"role": role}).text)[0]


def accept(other, path):
    """Somebody who is signed in joins with an invitation."""
    return other.client.post(path, data={"as_myself": "1"}, headers=SAME_ORIGIN)


def look_at(browser, organization):
    return browser.post("/switch-organization", {"organization_id": str(organization.id)}).status_code


def test_admins_invite_and_remove(server, browser):
    assert "This value" in browser.refused("/users", {"role": "emperor"})
    guest = TestClient(server.client.app, follow_redirects=False)
    assert become(guest, invited(browser), "guest@example.com").status_code == 303
    assert guest.get("/app/customers").status_code == 200
    assert "guest@example.com" in browser.ok("/users")
    (user_id,) = browser.row("select id from app_user where email = 'guest@example.com'")
    assert browser.sent(f"/users/{user_id}/remove") == "/app/users?said=deleted"
    assert guest.get("/app/customers").status_code == 303
    assert "yourself" in text_of(browser.refused(f"/users/{user_of(browser)}/remove"))
    assert "yourself" in text_of(browser.refused(f"/users/{user_of(browser)}/role", {"role": "finance"}))


def test_an_invitation_is_to_one_organization(server, browser):
    other = join(server)
    guest = TestClient(server.client.app, follow_redirects=False)
    become(guest, invited(browser), "to-one-organization@example.com")
    assert guest.get("/app/customers").status_code == 200
    chosen = {"organization_id": str(other.organization.id)}
    assert guest.post("/app/switch-organization", data=chosen, headers=SAME_ORIGIN).status_code == 404
    assert str(other.organization.id) not in guest.get("/app/customers").text
    assert "to-one-organization@example.com" not in other.ok("/users")
    assert "to-one-organization@example.com" not in text_of(other.ok("/audit-log"))
    assert "joined to-one-organization@example.com" in text_of(browser.ok("/audit-log"))


def test_a_user_has_a_role_in_each_organization(server, browser):
    other = join(server)
    path = invited(browser, "read_only")
    assert f"Join {browser.organization.name}" in other.client.get(path).text
    assert accept(other, path).headers["location"] == "/app"
    assert accept(other, path).status_code == 410
    assert other.post("/new-customer", {"external_id": "x"}).status_code == 403
    assert look_at(other, other.organization) == 303
    assert other.sent("/new-customer", {"external_id": "x"}).startswith("/app/customers/x")
    assert look_at(other, browser.organization) == 303
    assert browser.sent(f"/users/{user_of(other)}/role", {"role": "finance"}) == "/app/users?said=saved"
    assert other.sent("/new-customer", {"external_id": "y"}).startswith("/app/customers/y")


def test_who_is_removed_from_one_organization_keeps_the_others(server, browser):
    other = join(server)
    accept(other, invited(browser))
    assert browser.sent(f"/users/{user_of(other)}/remove") == "/app/users?said=deleted"
    assert look_at(other, browser.organization) == 404
    other.sent("/new-customer", {"external_id": "still-here"})
    assert other.row("select organization_id from customer where external_id = 'still-here'") == (
        other.organization.id,
    )


def meanwhile(conn, send):
    """The answer to a request that is sent while the transaction of `conn` is open, and waits for it."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send)
        wait([answer], timeout=1)
        conn.commit()
        return answer.result()


def test_who_is_removed_at_the_same_time_uses_no_invitation(server, browser):
    other, path = join(server), invited(browser)
    user_id = user_of(other)
    with psycopg.connect(server.dsn) as conn:
        users.remove(conn, user_id=user_id, now=system_now())
        assert meanwhile(conn, lambda: accept(other, path)).status_code == 410
        assert users.memberships(conn, user_id) == 0
    assert "Join" in browser.client.get(path).text


def test_who_joins_another_organization_at_the_same_time_stays_a_user(server, browser):
    other = join(server)
    accept(other, invited(browser))
    user_id, third = user_of(other), join(server).organization
    with psycopg.connect(server.dsn) as conn:
        users.leave_organization(conn, user_id=user_id, organization_id=other.organization.id)
        conn.commit()
        assert users.hold(conn, user_id)
        users.join_organization(
            conn, user_id=user_id, organization_id=third.id, role="admin", now=system_now()
        )
        removal = meanwhile(conn, lambda: browser.post(f"/users/{user_id}/remove"))
    assert removal.status_code == 303
    assert look_at(other, third) == 303
    assert look_at(other, browser.organization) == 404


def test_a_link_for_who_is_removed_at_the_same_time_is_for_a_new_user(server):
    other = join(server)
    (email,) = other.row("select email from app_user where id = %s", user_of(other))

    def link_for():
        with psycopg.connect(server.dsn) as conn:
            organization_id = other.organization.id
            token = users.add_sign_in_link(
                conn, email=email, now=system_now(), organization_id=organization_id
            )
            return users.link(conn, token=token, now=system_now())

    with psycopg.connect(server.dsn) as conn:
        users.remove(conn, user_id=user_of(other), now=system_now())
        made = meanwhile(conn, link_for)
        found = users.by_email(conn, email)
        assert found is not None
        assert (found.id, users.memberships(conn, found.id)) == (made.user_id, 1)


def test_an_admin_has_no_power_over_members_of_other_organizations(server, browser):
    other = join(server)
    for action, form in (("remove", {}), ("role", {"role": "read_only"})):
        assert browser.post(f"/users/{user_of(other)}/{action}", form).status_code == 404
    assert other.sent("/new-customer", {"external_id": "x"}).startswith("/app/customers/x")


def test_an_admin_of_one_organization_makes_no_other(browser):
    assert "New organization" not in browser.ok("/users")
    assert browser.client.get("/app/new-organization").status_code == 403
    assert browser.post("/new-organization", {"name": "x"}).status_code == 403


def test_an_owner_is_admin_everywhere_and_makes_organizations(server, browser):
    owner = join(server, is_owner=True)
    assert look_at(owner, browser.organization) == 303
    assert owner.sent("/new-customer", {"external_id": "x"}).startswith("/app/customers/x")
    assert owner.post("/new-organization", {"name": "Third"}).status_code == 200
    accept(owner, invited(browser))
    refusal = browser.refused(f"/users/{user_of(owner)}/remove")
    assert "owner of the installation" in text_of(refusal)


def test_a_user_in_no_organization_reads_what_to_do(server, client):
    with psycopg.connect(server.dsn) as conn:
        user = users.add(
            conn, email="lonely@example.com", password_hash=None, is_owner=False, now=system_now()
        )
        assert user is not None
        client.cookies.set("permille", sessions.open_session(conn, user_id=user.id, now=system_now()))
    for path in ("/app", "/app/customers", "/app/new-organization"):
        answer = client.get(path)
        assert answer.status_code == 403
        assert "invitation" in answer.text


def test_no_menu_acts_by_itself(browser):
    """A change of a menu alone changes nothing (WCAG 3.2.2): each has a button."""
    script = (Path(rendering.__file__).parent / "static" / "app.js").read_text()
    assert '"change"' not in script
    for form in re.findall(r"<form.*?</form>", browser.ok("/users"), flags=re.DOTALL):
        assert "<select" not in form or "<button" in form


def test_the_organization_is_chosen_and_stays(server, browser):
    other = join(server)
    accept(browser, invited(other))
    look_at(browser, browser.organization)
    browser.sent("/new-customer", {"external_id": "mine", "name": "Mine & Co"})
    assert "Mine &amp; Co" in browser.ok("/customers")
    browser.sent("/switch-organization", {"organization_id": str(other.organization.id)})
    assert "Mine" not in browser.ok("/customers")
    assert browser.client.get("/app/customers/mine").status_code == 404
    assert browser.post("/switch-organization", {"organization_id": "junk"}).status_code == 404


def test_changes_are_in_the_audit_log(browser):
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    browser.refused("/new-customer", {"external_id": ""})
    words = text_of(browser.ok("/audit-log"))
    assert words.count("saved customer acme") == 1
    assert "user-" in words


def test_a_link_from_the_command_line_signs_in_a_user_again(server, client):
    config = replace(from_environment(), database_url=server.dsn)
    address = sign_in_link(config, email="ops@example.com", role="admin")
    path = address.removeprefix(config.base_url)
    assert "ops@example.com" in client.get(path).text
    assert client.post(path, headers=SAME_ORIGIN).headers["location"] == "/app"
    again = sign_in_link(config, email="OPS@example.com").removeprefix(config.base_url)
    assert client.post(again, headers=SAME_ORIGIN).status_code == 303
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, "ops@example.com")
        assert user is not None
        assert user.is_owner
    for email, role in (("nobody", "admin"), ("a@example.com", "king"), ("a@example.com", "finance")):
        with pytest.raises(ValueError, match="is"):
            sign_in_link(config, email=email, role=role)


def test_a_link_from_the_command_line_gives_a_role_in_one_organization(server, browser):
    config, name = replace(from_environment(), database_url=server.dsn), str(browser.organization.id)
    sign_in_link(config, email="clerk@example.com", role="read_only", organization=name)
    sign_in_link(config, email="clerk@example.com", role="admin", organization=name)  # the role stays
    assert browser.row(
        "select m.role, u.is_owner from membership m join app_user u on u.id = m.user_id where u.email = %s",
        "clerk@example.com",
    ) == ("read_only", False)
    with pytest.raises(ValueError, match="no organization"):
        sign_in_link(config, email="clerk@example.com", organization="Nowhere")


def test_an_address_that_leads_nowhere_is_a_page_that_says_so(browser, server):
    for client in (browser.client, TestClient(server.client.app, follow_redirects=False)):
        answer = client.get("/app/nope")
        assert answer.status_code == 404
        assert "There is no such page" in answer.text
