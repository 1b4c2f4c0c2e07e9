"""What an edit of prices does to the running bills, shown before it is saved, with the choice when it takes effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from permille.api.price_preview import Edit, preview_edit
from permille.web.visit import Done, Form, Page, Visit

LOOK, WHEN, DAY, ON_DAY = "look", "effective", "effective_at", "day"


def effect_page(
    visit: Visit, edit: Edit, *, path: Mapping[str, str], body: Mapping[str, Any], back: str
) -> Done | None:
    """The page with the effect, where the form asks for it; nothing is saved then. Raises what the edit raises."""
    if not visit.form.has(LOOK):
        return None
    found = preview_edit(visit.call(path=path, body={"charge": body}), edit)
    kept = [pair for pair in visit.form.pairs if pair[0] not in (LOOK, WHEN, DAY)]
    page = Page(template="price_effect.html", context={"effect": found, "kept": kept, "back": back})
    return Done(action="looked at effect of prices", subject=next(iter(path.values())), page=page)


def taking_effect(form: Form) -> dict[str, str]:
    """When the edit takes effect, as the API takes it."""
    when = form.get(WHEN)
    if when == ON_DAY:
        return {DAY: form.get(DAY)}
    return {WHEN: when} if when else {}
