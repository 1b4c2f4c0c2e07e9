"""What users do about themselves: their password, their second factor, and the browsers in which they are signed in."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from permille.api.addresses import Route
from permille.api.http import Engine
from permille.core.errors import Invalid, Refusal
from permille.core.record import replace
from permille.store import second_factors, sessions
from permille.store.sessions import OpenSession
from permille.store.users import User
from permille.usecases import attempts, second_factors as usecase_of_factors, sessions as usecase
from permille.usecases.attempts import Attempt
from permille.web import pages
from permille.web.forms import problems_of
from permille.web.rendering import framed
from permille.web.security import PASSWORD_MAX, PASSWORD_MIN, hash_password, is_password, password_turn
from permille.web.sign_in import begin_attempt
from permille.web.visit import ANYBODY, Done, Form, HtmlPage, Show, Submit, Visit

ADDRESS = "/app/account"
FACTOR = f"{ADDRESS}/second-factor"

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
    desk = _Desk(engine)
    return [
        pages.page(engine, "/account", show, readers=ANYBODY),
        Route("/app/account/password", desk.change_password, methods=["POST"]),
        pages.action(engine, "/account/sessions/{digest}/end", end_session, writers=ANYBODY),
        pages.action(engine, "/account/end-other-sessions", end_other_sessions, writers=ANYBODY),
        pages.page(
            engine, "/account/second-factor", show_factor, confirm_factor, readers=ANYBODY, writers=ANYBODY
        ),
        pages.action(engine, "/account/second-factor/begin", begin_factor, writers=ANYBODY),
        Route("/app/account/second-factor/off", desk.turn_factor_off, methods=["POST"]),
        Route("/app/account/second-factor/recovery-codes", desk.renew_codes, methods=["POST"]),
    ]


def show(visit: Visit) -> HtmlPage:
    """GET /app/account."""
    open_ones = sessions.of_user(visit.conn, visit.session.user.id, now=visit.system_now)
    here = visit.session.digest
    listed = sorted(open_ones, key=lambda one: one.digest != here)
    context = {
        "sessions": [(one.digest.hex(), one, name_of(one), one.digest == here) for one in listed],
        "has_password": visit.session.user.password_hash is not None,
        "factor": second_factors.of_user(visit.conn, visit.session.user.id),
    }
    return HtmlPage(template="own_account.html", context=context)


def show_factor(visit: Visit) -> HtmlPage:
    """GET /app/account/second-factor: how to set it up, its key while that is done, what can be done with it later."""
    user = visit.session.user
    found = second_factors.of_user(visit.conn, user.id)
    context: dict[str, Any] = {"factor": found, "qr_code": "", "key": ""}
    if found is not None and found.confirmed_at is None:
        context["qr_code"] = _qr_code(usecase_of_factors.address_of(found, user))
        context["key"] = " ".join(re.findall(r".{1,4}", found.secret))
    return HtmlPage(template="second_factor.html", context=context)


def _qr_code(text: str) -> Markup:
    """An SVG that needs no style of its own; the text is in its squares alone."""
    import segno

    made = segno.make(text, error="m", micro=False)
    return Markup(made.svg_inline(omitsize=True, border=4, dark="#000", light="#fff"))  # noqa: S704 -- made by us


def begin_factor(visit: Visit) -> Done:
    """POST /app/account/second-factor/begin."""
    usecase_of_factors.begin(visit.conn, visit.session.user, now=visit.system_now)
    return Done(action="", subject="", to=FACTOR)


def confirm_factor(visit: Visit) -> Done:
    """POST /app/account/second-factor: the app makes the right codes. The recovery codes are shown, this once."""
    user = visit.session.user
    codes = usecase_of_factors.confirm(visit.conn, user, visit.form.get("code"), now=visit.system_now)
    return Done(action="turned on second factor", subject=user.email, page=_recovery_codes(codes), to=FACTOR)


def _recovery_codes(codes: Sequence[str]) -> HtmlPage:
    return HtmlPage(template="recovery_codes.html", context={"codes": codes})


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


class _Desk:
    """What needs a password or a code: the attempt counts before it is tried, whatever comes of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def change_password(self, request: Request) -> Response:
        """POST /app/account/password. It ends the user's other sessions."""

        async def change(visit: Visit) -> Done:
            new, user = _new_password(visit.form), visit.session.user
            if user.password_hash is not None:
                await self._check_password(request, user, visit.form.get("current_password"))
            hashed = await hash_password(new)
            return await run_in_threadpool(self._done, visit, partial(_change_password, password_hash=hashed))

        return await self._answer(request, show, change)

    async def turn_factor_off(self, request: Request) -> Response:
        """POST /app/account/second-factor/off."""
        return await self._by_code(request, _turn_factor_off)

    async def renew_codes(self, request: Request) -> Response:
        """POST /app/account/second-factor/recovery-codes."""
        return await self._by_code(request, _renew_codes)

    async def _by_code(self, request: Request, submit: Submit) -> Response:
        async def act(visit: Visit) -> Done:
            return await run_in_threadpool(self._checked_code, request, visit, submit)

        return await self._answer(request, show_factor, act)

    async def _answer(
        self, request: Request, shown: Show, act: Callable[[Visit], Awaitable[Done]]
    ) -> Response:
        """What was done, or the form again with what is wrong."""
        try:
            form = await pages.own_form(self.engine, request)
            visit = await run_in_threadpool(self._look, request, form)
            done = await act(visit)
        except pages.SignedOutError:
            return RedirectResponse("/app/sign-in", 303)
        except Invalid as refusal:
            problems = problems_of(refusal)
            return await run_in_threadpool(pages.shown_again, self.engine, request, form, shown, problems)
        except Refusal as refusal:
            return pages.refused(refusal)
        return framed(visit, done.page) if done.page else RedirectResponse(done.to, 303)

    def _look(self, request: Request, form: Form) -> Visit:
        with self.engine.pool.connection() as conn:
            return pages.visit_of(self.engine, conn, request, form)

    async def _check_password(self, request: Request, user: User, password: str) -> None:
        """Raises Invalid when it is another one, Refusal when it was guessed too often."""
        async with password_turn():
            attempt = await run_in_threadpool(begin_attempt, self.engine, request, "password", user)
            if not await is_password(password, user.password_hash):
                raise Invalid({"current_password": ["wrong_password"]})
        await run_in_threadpool(self._succeed, attempt)

    def _succeed(self, attempt: Attempt) -> None:
        with self.engine.pool.connection() as conn:
            attempts.succeed(conn, attempt)

    def _checked_code(self, request: Request, visit: Visit, submit: Submit) -> Done:
        """Raises Invalid for a wrong code, Refusal when it was guessed too often."""
        user = visit.session.user
        attempt = begin_attempt(self.engine, request, "code", user)

        def checked(again: Visit) -> Done:
            if not usecase_of_factors.is_right(
                again.conn, user, again.form.get("code"), now=again.system_now
            ):
                raise Invalid({"code": ["wrong_code"]})
            attempts.succeed(again.conn, attempt)
            return submit(again)

        return self._done(visit, checked)

    def _done(self, visit: Visit, submit: Submit) -> Done:
        """The change, in a transaction of its own, with its line of the audit log."""
        with self.engine.pool.connection() as conn:
            return pages.do(replace(visit, conn=conn), f"POST {visit.url}", submit)


def _change_password(visit: Visit, *, password_hash: str) -> Done:
    usecase.change_password(visit.conn, visit.session, password_hash=password_hash)
    to = f"{ADDRESS}?said=password_changed"
    return Done(action="changed own password", subject=visit.session.user.email, to=to)


def _turn_factor_off(visit: Visit) -> Done:
    user = visit.session.user
    usecase_of_factors.turn_off(visit.conn, user)
    return Done(action="turned off second factor", subject=user.email, to=f"{ADDRESS}?said=factor_off")


def _renew_codes(visit: Visit) -> Done:
    user = visit.session.user
    codes = usecase_of_factors.renew_recovery_codes(visit.conn, user)
    return Done(action="renewed recovery codes", subject=user.email, page=_recovery_codes(codes), to=FACTOR)


def _new_password(form: Form) -> str:
    """Raises Invalid."""
    new = form.get("new_password")
    if not PASSWORD_MIN <= len(new) <= PASSWORD_MAX:
        raise Invalid({"new_password": ["password_too_short"]})
    return new
