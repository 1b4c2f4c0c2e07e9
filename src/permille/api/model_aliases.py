"""Model aliases: an organization's own names of models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.api.validation import Fields
from permille.core.llm.model_alias import ModelAlias, name_as_sent, with_provider
from permille.core.record import replace
from permille.store import model_aliases as store
from permille.usecases.catalogue import model_aliases as catalogue


def create_alias(call: Call) -> dict[str, Any]:
    """POST /llm/model_aliases."""
    blank = catalogue.blank(call.conn, call.organization.id, now=call.now)
    made = read_alias(Fields(call.root("model_alias")), blank, now=call.now)
    catalogue.add(call.conn, made)
    return {"model_alias": render_alias(made)}


def read_alias(fields: Fields, before: ModelAlias, *, now: datetime) -> ModelAlias:
    """The alias as the fields want it: a new one over a blank one, or a known one changed. Raises Invalid."""
    sent = {
        name: fields.text(name, mandatory=True) or ""
        for name in ("name", "model")
        if not before.name or fields.has(name)
    }
    fields.check()
    read: dict[str, Any] = {}
    if "name" in sent:
        read["name"] = name_as_sent(sent["name"])
    if "model" in sent:
        read["model"] = with_provider(sent["model"], field="model")
    after = replace(before, **read)
    return after if after == before else replace(after, updated_at=now)


def list_aliases(call: Call) -> dict[str, Any]:
    """GET /llm/model_aliases."""
    page = call.page()
    found, total = store.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"model_aliases": [render_alias(each) for each in found], "meta": page.meta(total)}


def show_alias(call: Call) -> dict[str, Any]:
    """GET /llm/model_aliases/{name}."""
    found = catalogue.by_name(call.conn, call.organization.id, call.path["name"])
    return {"model_alias": render_alias(found)}


def update_alias(call: Call) -> dict[str, Any]:
    """PUT /llm/model_aliases/{name}."""
    before = catalogue.to_change(call.conn, call.organization.id, call.path["name"])
    after = read_alias(Fields(call.root("model_alias")), before, now=call.now)
    catalogue.change(call.conn, after)
    return {"model_alias": render_alias(after)}


def delete_alias(call: Call) -> dict[str, Any]:
    """DELETE /llm/model_aliases/{name}."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["name"])
    catalogue.remove(call.conn, gone)
    return {"model_alias": render_alias(gone)}


def render_alias(alias: ModelAlias) -> objects.ModelAlias:
    """An alias as the API shows it."""
    return objects.ModelAlias(
        lago_id=alias.id,
        name=alias.name,
        model=alias.model,
        created_at=instant(alias.created_at),
        updated_at=instant(alias.updated_at),
    )
