"""What users do about themselves: their password, and the browsers in which they are signed in."""

from __future__ import annotations

import re
from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.clock import system_now
from permille.core.errors import Invalid, Refusal
from permille.http.clients import client_address, household
from permille.store import sessions
from permille.store.sessions import OpenSession
from permille.usecases import activity, attempts, sessions as usecase
from permille.usecases.attempts import Attempt
from permille.web import pages
from permille.web.forms import problems_of
from permille.web.security import (
    KNOWN_BROWSER,
    PASSWORD_MAX,
    PASSWORD_MIN,
    cookie_name,
    hash_password,
    is_https,
    is_password,
    password_turn,
)
from permille.web.visit import ANYBODY, Done, Form, HtmlPage, Visit

ADDRESS = "/app/account"

_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def routes(engine: Engine) -> list[Route]:
    """The page about oneself and what is sent from it."""
    return [
        pages.page(engine, "/account", show, readers=ANYBODY),
        Route("/app/account/password", _PasswordDesk(engine).change, methods=["POST"]),
        pages.action(engine, "/account/sessions/{digest}/end", end_session, writers=ANYBODY),
        pages.action(engine, "/account/end-other-sessions", end_other_sessions, writers=ANYBODY),
    ]


def show(visit: Visit) -> HtmlPage:
    """GET /app/account."""
    open_ones = sessions.of_user(visit.conn, visit.session.user.id, now=visit.system_now)
    here = visit.session.digest
    listed = sorted(open_ones, key=lambda one: one.digest != here)
    context = {
        "sessions": [(one.digest.hex(), one, name_of(one), one.digest == here) for one in listed],
        "has_password": visit.session.user.password_hash is not None,
    }
    return HtmlPage(template="own_account.html", context=context)


def name_of(session: OpenSession) -> str:
    """What a session's browser is, in short."""
    agent = session.browser or ""
    found = [next((name for mark, name in marks if mark in agent), "") for marks in (_BROWSERS, _SYSTEMS)]
    return " on ".join(each for each in found if each) or re.split(r"[ /]", agent)[0] or "unknown"


def end_session(visit: Visit) -> Done:
    """POST /app/account/sessions/{digest}/end."""
    user = visit.session.user
    usecase.end(visit.conn, user, _digest(visit.path["digest"]))
    return Done(action="ended session", subject=user.email, to=f"{ADDRESS}?said=session_ended")


def _digest(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def end_other_sessions(visit: Visit) -> Done:
    """POST /app/account/end-other-sessions."""
    usecase.end_others(visit.conn, visit.session)
    user = visit.session.user
    return Done(action="ended other sessions", subject=user.email, to=f"{ADDRESS}?said=session_ended")


class _PasswordDesk:
    """Changing the password: hashing happens outside of any transaction, in a turn."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def change(self, request: Request) -> Response:
        """POST /app/account/password. It ends the user's other sessions."""
        try:
            form = await pages.own_form(self.engine, request)
            visit = await run_in_threadpool(self._look, request, form)
            new = _new_password(form)
            if visit.session.user.password_hash is not None:
                await self._check_current(request, visit, form.get("current_password"))
            hashed = await hash_password(new)
        except pages.SignedOutError:
            return RedirectResponse("/app/sign-in", 303)
        except Invalid as refusal:
            problems = problems_of(refusal)
            return await run_in_threadpool(pages.shown_again, self.engine, request, form, show, problems)
        except Refusal as refusal:
            return pages.refused(refusal)
        await run_in_threadpool(self._change, visit, hashed)
        return RedirectResponse(f"{ADDRESS}?said=password_changed", 303)

    async def _check_current(self, request: Request, visit: Visit, password: str) -> None:
        """Raises Invalid when it is another one, Refusal when it was guessed too often."""
        user = visit.session.user
        async with password_turn():
            attempt = await run_in_threadpool(self._begin, request, visit)
            if not await is_password(password, user.password_hash):
                raise Invalid({"current_password": ["wrong_password"]})
        await run_in_threadpool(self._succeed, attempt)

    def _look(self, request: Request, form: Form) -> Visit:
        with self.engine.pool.connection() as conn:
            return pages.visit_of(self.engine, conn, request, form)

    def _begin(self, request: Request, visit: Visit) -> Attempt:
        name = cookie_name(https=is_https(request, self.engine.config), what=KNOWN_BROWSER)
        with self.engine.pool.connection() as conn:
            return attempts.begin(
                conn,
                what="password",
                user=visit.session.user,
                email=visit.session.user.email,
                household=household(client_address(request.scope)),
                token=request.cookies.get(name, ""),
                now=system_now(),
            )

    def _succeed(self, attempt: Attempt) -> None:
        with self.engine.pool.connection() as conn:
            attempts.succeed(conn, attempt)

    def _change(self, visit: Visit, password_hash: str) -> None:
        with self.engine.pool.connection() as conn:
            change = pages.begun(replace(visit, conn=conn), f"POST {ADDRESS}/password")
            usecase.change_password(conn, visit.session, password_hash=password_hash)
            subject = visit.session.user.email
            activity.describe(conn, change, action="changed own password", subject=subject)


def _new_password(form: Form) -> str:
    new = form.get("new_password")
    if not PASSWORD_MIN <= len(new) <= PASSWORD_MAX:
        raise Invalid({"new_password": ["password_too_short"]})
    return new
