"""An organization's own names of models: deployments of Azure, inference profiles of Bedrock, names of a router."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from permille.core.errors import Invalid
from permille.core.llm.model_name import provider_name

ALIASES_MAX = 1_000
"""Most aliases of an organization: all of them are read for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAlias:
    """A model's name as it is sent, and the model that is billed for it; both with their provider before a slash."""

    id: UUID
    organization_id: UUID
    name: str
    model: str
    created_at: datetime
    updated_at: datetime


def with_provider(sent: str, *, field: str) -> str:
    """`provider/name`, with the provider under the name that it has here. Raises Invalid."""
    provider, _, name = sent.strip().partition("/")
    if not provider.strip() or not name.strip():
        raise Invalid({field: ["provider_is_missing"]})
    return f"{provider_name(provider)}/{name.strip()}"
