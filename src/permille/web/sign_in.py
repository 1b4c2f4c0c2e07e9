"""Signing in and out, and the one-time links by which users come to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

from psycopg import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.clock import system_now
from permille.config import Config
from permille.core.errors import BadRequest, Refusal
from permille.core.organization import Organization
from permille.core.record import Record
from permille.database.connections import open_pool
from permille.http.clients import client_address, household
from permille.http.refusals import STATUS_HEADERS
from permille.store import organizations, users
from permille.store.activity import ActorKind
from permille.store.attempts import BROWSER_LIFE, KEPT
from permille.store.sessions import LIFE as SESSION_LIFE, Session
from permille.store.users import ROLES, OneTimeLink, User, email_problem, local_path
from permille.usecases import activity, attempts, second_factors, sessions, users as usecase
from permille.usecases.attempts import Attempt
from permille.usecases.sessions import Secrets
from permille.web import single_sign_on
from permille.web.forms import read_form
from permille.web.pages import refused
from permille.web.rendering import plain
from permille.web.security import (
    KNOWN_BROWSER,
    PASSWORD_MAX,
    PASSWORD_MIN,
    cookie_name,
    hash_password,
    is_from_here,
    is_https,
    is_password,
    origin_of,
    password_turn,
    set_cookie,
    warn_of_plain_cookie,
)
from permille.web.visit import Form, Problems

AS_MYSELF = "as_myself"


def routes(engine: Engine) -> list[Route]:
    """Sign-in, sign-out and one-time links."""
    desk = _Desk(engine)
    return [
        Route("/app/sign-in", desk.sign_in, methods=["GET", "POST"]),
        Route("/app/sign-in/code", desk.code, methods=["GET", "POST"]),
        Route("/app/sign-out", desk.sign_out, methods=["POST"]),
        *single_sign_on.routes(engine, desk.let_in),
        Route("/app/link/{token}", desk.link, methods=["GET", "POST"]),
    ]


def first_user_link(config: Config) -> str | None:
    """A one-time link for the first user, None when there is one already."""
    with _connection(config) as conn:
        now = system_now()
        activity.begin(conn, ActorKind.COMMAND_LINE, "permille up", now=now)
        token = usecase.first_link(conn, now=now)
    return None if token is None else link_url(config, token)


def link_url(config: Config, token: str) -> str:
    return f"{config.base_url}/app/link/{token}"


@contextmanager
def _connection(config: Config) -> Iterator[Connection[Any]]:
    """A connection of its own, for one transaction."""
    assert config.database_url is not None, "the caller gives one"
    with open_pool(config.database_url, size=1, name="permille-link") as pool, pool.connection() as conn:
        yield conn


def sign_in_link(config: Config, *, email: str, role: str = "admin", organization: str | None = None) -> str:
    """A one-time link for the user with this email, who is made if there is none.

    With the name or id of an organization it is a user with the role there, else an owner. Raises ValueError.
    """
    if email_problem(email) is not None:
        raise ValueError(f"{email!r} is no email address.")
    if role not in ROLES:
        raise ValueError(f"The role is one of {', '.join(ROLES)}.")
    if organization is None and role != "admin":
        raise ValueError(f"The role {role} is in one organization: say in which, with --organization.")
    with _connection(config) as conn:
        now = system_now()
        activity.begin(conn, ActorKind.COMMAND_LINE, "permille sign-in-link", now=now)
        token = usecase.add_sign_in_link(
            conn,
            email=email,
            organization_id=_organization_id(conn, organization) if organization else None,
            role=role,
            now=now,
        )
    return link_url(config, token)


def reset_second_factor(config: Config, *, email: str) -> bool:
    """Turn off the second factor of the user with this email; whether there was one."""
    operation = "permille reset-second-factor"
    with _connection(config) as conn:
        change = activity.begin(conn, ActorKind.COMMAND_LINE, operation, now=system_now())
        is_reset = second_factors.reset_by_email(conn, email)
        if is_reset:
            activity.describe(conn, change, action="reset second factor of", subject=email)
        return is_reset


def _organization_id(conn: Connection[Any], wanted: str) -> UUID:
    found = organizations.named(conn, wanted)
    if not found:
        raise ValueError(f"There is no organization {wanted!r}.")
    if len(found) > 1:
        ids = ", ".join(str(each.id) for each in found)
        raise ValueError(f"Several organizations are called {wanted!r}. Pass the id of one: {ids}")
    return found[0].id


class _Desk:
    """The handlers. Hashing happens outside of any transaction, two at a time."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def sign_in(self, request: Request) -> Response:
        """GET and POST /app/sign-in."""
        next_path = local_path(request.query_params.get("next", "/app"))
        has_sso = self.engine.config.oidc_issuer is not None
        shown = partial(plain, "sign_in.html", form=Form(), next_path=next_path, has_sso=has_sso)
        if request.method == "GET":
            return shown()
        form = await self._form(request)
        if form is None:
            return _elsewhere()
        shown = partial(shown, form=form)
        try:
            user = await self._by_password(request, form.get("email")[:255], form.get("password"))
        except Refusal as refusal:
            return not_now(shown, refusal)
        if user is None:
            return shown(422, problems={"base": ["wrong_email_or_password"]})
        return await self.let_in(request, user, next_path)

    async def code(self, request: Request) -> Response:
        """GET and POST /app/sign-in/code: the second factor of somebody whose password was right."""
        next_path = local_path(request.query_params.get("next", "/app"))
        user = await run_in_threadpool(self._awaiting, request)
        if user is None:
            return RedirectResponse(f"/app/sign-in?next={quote(next_path)}", 303)
        shown = partial(plain, "sign_in_code.html", next_path=next_path)
        if request.method == "GET":
            return shown()
        form = await self._form(request)
        if form is None:
            return _elsewhere()
        try:
            secrets = await run_in_threadpool(self._by_code, request, user, form.get("code"))
        except Refusal as refusal:
            return not_now(shown, refusal)
        if secrets is None:
            return shown(422, problems={"code": ["wrong_code"]})
        return self._with_cookies(request, RedirectResponse(next_path, 303), secrets)

    def _awaiting(self, request: Request) -> User | None:
        with self.engine.pool.connection() as conn:
            return sessions.awaiting_code(conn, secret=self._cookie(request), now=system_now())

    def _by_code(self, request: Request, user: User, code: str) -> Secrets | None:
        """Raises Refusal with 429."""
        attempt = begin_attempt(self.engine, request, "code", user)
        with self.engine.pool.connection() as conn:
            secrets = sessions.finish(
                conn,
                self._cookie(request),
                code,
                origin=origin_of(request),
                browser=self._cookie(request, KNOWN_BROWSER),
                now=system_now(),
            )
            if secrets is not None:
                attempts.succeed(conn, attempt)
            return secrets

    async def _by_password(self, request: Request, email: str, password: str) -> User | None:
        """The user whose email and password they are. Raises Refusal with 429."""
        async with password_turn():
            user, attempt = await run_in_threadpool(self._begin, request, email)
            if not await is_password(password, user.password_hash if user else None):
                return None
        await run_in_threadpool(self._succeed, attempt)
        return user

    async def sign_out(self, request: Request) -> Response:
        """POST /app/sign-out."""
        if not is_from_here(request.method, request.headers):
            return _elsewhere()
        name = cookie_name(https=is_https(request, self.engine.config))
        await run_in_threadpool(self._close, self._cookie(request))
        response = RedirectResponse("/app/sign-in", 303)
        response.delete_cookie(name, path="/", secure=name.startswith("__Host-"), httponly=True)
        return response

    async def link(self, request: Request) -> Response:
        """GET shows what the link does, POST does it: what only looks at a link does not use it up."""
        found = await run_in_threadpool(self._link, request)
        if found is None:
            return plain("link_over.html", 410)
        if request.method == "GET":
            return _link_page(request, found, Form())
        form = await self._form(request)
        if form is None:
            return _elsewhere()
        if found.user is not None:
            return await self._sign_in_by(request, found.link, found.user)
        if form.has(AS_MYSELF) and found.visitor is not None:
            return await self._accept(found.link, found.visitor)
        return await self._join(request, found, form)

    async def _sign_in_by(self, request: Request, link: OneTimeLink, user: User) -> Response:
        if not await run_in_threadpool(self._use, link):
            return plain("link_over.html", 410)
        return await self.let_in(request, user, link.path)

    async def _accept(self, link: OneTimeLink, visitor: Session) -> Response:
        """Somebody who is signed in gets a role in one more organization."""
        if not await run_in_threadpool(self._add_member, link, visitor):
            return plain("link_over.html", 410)
        return RedirectResponse(link.path, 303)

    async def _form(self, request: Request) -> Form | None:
        """The form, None when another site sent it or it cannot be read."""
        if not is_from_here(request.method, request.headers):
            return None
        try:
            with self.engine.bodies.of(None) as share:
                return await read_form(request, share)
        except BadRequest:
            return None

    async def _join(self, request: Request, found: _Found, form: Form) -> Response:
        """Somebody becomes a user by a link."""
        link = found.link
        email, password = form.get("email"), form.get("password")
        problems: dict[str, list[str]] = {}
        if code := email_problem(email):
            problems["email"] = [code]
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
            problems["password"] = ["password_too_short"]
        if not problems:
            try:
                hashed = await hash_password(password)
            except Refusal as refusal:
                return refused(refusal)
            made = await run_in_threadpool(self._add, link, email, hashed)
            if made is not None:
                return await self.let_in(request, made, link.path)
            problems["email"] = ["value_already_exist"]
        return _link_page(request, found, form, problems)

    async def let_in(self, request: Request, user: User, path: str) -> Response:
        """The answer to somebody who has proved to be the user: signed in, or asked for a code."""
        secrets = await run_in_threadpool(self._open, request, user)
        to = path if secrets.browser else f"/app/sign-in/code?next={quote(path)}"
        return self._with_cookies(request, RedirectResponse(to, 303), secrets)

    def _with_cookies(self, request: Request, response: Response, secrets: Secrets) -> Response:
        https = is_https(request, self.engine.config)
        warn_of_plain_cookie(request, self.engine.config)
        set_cookie(response, secrets.session, https=https, life=SESSION_LIFE)
        if secrets.browser:
            set_cookie(response, secrets.browser, https=https, life=BROWSER_LIFE, what=KNOWN_BROWSER)
        return response

    def _begin(self, request: Request, email: str) -> tuple[User | None, Attempt]:
        with self.engine.pool.connection() as conn:
            user = users.by_email(conn, email)
        return user, begin_attempt(self.engine, request, "password", user, email)

    def _succeed(self, attempt: Attempt) -> None:
        with self.engine.pool.connection() as conn:
            attempts.succeed(conn, attempt)

    def _open(self, request: Request, user: User) -> Secrets:
        with self.engine.pool.connection() as conn:
            return sessions.begin(
                conn,
                user,
                origin=origin_of(request),
                browser=self._cookie(request, KNOWN_BROWSER),
                now=system_now(),
            )

    def _cookie(self, request: Request, what: str = "") -> str:
        https = is_https(request, self.engine.config)
        return request.cookies.get(cookie_name(https=https, what=what), "")

    def _close(self, secret: str) -> None:
        with self.engine.pool.connection() as conn:
            sessions.close_session(conn, secret)

    def _link(self, request: Request) -> _Found | None:
        """The link of the address with what a page about it shows, None when it is over."""
        with self.engine.pool.connection() as conn:
            now = system_now()
            link = users.link(conn, token=request.path_params["token"], now=now)
            if link is None:
                return None
            user = users.by_id(conn, link.user_id) if link.user_id else None
            if link.user_id and user is None:
                return None
            session = sessions.session(conn, secret=self._cookie(request), now=now)
            return _Found(
                link=link,
                user=user,
                visitor=session if link.organization_id else None,
                organization=organizations.by_id(conn, link.organization_id)
                if link.organization_id
                else None,
            )

    def _use(self, link: OneTimeLink) -> bool:
        with self.engine.pool.connection() as conn:
            return usecase.use_link(conn, link, now=system_now())

    def _add(self, link: OneTimeLink, email: str, password_hash: str) -> User | None:
        with self.engine.pool.connection() as conn:
            return usecase.join(conn, link, email=email, password_hash=password_hash, now=system_now())

    def _add_member(self, link: OneTimeLink, visitor: Session) -> bool:
        with self.engine.pool.connection() as conn:
            return usecase.accept(conn, link, visitor, now=system_now())


class _Found(Record, kw_only=True):
    """A link that is not over."""

    link: OneTimeLink
    user: User | None
    """The user whom it signs in."""
    visitor: Session | None
    """Somebody who is signed in and may accept the invitation."""
    organization: Organization | None
    """The one that it invites to."""


def _link_page(request: Request, found: _Found, form: Form, problems: Problems | None = None) -> Response:
    return plain(
        "link.html",
        422 if problems else 200,
        link=found.link,
        user=found.user,
        visitor=found.visitor.user if found.visitor else None,
        organization=found.organization,
        as_myself=AS_MYSELF,
        path=request.url.path,
        form=form,
        problems=problems or {},
    )


def begin_attempt(engine: Engine, request: Request, what: str, user: User | None, email: str = "") -> Attempt:
    """Count an attempt of the browser at `what`, in a transaction of its own. Raises Refusal with 429."""
    name = cookie_name(https=is_https(request, engine.config), what=KNOWN_BROWSER)
    with engine.pool.connection() as conn:
        return attempts.begin(
            conn,
            what=what,
            user=user,
            email=user.email if user else email,
            household=household(client_address(request.scope)),
            token=request.cookies.get(name, ""),
            now=system_now(),
        )


def not_now(shown: Callable[..., Response], refusal: Refusal) -> Response:
    """The form again, and when to try it again."""
    response = shown(refusal.status, problems={"base": [refusal.code or "too_many_requests"]})
    is_long = refusal.code == "too_many_failures"
    seconds = str(int(KEPT.total_seconds())) if is_long else STATUS_HEADERS[429]["retry-after"]
    response.headers["retry-after"] = seconds
    return response


def _elsewhere() -> Response:
    text = "The form was sent from another site, or can't be read. Open the page again."
    return plain("refused.html", 403, heading="This isn't allowed", text=text)
