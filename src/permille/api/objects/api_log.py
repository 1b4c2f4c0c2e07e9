"""A request that wrote, or tried to."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from permille.api.objects.base import Answer, CreatedAt, instant_of, one_of, says


class ApiLogEntry(Answer):
    """A request with the organization's keys, and what came of it."""

    request_id: Annotated[str, says("Identifier of the request: X-Request-Id of its answer.")]
    api_version: Annotated[str, says("Version of the API.", example="v1")]
    client: Annotated[str, says("What sent it: its User-Agent.")]
    http_method: Annotated[str, one_of("post", "put", "patch", "delete", says="Its method.")]
    http_status: Annotated[int, says("Status of its answer.")]
    request_origin: Annotated[str, says("Server that it was sent to.")]
    request_path: Annotated[str, says("Its address, after the API's version.", example="/billable_metrics")]
    request_body: Annotated[
        Any, says("What it sent, without secrets and without events; empty where that was nothing, or long.")
    ]
    request_response: Annotated[Any, says("What a refusal said; null where it went well.")]
    lago_api_key_id: Annotated[UUID, says("The key that it came with.")]
    duration_ms: Annotated[int, says("How long it took, in milliseconds.")]
    logged_at: Annotated[str, instant_of("When it was answered, by the system's clock.")]
    created_at: CreatedAt
