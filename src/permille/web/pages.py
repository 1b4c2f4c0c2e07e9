"""From a request of a browser to one function call, and from its answer or refusal to a page.

`show(visit)` answers a GET. `submit(visit)` answers a POST in one transaction, with its line of the audit log;
what it raises is rolled back, and the form is shown again with what is wrong beside the fields.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from psycopg import Connection
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from permille import request_ids, telemetry
from permille.api import http
from permille.api.addresses import Route
from permille.api.http import Engine, finished, refuse_nul
from permille.clock import system_now
from permille.core.errors import BadRequest, Forbidden, NotFound, Refusal
from permille.core.organization import Organization
from permille.core.record import replace
from permille.database.connections import is_cut_off, is_passing, is_unavailable
from permille.http.refusals import STATUS_HEADERS, cut_off
from permille.http.words import in_words
from permille.store import organizations, users
from permille.store.activity import ActorKind
from permille.store.sessions import Session
from permille.store.users import User
from permille.usecases import activity, holds, sessions as session_usecase
from permille.web import sent_once
from permille.web.forms import problems_of, read_form
from permille.web.rendering import framed, plain
from permille.web.security import HEADERS, cookie_name, is_from_here, is_https
from permille.web.shown import from_path, with_query
from permille.web.visit import (
    ADMINS,
    ANYBODY,
    EVERYBODY,
    OWNERS,
    WRITERS,
    Done,
    Form,
    HtmlPage,
    NoOrganizationError,
    Problems,
    Show,
    Submit,
    Visit,
)

log = logging.getLogger(__name__)

ORGANIZATIONS_SHOWN = 200
FRAMED_BY_US = {"content-security-policy": "frame-ancestors 'self'", "x-content-type-options": "nosniff"}
ROLE = "role"
_TRY_AGAIN = "It may be starting again. Reload this page in a few seconds; if you have sent a form, look whether it was saved first."
NO_MEMBERSHIP = "Ask an admin of an organization for an invitation, and open its link."


class SignedOutError(Exception):
    """There is no session, or it is over."""


class _NoSecondFactorError(Exception):
    """The organization requires one, and the user has none."""


_FIRST = {
    NoOrganizationError: "/app/new-organization",
    _NoSecondFactorError: "/app/account/second-factor?said=factor_required",
}
"""Where to go for what has to be done first."""


class _NoMembershipError(Exception):
    """The user has a role in no organization."""


def page(
    engine: Engine,
    path: str,
    show: Show,
    submit: Submit | None = None,
    *,
    readers: Sequence[str] = EVERYBODY,
    writers: Sequence[str] = WRITERS,
    takes_files: bool = False,
) -> Route:
    """A page, and the form on it if it has one."""

    async def handle(request: Request) -> Response:
        try:
            refuse_nul(request)
            form = await own_form(engine, request, takes_files) if request.method == "POST" else None
            secret = _secret(engine, request)
            if form is not None:
                assert submit is not None, "only pages with a form have the method POST"
                ways = (show, submit)
                return await engine.turns.run(
                    secret, lambda _: _submitted(engine, request, form, ways, writers)
                )
            found = await engine.turns.run(secret, lambda _: _shown(engine, request, show, readers))
            return await finished(engine, found, secret, {**HEADERS, **FRAMED_BY_US})
        except SignedOutError:
            return _to_sign_in(request)
        except _NoMembershipError:
            return plain("refused.html", 403, heading="You are in no organization", text=NO_MEMBERSHIP)
        except (NoOrganizationError, _NoSecondFactorError) as error:
            return RedirectResponse(_FIRST[type(error)], 303)
        except Refusal as refusal:
            return refused(refusal)
        except ClientDisconnect:
            raise
        except Exception as error:
            if is_unavailable(error):
                raise
            if is_passing(error) or is_cut_off(error):
                log.warning("A page was cut off: %s", error)
                return refused(cut_off())
            log.exception("A page crashed: %s", path)
            text = f"It is in the server's log, as request {request_ids.current.get()}."
            return plain("refused.html", 500, heading="Something went wrong", text=text)

    methods = ["GET"] if submit is None else ["GET", "POST"]
    return Route(f"/app{path}", handle, methods=methods)


def unavailable(request: Request) -> Response:
    """While the database is not to be had: a page for browsers, Lago's JSON for programs."""
    if not request.url.path.startswith("/app"):
        return http.unavailable()
    response = plain("refused.html", 503, heading="The database can't be reached", text=_TRY_AGAIN)
    response.headers.update(STATUS_HEADERS[503])
    return response


def form_page(
    engine: Engine, path: str, show: Show, submit: Submit, *, writers: Sequence[str] = WRITERS
) -> Route:
    """A page that is there for its form alone: a user whose role can't send the form can't open it."""
    return page(engine, path, show, submit, readers=writers, writers=writers)


async def own_form(engine: Engine, request: Request, takes_files: bool = False) -> Form:
    """The form that a page of ours sent. Raises Forbidden for one of another site, SignedOutError before it is read."""
    if not is_from_here(request.method, request.headers):
        raise Forbidden("cross_site_request")
    secret = _secret(engine, request)
    if engine.turns.owner_of(secret) is None:
        await engine.turns.run(secret, lambda _: _meet(engine, request))
    with engine.bodies.of(engine.turns.owner_of(secret)) as share:
        return await read_form(request, share, takes_files=takes_files)


def action(
    engine: Engine, path: str, submit: Submit, *, on: Show | None = None, writers: Sequence[str] = WRITERS
) -> Route:
    """A button without a page of its own: what is refused is said `on` the page that has it, else on a plain page."""

    def show(visit: Visit) -> HtmlPage | http.Raw:
        if not visit.problems:
            raise NotFound("page")
        if on is not None:
            return on(visit)
        texts = [in_words(code, field) for field, codes in visit.problems.items() for code in codes]
        return HtmlPage(template="not_done.html", context={"texts": texts})

    return page(engine, path, show, submit, writers=writers)


def _to_sign_in(request: Request) -> Response:
    if request.method != "GET" or request.url.path == "/app":
        return RedirectResponse("/app/sign-in", 303)
    return RedirectResponse(f"/app/sign-in?next={quote(_address(request))}", 303)


def _address(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


REFUSALS = {
    403: ("This isn't allowed", "Your role doesn't allow it, or the request came from another site."),
    404: ("There is no such page", "It was deleted, or belongs to another organization."),
}


def refused(refusal: Refusal) -> Response:
    """A page that says what can't be done and why, signed in or not."""
    heading, text = REFUSALS.get(refusal.status, ("This can't be done", ""))
    if isinstance(refusal, BadRequest):
        text = refusal.reason
    elif not text:
        said = problems_of(refusal).items()
        text = " ".join(in_words(code, field) for field, codes in said for code in codes)
    return plain("refused.html", refusal.status, heading=heading, text=text)


def _secret(engine: Engine, request: Request) -> str | None:
    """The session's secret that the browser has sent."""
    return request.cookies.get(cookie_name(https=is_https(request, engine.config)))


def _meet(engine: Engine, request: Request) -> None:
    """Raises SignedOutError when nobody is signed in."""
    if not _secret(engine, request):
        raise SignedOutError
    with engine.pool.connection() as conn:
        _session(engine, conn, request)


def _session(engine: Engine, conn: Connection[Any], request: Request) -> Session:
    secret = _secret(engine, request)
    found = session_usecase.session(conn, secret=secret, now=system_now()) if secret else None
    if found is None:
        raise SignedOutError
    return found


def visit_of(engine: Engine, conn: Connection[Any], request: Request, form: Form | None = None) -> Visit:
    """Who looks at what. Raises when nobody is signed in."""
    session, now = _session(engine, conn, request), system_now()
    known = _known(conn, session.user)
    chosen = _chosen(conn, session, known)
    return Visit(
        engine=engine,
        conn=conn,
        session=session,
        organization=chosen,
        organizations=known,
        roles=_roles(conn, session.user, chosen),
        now=chosen.now(now) if chosen else now,
        system_now=now,
        url=_address(request),
        path={name: from_path(value) for name, value in request.path_params.items()},
        query=request.query_params,
        form=form or Form(),
    )


def _known(conn: Connection[Any], user: User) -> Sequence[Organization]:
    """The organizations that the user may look at."""
    if user.is_owner:
        return organizations.listing(conn, limit=ORGANIZATIONS_SHOWN, offset=0)[0]
    return organizations.of_user(conn, user.id, limit=ORGANIZATIONS_SHOWN, offset=0)[0]


def _chosen(conn: Connection[Any], session: Session, known: Sequence[Organization]) -> Organization | None:
    """The one that the user looked at last and still may, else the newest."""
    wanted = session.organization_id
    among = next((each for each in known if each.id == wanted), None)
    if among is None and wanted is not None and users.is_admitted(conn, session.user, wanted):
        among = organizations.by_id(conn, wanted)
    return among or next(iter(known), None)


def _roles(conn: Connection[Any], user: User, organization: Organization | None) -> Sequence[str]:
    if user.is_owner:
        return (*OWNERS, *ADMINS)
    role = users.role_in(conn, user.id, organization.id) if organization else None
    return (role,) if role else ()


def _allowed_visit(
    engine: Engine, conn: Connection[Any], request: Request, roles: Sequence[str], form: Form | None = None
) -> Visit:
    """The visit. Raises Forbidden when the user's role is none of these."""
    visit = visit_of(engine, conn, request, form)
    if roles == ANYBODY:
        return visit
    if not visit.roles:
        raise _NoMembershipError
    if (
        visit.organization
        and visit.organization.requires_second_factor
        and not visit.session.has_second_factor
    ):
        raise _NoSecondFactorError
    if not visit.may(roles):
        raise Forbidden(ROLE)
    secret = _secret(engine, request)
    if secret and visit.organization:
        engine.turns.learn(secret, visit.organization.id)
    if visit.organization:
        telemetry.belongs_to(visit.organization.id)
    return visit


def _shown(engine: Engine, request: Request, show: Show, readers: Sequence[str]) -> Response | http.Raw:
    with engine.pool.connection() as conn:
        visit = _allowed_visit(engine, conn, request, readers)
        with holds.refusing_unbillable():
            answer = show(visit)
        if isinstance(answer, HtmlPage):
            return _to_last_page(visit, answer, request) or framed(visit, answer)
    return answer


def _to_last_page(visit: Visit, shown: HtmlPage, request: Request) -> Response | None:
    """Where a list has no page of the number that was asked for, but has others."""
    meta = shown.context.get("meta")
    if not meta or not meta.total_count or meta.current_page <= meta.total_pages:
        return None
    return RedirectResponse(request.url.path + with_query(visit.query, page=meta.total_pages), 303)


def _submitted(
    engine: Engine, request: Request, form: Form, ways: tuple[Show, Submit], writers: Sequence[str]
) -> Response:
    show, submit = ways
    try:
        with engine.pool.connection() as conn:
            visit = _allowed_visit(engine, conn, request, writers, form)
            sent = sent_once.sent_form(visit, request.url.path)
            if sent is not None and (led_to := sent_once.begin(visit, sent)) is not None:
                return RedirectResponse(led_to, 303)
            done = do(visit, operation_of(request), submit)
            if sent is not None:
                sent_once.end(visit, sent, done)
            return framed(visit, done.page, done.status) if done.page else RedirectResponse(done.to, 303)
    except Refusal as refusal:
        problems = problems_of(refusal)
        if refusal.code == ROLE or (refusal.status == 404 and "base" in problems):
            raise
        return shown_again(engine, request, form, show, problems)


def do(visit: Visit, operation: str, submit: Submit) -> Done:
    """The change that a form asks for, as the visitor's, with its words in the audit log."""
    change = activity.begin(
        visit.conn,
        ActorKind.USER,
        operation,
        organization=visit.organization,
        user=visit.session.user,
        now=visit.system_now,
    )
    with holds.refusing_unbillable():
        done = submit(visit)
    if done.action:
        activity.describe(visit.conn, change, action=done.action, subject=done.subject, details=done.details)
    return done


def operation_of(request: Request) -> str:
    """The method and the address of a form, as the audit log names it."""
    route = request.scope["route"]
    assert isinstance(route, Route), "every form is sent to a route"
    return f"{request.method} {route.path}"


def shown_again(engine: Engine, request: Request, form: Form, show: Show, problems: Problems) -> Response:
    """The page of a form that can't be taken as it is, with what was filled in and what is wrong."""
    with engine.pool.connection() as conn:
        visit = replace(visit_of(engine, conn, request, form), problems=problems)
        answer = show(visit)
        assert isinstance(answer, HtmlPage), "a page with a form shows a page"
        return framed(visit, answer, 422)
