"""An organization's own names of models: deployments of Azure, inference profiles of Bedrock, names of a router."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.errors import Invalid
from permille.core.llm.model_name import alias_name, name_model, provider_name
from permille.core.record import Record

ALIASES_MAX = 1_000
"""Most aliases of an organization: all of them are read for each request."""


class ModelAlias(Record, kw_only=True):
    """A model's name as it is sent, and the model that is billed for it; both with their provider before a slash."""

    id: UUID
    organization_id: UUID
    name: str
    model: str
    created_at: datetime
    updated_at: datetime


class Outcome(StrEnum):
    """What became of a call that was counted under an unknown name."""

    MOVED = "moved"
    BILLED = "billed"
    """A final fee may have it: it stays as it was billed."""
    AMENDED = "amended"
    """Somebody has amended it by hand: that stays."""


def name_as_sent(sent: str) -> str:
    """The alias's own name, as it is looked for. Raises Invalid."""
    provider, _, name = with_provider(sent, field="name").partition("/")
    return alias_name(provider, name)


def with_provider(sent: str, *, field: str) -> str:
    """`provider/name`, with the provider under the name that it has here. Raises Invalid."""
    provider, _, name = sent.strip().partition("/")
    if not provider.strip() or not name.strip():
        raise Invalid({field: ["provider_is_missing"]})
    return f"{provider_name(provider)}/{name.strip()}"


def under_model(properties: Mapping[str, Any], alias: ModelAlias) -> dict[str, Any]:
    """The properties that an event would have if the alias had been there; its region is the one that it was sent with."""
    provider, _, name = alias.name.partition("/")
    named = name_model(provider, name, aliases={alias.name: alias.model})
    said = {"snapshot": named.snapshot, "region": properties.get("region") or named.region}
    free = {key: value for key, value in properties.items() if key not in said}
    return {
        **free,
        **{key: value for key, value in said.items() if value is not None},
        "provider": named.provider,
        "model": named.model,
    }
