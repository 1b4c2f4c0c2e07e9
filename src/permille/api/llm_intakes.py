"""Intakes: events of other programs that are usage of language models."""

from __future__ import annotations

from typing import Any

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import INVALID, Fields
from permille.core.llm.intake import RULES, Intake, IntakeFormat
from permille.core.llm.payer import PayerName
from permille.core.record import replace
from permille.store import llm_intakes as store
from permille.usecases.catalogue import llm_intakes as catalogue


def create_intake(call: Call) -> dict[str, Any]:
    """POST /llm/intakes."""
    blank = catalogue.blank(call.conn, call.organization.id, now=call.now)
    fields = Fields(call.root("intake"))
    made = read_intake(fields, blank)
    fields.check()
    catalogue.add(call.conn, made)
    return {"intake": render_intake(made)}


def read_intake(fields: Fields, blank: Intake) -> Intake:
    """A new intake, with what its format usually has; problems gather in `fields`."""
    chosen = fields.choice("format", list(IntakeFormat), mandatory=True)
    if chosen is None:
        return blank
    kind = IntakeFormat(chosen)
    rules = RULES[kind]
    code = fields.text("code")
    if code and not rules.has_own_code:
        fields.refuse("code", INVALID)
    payer = fields.choice("payer_kind", list(PayerName))
    return replace(
        blank,
        format=kind,
        codes=(code,) if code else rules.codes,
        payer_kind=PayerName(payer) if payer else rules.payer_kind,
    )


def list_intakes(call: Call) -> dict[str, Any]:
    """GET /llm/intakes."""
    page = call.page()
    found = store.of_organization(call.conn, call.organization.id)
    shown = found[page.offset : page.offset + page.per_page]
    return {"intakes": [render_intake(each) for each in shown], "meta": page.meta(len(found))}


def show_intake(call: Call) -> dict[str, Any]:
    """GET /llm/intakes/{format}."""
    return {
        "intake": render_intake(catalogue.by_format(call.conn, call.organization.id, call.path["format"]))
    }


def delete_intake(call: Call) -> dict[str, Any]:
    """DELETE /llm/intakes/{format}."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["format"])
    catalogue.remove(call.conn, gone)
    return {"intake": render_intake(gone)}


def render_intake(intake: Intake) -> objects.Intake:
    """An intake as the API shows it."""
    return objects.Intake(
        lago_id=intake.id,
        format=intake.format,
        codes=list(intake.codes),
        payer_kind=intake.payer_kind,
        created_at=instant(intake.created_at),
    )
