"""Signing in at the provider that the settings name, and coming back from it."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.clock import system_now
from permille.core.errors import Refusal
from permille.http.shares import Shares
from permille.http.words import in_words
from permille.out.single_sign_on import Begun, NotSignedInError, Provider
from permille.store.users import User, local_path
from permille.usecases import single_sign_on
from permille.usecases.single_sign_on import Welcome
from permille.web.rendering import plain
from permille.web.security import cookie_name, is_https, set_cookie, too_many_sign_ins

log = logging.getLogger(__name__)

LIFE = timedelta(minutes=10)
COOKIE = "sso"
HEADING = "You are not signed in"

LetIn = Callable[[Request, User, str], Awaitable[Response]]


def routes(engine: Engine, let_in: LetIn) -> list[Route]:
    """None while the settings name no provider."""
    if engine.config.oidc_issuer is None:
        return []
    desk = _Desk(engine, let_in)
    return [
        Route("/app/sign-in/sso", desk.begin, methods=["GET"]),
        Route("/app/sign-in/sso/callback", desk.finish, methods=["GET"]),
    ]


class _UserAtProvider(msgspec.Struct, frozen=True, kw_only=True):
    """The cookie of a browser whose user is at the provider."""

    state: str
    nonce: str
    verifier: str
    path: str


class _Desk:
    def __init__(self, engine: Engine, let_in: LetIn) -> None:
        self.engine, self._let_in = engine, let_in
        self._provider = Provider(engine.config)
        # Each waits for the provider in a thread, which all of the server shares.
        self._turns = Shares(4, 16, refusal=too_many_sign_ins)

    async def begin(self, request: Request) -> Response:
        """GET /app/sign-in/sso: to the provider."""
        try:
            async with self._turns.turn(COOKIE):
                begun, address = await run_in_threadpool(self._provider.begin)
        except NotSignedInError as error:
            return _not_signed_in(error)
        except Refusal as refusal:
            return _refused(refusal)
        kept = _UserAtProvider(
            state=begun.state,
            nonce=begun.nonce,
            verifier=begun.verifier,
            path=local_path(request.query_params.get("next", "/app")),
        )
        response = RedirectResponse(address, 303)
        text = base64.urlsafe_b64encode(msgspec.json.encode(kept)).decode()
        set_cookie(response, text, https=is_https(request, self.engine.config), life=LIFE, what=COOKIE)
        return response

    async def finish(self, request: Request) -> Response:
        """GET /app/sign-in/sso/callback: back from the provider. What the browser kept works once."""
        kept = self._kept(request)
        if kept is None:
            return RedirectResponse("/app/sign-in", 303)
        try:
            async with self._turns.turn(COOKIE):
                user = await run_in_threadpool(self._user, kept, dict(request.query_params))
            response = await self._let_in(request, user, local_path(kept.path))
        except NotSignedInError as error:
            response = _not_signed_in(error)
        except Refusal as refusal:
            response = _refused(refusal)
        name = self._cookie_name(request)
        response.delete_cookie(name, path="/", secure=name.startswith("__Host-"), httponly=True)
        return response

    def _cookie_name(self, request: Request) -> str:
        return cookie_name(https=is_https(request, self.engine.config), what=COOKIE)

    def _kept(self, request: Request) -> _UserAtProvider | None:
        text = request.cookies.get(self._cookie_name(request), "")
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text), type=_UserAtProvider)
        except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
            return None

    def _user(self, kept: _UserAtProvider, query: dict[str, str]) -> User:
        """Raises NotSignedInError and Forbidden."""
        begun = Begun(state=kept.state, nonce=kept.nonce, verifier=kept.verifier)
        now, config = system_now(), self.engine.config
        identity = self._provider.finish(begun, query, now=now)
        welcome = Welcome(
            domains=config.oidc_domains.lower().replace(",", " ").split(),
            organization=config.oidc_organization,
            role=config.oidc_role,
        )
        with self.engine.pool.connection() as conn:
            return single_sign_on.user_of(conn, identity, welcome=welcome, now=now)


def _not_signed_in(error: NotSignedInError) -> Response:
    log.warning("Single sign-on: %s", str(error))
    text = "The provider could not sign you in. Try again, or sign in with your password. The server's log says why."
    return plain("refused.html", 403, heading=HEADING, text=text)


def _refused(refusal: Refusal) -> Response:
    return plain("refused.html", refusal.status, heading=HEADING, text=in_words(refusal.code or ""))
