"""One-time links into the web admin."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, says


class SignInLink(Answer):
    """A one-time link into the web admin."""

    email: Annotated[str, says("Email address of the user.")]
    path: Annotated[str, says("Path of the link on this server.")]
