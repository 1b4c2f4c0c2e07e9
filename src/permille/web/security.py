"""What keeps strangers out: response headers, the check of where a form came from, cookies, passwords."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from permille.config import Config
from permille.core.errors import Refusal
from permille.http.clients import client_address
from permille.http.shares import Shares
from permille.store.sessions import Origin

log = logging.getLogger(__name__)

PASSWORD_MIN = 10
PASSWORD_MAX = 200
BROWSER_NAME_MAX = 255
KNOWN_BROWSER = "browser"
"""The cookie of a browser in which somebody has signed in before."""

# Nothing from another host, nothing inline: an injected tag can neither run nor load nor send anything.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def too_many_sign_ins() -> Refusal:
    """429: as many wait to be signed in as may."""
    return Refusal(status=429, code="too_many_sign_ins")


_hasher = PasswordHasher()
# 64 MB and 0.1 s of a core for each: not more at once than there are cores to do it.
_turns = Shares(2, 20, refusal=too_many_sign_ins)
# Verified against when there is no such user, so that the answer takes as long.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$gBQvI7KA+hU95pwX8V9UOA$siZIZeq7+rKOLRpkNMO9N/Rs3A+WPUhlMAZcf0SAZvk"
"""A hash as ours are, of no password: a constant, since each start of a program would pay for making one."""


def password_turn() -> AbstractAsyncContextManager[bool]:
    """A turn at passwords, all of which take the same few. Raises Refusal with 429 when too many wait for one."""
    return _turns.turn("passwords")


async def hash_password(password: str) -> str:
    """Argon2id with the library's parameters (RFC 9106, low memory), in a turn of its own."""
    async with password_turn():
        return await run_in_threadpool(_hasher.hash, password)


async def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the one of the hash; as slow without a hash. The caller has the turn."""

    def verify() -> bool:
        try:
            return (
                _hasher.verify(password_hash or _NOBODY, password[:PASSWORD_MAX])
                and password_hash is not None
            )
        except (VerificationError, InvalidHashError):
            return False

    return await run_in_threadpool(verify)


def is_https(request: Request, config: Config) -> bool:
    """Whether the browser came by https, perhaps to a proxy in front of us."""
    return request.url.scheme == "https" or config.base_url.startswith("https:")


def origin_of(request: Request) -> Origin:
    """From where a browser signs in."""
    browser = request.headers.get("user-agent", "")[:BROWSER_NAME_MAX]
    return Origin(address=client_address(request.scope), browser=browser)


def warn_of_plain_cookie(request: Request, config: Config) -> None:
    """Say so where a proxy speaks https with the browser and nobody has said that it may be believed."""
    if not is_https(request, config) and request.headers.get("x-forwarded-proto") == "https":
        log.warning(
            "A proxy at %s says that a browser signed in by https, but it isn't trusted: the cookie lacks Secure. "
            "Set PERMILLE_PUBLIC_URL to the https address, or PERMILLE_TRUSTED_PROXIES to the proxy's.",
            client_address(request.scope),
        )


def cookie_name(*, https: bool, what: str = "") -> str:
    """With __Host- the browser refuses the cookie from a subdomain or without Secure."""
    name = f"permille-{what}" if what else "permille"
    return f"__Host-{name}" if https else name


def set_cookie(response: Response, secret: str, *, https: bool, life: timedelta, what: str = "") -> None:
    """The cookie of the session, or of `what`."""
    response.set_cookie(
        cookie_name(https=https, what=what),
        secret,
        max_age=int(life.total_seconds()),
        path="/",
        secure=https,
        httponly=True,
        samesite="lax",
    )


def is_from_here(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was sent by a page of ours.

    Browsers say so in Sec-Fetch-Site, older ones in Origin, and a page cannot forge either. What says
    neither is refused: only browsers have our cookie.
    """
    if method in ("GET", "HEAD"):
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")
