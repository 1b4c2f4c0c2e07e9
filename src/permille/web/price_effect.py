"""What a change of prices does to the running bills, shown before it is saved, with the choice when it takes effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from permille.api.http import Call
from permille.api.price_changes import NEXT_PERIOD, NOW
from permille.api.price_preview import Edit, preview_edit, reached
from permille.core.errors import Invalid
from permille.web.forms import problems_of
from permille.web.visit import Done, Form, Page, Problems, Visit

WHEN, DAY, ON_DAY = "effective", "effective_at", "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """An edit of the API with what it is sent, and how the page that shows its effect presents it."""

    edit: Edit
    path: Mapping[str, str]
    body: Mapping[str, Any]
    title: str
    button: str = "Save"
    back: str
    root: str = "charge"
    """The name that the body is sent under."""

    def call(self, visit: Visit, when: Mapping[str, str] | None = None) -> Call:
        return visit.call(path=self.path, body={self.root: self.body, **(when or {})})


def is_running(visit: Visit) -> bool:
    """Whether running subscriptions have the plan of the visit's address."""
    return _reaches_bills(visit.call(path=visit.path))


def _reaches_bills(call: Call) -> bool:
    return reached(call)[1] > 0


def save_prices(visit: Visit, change: PriceChange, done: Done) -> Done:
    """Save the change and answer `done`; where it reaches running subscriptions, only after its effect was shown.

    Raises what the edit raises.
    """
    if not visit.form.has(WHEN) and _reaches_bills(change.call(visit)):
        return _effect(visit, change)
    try:
        with visit.conn.transaction():
            change.edit(change.call(visit, _taking_effect(visit.form)))
    except Invalid as refused:
        if not refused.errors.keys() <= {WHEN, DAY}:
            raise
        return _effect(visit, change, problems_of(refused))
    return done


def save_fee(visit: Visit, change: PriceChange, done: Done, *, is_changed: bool) -> Done:
    """Save an edit of a plan's own fields: the effect is shown before where its fee `is_changed`."""
    if is_changed:
        return save_prices(visit, change, done)
    change.edit(change.call(visit))
    return done


def _effect(visit: Visit, change: PriceChange, problems: Problems | None = None) -> Done:
    found = preview_edit(change.call(visit), change.edit)
    context = {
        "change": change,
        "effect": found,
        "kept": [pair for pair in visit.form.pairs if pair[0] not in (WHEN, DAY)],
        "can_wait": _can_wait(visit, change),
        "problems": problems or {},
        "labels": {DAY: "Day"},
    }
    page = Page(template="price_effect.html", context=context)
    subject = next(iter(change.path.values()))
    return Done(
        action="looked at effect of prices", subject=subject, page=page, status=422 if problems else 200
    )


def _can_wait(visit: Visit, change: PriceChange) -> bool:
    """Whether a change that can be made at once can take effect with the next period instead."""
    try:
        with visit.conn.transaction(force_rollback=True):
            change.edit(change.call(visit, {WHEN: NEXT_PERIOD}))
    except Invalid:
        return False
    return True


def _taking_effect(form: Form) -> dict[str, str]:
    """When the change takes effect, as the API takes it. Raises Invalid."""
    when = form.get(WHEN, NOW)
    if when != ON_DAY:
        return {WHEN: when}
    if not form.get(DAY):
        raise Invalid({DAY: ["value_is_mandatory"]})
    return {DAY: form.get(DAY)}
