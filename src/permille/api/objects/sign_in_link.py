"""One-time links into the web admin."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from permille.api.objects.base import Answer, Input, one_of, says


class SignInLink(Answer):
    """A one-time link into the web admin."""

    email: Annotated[str, says("Email address of the user.")]
    path: Annotated[str, says("Path of the link on this server.")]


class SignInLinkInput(Input):
    """Who the link is for."""

    email: Annotated[str, says("Email address of the user, who is created if there is none.")]
    organization_id: Annotated[
        UUID, says("Organization to join; without one a new user owns the installation.")
    ]
    role: Annotated[str, one_of("admin", "finance", "read_only", says="Role in the organization.")]
    path: Annotated[str, says("Page to begin with.", example="/app")]
