"""The second factor: set up, asked for, guessed, replayed, lost, required, reset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyotp
import pytest
from starlette.testclient import TestClient

from permille.clock import system_now
from permille.config import from_environment
from permille.store import users
from permille.usecases import second_factors
from permille.usecases.attempts import PER_EMAIL
from permille.web.sign_in import reset_second_factor

from .conftest import SAME_ORIGIN, Server, join, text_of
from .test_sign_in import become, invited, link, sign_in

FACTOR = "/app/account/second-factor"


@dataclass
class Phone:
    """The user's browser and app. Each code is of a time step of its own, so that none is a replay."""

    client: TestClient
    email: str
    server: Server
    secret: str = ""
    recovery: tuple[str, ...] = ()

    def post(self, path: str, **form: str) -> Any:
        return self.client.post(path, data=form, headers=SAME_ORIGIN)

    def code(self) -> str:
        """The code of now, once the database has forgotten which was the last one."""
        with psycopg.connect(self.server.dsn) as conn:
            conn.execute("update second_factor set last_step = 0 where secret = %s", [self.secret])
        return pyotp.TOTP(self.secret).at(system_now())

    def set_up(self) -> None:
        assert self.post(f"{FACTOR}/begin").headers["location"] == FACTOR
        page = self.client.get(FACTOR).text
        self.secret = re.findall(r"<code>([A-Z2-7 ]+)</code>", page)[0].replace(" ", "")
        done = self.post(FACTOR, code=self.code())
        assert done.status_code == 200
        self.recovery = tuple(re.findall(r"<code>([a-z2-9-]{19})</code>", done.text))

    def elsewhere(self, address: str = "192.0.2.7") -> Phone:
        """Another browser of the user, whose password was right."""
        client = TestClient(self.server.client.app, follow_redirects=False, client=(address, 4711))
        other = replace(self, client=client)
        answer = sign_in(client, self.email, path="/app/sign-in?next=/app/plans")
        assert answer.headers["location"] == "/app/sign-in/code?next=/app/plans"
        return other

    def is_in(self) -> bool:
        return self.client.get("/app/account").status_code == 200


@pytest.fixture
def phone(server: Server, request: pytest.FixtureRequest) -> Phone:
    """An admin with a second factor."""
    email = f"{abs(hash(request.node.name))}@example.com"
    client = TestClient(server.client.app, follow_redirects=False, client=("192.0.2.1", 4711))
    become(client, link(server, role="admin"), email)
    made = Phone(client=client, email=email, server=server)
    made.set_up()
    return made


def test_it_is_set_up_with_a_code_of_the_app(server: Server) -> None:
    browser = join(server)
    assert "Set it up" in browser.ok("/account")
    assert browser.post("/account/second-factor/begin").status_code == 303
    page = browser.ok("/account/second-factor")
    assert "<svg" in page
    assert " style=" not in page
    assert "otpauth:" not in page  # what the picture says is in its squares alone
    assert "not the code" in text_of(browser.refused("/account/second-factor", {"code": "000000"}))
    again = browser.ok("/account/second-factor")
    assert re.findall(r"<code>.*</code>", again) == re.findall(r"<code>.*</code>", page)
    assert "Off." in browser.ok("/account")


def test_a_password_alone_signs_in_nobody_who_has_one(phone: Phone) -> None:
    assert len(phone.recovery) == second_factors.RECOVERY_CODES
    other = phone.elsewhere()
    assert not other.is_in()
    page = other.client.get("/app/sign-in/code?next=/app/plans")
    assert (page.status_code, "6 digits" in page.text) == (200, True)
    answer = other.post("/app/sign-in/code?next=/app/plans", code=other.code())
    assert (answer.status_code, answer.headers["location"]) == (303, "/app/plans")
    assert other.is_in()


def test_the_secret_of_the_cookie_changes_with_the_code(phone: Phone) -> None:
    other = phone.elsewhere()
    half = other.client.cookies["permille"]
    other.post("/app/sign-in/code", code=other.code())
    assert other.client.cookies["permille"] != half
    assert other.client.cookies["permille-browser"]
    other.client.cookies.clear()
    other.client.cookies.set("permille", half)
    assert not other.is_in()
    assert other.client.get("/app/sign-in/code").headers["location"] == "/app/sign-in?next=/app"


def test_a_code_works_once_everywhere(phone: Phone) -> None:
    code = phone.code()
    first, second = phone.elsewhere(), phone.elsewhere()
    assert first.post("/app/sign-in/code", code=code).status_code == 303
    replayed = second.post("/app/sign-in/code", code=code)
    assert (replayed.status_code, "used already" in replayed.text) == (422, True)


def test_a_recovery_code_works_once(phone: Phone) -> None:
    spelled = phone.recovery[0].upper().replace("-", " ")
    assert phone.elsewhere().post("/app/sign-in/code", code=spelled).status_code == 303
    assert phone.elsewhere().post("/app/sign-in/code", code=spelled).status_code == 422
    assert "9 recovery codes are left" in phone.client.get(FACTOR).text
    with psycopg.connect(phone.server.dsn) as conn:
        kept = conn.execute("select digest from recovery_code").fetchall()
    assert (users.digest_of(phone.recovery[1].replace("-", "")),) in kept


def test_codes_are_not_guessed_without_limit(phone: Phone) -> None:
    other = phone.elsewhere("192.0.2.20")
    for _ in range(PER_EMAIL):
        assert other.post("/app/sign-in/code", code="000000").status_code == 422
    refused = other.post("/app/sign-in/code", code=other.code())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "900")
    for _ in range(PER_EMAIL):
        phone.post(f"{FACTOR}/off", code="000000")
    assert phone.post(f"{FACTOR}/off", code=phone.code()).status_code == 429


def test_the_step_for_the_code_ends(phone: Phone) -> None:
    other = phone.elsewhere()
    with psycopg.connect(phone.server.dsn) as conn:
        conn.execute(
            "update user_session set expires_at = expires_at - interval '11 minutes' where awaits_code"
        )
    assert other.post("/app/sign-in/code", code=other.code()).headers["location"] == "/app/sign-in?next=/app"


def test_a_one_time_link_asks_for_the_code_too(phone: Phone) -> None:
    with psycopg.connect(phone.server.dsn) as conn:
        token = users.add_sign_in_link(conn, email=phone.email, now=system_now())
    client = TestClient(phone.server.client.app, follow_redirects=False)
    answer = client.post(f"/app/link/{token}", headers=SAME_ORIGIN)
    assert answer.headers["location"] == "/app/sign-in/code?next=/app"
    assert client.get("/app/account").status_code == 303


def test_recovery_codes_are_renewed_and_it_is_turned_off_with_a_code(phone: Phone) -> None:
    assert phone.post(f"{FACTOR}/recovery-codes", code="000000").status_code == 422
    renewed = phone.post(f"{FACTOR}/recovery-codes", code=phone.code())
    codes = re.findall(r"<code>([a-z2-9-]{19})</code>", renewed.text)
    assert not set(codes) & set(phone.recovery)
    assert phone.post(f"{FACTOR}/off", code=phone.recovery[0]).status_code == 422
    assert phone.post(f"{FACTOR}/off", code=codes[0]).headers["location"] == "/app/account?said=factor_off"
    client = TestClient(phone.server.client.app, follow_redirects=False)
    assert sign_in(client, phone.email).headers["location"] == "/app"


def test_it_is_not_set_up_again_over_the_one_there_is(phone: Phone) -> None:
    assert phone.post(f"{FACTOR}/begin").status_code == 422
    assert phone.post(FACTOR, code=phone.code()).status_code == 422
    assert phone.elsewhere().post("/app/sign-in/code", code=phone.code()).status_code == 303


def test_an_organization_may_require_it(server: Server) -> None:
    admin = join(server)
    assert admin.sent("/users/second-factor", {"required": "yes"}) == "/app/users?said=saved"
    to_set_up = f"{FACTOR}?said=factor_required"
    for path in ("/app/users", "/app", "/app/customers"):
        assert admin.client.get(path).headers["location"] == to_set_up
    assert admin.post("/new-customer", {"external_id": "x"}).headers["location"] == to_set_up
    assert "requires a second factor" in text_of(admin.client.get(to_set_up).text)
    phone = Phone(client=admin.client, email="", server=server)
    phone.set_up()
    assert "must have a second factor" in admin.ok("/users")
    admin.sent("/users/second-factor", {"required": "no"})
    assert "up to each user" in admin.ok("/users")
    for role in ("finance", "read_only"):
        assert join(server, role=role).post("/users/second-factor", {"required": "yes"}).status_code == 403


def test_who_is_kept_out_of_one_organization_may_look_at_another(server: Server) -> None:
    strict, free = join(server), join(server)
    strict.sent("/users/second-factor", {"required": "yes"})
    chosen = {"organization_id": str(free.organization.id)}
    with psycopg.connect(server.dsn) as conn:
        digest = users.digest_of(strict.client.cookies["permille"])
        row = conn.execute("select user_id from user_session where digest = %s", [digest]).fetchone()
        assert row is not None
        users.join_organization(
            conn, user_id=row[0], organization_id=free.organization.id, role="finance", now=system_now()
        )
    assert strict.sent("/switch-organization", chosen) == "/app"
    assert "Customers" in strict.ok("/customers")


def member_with_factor(phone: Phone, admin: Any, role: str = "finance") -> str:
    """The address at which an admin resets the phone's second factor, once it is a member there."""
    phone.client.post(invited(admin, role), data={"as_myself": "1"}, headers=SAME_ORIGIN)
    with psycopg.connect(phone.server.dsn) as conn:
        user = users.by_email(conn, phone.email)
    assert user is not None
    return f"/users/{user.id}/reset-second-factor"


def test_an_admin_resets_it_for_a_member_of_this_organization_alone(phone: Phone, server: Server) -> None:
    admin, owner = join(server), join(server, is_owner=True)
    assert admin.post(member_with_factor(phone, join(server))).status_code == 404
    path = member_with_factor(phone, admin)
    assert "other organizations" in text_of(admin.refused(path))
    owner.post("/switch-organization", {"organization_id": str(admin.organization.id)})
    assert "on <button" in owner.ok("/users")
    assert owner.sent(path) == "/app/users?said=saved"
    client = TestClient(server.client.app, follow_redirects=False)
    assert sign_in(client, phone.email).headers["location"] == "/app"
    assert "reset second factor of" in owner.ok("/audit-log")


def test_an_admin_resets_it_for_somebody_who_is_a_member_here_only(server: Server) -> None:
    admin = join(server)
    client = TestClient(server.client.app, follow_redirects=False)
    become(client, invited(admin), "forgetful@example.com")
    phone = Phone(client=client, email="forgetful@example.com", server=server)
    phone.set_up()
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, phone.email)
    assert user is not None
    path = f"/users/{user.id}/reset-second-factor"
    assert phone.post(f"/app{path}").status_code == 403
    assert admin.sent(path) == "/app/users?said=saved"
    assert admin.post(path).status_code == 404


def test_the_command_line_resets_it(phone: Phone) -> None:
    config = replace(from_environment(), database_url=phone.server.dsn)
    assert reset_second_factor(config, email=phone.email.upper())
    assert not reset_second_factor(config, email=phone.email)
    assert not reset_second_factor(config, email="nobody@example.com")


RFC_6238 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.fixture
def at(server: Server, phone: Phone) -> Iterator[Callable[[int, str], bool]]:
    """Whether a code is right at a second of 1970 and later, for the secret of RFC 6238; each alone."""
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, phone.email)
        assert user is not None
        conn.execute("update second_factor set secret = %s where user_id = %s", [RFC_6238, user.id])

        def is_right(second: int, code: str) -> bool:
            conn.execute("update second_factor set last_step = 0 where user_id = %s", [user.id])
            now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
            return second_factors.is_right(conn, user, code, now=now)

        yield is_right
        conn.rollback()


def test_codes_are_those_of_the_standard_for_a_minute_and_a_half(at: Callable[[int, str], bool]) -> None:
    assert at(59, "287082")
    vectors = {1111111109: "081804", 1234567890: "005924", 2000000000: "279037"}
    for second, code in vectors.items():
        begin = second // 30 * 30
        assert at(begin - 30, code)
        assert at(begin, code)
        assert at(begin + 59, code)
        assert not at(begin - 31, code)
        assert not at(begin + 60, code)


@pytest.mark.parametrize(
    "code", ["", "28708", "2870820", "２８７０８２", "abcdef", "-87082", "a" * 16, "a" * 10_000]
)
def test_what_is_no_code_is_wrong(at: Callable[[int, str], bool], code: str) -> None:
    assert not at(59, code)


def test_the_password_is_still_needed(phone: Phone) -> None:
    client = TestClient(phone.server.client.app, follow_redirects=False)
    assert sign_in(client, phone.email, "wrong password").status_code == 422
    assert client.get("/app/sign-in/code").headers["location"] == "/app/sign-in?next=/app"
