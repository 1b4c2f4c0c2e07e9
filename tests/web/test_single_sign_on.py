"""Single sign-on at a small provider with a key of its own: what is checked, who is let in, who becomes a user."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from permille import logs
from permille.app import build
from permille.clock import system_now
from permille.config import Config, from_environment
from permille.out.single_sign_on import NotSignedInError, Provider
from permille.store import organizations, users
from tests.test_logs import lines

from .conftest import Server, text_of
from .test_second_factor import Phone

CLIENT, SECRET = "permille-at-acme", "s3cret/+:%"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Acme:
    """A provider of OpenID Connect, as strict as a real one."""

    key: rsa.RSAPrivateKey = field(default_factory=new_key)
    kid: str = "1"
    url: str = ""
    described: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    signed: Callable[[dict[str, Any]], str] | None = None
    asked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def description(self) -> dict[str, Any]:
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        found = {name: f"{self.url}/{path}" for name, path in paths.items()}
        return {"issuer": self.url, **found, **self.described}

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig"}]}

    def agree(self, address: str, **claims: Any) -> dict[str, str]:
        """Somebody signs in at the address that the browser was sent to: what comes back with the browser."""
        parts = urlsplit(address)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize"
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        assert (asked["code_challenge_method"], asked["scope"]) == ("S256", "openid email")
        assert asked["redirect_uri"] == "http://127.0.0.1:8080/app/sign-in/sso/callback"
        code = f"code-{len(self.codes)}"
        self.codes[code] = {**asked, "claims": claims}
        return {"code": code, "state": asked["state"]}

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """The answer to the server, which proves that it is the client and that it began."""
        pair = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        begun = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if begun is None or authorization != f"Basic {pair}":
            return {"error": "invalid_grant"}
        if challenge.decode().rstrip("=") != begun["code_challenge"]:
            return {"error": "invalid_grant"}
        if form["redirect_uri"] != begun["redirect_uri"] or form["grant_type"] != "authorization_code":
            return {"error": "invalid_request"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "1",
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": begun["nonce"],
            "email_verified": True,
            **begun["claims"],
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        text = (self.signed or self.sign)(claims)
        return {"access_token": "a", "token_type": "Bearer", "id_token": text}

    def sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.kid})


@pytest.fixture
def acme() -> Iterator[Acme]:
    found = Acme()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            is_keys = self.path == "/keys"
            self.answer(found.keys() if is_keys else found.description())

        def do_POST(self) -> None:
            found.asked.append(self.path)
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(found.token(form, self.headers.get("authorization", "")))

        def answer(self, shown: Any) -> None:
            body = json.dumps(shown).encode()
            self.send_response(400 if "error" in shown else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def settings(server: Server, acme: Acme, **more: Any) -> Config:
    return replace(
        from_environment(),
        database_url=server.dsn,
        oidc_issuer=acme.url,
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        **more,
    )


@pytest.fixture
def open_app(server: Server, acme: Acme) -> Iterator[Callable[..., TestClient]]:
    """A browser in front of an application with single sign-on, and further settings."""
    built = []

    def make(**more: Any) -> TestClient:
        built.append(build(settings(server, acme, **more)))
        return TestClient(built[-1].rest, follow_redirects=False)

    yield make
    for application in built:
        for pool in application.pools:
            pool.close()


def at_provider(client: TestClient, path: str = "/app/plans") -> str:
    """The address of the provider that the browser is sent to."""
    answer = client.get(f"/app/sign-in/sso?next={quote(path)}")
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def back(client: TestClient, query: dict[str, str]) -> Any:
    return client.get("/app/sign-in/sso/callback", params=query)


def sign_in(client: TestClient, acme: Acme, **claims: Any) -> Any:
    return back(client, acme.agree(at_provider(client), **claims))


def add_user(server: Server, email: str) -> Any:
    with psycopg.connect(server.dsn) as conn:
        users.add_sign_in_link(conn, email=email, now=system_now())
        return users.by_email(conn, email)


def test_it_is_off_unless_the_settings_name_a_provider(server: Server) -> None:
    client = TestClient(server.client.app, follow_redirects=False)
    assert "Single sign-on" not in client.get("/app/sign-in").text
    assert client.get("/app/sign-in/sso").status_code == 404


def test_a_user_who_is_there_signs_in(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    add_user(server, "sso-one@example.com")
    client = open_app()
    assert "Single sign-on" in client.get("/app/sign-in").text
    answer = sign_in(client, acme, sub="one", email="SSO-One@example.com")
    assert (answer.status_code, answer.headers["location"]) == (303, "/app/plans")
    assert client.get("/app/account").status_code == 200
    assert "permille-sso" not in client.cookies
    described = [each for each in acme.asked if "configuration" in each]
    assert sign_in(client, acme, sub="one", email="sso-one@example.com").status_code == 303
    assert [each for each in acme.asked if "configuration" in each] == described


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"aud": [CLIENT, "another-client"], "azp": "another-client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"email": None},
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "false"},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_sign_in_signs_in_nobody(
    server: Server, acme: Acme, open_app: Callable[..., TestClient], claims: dict[str, Any]
) -> None:
    add_user(server, "sso-claims@example.com")
    client = open_app()
    answer = sign_in(client, acme, **{"sub": "claims", "email": "sso-claims@example.com", **claims})
    assert answer.status_code == 403
    assert "permille" not in client.cookies


def signed_by_another(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, new_key(), algorithm="RS256", headers={"kid": "1"})


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", algorithm="none")


@pytest.mark.parametrize("signed", [signed_by_another, unsigned, lambda _: "junk", lambda _: ""])
def test_a_token_that_the_provider_has_not_signed_signs_in_nobody(
    server: Server, acme: Acme, open_app: Callable[..., TestClient], signed: Callable[..., str]
) -> None:
    add_user(server, "sso-forged@example.com")
    acme.signed = signed
    assert sign_in(open_app(), acme, sub="forged", email="sso-forged@example.com").status_code == 403


def test_a_token_signed_with_the_public_key_as_a_secret_signs_in_nobody(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    from cryptography.hazmat.primitives import serialization
    from joserfc import jwt as jose
    from joserfc.jwk import OctKey

    add_user(server, "sso-confused@example.com")
    pem = acme.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = OctKey.import_key(base64.b64encode(pem).decode())
    acme.signed = lambda claims: jose.encode({"alg": "HS256", "kid": "1"}, claims, key)
    assert sign_in(open_app(), acme, sub="confused", email="sso-confused@example.com").status_code == 403


def test_only_the_browser_that_began_comes_back_and_once(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    add_user(server, "sso-browser@example.com")
    who = {"sub": "browser", "email": "sso-browser@example.com"}
    client, stranger = open_app(), open_app()
    query = acme.agree(at_provider(client), **who)
    assert back(stranger, query).headers["location"] == "/app/sign-in"
    at_provider(stranger)
    assert back(stranger, query).status_code == 403  # its own state is another one
    assert back(client, {**query, "state": "junk"}).status_code == 403
    assert back(client, query).headers["location"] == "/app/sign-in"  # used up
    at_provider(client)
    assert back(client, {"error": "access_denied", "state": "x"}).status_code == 403
    assert "permille" not in client.cookies
    deep = base64.b64encode(b'{"x":' + b"[" * 2_000).decode()
    for junk in ("junk", deep):
        client.cookies.set("permille-sso", junk)
        assert back(client, query).headers["location"] == "/app/sign-in"


def test_a_code_is_exchanged_with_the_verifier_of_its_browser(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    """PKCE: a code that was stolen is worth nothing in another browser."""
    add_user(server, "sso-pkce@example.com")
    victim, thief = open_app(), open_app()
    stolen = acme.agree(at_provider(victim), sub="pkce", email="sso-pkce@example.com")
    own_state = parse_qs(urlsplit(at_provider(thief)).query)["state"][0]
    assert back(thief, {**stolen, "state": own_state}).status_code == 403


def test_another_providers_answer_is_refused(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    client = open_app()
    query = acme.agree(at_provider(client), sub="mixed", email="mixed@example.com")
    assert back(client, {**query, "iss": "https://evil.example"}).status_code == 403


def test_strangers_become_users_only_from_the_domains_of_the_settings(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    with psycopg.connect(server.dsn) as conn:
        made = organizations.add(conn, name="SSO Inc", test_now=None, entity={}, now=system_now())
    refused = sign_in(open_app(), acme, sub="s1", email="new@acme.example")
    assert (refused.status_code, "invitation" in refused.text) == (403, True)
    welcome = {"oidc_domains": "other.example, ACME.example", "oidc_organization": str(made.id)}
    client = open_app(**welcome, oidc_role="finance")
    for email in ("x@sub.acme.example", "x@acme.example.evil.example", "acme.example", "a b@acme.example"):
        assert sign_in(client, acme, sub=email, email=email).status_code == 403
    assert sign_in(client, acme, sub="s1", email="new@acme.example").status_code == 303
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, "new@acme.example")
        assert user is not None
        assert (user.is_owner, user.password_hash) == (False, None)
        assert users.role_in(conn, user.id, made.id) == "finance"
    assert "SSO Inc" in text_of(client.get("/app").text)


def test_the_subject_decides_once_it_is_known(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    """An email that is given to somebody else at the provider leads to no account of ours."""
    add_user(server, "sso-moved@example.com")
    client = open_app()
    assert sign_in(client, acme, sub="moved", email="sso-moved@example.com").status_code == 303
    successor = sign_in(open_app(), acme, sub="successor", email="sso-moved@example.com")
    assert (successor.status_code, "somebody else" in successor.text) == (403, True)
    assert sign_in(open_app(), acme, sub="moved", email="renamed@example.com").status_code == 303
    with psycopg.connect(server.dsn) as conn:
        user = users.by_email(conn, "sso-moved@example.com")
        assert user is not None
        users.remove(conn, user_id=user.id, now=system_now())
    assert sign_in(open_app(), acme, sub="moved", email="sso-moved@example.com").status_code == 403


def test_who_has_a_second_factor_is_asked_for_it(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    add_user(server, "sso-phone@example.com")
    client = open_app()
    sign_in(client, acme, sub="phone", email="sso-phone@example.com")
    Phone(client=client, email="sso-phone@example.com", server=server).set_up()
    answer = sign_in(open_app(), acme, sub="phone", email="sso-phone@example.com")
    assert answer.headers["location"] == "/app/sign-in/code?next=/app/plans"


def test_a_new_key_of_the_provider_is_fetched(
    server: Server, acme: Acme, open_app: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("permille.out.single_sign_on.KEYS_AGAIN_SECONDS", 0)
    add_user(server, "sso-rolled@example.com")
    client = open_app()
    assert sign_in(client, acme, sub="rolled", email="sso-rolled@example.com").status_code == 303
    acme.key, acme.kid = new_key(), "2"
    assert sign_in(client, acme, sub="rolled", email="sso-rolled@example.com").status_code == 303


@pytest.mark.parametrize(
    "described",
    [{"issuer": "https://evil.example"}, {"token_endpoint": "ftp://127.0.0.1/"}, {"jwks_uri": None}],
    ids=str,
)
def test_a_provider_that_is_not_the_one_of_the_settings_is_not_used(
    server: Server, acme: Acme, described: dict[str, Any]
) -> None:
    acme.described = described
    with pytest.raises(NotSignedInError):
        Provider(settings(server, acme)).begin()


def test_a_provider_that_does_not_answer_is_a_page_that_says_so(
    server: Server, acme: Acme, open_app: Callable[..., TestClient]
) -> None:
    client = open_app()
    acme.described = {"jwks_uri": "x" * 300_000}
    with lines(logs.JsonLines()) as written:
        answer = client.get("/app/sign-in/sso")
    assert (answer.status_code, "could not sign you in" in answer.text) == (403, True)
    assert (
        f"{acme.url}/.well-known/openid-configuration answered more than 200000 bytes." in written.getvalue()
    )
    acme.described = {}
    assert sign_in(client, acme, sub="again", email="nobody-here@example.com").status_code == 403


@pytest.mark.parametrize(
    "described",
    [{"token_endpoint_auth_methods_supported": 5}, {"authorization_endpoint": "https://[::1"}],
    ids=["no list", "no address"],
)
def test_a_provider_that_describes_itself_by_nonsense_is_a_page_that_says_so(
    acme: Acme, open_app: Callable[..., TestClient], described: dict[str, Any]
) -> None:
    client = open_app()
    acme.described = described
    answer = client.get("/app/sign-in/sso")
    assert (answer.status_code, "could not sign you in" in answer.text) == (403, True)


@pytest.mark.parametrize("claims", [{"sub": "a\0b"}, {"email": "sso-nul@example.com\0"}], ids=str)
def test_a_name_that_cannot_be_kept_signs_in_nobody(
    server: Server, acme: Acme, open_app: Callable[..., TestClient], claims: dict[str, Any]
) -> None:
    add_user(server, "sso-nul@example.com")
    assert (
        sign_in(open_app(), acme, **{"sub": "n", "email": "sso-nul@example.com", **claims}).status_code == 403
    )


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/app/\\evil"])
def test_it_leads_to_pages_of_ours_alone(
    server: Server, acme: Acme, open_app: Callable[..., TestClient], path: str
) -> None:
    add_user(server, "sso-paths@example.com")
    client = open_app()
    query = acme.agree(at_provider(client, path), sub="paths", email="sso-paths@example.com")
    assert back(client, query).headers["location"] == "/app"
