"""Single sign-on by OpenID Connect: the code flow with PKCE, at the provider that the settings name.

The provider is called like all addresses: with a deadline, and an answer that is bounded. It may be in a private network,
since the operator of the server names it, no user.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from permille.config import Config
from permille.core.record import Record
from permille.out.addresses import Reach
from permille.out.calls import Answer, CallError, Client

if TYPE_CHECKING:
    from authlib.oauth2.client import OAuth2Client
    from joserfc.jwk import KeySet

SECONDS = 10
BYTES_MAX = 200_000
KEPT_SECONDS = 3_600
KEYS_AGAIN_SECONDS = 60
"""Keys that lack the one of a token are read again no sooner than after this."""
LEEWAY_SECONDS = 60
SECRET_LENGTH = 48
ALGORITHMS = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
]


_ERROR = re.compile("[a-z_]{1,50}")


class NotSignedInError(Exception):
    """Why nobody is signed in, in a sentence for the log, which quotes nobody; its user doesn't read it."""


@contextmanager
def _whatever_it_sends() -> Iterator[None]:
    """Raises NotSignedInError in place of the many kinds that the library raises for what a provider may send."""
    try:
        yield
    except NotSignedInError:
        raise
    except Exception as error:
        raise NotSignedInError(f"What the provider sent is of no use: {type(error).__name__}.") from error


class Begun(Record, kw_only=True):
    """What a browser keeps while its user is at the provider."""

    state: str
    nonce: str
    verifier: str


class Identity(Record, kw_only=True):
    """Who somebody is by a provider's word. `email` is one that the provider has verified."""

    issuer: str
    subject: str
    email: str


class Provider:
    """The provider of the settings. What it says about itself and its keys are kept for an hour; any thread may ask."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        assert config.oidc_issuer is not None, "the caller has looked"
        assert config.oidc_client_id is not None, "the caller has looked"
        self._issuer = config.oidc_issuer
        self._client_id, self._client_secret = config.oidc_client_id, config.oidc_client_secret
        self.redirect_uri = f"{config.base_url}/app/sign-in/sso/callback"
        self._clock, self._lock = clock, threading.Lock()
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def begin(self) -> tuple[Begun, str]:
        """What the browser keeps, and where it goes to. Raises NotSignedInError."""
        from authlib.common.security import generate_token

        state, nonce, verifier = (generate_token(SECRET_LENGTH) for _ in range(3))
        begun = Begun(state=state, nonce=nonce, verifier=verifier)
        with _whatever_it_sends():
            address, _ = self._client().create_authorization_url(
                self._description()["authorization_endpoint"],
                state=begun.state,
                code_verifier=begun.verifier,
                nonce=begun.nonce,
            )
        return begun, str(address)

    def finish(self, begun: Begun, query: Mapping[str, str], *, now: datetime) -> Identity:
        """Who came back from the provider. Raises NotSignedInError."""
        if query.get("state") != begun.state:
            raise NotSignedInError("The state is not the browser's.")
        if query.get("iss", self._issuer) != self._issuer:
            raise NotSignedInError("Another provider answered.")
        if "code" not in query:
            said = _ERROR.fullmatch(query.get("error", ""))
            raise NotSignedInError(f"The provider refused: {said[0] if said else 'without a reason'}.")
        with _whatever_it_sends():
            token = self._client().fetch_token(
                self._description()["token_endpoint"],
                grant_type="authorization_code",
                code=query["code"],
                code_verifier=begun.verifier,
            )
            return self._identity(token, begun.nonce, now)

    def _client(self) -> OAuth2Client:
        from authlib.oauth2.client import OAuth2Client

        methods = self._description().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        by_body = "client_secret_basic" not in methods and "client_secret_post" in methods
        secret_goes = "client_secret_post" if by_body else "client_secret_basic"
        return OAuth2Client(
            session=_Session(),
            client_id=self._client_id,
            client_secret=self._client_secret,
            scope="openid email",
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method=secret_goes if self._client_secret else "none",
        )

    def _description(self) -> dict[str, Any]:
        """The provider's own description: where what is. Raises NotSignedInError."""
        with self._lock:
            if self._described is None or self._described[0] <= self._clock():
                found = _get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                self._check(found)
                self._described = self._clock() + KEPT_SECONDS, found
            return self._described[1]

    def _check(self, found: Mapping[str, Any]) -> None:
        if found.get("issuer") != self._issuer:
            raise NotSignedInError("The provider calls itself otherwise than PERMILLE_OIDC_ISSUER.")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            address = found.get(name)
            if not isinstance(address, str) or urlsplit(address).scheme not in ("https", self._scheme()):
                raise NotSignedInError(f"The provider's {name} is no https address.")

    def _scheme(self) -> str:
        return urlsplit(self._issuer).scheme

    def _key_set(self, *, again: bool = False) -> KeySet:
        from joserfc.jwk import KeySet

        uri = self._description()["jwks_uri"]
        with self._lock:
            now = self._clock()
            age_max = KEYS_AGAIN_SECONDS if again else KEPT_SECONDS
            if self._keys is None or self._keys[0] <= now - age_max:
                self._keys = now, KeySet.import_key_set(_get(uri))
            return self._keys[1]

    def _identity(self, token: Mapping[str, Any], nonce: str, now: datetime) -> Identity:
        """What the id token says, once everything about it was checked."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError

        text = token["id_token"]
        try:
            decoded = jwt.decode(text, self._key_set(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):  # the provider may have another key by now
            decoded = jwt.decode(text, self._key_set(again=True), algorithms=ALGORITHMS)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._client_id},
            },
            {"nonce": nonce, "client_id": self._client_id, "access_token": token.get("access_token")},
        )
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY_SECONDS)
        subject, email = claims.get("sub"), claims.get("email")
        if not isinstance(subject, str) or not subject or len(subject) > 255 or "\0" in subject:
            raise NotSignedInError("The subject is no text.")
        if not isinstance(email, str) or "\0" in email or claims.get("email_verified") not in (True, "true"):
            raise NotSignedInError("The provider has not verified the email.")
        return Identity(issuer=self._issuer, subject=subject, email=email)


class _Response:
    """An answer as the library reads it."""

    def __init__(self, answer: Answer) -> None:
        self.status_code, self._answer = answer.status, answer

    def json(self) -> dict[str, Any]:
        return self._answer.json_object()

    def raise_for_status(self) -> None:
        raise NotSignedInError(f"The provider answered {self.status_code}.")


class _Session:
    """What the library sends by."""

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: Any) -> _Response:
        url, sent, body = auth.prepare("POST", url, dict(headers), urlencode(data))
        return _called("POST", url, headers=sent, content=body.encode())


def _get(url: str) -> Any:
    answer = _called("GET", url, headers={"Accept": "application/json"})
    found = answer.json()
    if answer.status_code != 200 or not found:
        raise NotSignedInError(f"{url} answered {answer.status_code}, or no JSON object.")
    return found


def _called(method: str, url: str, *, headers: Mapping[str, str], content: bytes | None = None) -> _Response:
    try:
        with Client(Reach.ANYWHERE) as client:
            answer = client.call(
                method, url, headers=headers, content=content, seconds=SECONDS, bytes_max=BYTES_MAX
            )
    except CallError as error:
        raise NotSignedInError(f"{url}: {error}") from error
    if not answer.is_whole:
        raise NotSignedInError(f"{url} answered more than {BYTES_MAX} bytes.")
    return _Response(answer)
