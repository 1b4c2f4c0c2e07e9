"""Calls that were counted under a name that says nothing about the model: listed, and counted under the model."""

from __future__ import annotations

from typing import Any

from msgspec.structs import asdict

from permille.api.http import Call
from permille.api.objects import llm as objects
from permille.api.render import instant
from permille.core.llm.model_alias import Outcome
from permille.store import unknown_models as store
from permille.store.unknown_models import UnknownModel
from permille.usecases import unknown_models


def list_unknown_models(call: Call) -> dict[str, Any]:
    """GET /llm/unknown_models."""
    page = call.page()
    found, total = store.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"unknown_models": [render_unknown_model(each) for each in found], "meta": page.meta(total)}


def count_unknown_model(call: Call) -> dict[str, Any]:
    """POST /llm/unknown_models/{name}/count."""
    moved = unknown_models.count_under_model(
        call.conn, call.organization.id, call.path["name"], api_key_id=call.key_id, now=call.now
    )
    counted = objects.CountedModel(
        **asdict(render_unknown_model(moved.rest)),
        moved_count=moved.outcomes.get(Outcome.MOVED, 0),
        billed_count=moved.outcomes.get(Outcome.BILLED, 0),
        amended_count=moved.outcomes.get(Outcome.AMENDED, 0),
    )
    return {"unknown_model": counted}


def render_unknown_model(found: UnknownModel) -> objects.UnknownModel:
    """An unknown name as the API shows it."""
    return objects.UnknownModel(
        name=found.name,
        model=found.model,
        calls_count=found.calls_count,
        first_used_at=None if found.first_used_at is None else instant(found.first_used_at),
        last_used_at=None if found.last_used_at is None else instant(found.last_used_at),
    )
