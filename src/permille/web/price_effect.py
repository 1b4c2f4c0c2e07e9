"""What a change of prices does to the running bills, shown before it is saved, with the choice when it takes effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from permille.api.price_changes import NEXT_PERIOD, NOW, read_effect
from permille.api.validation import Fields
from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import price_changes
from permille.core.errors import Invalid
from permille.core.record import Record
from permille.database import locks
from permille.store import billing_entities
from permille.usecases.catalogue.price_preview import (
    AffectedSubscriptions,
    preview,
    reached_by_own_plan,
    reached_by_plan,
)
from permille.web.forms import problems_of
from permille.web.visit import Done, Form, HtmlPage, Problems, Visit

WHEN, DAY, ON_DAY = "effective", "effective_at", "day"


class PriceChange(Record, kw_only=True):
    """An edit of prices, and how the page that shows its effect presents it."""

    edit: Callable[[datetime | None], object]
    """Saves the edit, for periods that begin from an instant on. Raises Invalid."""
    plan: Plan
    subject: str
    title: str
    button: str = "Save"
    back: str


def is_running(visit: Visit) -> bool:
    """Whether running subscriptions have the plan of the visit's address."""
    return _reached(visit).count > 0


def _reached(visit: Visit) -> AffectedSubscriptions:
    if "external_id" in visit.path:
        return reached_by_own_plan(visit.conn, visit.here.id, visit.path["external_id"], now=visit.now)
    cascades = visit.form.has("cascade")
    return reached_by_plan(visit.conn, visit.here.id, visit.path["code"], with_copies=cascades)


def save_prices(visit: Visit, change: PriceChange, done: Done) -> Done:
    """Save the change and answer `done`; where it reaches running subscriptions, only after its effect was shown.

    Raises what the edit raises.
    """
    if not visit.form.has(WHEN) and _reached(visit).count > 0:
        return _effect(visit, change)
    try:
        with visit.conn.transaction():
            _save(visit, change, _taking_effect(visit.form))
    except Invalid as refused:
        if not refused.errors.keys() <= {WHEN, DAY}:
            raise
        return _effect(visit, change, problems_of(refused))
    return done


def save_fee(visit: Visit, change: PriceChange, done: Done, *, is_changed: bool) -> Done:
    """Save an edit of a plan's own fields: the effect is shown before where its fee `is_changed`.

    The fee of today changes something too, from a day on behind which another one is scheduled.
    """
    if is_changed or (upcoming_changes(change.plan, visit.now) and _can_wait(visit, change)):
        return save_prices(visit, change, done)
    change.edit(None)
    return done


def upcoming_changes(plan: Plan, now: datetime) -> list[datetime]:
    """From when on the plan has other prices than now, in order."""
    return [each.at for each in price_changes(plan) if each.at > now]


def _save(visit: Visit, change: PriceChange, when: Mapping[str, str]) -> None:
    change.edit(read_effect(visit.conn, visit.here.id, Fields(when), now=visit.now))


def _effect(visit: Visit, change: PriceChange, problems: Problems | None = None) -> Done:
    locks.change_catalogue(visit.conn, visit.here.id)
    context = {
        "change": change,
        "effect": preview(visit.conn, lambda: change.edit(None), _reached(visit), now=visit.now),
        "kept": [pair for pair in visit.form.pairs if pair[0] not in (WHEN, DAY)],
        "can_wait": _can_wait(visit, change),
        "upcoming": upcoming_changes(change.plan, visit.now),
        "timezone": billing_entities.default(visit.conn, visit.here.id).timezone,
        "problems": problems or {},
        "labels": {DAY: "Day"},
    }
    page = HtmlPage(template="price_effect.html", context=context)
    return Done(
        action="looked at effect of prices",
        subject=change.subject,
        page=page,
        status=422 if problems else 200,
        is_done=False,
    )


def _can_wait(visit: Visit, change: PriceChange) -> bool:
    """Whether a change that can be made at once can take effect with the next period instead."""
    try:
        with visit.conn.transaction(force_rollback=True):
            _save(visit, change, {WHEN: NEXT_PERIOD})
    except Invalid:
        return False
    return True


def _taking_effect(form: Form) -> dict[str, str]:
    """When the change takes effect. Raises Invalid."""
    when = form.get(WHEN, NOW)
    if when != ON_DAY:
        return {WHEN: when}
    if not form.get(DAY):
        raise Invalid({DAY: ["value_is_mandatory"]})
    return {DAY: form.get(DAY)}
