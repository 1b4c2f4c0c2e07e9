"""Webhook endpoints, and the public key that their receivers verify with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from permille.api.objects.base import Answer, CreatedAt, Id, Input, one_of, says

ALGORITHMS = ("jwt", "hmac")


class WebhookEndpoint(Answer):
    """An address that webhooks are sent to."""

    lago_id: Id
    lago_organization_id: Annotated[UUID, says("The organization.")]
    webhook_url: Annotated[str, says("Address that receives webhooks.", example="https://example.com/hooks")]
    signature_algo: Annotated[str, one_of(*ALGORITHMS, says="How webhooks are signed.")]
    name: Annotated[str | None, says("Name for people.")]
    event_types: Annotated[
        Sequence[str] | None, says("Types of webhooks that are sent; null for all of them.")
    ]
    created_at: CreatedAt


class WebhookKey(Answer):
    """The key that webhooks signed with jwt are verified with."""

    public_key: Annotated[str, says("The PEM of the RSA public key, in Base64.")]


class WebhookEndpointInput(Input):
    """Fields of a webhook endpoint."""

    webhook_url: Annotated[str, says("Absolute http or https address.", example="https://example.com/hooks")]
    signature_algo: Annotated[str, one_of(*ALGORITHMS, says="How webhooks are signed.")]
    name: Annotated[str | None, says("Name for people.")]
    event_types: Annotated[list[str] | None, says("Types of webhooks to send; null or * for all.")]
