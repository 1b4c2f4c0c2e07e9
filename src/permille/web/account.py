"""What is about the installation and the visit: organizations, the test clock, users."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from permille.api.organizations import MOVE_SECONDS, commits_for, read_move, read_organization
from permille.api.render import instant
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import Invalid
from permille.store import invoices, organizations, subscriptions, users
from permille.store.users import ROLES
from permille.usecases import organizations as usecase, second_factors, users as user_usecase
from permille.usecases.due import due
from permille.web.forms import problems_of
from permille.web.shown import countries, currencies
from permille.web.sign_in import link_url
from permille.web.visit import Done, HtmlPage, Visit

ORGANIZATION_TEXTS = ("name", "legal_name", "email", "address_line1", "city", "country", "default_currency")
STEPS = {"day": timedelta(days=1), "week": timedelta(weeks=1)}
PREVIEW_MAX = timedelta(days=366)
PREVIEW_SECONDS_MAX = 10.0
USERS_PER_PAGE = 50


def switch_organization(visit: Visit) -> Done:
    """POST /app/switch-organization."""
    chosen = parse_uuid(visit.form.get("organization_id"))
    user_usecase.switch_organization(visit.conn, visit.session, chosen)
    return Done(action="", subject="")


def blank_organization(_visit: Visit) -> HtmlPage:
    """GET /app/new-organization."""
    menus = {"currencies": [(one, one) for one in currencies()], "countries": countries()}
    return HtmlPage(template="organization_form.html", context=menus)


def create_organization(visit: Visit) -> Done:
    """POST /app/new-organization: its first API key is shown, this once."""
    body: dict[str, Any] = {
        **visit.form.filled(*ORGANIZATION_TEXTS),
        "test_mode": visit.form.has("test_mode"),
    }
    if body["test_mode"] and visit.form.get("now"):
        body["now"] = visit.form.get("now")
    wanted = read_organization(Fields(body), now=visit.system_now)
    made, key = usecase.create(visit.conn, **wanted, now=visit.system_now)
    user_usecase.switch_organization(visit.conn, visit.session, made.id)
    page = HtmlPage(template="secret.html", context=_first_key(made.name, key.secret))
    return Done(action="created organization", subject=made.name, details=body, page=page)


def _first_key(name: str, secret: str) -> dict[str, Any]:
    return {
        "heading": f"{name} is ready",
        "text": "This is its first API key. It is shown this once: only a digest of it is kept.",
        "secret": secret,
        "next": "/app",
    }


def clock_page(visit: Visit) -> HtmlPage:
    """GET /app/test-clock: where the clock can go, and what moving it there would do, before it does."""
    wanted, effect, problems = None, None, visit.problems
    if "to" in visit.query:
        try:
            until = read_move({"now": _wanted(visit, visit.query["to"], visit.query.get("now", ""))})
            wanted, effect = until, _clock_effect(visit, until)
        except Invalid as refused:
            problems = {**problems, **problems_of(refused)}
    clock = organizations.clock(visit.conn, visit.here.id)
    context: dict[str, Any] = {
        "to": wanted,
        "moving_to": clock.target if clock else None,
        "effect": effect,
        "back": users.local_path(visit.query.get("back") or visit.form.get("back")),
        "problems": problems,
    }
    return HtmlPage(template="test_clock.html", context=context)


def _clock_effect(visit: Visit, until: datetime) -> Sequence[tuple[int, int, str]] | None:
    """(invoices, cents, currency) that moving the clock makes: moved for real, and undone. None when that takes too long."""
    if until - visit.now > PREVIEW_MAX:
        return None
    ends = time.monotonic() + PREVIEW_SECONDS_MAX
    with visit.conn.transaction(force_rollback=True):
        before = invoices.totals(visit.conn, visit.here.id)
        has_arrived = due.move_clock(
            visit.conn, organization=visit.here, until=until, pause=lambda: time.monotonic() > ends
        )
        after = invoices.totals(visit.conn, visit.here.id)
    if not has_arrived:
        return None
    known = {currency: (count, cents) for count, cents, currency in before}
    made = [
        (count - known.get(currency, (0, 0))[0], cents - known.get(currency, (0, 0))[1], currency)
        for count, cents, currency in after
    ]
    return [each for each in made if each[0]]


def _wanted(visit: Visit, to: str, now: str) -> str | None:
    """Where the clock is to go: a day or a week on, to the next bill, or to an instant. Raises Invalid."""
    if to in STEPS:
        return instant(visit.now + STEPS[to])
    return instant(_next_end(visit)) if to == "period" else now


def move_clock(visit: Visit) -> Done:
    """POST /app/test-clock: by a day, by a week, to the end of the running period, or to an instant."""
    until = _wanted(visit, visit.form.get("to"), visit.form.get("now"))
    usecase.refuse_live(visit.here)
    has_arrived = due.move_clock(
        visit.conn,
        organization=visit.here,
        until=read_move({"now": until}),
        pause=commits_for(visit.conn, MOVE_SECONDS, rest=visit.engine.turns.rest_of(visit.here.id)),
    )
    said = "moved" if has_arrived else "moving"
    back = users.local_path(visit.form.get("back")).split("#")[0].replace("said=", "was=")
    return Done(
        action="moved test clock",
        subject=until or "",
        to=f"{back}{'&' if '?' in back else '?'}said={said}",
        details={"from": instant(visit.now)},
    )


def _next_end(visit: Visit) -> datetime:
    """The next instant at which a subscription is billed. Raises Invalid when none will be."""
    found = subscriptions.next_billing_at(visit.conn, visit.here.id, after=visit.now)
    if found is None:
        raise Invalid({"now": ["no_active_subscription"]})
    return found


def list_users(visit: Visit) -> HtmlPage:
    """GET /app/users: who may look at the organization, and what they may do."""
    page = visit.page(USERS_PER_PAGE)
    found, total = users.members(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    roles = [(one, one.replace("_", "-")) for one in ROLES]
    return HtmlPage(
        template="users.html", context={"members": found, "roles": roles, "meta": page.meta(total)}
    )


def invite(visit: Visit) -> Done:
    """POST /app/users: a one-time link that gives somebody a role in the organization."""
    role, here = _role(visit), visit.here
    token = user_usecase.invite(visit.conn, here.id, role=role, now=visit.system_now)
    context = {
        "heading": "Send this link",
        "text": f"It works once, for a day. It gives the role {role.replace('_', '-')} in {here.name}, to a new user or to one"
        " who signs in.",
        "secret": link_url(visit.engine.config, token),
        "next": "/app/users",
    }
    page = HtmlPage(template="secret.html", context=context)
    return Done(action="invited", subject=role, page=page, to="/app/users")


def require_second_factor(visit: Visit) -> Done:
    """POST /app/users/second-factor: whether users of the organization must have one."""
    is_required = visit.form.get("required") == "yes"
    usecase.require_second_factor(visit.conn, visit.here, is_required=is_required)
    action = "required second factor" if is_required else "required no second factor"
    return Done(action=action, subject=visit.here.name, to="/app/users?said=saved")


def reset_second_factor(visit: Visit) -> Done:
    """POST /app/users/{user_id}/reset-second-factor, for a member who has lost it."""
    found = second_factors.reset_member(
        visit.conn, visit.here.id, parse_uuid(visit.path["user_id"]), by=visit.session.user
    )
    return Done(action="reset second factor of", subject=found.email, to="/app/users?said=saved")


def change_role(visit: Visit) -> Done:
    """POST /app/users/{user_id}/role."""
    role, user_id = _role(visit), parse_uuid(visit.path["user_id"])
    found = user_usecase.change_role(visit.conn, visit.here.id, user_id, by=visit.session.user, role=role)
    return Done(
        action="changed role of", subject=found.email, to="/app/users?said=saved", details={"role": role}
    )


def remove_user(visit: Visit) -> Done:
    """POST /app/users/{user_id}/remove."""
    found = user_usecase.remove_from(
        visit.conn,
        visit.here.id,
        parse_uuid(visit.path["user_id"]),
        by=visit.session.user,
        now=visit.system_now,
    )
    return Done(action="removed user", subject=found.email, to="/app/users?said=deleted")


def _role(visit: Visit) -> str:
    role = visit.form.get("role")
    if role not in ROLES:
        raise Invalid({"role": ["value_is_invalid"]})
    return role
